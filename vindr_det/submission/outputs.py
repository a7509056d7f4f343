"""The files of a prediction run: the submission for Kaggle, and tables and a JSON file beside it."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from vindr_det.files import require_writable, write_together
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.imaging.status import FAILED, FLAGGED, OK, Status, beside, status_path, status_text
from vindr_det.structures.detections import PredictionSet, label_set_of
from vindr_det.submission.image_report import box_rows, report_text

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


def prediction_table(predictions: PredictionSet, statuses: Sequence[Status]) -> pd.DataFrame:
    """One row per box of a finding, best first within an image, and one of an image that has no box.

    The columns status and reason tell whether such an image was read: of one that failed nothing is known.
    Rows of "no finding" are not boxes and are in the submission alone.
    """
    rows, label_set = [], label_set_of(predictions).name if predictions else ""
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
