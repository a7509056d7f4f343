"""What a run over a folder leaves: the submission, and beside it the tables for everyone but Kaggle."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from vindr_det.categories import CLASS_NAMES
from vindr_det.dicom.identity import UIDS
from vindr_det.files import require_writable, write_csv
from vindr_det.predictions import PredictionSet
from vindr_det.status import FAILED, FLAGGED, OK, Status, beside, status_path, write_status

COLUMNS = ("image_id", *UIDS, "class_id", "class_name", "score", "x_min", "y_min", "x_max", "y_max")


def predictions_path(out: str | Path) -> Path:
    """``S.predictions.csv`` beside ``S.csv``."""
    return beside(out, "predictions")


def require_all_writable(out: str | Path) -> None:
    """Raises:
        InputError: the submission or a table beside it cannot be written.
    """
    require_writable(out)
    for path in (predictions_path(out), status_path(out)):
        require_writable(path)


def write_tables(
    out: str | Path, predictions: PredictionSet, statuses: Sequence[Status]
) -> None:
    """Write ``S.predictions.csv`` and ``S.status.csv`` beside ``S.csv``, which is not written here.

    Args:
        out: of the submission.
        predictions: image id -> detections in original pixels.
        statuses: one for each input.
    """
    write_csv(predictions_path(out), prediction_table(predictions, statuses))
    write_status(status_path(out), statuses)


def prediction_table(predictions: PredictionSet, statuses: Sequence[Status]) -> pd.DataFrame:
    """One row per box of a finding, best first within an image; none for an image that was not read.

    A row that says "no finding" is no box and stands in the submission alone: whether an image without boxes
    here was looked at is what the status table tells.
    """
    rows = []
    for one in statuses:
        if one.status == FAILED or one.image_id not in predictions:
            continue
        found = predictions[one.image_id].findings().by_score()
        for box, score, label in zip(found.boxes.round(2).tolist(), found.scores.tolist(),
                                     found.labels.tolist(), strict=True):
            rows.append([one.image_id, *_uids(one.uids), label, CLASS_NAMES[label], f"{score:.6g}", *box])
    return pd.DataFrame(rows, columns=list(COLUMNS))


def pass_on(
    out: str | Path, predictions: PredictionSet, inputs: Sequence[Mapping[str, Status]]
) -> dict[str, str]:
    """Write ``S.status.csv`` of a submission that was made of others; returns what none of them had read.

    Args:
        out: of the submission.
        predictions: what it says, image id -> detections.
        inputs: of each file that it was made of, :func:`vindr_det.status.read_failed`.
    """
    failed = {image_id: one for part in inputs for image_id, one in part.items()}
    lost = [one for image_id, one in failed.items() if image_id not in predictions]
    kept = []
    for image_id in predictions:
        count = sum(image_id in part for part in inputs)
        reason = f"was not read for {count} of the {len(inputs)} files" if count else ""
        kept.append(Status(image_id, "", FLAGGED if count else OK, reason))
    write_status(status_path(out), [*kept, *lost])
    return {one.image_id: one.reason for one in lost}


def _uids(uids: Mapping[str, str]) -> list[str]:
    return [uids.get(name, "") for name in UIDS]
