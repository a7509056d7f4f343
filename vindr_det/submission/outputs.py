"""The files of a prediction run: the submission for Kaggle, and tables and a JSON file beside it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from vindr_det.files import require_writable
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.imaging.status import FAILED, FLAGGED, OK, Status, beside, status_path, status_text
from vindr_det.spool import Spool, write_together
from vindr_det.structures.detections import PredictionSet, label_set_of
from vindr_det.structures.label_sets import LabelSet
from vindr_det.submission.image_report import box_rows, report_end, report_head, report_images, report_text
from vindr_det.submission.write import SubmissionParts

_BOX = ("class_id", "class_name", "score", "x_min", "y_min", "x_max", "y_max")
COLUMNS = ("image_id", *UIDS, *_BOX, "label_set", "status", "reason")


def predictions_path(out: str | Path) -> Path:
    """``S.predictions.csv`` beside ``S.csv``."""
    return beside(out, "predictions")


def report_path(out: str | Path) -> Path:
    """``S.predictions.json`` beside ``S.csv``."""
    return predictions_path(out).with_suffix(".json")


def output_paths(out: str | Path) -> list[Path]:
    """The submission and the files beside it."""
    return [Path(out), predictions_path(out), report_path(out), status_path(out)]


def require_all_writable(out: str | Path) -> None:
    """Check the paths before the work.

    Raises:
        InputError: the submission or a table beside it cannot be written.
    """
    require_writable(out)
    for path in output_paths(out)[1:]:
        require_writable(path)


def write_results(
    out: str | Path, predictions: PredictionSet, statuses: Sequence[Status], submission: str | None,
    probabilities: Mapping[str, Mapping[str, float]] | None = None,
) -> None:
    """Write ``S.csv`` and the three files beside it, all or none, so that they are of one run.

    Args:
        out: of the submission.
        predictions: image id -> detections in original pixels.
        statuses: one per input.
        submission: of :func:`vindr_det.submission.write.submission_text`; None removes an earlier run's.
        probabilities: image id -> those of the classifier by name; None without one.
    """
    table = prediction_table(predictions, statuses).to_csv(index=False, lineterminator="\n")
    write_together({Path(out): submission, predictions_path(out): table,
                    report_path(out): report_text(predictions, statuses, probabilities),
                    status_path(out): status_text(statuses)})


class ResultsWriter:
    """:func:`write_results` of a run while its images come: no image is kept, and until :meth:`finish` the
    files of an earlier run stay as they are.

    Args:
        out: of the submission.
        label_set: of the detections.

    Raises:
        InputError: the folder cannot be made or written.
    """

    def __init__(self, out: str | Path, label_set: LabelSet) -> None:
        self.out, self._label_set, self._begun = Path(out), label_set.name, False
        self._parts = SubmissionParts(out, label_set)
        self._submission, self._table, self._report, self._status = map(Spool, output_paths(out))
        self._report.add(report_head(self._label_set))

    def __enter__(self) -> "ResultsWriter":
        return self

    def __exit__(self, *error: object) -> None:
        for spool in (self._submission, self._table, self._report, self._status):
            spool.close()

    def add(
        self, statuses: Sequence[Status], predictions: PredictionSet,
        probabilities: Mapping[str, Mapping[str, float]],
    ) -> None:
        """More images.

        Args:
            statuses: theirs, in the order of the files.
            predictions: as of :func:`write_results`, like ``probabilities``.
            probabilities: likewise.

        Raises:
            InputError: a row of the submission has an error, or the disk is full.
        """
        shapes = {status.image_id: (status.height, status.width) for status in statuses
                  if status.image_id in predictions}
        sizes = pd.DataFrame.from_dict(shapes, orient="index", columns=["height", "width"])
        unread = [status.image_id for status in statuses if status.status == FAILED]
        self._submission.add(self._parts.add([status.image_id for status in statuses], predictions, sizes,
                                             unread))
        table = prediction_table(predictions, statuses, self._label_set)
        self._table.add(table.to_csv(index=False, lineterminator="\n", header=not self._begun))
        self._report.add(report_images(predictions, statuses, probabilities, first=not self._begun))
        self._status.add(status_text(statuses, header=not self._begun))
        self._begun = True

    def finish(self, withhold: bool = False) -> None:
        """Put all files in their places; with ``withhold`` the submission is removed.

        Raises:
            InputError: the boxes of all images look like those of smaller ones, or a file cannot be written.
        """
        if not withhold:
            self._submission.add(self._parts.end())
        self._report.add(report_end(self._begun))
        paths = output_paths(self.out)
        write_together({paths[0]: None if withhold else self._submission, paths[1]: self._table,
                        paths[2]: self._report, paths[3]: self._status})


def prediction_table(
    predictions: PredictionSet, statuses: Sequence[Status], label_set: str | None = None
) -> pd.DataFrame:
    """One row per box of a finding, best first within an image, and one of an image that has no box.

    The columns status and reason tell whether such an image was read: of one that failed nothing is known.
    Rows of "no finding" are not boxes and are in the submission alone.

    Args:
        predictions: image id -> detections in original pixels.
        statuses: one per input.
        label_set: its name; None takes that of the predictions.
    """
    if label_set is None:
        label_set = label_set_of(predictions).name if predictions else ""
    rows = []
    for status in statuses:
        read = status.status != FAILED and status.image_id in predictions
        boxes = box_rows(predictions[status.image_id], short=True) if read else []
        for box in boxes or [dict.fromkeys(_BOX, "")]:
            score = f"{box['score']:.6g}" if boxes else ""
            rows.append([status.image_id, *_uids(status.uids), *(box | {"score": score}).values(), label_set,
                         status.status, status.reason])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def inherited(image_ids: Iterable[str], inputs: Sequence[Mapping[str, Status]]) -> list[Status]:
    """The statuses of a submission that was made from others: of its images, then of those that all failed.

    Args:
        image_ids: with predictions.
        inputs: per source file, its :func:`vindr_det.imaging.status.read_statuses`.
    """
    ids = dict.fromkeys(image_ids)
    failed = {image_id for statuses in inputs for image_id, status in statuses.items()
              if status.status == FAILED}
    return [_inherited(image_id, image_id in ids, inputs)
            for image_id in [*ids, *sorted(failed.difference(ids))]]


def _inherited(image_id: str, read: bool, inputs: Sequence[Mapping[str, Status]]) -> Status:
    given = [statuses[image_id] for statuses in inputs if image_id in statuses]
    same = [status for status in given if (status.status != FAILED) == read]
    failures = sum(status.status == FAILED for status in given) if read else 0
    reasons = list(dict.fromkeys(status.reason for status in same if status.reason))
    reasons += [f"was not read for {failures} of the {len(inputs)} files"] * bool(failures)
    by_rank = [*same, *given, Status(image_id, "")]
    size = next(((status.height, status.width) for status in by_rank if status.height), (None, None))
    return Status(image_id, next((status.file for status in by_rank if status.file), ""),
                  FAILED if not read else FLAGGED if reasons else OK, "; ".join(reasons),
                  next((status.uids for status in by_rank if any(status.uids.values())), {}), *size)


def _uids(uids: Mapping[str, str]) -> list[str]:
    return [uids.get(name, "") for name in UIDS]
