"""Detections to a submission's rows."""

import csv
import io
from collections.abc import Collection, Iterable
from pathlib import Path

import pandas as pd

from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import NO_FINDING_BOX, NO_FINDING_ID
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
    sizes: pd.DataFrame | None = None, unread: Collection[str] = (),
) -> None:
    """Write :func:`submission_text`, whole or not at all.

    Raises:
        InputError: as there, or the path cannot be written.
    """
    write_text(path, submission_text(path, predictions, image_ids, sizes, unread))


def submission_text(
    path: str | Path, predictions: PredictionSet, image_ids: Iterable[str] | None = None,
    sizes: pd.DataFrame | None = None, unread: Collection[str] = (),
) -> str:
    """A submission, and never one with errors.

    Args:
        path: of the CSV that it is for.
        predictions: image id -> detections in original pixels; without any the row says "no finding".
        image_ids: one row each, in this order. None takes the ids of ``predictions``, then ``unread``.
        sizes: of the originals; boxes must lie inside.
        unread: images about which nothing is known. Kaggle wants a row of them too, and has but one that
            holds no box: "no finding". No other file may say so.

    Raises:
        InputError: a prediction belongs to none of ``image_ids``, one of these has no prediction and is not
            ``unread`` either, or what was to be written has an error.
    """
    ids = list([*predictions, *unread] if image_ids is None else image_ids)
    stray = set(predictions).difference(ids)
    if stray:
        raise InputError(f"{path}: predictions for {min(stray)}, which is none of the image ids")
    lost = set(ids).difference(predictions, unread)
    if lost:
        raise InputError(f"{path}: not written; image {min(lost)} has no prediction ({len(lost)} in all); "
                         "an image without one is not a normal one")
    rows = [[i, format_predictions(predictions.get(i, Predictions()))] for i in ids]
    known = None if sizes is None else with_unread(sizes, unread)
    for issue in check_rows([list(HEADER), *rows], ids, known).issues:
        if issue.error:
            raise InputError(f"{path}: not written; {str(issue).removeprefix('error: ')}")
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows([list(HEADER), *rows])
    return buffer.getvalue()


def with_unread(sizes: pd.DataFrame, unread: Iterable[str]) -> pd.DataFrame:
    """A table of sizes that also has images which nobody could read; their rows hold no box to check."""
    return sizes.reindex([*sizes.index, *set(unread).difference(sizes.index)], fill_value=1)
