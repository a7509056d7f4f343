"""What a run over a folder leaves: the submission, and beside it the tables for everyone but Kaggle."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

import pandas as pd

from vindr_det.files import require_writable, write_together
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.imaging.status import FAILED, FLAGGED, OK, Status, beside, status_path, status_text
from vindr_det.structures.detections import PredictionSet
from vindr_det.structures.label_sets import CLASS_NAMES

COLUMNS = ("image_id", *UIDS, "class_id", "class_name", "score", "x_min", "y_min", "x_max", "y_max")


def predictions_path(out: str | Path) -> Path:
    """``S.predictions.csv`` beside ``S.csv``."""
    return beside(out, "predictions")


def written(out: str | Path) -> list[Path]:
    """The submission and the tables beside it."""
    return [Path(out), predictions_path(out), status_path(out)]


def require_all_writable(out: str | Path) -> None:
    """Raises:
        InputError: the submission or a table beside it cannot be written.
    """
    require_writable(out)
    for path in written(out)[1:]:
        require_writable(path)


def write_results(
    out: str | Path, predictions: PredictionSet, statuses: Sequence[Status], submission: str | None
) -> None:
    """Write ``S.csv``, ``S.predictions.csv`` and ``S.status.csv``, all or none, so that they tell of one run.

    Args:
        out: of the submission.
        predictions: image id -> detections in original pixels.
        statuses: one for each input.
        submission: of :func:`vindr_det.submission.write.submission_text`; None removes one of an earlier run.
    """
    table = prediction_table(predictions, statuses).to_csv(index=False, lineterminator="\n")
    write_together({Path(out): submission, predictions_path(out): table,
                    status_path(out): status_text(statuses)})


def prediction_table(predictions: PredictionSet, statuses: Sequence[Status]) -> pd.DataFrame:
    """One row per box of a finding, best first within an image; none for an image that was not read.

    A row that says "no finding" is no box and stands in the submission alone: whether an image without boxes
    here was looked at is what the status table tells.
    """
    rows = []
    for status in statuses:
        if status.status == FAILED or status.image_id not in predictions:
            continue
        found = predictions[status.image_id].findings().by_score()
        for box, score, label in zip(found.boxes.round(2).tolist(), found.scores.tolist(),
                                     found.labels.tolist(), strict=True):
            rows.append([status.image_id, *_uids(status.uids), label, CLASS_NAMES[label], f"{score:.6g}", *box])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def inherited(image_ids: Iterable[str], inputs: Sequence[Mapping[str, Status]]) -> list[Status]:
    """The statuses of a submission that was made of others: of its images, then of those that failed in all.

    Args:
        image_ids: that it says something of.
        inputs: of each file that it was made of, :func:`vindr_det.imaging.status.read_statuses`.
    """
    ids = dict.fromkeys(image_ids)
    failed = {image_id for part in inputs for image_id, one in part.items() if one.status == FAILED}
    return [_inherited(image_id, image_id in ids, inputs)
            for image_id in [*ids, *sorted(failed.difference(ids))]]


def _inherited(image_id: str, read: bool, inputs: Sequence[Mapping[str, Status]]) -> Status:
    given = [part[image_id] for part in inputs if image_id in part]
    known = [one for one in given if (one.status != FAILED) == read]
    failures = sum(one.status == FAILED for one in given) if read else 0
    reasons = list(dict.fromkeys(one.reason for one in known if one.reason))
    reasons += [f"was not read for {failures} of the {len(inputs)} files"] * bool(failures)
    first = [*known, *given, Status(image_id, "")]
    size = next(((one.height, one.width) for one in first if one.height), (None, None))
    return Status(image_id, next((one.file for one in first if one.file), ""),
                  FAILED if not read else FLAGGED if reasons else OK, "; ".join(reasons),
                  next((one.uids for one in first if any(one.uids.values())), {}), *size)


def _uids(uids: Mapping[str, str]) -> list[str]:
    return [uids.get(name, "") for name in UIDS]
