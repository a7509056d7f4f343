"""The readers' boxes on one image to one consensus; the rule for it is :func:`fuse_readers`.

Readers disagree; boxes of one class that overlap are taken for one finding. ``wbf`` is weighted boxes fusion
(Solovyev, Wang, Gabruseva, 2021) with one list of boxes per reader, all of the same weight: a box joins the
fused box with which it has the highest IoU, which becomes the mean of its members.

The matching is ensemble-boxes' own, the one that :mod:`vindr_det.postprocessing.fusion` uses. The rest of
its ``weighted_boxes_fusion`` cannot serve here: it does not return the members, that is, which readers
agreed; it averages in single precision, which would move the boxes; and it sorts equal scores, as all
readers' are, in an order that numpy leaves open.
"""

from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.structures.boxes import Boxes
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet

FUSIONS = ("wbf", "nms", "none")


class Consensus(NamedTuple):
    """One image's boxes after the readers' were fused.

    Attributes:
        boxes: xyxy in the pixels of the input; scores are the share of readers behind each box.
        readers: for each box the names of these readers, sorted.
    """

    boxes: Predictions = Predictions()
    readers: tuple[tuple[str, ...], ...] = ()


def check_options(fusion: str, iou_thr: float, min_readers: int) -> None:
    """Check the options of :func:`fuse_readers`.

    Raises:
        InputError: an option is out of range.
    """
    if fusion not in FUSIONS:
        raise InputError(f"--fusion {fusion}: expected one of {', '.join(FUSIONS)}")
    if not 0 < iou_thr < 1:
        raise InputError(f"--iou-thr {iou_thr}: expected a number between 0 and 1")
    if min_readers < 1 or (min_readers > 1 and fusion == "none"):
        raise InputError(f"--min-readers {min_readers} with --fusion {fusion}: expected at least 1, "
                         "and more only where boxes are fused")


def fuse_readers(
    boxes: NDArray[np.float64], labels: NDArray[np.int64], readers: Sequence[str], num_readers: int,
    fusion: str = "wbf", iou_thr: float = 0.4, min_readers: int = 1,
    label_set: LabelSet = VINBIGDATA,
) -> Consensus:
    """Fuse one image's boxes class by class.

    Args:
        boxes: (N, 4) xyxy.
        labels: (N,) class ids of findings.
        readers: (N,) names; boxes are taken from the last to the first.
        num_readers: how many readers read the image, also those who drew nothing.
        fusion: ``wbf``, ``nms`` (the first box of those that overlap) or ``none`` (all boxes).
        iou_thr: boxes with a higher IoU are one.
        min_readers: number of readers who must have drawn a box for it to be kept.
        label_set: of the class ids.

    Returns:
        The boxes that most readers drew first.
    """
    boxes = np.asarray(boxes, dtype=float).reshape(-1, 4)
    groups = []
    for label in np.unique(labels).tolist():
        members = np.flatnonzero(labels == label)[::-1].tolist()
        for box, cluster in _clusters(boxes, members, iou_thr, fusion):
            names = tuple(sorted({readers[member] for member in cluster}))
            if len(names) >= min_readers:
                groups.append((len(names) / num_readers, label, box, names))
    if not groups:
        return Consensus(Predictions(label_set=label_set))
    groups.sort(key=lambda group: -group[0])
    shares, classes, fused, behind = zip(*groups, strict=True)
    return Consensus(Predictions(np.array(fused), np.array(shares), np.array(classes), label_set), behind)


def _clusters(
    boxes: Boxes, members: Sequence[int], iou_thr: float, fusion: str
) -> list[tuple[NDArray[np.float64], list[int]]]:
    """The fused boxes (4,) of one class, each with the rows of ``boxes`` that are its members."""
    if fusion == "none" or len(members) == 1:
        return [(boxes[member], [member]) for member in members]
    from ensemble_boxes.ensemble_boxes_wbf import find_matching_box_fast  # not with the module: brings numba

    rows = np.zeros((len(boxes), 8))  # the library's: label, score, weight, model, then the box
    rows[:, 4:] = boxes
    fused = np.empty((0, 8))
    clusters: list[list[int]] = []
    for member in members:
        match, _ = find_matching_box_fast(fused, rows[member], iou_thr)
        if match < 0:
            fused = np.vstack([fused, rows[member]])
            clusters.append([member])
            continue
        clusters[match].append(member)
        if fusion == "wbf":
            fused[match, 4:] = boxes[clusters[match]].mean(axis=0)
    return list(zip(fused[:, 4:], clusters, strict=True))
