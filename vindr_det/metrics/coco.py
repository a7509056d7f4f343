"""COCO AP over the 14 findings, by faster-coco-eval, with AP40 beside AP50 and AP75.

``coco/AP`` is the mean over IoU .50:.05:.95 of the 101-point AP, as cocodataset.org defines it.
``coco/AP40`` is the same 101-point AP at IoU >= .40; it is not the competition's metric.
"""

import contextlib
import io
from collections.abc import Sequence
from typing import Any

import numpy as np

from vindr_det import boxes as box_ops
from vindr_det.coco import to_coco
from vindr_det.predictions import PredictionSet
from vindr_det.records import Record

#: .40 stands beside COCO's own ten thresholds and is left out of AP.
THRESHOLDS = np.array([0.4, *np.linspace(0.5, 0.95, 10)])


def evaluate(predictions: PredictionSet, records: Sequence[Record]) -> dict[str, float]:
    """``coco/AP``, ``coco/AP40``, ``coco/AP50``, ``coco/AP75``; NaN without any true box.

    Args:
        predictions: image id -> detections in original pixels; class 14 is left out.
        records: images with their true boxes.
    """
    names = ("coco/AP", "coco/AP40", "coco/AP50", "coco/AP75")
    truth = to_coco(records)
    if not truth["annotations"]:
        return dict.fromkeys(names, float("nan"))
    detections = to_detections(predictions, records)
    if not detections:
        return dict.fromkeys(names, 0.0)
    precision = _precision(truth, detections)  # (T, R, K, A, M)
    at = {round(float(t), 2): i for i, t in enumerate(THRESHOLDS)}
    return {
        "coco/AP": _mean(precision[1:]),
        "coco/AP40": _mean(precision[at[0.4]]),
        "coco/AP50": _mean(precision[at[0.5]]),
        "coco/AP75": _mean(precision[at[0.75]]),
    }


def to_detections(predictions: PredictionSet, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Detections in COCO's results format; image ids as :func:`vindr_det.coco.to_coco` has them."""
    results = []
    for number, record in enumerate(records, start=1):
        if record.image_id not in predictions:
            continue
        found = predictions[record.image_id].findings()
        for box, score, label in zip(
            box_ops.xyxy_to_xywh(found.boxes).tolist(), found.scores.tolist(),
            found.labels.tolist(), strict=True,
        ):
            results.append({"image_id": number, "category_id": label, "bbox": box, "score": score})
    return results


def _precision(truth: dict[str, Any], detections: list[dict[str, Any]]) -> np.ndarray:
    from faster_coco_eval import COCO, COCOeval_faster

    with contextlib.redirect_stdout(io.StringIO()):
        ground = COCO(truth)
        evaluation = COCOeval_faster(ground, ground.loadRes(detections), "bbox",
                                     print_function=lambda *_: None)
        evaluation.params.iouThrs = THRESHOLDS
        evaluation.evaluate()
        evaluation.accumulate()
    return evaluation.eval["precision"]


def _mean(precision: np.ndarray) -> float:
    """Mean over everything but area (all) and detections an image (100); -1 means no truth."""
    values = precision[..., 0, -1]
    values = values[values > -1]
    return float(values.mean()) if len(values) else float("nan")
