"""A prediction file against annotations: what tools/evaluate.py prints and writes."""

import math
from collections.abc import Sequence
from pathlib import Path

import numpy as np
from tabulate import tabulate

from vindr_det.annotations import read_annotations, to_records
from vindr_det.categories import CLASS_NAMES
from vindr_det.coco import read_coco
from vindr_det.errors import InputError
from vindr_det.metrics import coco, vindr
from vindr_det.predictions import PredictionSet
from vindr_det.records import Record, truth_of


def read_truth(path: str | Path) -> list[Record]:
    """Annotations from a COCO JSON or from a VinBigData table.

    A table with several readers is fused to their consensus; one without rad_id is taken as it
    is. Fusing needs sizes only to bring boxes into [0, 1], and overlap does not depend on them,
    so the furthest corner of each image serves.
    """
    if str(path).endswith(".json"):
        return read_coco(path)
    if not str(path).endswith((".csv", ".csv.gz")):
        raise InputError(f"{path}: expected a COCO .json or a VinBigData .csv")
    frame = read_annotations(path)
    reach = frame.groupby("image_id")[["y_max", "x_max"]].max().fillna(1)
    sizes = np.ceil(reach).astype(int).set_axis(["height", "width"], axis=1)
    fusion = "wbf" if frame["rad_id"].nunique() > 1 else "none"
    return to_records(frame, sizes, fusion)


def score(predictions: PredictionSet, records: Sequence[Record]) -> dict[str, float]:
    """``vindr/...`` over 15 classes and ``coco/...`` over 14; NaN where nothing can be measured."""
    result = vindr.evaluate(predictions, truth_of(records))
    return result.as_metrics() | coco.evaluate(predictions, records)


def dealt_anew(predictions: PredictionSet, seed: int = 0) -> PredictionSet:
    """The same rows given to other images: what a detector scores that never looks.

    Every image gets another image's detections, so all that is learned about where findings
    usually lie stays and all that was seen goes.
    """
    ids = sorted(predictions)
    order = np.random.default_rng(seed).permutation(len(ids))
    shifted = np.roll(order, 1)
    return {ids[to]: predictions[ids[source]] for to, source in zip(order, shifted, strict=True)}


def table(metrics: dict[str, float], predictions: PredictionSet, records: Sequence[Record]) -> str:
    """The per-class table and the summary, as text."""
    result = vindr.evaluate(predictions, truth_of(records))
    rows = [
        [name, result.truths[name], result.detections[name],
         _number(metrics[f"vindr/AP40/{name}"])]
        for name in CLASS_NAMES
    ]
    classes = tabulate(rows, ["class", "truths", "detections", "AP40"], disable_numparse=True,
                       colalign=("left", "right", "right", "right"))
    summary = tabulate(
        [[key, _number(value)] for key, value in metrics.items()
         if not key.startswith("vindr/AP40/")],
        ["metric", "value"], disable_numparse=True, colalign=("left", "right"))
    return f"{classes}\n\n{summary}"


def as_json(metrics: dict[str, float]) -> dict[str, float | None]:
    """NaN as null: JSON has no word for it."""
    return {key: None if math.isnan(value) else value for key, value in metrics.items()}


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
