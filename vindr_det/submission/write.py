"""Detections to a submission's rows."""

import csv
import io
from collections.abc import Iterable
from pathlib import Path

import pandas as pd

from vindr_det.categories import NO_FINDING_BOX, NO_FINDING_ID
from vindr_det.errors import InputError
from vindr_det.files import write_text
from vindr_det.predictions import Predictions, PredictionSet
from vindr_det.submission.check import HEADER, NO_FINDING_STRING, check_rows


def format_predictions(predictions: Predictions) -> str:
    """A PredictionString, best score first; no detections give ``14 1 0 0 1 1``."""
    groups = []
    ordered = predictions.by_score()
    for label, score, box in zip(
        ordered.labels.tolist(), ordered.scores.tolist(), ordered.boxes.tolist(), strict=True
    ):
        x0, y0, x1, y1 = (f"{value:.6g}" for value in (NO_FINDING_BOX if label == NO_FINDING_ID else box))
        if float(x0) < float(x1) and float(y0) < float(y1):  # rounding can close a sliver
            groups.append(f"{label} {score:.6g} {x0} {y0} {x1} {y1}")
    return " ".join(groups) or NO_FINDING_STRING


def write_submission(
    path: str | Path, predictions: PredictionSet, image_ids: Iterable[str] | None = None,
    sizes: pd.DataFrame | None = None,
) -> None:
    """Write a submission, whole or not at all, and never one with errors.

    Args:
        path: of the CSV.
        predictions: image id -> detections in original pixels.
        image_ids: one row each, in this order; images without predictions get "no finding".
            None takes the ids of ``predictions``.
        sizes: of the originals; boxes must lie inside.

    Raises:
        InputError: a prediction belongs to none of ``image_ids``, what was to be written has an error, or
            the path cannot be written.
    """
    ids = list(predictions if image_ids is None else image_ids)
    stray = set(predictions).difference(ids)
    if stray:
        raise InputError(f"{path}: predictions for {min(stray)}, which is none of the image ids")
    buffer = io.StringIO()
    writer = csv.writer(buffer, lineterminator="\n")
    writer.writerow(HEADER)
    rows = [[i, format_predictions(predictions.get(i, Predictions()))] for i in ids]
    writer.writerows(rows)
    checked = check_rows([list(HEADER), *rows], ids, sizes)
    for fault in checked.faults:
        if fault.error:
            raise InputError(f"{path}: not written; {str(fault).removeprefix('error: ')}")
    write_text(path, buffer.getvalue())
