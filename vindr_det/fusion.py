"""Weighted boxes fusion and NMS of several lists of boxes, with the input checked first.

The algorithms are ensemble-boxes' (Solovyev, Wang, Gabruseva, "Weighted boxes fusion", 2021).
Left to itself that library drops pixel boxes with a warning, ends the process with status 0 when
list lengths differ, and resets a wrong number of weights; here each of these is an error.
"""

from collections.abc import Sequence

import numpy as np
from ensemble_boxes import nms, non_maximum_weighted, soft_nms, weighted_boxes_fusion

from vindr_det import boxes as box_ops
from vindr_det.predictions import Predictions

METHODS = ("wbf", "nms", "soft-nms", "nmw")


def fuse(
    predictions: Sequence[Predictions], height: float, width: float, *, method: str = "wbf",
    iou_thr: float = 0.4, skip_box_thr: float = 0.0001, weights: Sequence[float] | None = None,
    conf_type: str = "avg",
) -> Predictions:
    """Fuse several detectors' (or readers') boxes on one image, class by class.

    Args:
        predictions: one entry a model; an empty entry still counts as a model that saw nothing.
        height: of the image the boxes' pixels belong to.
        width: likewise.
        method: one of :data:`METHODS`.
        iou_thr: boxes of one class that overlap more are fused.
        skip_box_thr: boxes with a lower score are left out.
        weights: one a model; None weighs all the same.
        conf_type: how wbf makes one score of several; ensemble-boxes' four names.

    Returns:
        The fused boxes, best first, in the same pixels, scores in [0, 1].

    Raises:
        ValueError: unknown method, or weights that do not fit the models.
    """
    if method not in METHODS:
        raise ValueError(f"fusion method {method!r}, expected one of {', '.join(METHODS)}")
    weights = _checked_weights(weights, len(predictions))
    if not any(len(p) for p in predictions):
        return Predictions()
    unit = [box_ops.clip(box_ops.to_unit(p.boxes, height, width), 1, 1) for p in predictions]
    keep = [((u[:, 2:] > u[:, :2]).all(axis=1)) for u in unit]
    lists = (
        [u[k].tolist() for u, k in zip(unit, keep, strict=True)],
        [p.scores[k].tolist() for p, k in zip(predictions, keep, strict=True)],
        [p.labels[k].tolist() for p, k in zip(predictions, keep, strict=True)],
    )
    boxes, scores, labels = _call(method, lists, weights, iou_thr, skip_box_thr, conf_type)
    fused = Predictions(
        box_ops.from_unit(boxes, height, width),
        np.clip(scores, 0, 1),  # weighted scores can exceed 1
        np.asarray(labels).astype(np.int64),  # labels come back as float64
    )
    return fused.by_score()


def _call(method: str, lists: tuple, weights: list[float], iou_thr: float, skip: float, conf: str):
    if method == "wbf":
        return weighted_boxes_fusion(*lists, weights=weights, iou_thr=iou_thr, skip_box_thr=skip,
                                     conf_type=conf)
    if method == "nmw":
        return non_maximum_weighted(*lists, weights=weights, iou_thr=iou_thr, skip_box_thr=skip)
    if method == "soft-nms":
        return soft_nms(*lists, weights=weights, iou_thr=iou_thr, sigma=0.5, thresh=skip)
    return nms(*lists, weights=weights, iou_thr=iou_thr)


def _checked_weights(weights: Sequence[float] | None, count: int) -> list[float]:
    if weights is None:
        return [1.0] * count
    if len(weights) != count:
        raise ValueError(f"{len(weights)} weights for {count} models, expected one each")
    if not all(np.isfinite(w) and w > 0 for w in weights):
        raise ValueError(f"weights {list(weights)}, expected positive numbers")
    return [float(w) for w in weights]
