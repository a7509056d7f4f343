"""How well a map of evidence agrees with boxes: numbers, since a picture of a map persuades too easily."""

from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.classification.probabilities import P_ABNORMAL
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import column_of

#: Of the table of a run: as of :class:`Agreement`, empty where a label has no box on the image.
COLUMNS = ("image_id", "label", "boxes", "energy_in_boxes", "area_of_boxes", "maximum_in_box")


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


def boxes_of(detections: Predictions, column: str) -> NDArray[np.float64]:
    """(M, 4) the boxes of a classifier's column: of its finding, or of all findings for ``p_abnormal``."""
    detections = detections.findings()
    if column == P_ABNORMAL:
        return detections.boxes
    names = [column_of(name) for name in detections.label_set.findings]
    return detections.boxes[detections.labels == names.index(column)] if column in names else \
        detections.boxes[:0]


class MapComparison:
    """Maps of many images against boxes.

    Args:
        boxes: image id -> boxes in original pixels.

    Attributes:
        rows: a row per map of an image that has an entry in the boxes, of :data:`COLUMNS`.
    """

    def __init__(self, boxes: PredictionSet) -> None:
        self._boxes = boxes
        self.rows: list[dict[str, Any]] = []

    def shown(
        self, image_id: str, column: str, original: tuple[int, int], shape: tuple[int, ...]
    ) -> NDArray[np.float64]:
        """(M, 4) the boxes of a column in the pixels of a picture or map.

        Args:
            image_id: of the image.
            column: of the classifier.
            original: (height, width) of the image.
            shape: (height, width) of the picture.
        """
        boxes = boxes_of(self._boxes.get(image_id, Predictions()), column)
        return box_ops.scale(boxes, shape[1] / original[1], shape[0] / original[0])

    def add(self, image_id: str, original: tuple[int, int], column: str, heat: NDArray[np.float32]) -> None:
        """Compare a map; without boxes of its label there is a row without figures.

        Args:
            image_id: of the image.
            original: its (height, width).
            column: of the classifier.
            heat: (H, W) over the whole image.
        """
        if image_id not in self._boxes:
            return
        boxes = self.shown(image_id, column, original, heat.shape)
        agreed = agreement(heat, boxes) if len(boxes) else None
        figures = (agreed.energy, agreed.area, int(agreed.points)) if agreed else (None, None, None)
        self.rows.append(dict(zip(COLUMNS, (image_id, column, len(boxes), *figures), strict=True)))

    def text(self) -> str:
        """The rows as CSV."""
        table = pd.DataFrame(self.rows, columns=list(COLUMNS)).astype({"maximum_in_box": "Int64"})
        return table.to_csv(index=False, lineterminator="\n", float_format="%.4f")
