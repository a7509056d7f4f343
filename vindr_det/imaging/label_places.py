"""Where the labels of boxes go: none over another, and as little as possible over what the boxes show."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

Ints = NDArray[np.int64]
_GAP = 2
#: What a pixel of distance costs, against a label that lies wholly within a box.
_DISTANCE = 1 / 70
#: What a place costs that is over another label, and what it may cost to be taken without looking further.
_CLASH, _GOOD = 100, 0.4
#: What a covered corner of a box costs: a box is seen by its corners.
_CORNER = 0.5
#: Pixels around a box that are searched before the whole picture is.
_NEAR = 160


def place_labels(boxes: Ints, sizes: Sequence[tuple[int, int]], height: int, width: int) -> Ints:
    """Places of labels, the smallest boxes' first: beside their box if it is free there, else near it.

    Args:
        boxes: (N, 4) xyxy, in the picture's pixels.
        sizes: width and height of the label of each box.
        height: of the picture.
        width: of the picture.

    Returns:
        (N, 4) xyxy, inside the picture; two of them overlap only where there is no free place left.
    """
    places = np.zeros((len(sizes), 4), np.int64)
    taken = np.zeros((0, 4), np.int64)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1)
    for row in np.argsort(areas, kind="stable"):
        wide, high = sizes[row]
        for reach, good in ((0, _GOOD), (_NEAR, _CLASH), (height + width, np.inf)):
            candidates = _candidates(boxes[row], wide, high, height, width, reach)
            costs = _costs(candidates, boxes, row, taken)
            if costs.min() < good:
                break
        places[row] = candidates[costs.argmin()]
        taken = np.vstack([taken, places[row]])
    return places


def distances(places: Ints, boxes: Ints) -> NDArray[np.float64]:
    """Pixels (N,) between each place and the box of the same row; 0 where they touch or overlap."""
    gap = np.maximum(np.maximum(boxes[:, :2] - places[:, 2:], places[:, :2] - boxes[:, 2:]), 0)
    return np.hypot(gap[:, 0], gap[:, 1])


def nearer_to_others(places: Ints, boxes: Ints) -> NDArray[np.bool_]:
    """Whether each place (N,) is apart from its own box and nearer to, or over, that of another row."""
    to_boxes = distances(np.repeat(places, len(boxes), axis=0), np.tile(boxes, (len(places), 1)))
    to_boxes = to_boxes.reshape(len(places), len(boxes))
    own = to_boxes.diagonal()
    return (own > _GAP) & (to_boxes < own[:, None]).any(axis=1)


def overlap_areas(a: Ints, b: Ints) -> NDArray[np.float64]:
    """Common area (N, M) in square pixels of xyxy boxes (N, 4) and (M, 4)."""
    low, high = np.maximum(a[:, None, :2], b[None, :, :2]), np.minimum(a[:, None, 2:], b[None, :, 2:])
    return np.clip(high - low, 0, None).prod(axis=2).astype(float)


def _candidates(box: Ints, wide: int, high: int, height: int, width: int, reach: int) -> Ints:
    """(C, 4) places within the picture: around and within the box, and a lattice of this reach around it."""
    x0, y0, x1, y1 = box.tolist()
    columns, rows = (x0, (x0 + x1 - wide) // 2, x1 - wide), (y0, (y0 + y1 - high) // 2, y1 - high)
    corners = [(x, y) for x in columns for y in (y0 - high - _GAP, y1 + _GAP, y0 + _GAP, y1 - high - _GAP)]
    corners += [(x, y) for y in rows for x in (x0 - wide - _GAP, x1 + _GAP)]
    low = np.array(corners, np.int64)
    if reach:
        lattice = np.meshgrid(np.arange(max(0, x0 - wide - reach), min(width, x1 + reach), max(wide // 3, 8)),
                              np.arange(max(0, y0 - high - reach), min(height, y1 + reach), high + _GAP))
        low = np.concatenate([low, np.stack(lattice, -1).reshape(-1, 2)])
    low = np.clip(low, 0, [max(0, width - wide), max(0, height - high)])
    return np.hstack([low, low + np.array([wide, high])])


def _costs(candidates: Ints, boxes: Ints, row: int, taken: Ints) -> NDArray[np.float64]:
    """(C,) how bad each place is."""
    covered = overlap_areas(candidates, boxes)
    label_area = (candidates[:, 2:] - candidates[:, :2]).prod(axis=1)
    box_areas = np.maximum((boxes[:, 2:] - boxes[:, :2]).prod(axis=1), 1)
    hidden = (covered / box_areas).sum(axis=1) * 3 + covered[:, row] / box_areas[row] * 3
    inside = np.minimum(covered.sum(axis=1) / label_area, 2)
    clash = overlap_areas(candidates, taken).sum(axis=1) / label_area
    distance = distances(candidates, np.broadcast_to(boxes[row], candidates.shape)) * _DISTANCE
    corners = _CORNER * _covered_corners(candidates, boxes)
    return hidden + inside + distance + corners + np.where(clash > 0, _CLASH * (1 + clash), 0)


def _covered_corners(candidates: Ints, boxes: Ints) -> NDArray[np.int64]:
    """(C,) corners of any box that each place hides."""
    x, y = boxes[:, [0, 2, 0, 2]].ravel(), boxes[:, [1, 1, 3, 3]].ravel()
    left, top, right, bottom = (edge[:, None] for edge in candidates.T)
    return ((left <= x) & (x < right) & (top <= y) & (y < bottom)).sum(axis=1)
