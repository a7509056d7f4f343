"""The files of a prediction run: the submission for Kaggle, and beside it predictions.csv and status.csv."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from vindr_det.files import require_writable, write_together
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.imaging.status import FAILED, FLAGGED, OK, Status, beside, status_path, status_text
from vindr_det.structures.detections import PredictionSet

COLUMNS = ("image_id", *UIDS, "class_id", "class_name", "score", "x_min", "y_min", "x_max", "y_max",
           "label_set")


def predictions_path(out: str | Path) -> Path:
    """``S.predictions.csv`` beside ``S.csv``."""
    return beside(out, "predictions")


def output_paths(out: str | Path) -> list[Path]:
    """The submission and the tables beside it."""
    return [Path(out), predictions_path(out), status_path(out)]


def require_all_writable(out: str | Path) -> None:
    """Check the paths before the work.

    Raises:
        InputError: the submission or a table beside it cannot be written.
    """
    require_writable(out)
    for path in output_paths(out)[1:]:
        require_writable(path)


def write_results(
    out: str | Path, predictions: PredictionSet, statuses: Sequence[Status], submission: str | None
) -> None:
    """Write ``S.csv``, ``S.predictions.csv`` and ``S.status.csv``, all or none, so that they are of one run.

    Args:
        out: of the submission.
        predictions: image id -> detections in original pixels.
        statuses: one per input.
        submission: of :func:`vindr_det.submission.write.submission_text`; None removes an earlier run's.
    """
    table = prediction_table(predictions, statuses).to_csv(index=False, lineterminator="\n")
    write_together({Path(out): submission, predictions_path(out): table,
                    status_path(out): status_text(statuses)})


def prediction_table(predictions: PredictionSet, statuses: Sequence[Status]) -> pd.DataFrame:
    """One row per box of a finding, best first within an image; none for an image that was not read.

    Rows of "no finding" are not boxes and are in the submission alone. Whether an image without boxes was
    read is in the status table.
    """
    rows = []
    for status in statuses:
        if status.status == FAILED or status.image_id not in predictions:
            continue
        boxes = predictions[status.image_id].findings().by_score()
        for box, score, label in zip(boxes.boxes.round(2).tolist(), boxes.scores.tolist(),
                                     boxes.labels.tolist(), strict=True):
            rows.append([status.image_id, *_uids(status.uids), label, boxes.label_set.findings[label],
                         f"{score:.6g}", *box, boxes.label_set.name])
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
