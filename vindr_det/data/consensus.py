"""The readers' boxes on one image to one consensus.

Readers disagree; boxes of one class that overlap are taken for one finding. ``wbf`` is weighted
boxes fusion (Solovyev, Wang, Gabruseva, 2021) of one list of boxes a reader, all of the same
weight: a box joins the fused box that it overlaps most, which becomes the mean of its members.
It is written out here, and not called from ensemble-boxes, since that does not tell who agreed,
and since it sorts equal scores in an order that numpy leaves open.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.structures.boxes import Box, iou
from vindr_det.structures.detections import Predictions

FUSIONS = ("wbf", "nms", "none")


class Consensus(NamedTuple):
    """Attributes:
        boxes: xyxy in the pixels of the input; scores are the share of readers behind each box.
        readers: for each box the names of these readers, sorted.
    """

    boxes: Predictions = Predictions()
    readers: tuple[tuple[str, ...], ...] = ()


def check_options(fusion: str, iou_thr: float, min_readers: int) -> None:
    """Raises:
        InputError: an option of :func:`fuse_readers` is out of range.
    """
    if fusion not in FUSIONS:
        raise InputError(f"--fusion {fusion}: expected one of {', '.join(FUSIONS)}")
    if not 0 < iou_thr < 1:
        raise InputError(f"--iou-thr {iou_thr}: expected a number between 0 and 1")
    if min_readers < 1 or (min_readers > 1 and fusion == "none"):
        raise InputError(f"--min-readers {min_readers} with --fusion {fusion}: expected at least 1, "
                         "and more only where boxes are fused")


def fuse_readers(
    boxes: NDArray[np.float64], labels: NDArray[np.int64], readers: Sequence[str], of: int,
    fusion: str = "wbf", iou_thr: float = 0.4, min_readers: int = 1,
) -> Consensus:
    """Fuse one image's boxes class by class.

    Args:
        boxes: (N, 4) xyxy.
        labels: (N,) class ids 0..13.
        readers: (N,) names; whoever comes last in the list is taken first.
        of: how many readers read the image, also those who drew nothing.
        fusion: ``wbf``, ``nms`` (the first box of those that overlap) or ``none`` (all boxes).
        iou_thr: boxes that overlap more are one.
        min_readers: keep boxes behind which at least so many readers stand.

    Returns:
        Boxes that most readers drew first.
    """
    groups = []
    drawn = [tuple(box) for box in np.asarray(boxes, dtype=float).tolist()]
    for label in sorted(set(labels.tolist())):
        members = [i for i, own in enumerate(labels.tolist()) if own == label][::-1]
        for box, joined in _group(drawn, members, iou_thr, fusion):
            names = tuple(sorted({readers[i] for i in joined}))
            if len(names) >= min_readers:
                groups.append((len(names) / of, label, box, names))
    if not groups:
        return Consensus()
    groups.sort(key=lambda group: -group[0])
    shares, classes, fused, behind = zip(*groups, strict=True)
    return Consensus(Predictions(np.array(fused), np.array(shares), np.array(classes)), behind)


def _group(
    boxes: Sequence[Box], members: Sequence[int], iou_thr: float, fusion: str
) -> list[tuple[Box, list[int]]]:
    """The boxes that stand for a class, each with the boxes that it stands for."""
    if fusion == "none":
        return [(boxes[i], [i]) for i in members]
    found: list[Box] = []
    joined: list[list[int]] = []
    for i in members:
        overlaps = [iou(boxes[i], other) for other in found]
        best = max(range(len(overlaps)), key=overlaps.__getitem__, default=-1)
        if best < 0 or overlaps[best] <= iou_thr:
            found.append(boxes[i])
            joined.append([i])
            continue
        joined[best].append(i)
        if fusion == "wbf":
            corners = zip(*(boxes[j] for j in joined[best]), strict=True)
            found[best] = tuple(sum(edge) / len(joined[best]) for edge in corners)  # type: ignore
    return list(zip(found, joined, strict=True))
