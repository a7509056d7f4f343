"""Weighted boxes fusion of few boxes, as ensemble-boxes computes it, without its arrays.

Solovyev, Wang, Gabruseva, "Weighted boxes fusion", 2021. An image has a handful of boxes of a class, and
numpy spends its time on making arrays of them: plain numbers are several times as fast. The results are those
of ensemble-boxes' ``weighted_boxes_fusion`` with ``conf_type="avg"`` to the last bit, which is why sums are
rounded to single precision where that library keeps them so, and why numpy sorts: it decides which of equal
scores comes first, and real files hold the same box twice.
"""

from collections.abc import Sequence
from struct import Struct

import numpy as np

from vindr_det.boxes import Box, iou

_ONE, _FOUR = Struct("f"), Struct("4f")


class _Cluster:
    """Boxes that stand for one, and the one that they stand for."""

    __slots__ = ("box", "count", "sums", "total")

    def __init__(self, box: Box, score: float) -> None:
        self.box, self.total, self.count = box, score, 1
        self.sums = _FOUR.unpack(_FOUR.pack(*[score * edge for edge in box]))

    def add(self, box: Box, score: float) -> None:
        """The mean moves towards the box, by its score."""
        (a, b, c, d), (x0, y0, x1, y1) = self.sums, box
        a, b, c, d = self.sums = _FOUR.unpack(
            _FOUR.pack(a + score * x0, b + score * y0, c + score * x1, d + score * y1))
        self.total = total = self.total + score
        self.count += 1
        self.box = _FOUR.unpack(_FOUR.pack(a / total, b / total, c / total, d / total))

    def score(self) -> float:
        """Mean of the members' scores."""
        return self.total if self.count == 1 else _ONE.unpack(_ONE.pack(self.total / self.count))[0]


def fuse_class(
    boxes: Sequence[Box], scores: Sequence[float], iou_thr: float, weights: Sequence[float]
) -> list[tuple[Box, float]]:
    """Fuse the boxes of one class on one image.

    Args:
        boxes: unit xyxy.
        scores: of each box, times the weight of its model.
        iou_thr: a box joins the cluster that it overlaps most, if by more than this.
        weights: one a model; a box that few models have loses score.

    Returns:
        Boxes and scores, in the order in which the clusters began.
    """
    order = np.argsort(scores)[::-1].tolist() if len(scores) > 1 else [0]
    clusters: list[_Cluster] = []
    for at in order:
        best, most = None, iou_thr
        for cluster in clusters:
            overlap = iou(cluster.box, boxes[at])
            if overlap > most:
                best, most = cluster, overlap
        if best is None:
            clusters.append(_Cluster(boxes[at], scores[at]))
        else:
            best.add(boxes[at], scores[at])
    models, total = len(weights), sum(weights)
    return [(one.box, one.score() * min(models, one.count) / total) for one in clusters]
