"""Box formats and overlap: the only module that converts one format to another or computes an IoU.

Shapes and names used here and everywhere else:
    xyxy   (N, 4) ``x_min, y_min, x_max, y_max`` in pixels, the maximum exclusive
    xywh   (N, 4) ``x_min, y_min, width, height`` in pixels; COCO's format
    unit   xyxy divided by ``(width, height)`` of the image; what ensemble-boxes wants
"""

import numpy as np
from numpy.typing import ArrayLike, NDArray

Boxes = NDArray[np.float64]


def as_boxes(boxes: ArrayLike) -> Boxes:
    """Anything box-like as a float64 (N, 4) array; an empty list becomes (0, 4).

    Raises:
        ValueError: the shape is not (N, 4).
    """
    array = np.asarray(boxes, dtype=np.float64)
    if array.size == 0:
        return np.zeros((0, 4))
    if array.ndim != 2 or array.shape[1] != 4:
        raise ValueError(f"boxes have shape {array.shape}, expected (N, 4)")
    return array


def xyxy_to_xywh(boxes: ArrayLike) -> Boxes:
    """xyxy to xywh, (N, 4) to (N, 4)."""
    xyxy = as_boxes(boxes)
    return np.concatenate([xyxy[:, :2], xyxy[:, 2:] - xyxy[:, :2]], axis=1)


def xywh_to_xyxy(boxes: ArrayLike) -> Boxes:
    """xywh to xyxy, (N, 4) to (N, 4)."""
    xywh = as_boxes(boxes)
    return np.concatenate([xywh[:, :2], xywh[:, :2] + xywh[:, 2:]], axis=1)


def scale(boxes: ArrayLike, x: float, y: float) -> Boxes:
    """Multiply xyxy boxes by a factor per axis; the two differ where an image lost its aspect ratio."""
    return as_boxes(boxes) * np.array([x, y, x, y])


def to_unit(boxes: ArrayLike, height: float, width: float) -> Boxes:
    """Pixel xyxy to unit xyxy of an image of ``height`` x ``width``."""
    return scale(boxes, 1 / width, 1 / height)


def from_unit(boxes: ArrayLike, height: float, width: float) -> Boxes:
    """Unit xyxy to pixel xyxy of an image of ``height`` x ``width``."""
    return scale(boxes, width, height)


def clip(boxes: ArrayLike, height: float, width: float) -> Boxes:
    """Clip xyxy boxes to the image; a box wholly outside becomes empty."""
    return np.clip(as_boxes(boxes), 0, np.array([width, height, width, height]))


def area(boxes: ArrayLike) -> NDArray[np.float64]:
    """Areas (N,) of xyxy boxes in square pixels; 0 where the corners are crossed."""
    xyxy = as_boxes(boxes)
    return _area(xyxy[:, :2], xyxy[:, 2:])


def box_iou_batch(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union (N, M) of every xyxy box of ``a`` (N, 4) with each of ``b`` (M, 4)."""
    return _iou(as_boxes(a)[:, None], as_boxes(b)[None])


def paired_iou(a: ArrayLike, b: ArrayLike) -> NDArray[np.float64]:
    """Intersection over union (P,) of the xyxy boxes a[i] and b[i], (P, 4) each."""
    return _iou(as_boxes(a), as_boxes(b))


def _iou(a: Boxes, b: Boxes) -> NDArray[np.float64]:
    """Of xyxy boxes (..., 4) whose leading axes broadcast; 0 where both are empty."""
    intersection = _area(np.maximum(a[..., :2], b[..., :2]), np.minimum(a[..., 2:], b[..., 2:]))
    union = _area(a[..., :2], a[..., 2:]) + _area(b[..., :2], b[..., 2:]) - intersection
    return np.divide(intersection, union, out=np.zeros_like(union), where=union > 0)


def _area(low: NDArray[np.float64], high: NDArray[np.float64]) -> NDArray[np.float64]:
    sides = np.clip(high - low, 0, None)
    return sides[..., 0] * sides[..., 1]
