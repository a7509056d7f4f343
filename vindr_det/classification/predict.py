"""A folder of images to a table of probabilities, decisions and warnings."""

from collections.abc import Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from vindr_det.classification.model import Classifier
from vindr_det.classification.operating_points import read_points
from vindr_det.exceptions import InputError
from vindr_det.imaging import image_run
from vindr_det.imaging.image_run import ImageRun, Looked
from vindr_det.imaging.status import FAILED, FLAGGED, Status
from vindr_det.parallel import Failure, guarded


def thresholds_of(model: str | Path, point: str = "youden") -> dict[str, float]:
    """Column -> threshold at an operating point, of the labels that have it.

    Raises:
        InputError: the training is not finished, or no label has such a point.
    """
    points = read_points(model)
    thresholds = {column: one.thresholds[point] for column, one in points.items() if point in one.thresholds}
    if not thresholds:
        known = sorted({name for one in points.values() for name in one.thresholds})
        raise InputError(f"--point {point}: the model has {', '.join(known) or 'none'}")
    return thresholds


def classify(
    classifier: Classifier, run: ImageRun, thresholds: Mapping[str, float], workers: int | None = None
) -> tuple[pd.DataFrame, list[Status]]:
    """Probabilities of all images that can be read, and a status for each input.

    Args:
        classifier: of one or several folds.
        run: of :func:`vindr_det.imaging.image_run.find`.
        thresholds: of :func:`thresholds_of`; labels without one have no ``says_...``.
        workers: processes that read; None takes one per core.

    Returns:
        A row per image that was read: image_id, a ``p_...`` per label, ``says_...`` 0 or 1, calibrated,
        warnings. An image that was not read has none: a blank would be read as 0 by somebody.
    """
    rows: list[dict[str, Any]] = []
    statuses = []
    looked = image_run.read_all(run, classifier.target, workers)
    for one in tqdm(looked, desc="classify", unit="image", total=len(run.inputs), disable=None):
        row = guarded(lambda seen: _row(classifier, seen, thresholds), one) if one.image else None
        if isinstance(row, Failure):
            reason = f"was read, but not classified: {row.reason}"
            statuses.append(replace(one.status, status=FAILED, reason=reason))
            continue
        statuses.append(one.status)
        rows += [row] if row is not None else []
    return pd.DataFrame(rows), statuses


def _row(classifier: Classifier, one: Looked, thresholds: Mapping[str, float]) -> dict[str, Any]:
    assert one.image is not None
    values = classifier.probabilities([one.image.pixels])[0].tolist()
    row: dict[str, Any] = {"image_id": one.status.image_id,
                           **dict(zip(classifier.columns, values, strict=True))}
    for column, threshold in thresholds.items():
        row[column.replace("p_", "says_", 1)] = int(row[column] >= threshold)
    return row | {"calibrated": int(bool(classifier.calibrations)),
                  "warnings": one.status.reason if one.status.status == FLAGGED else ""}
