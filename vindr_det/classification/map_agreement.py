"""How well a map of evidence agrees with boxes: numbers, since a picture of a map persuades too easily."""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class Agreement:
    """A map against the boxes of a finding.

    Attributes:
        energy: the share of the map's sum that lies inside the boxes, 0 to 1 (the energy-based pointing game;
            Wang et al., Score-CAM, 2020).
        area: the boxes' share of the image, which is the energy of a map that is the same everywhere.
        points: whether the map's maximum is inside a box (the pointing game; Zhang et al., 2016).
    """

    energy: float
    area: float
    points: bool


def agreement(heat: NDArray[np.float32], boxes: NDArray[np.float64]) -> Agreement:
    """Compare a map with boxes; cells that a box covers in part count in part.

    Args:
        heat: (H, W), 0 or more.
        boxes: (M, 4) xyxy in the map's pixels; overlapping boxes count once.
    """
    covered = np.zeros(heat.shape)
    for x0, y0, x1, y1 in boxes.tolist():
        cover = np.outer(_cover(y0, y1, heat.shape[0]), _cover(x0, x1, heat.shape[1]))
        covered = np.maximum(covered, cover)
    total = float(heat.sum(dtype=np.float64))
    energy = float((heat * covered).sum()) / total if total > 0 else 0.0
    return Agreement(energy, float(covered.mean()), _points(heat, boxes))


def _cover(start: float, end: float, size: int) -> NDArray[np.float64]:
    """(size,) the share of each pixel between two coordinates."""
    edges = np.arange(size)
    return np.clip(np.minimum(end, edges + 1) - np.maximum(start, edges), 0, 1)


def _points(heat: NDArray[np.float32], boxes: NDArray[np.float64]) -> bool:
    row, column = np.unravel_index(int(heat.argmax()), heat.shape)
    x, y = float(column) + 0.5, float(row) + 0.5
    inside = (boxes[:, 0] <= x) & (x < boxes[:, 2]) & (boxes[:, 1] <= y) & (y < boxes[:, 3])
    return bool(inside.any())
