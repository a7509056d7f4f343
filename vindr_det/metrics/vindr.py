"""The competition's metric: PASCAL VOC 2010 mAP at IoU > 0.4 over 15 classes.

Everingham et al., "The PASCAL VOC Challenge", IJCV 2010, section 4.2 and the 2010 development kit:
detections are taken by falling score; each goes to the ground truth of its class and image that it
overlaps most; it is right if that overlap exceeds the threshold and the ground truth is not taken
yet. AP is the area under the precision-recall curve made monotone, at all points. "No finding" is
the fifteenth class: a normal image's truth is one box ``0 0 1 1`` of class 14.

Names below: D detections, G ground truths, P pairs of the two in the same image and class.
"""

from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vindr_det import boxes as box_ops
from vindr_det.categories import CLASS_NAMES
from vindr_det.errors import InputError
from vindr_det.predictions import Predictions, PredictionSet, no_finding

IOU_THRESHOLD = 0.4


@dataclass(frozen=True)
class VindrResult:
    """The competition's mAP and what it is made of.

    Attributes:
        mean_ap: mean over the classes that have ground truth; NaN if none has.
        ap: class name -> AP; NaN where the class has no ground truth.
        truths: class name -> number of ground truths.
        detections: class name -> number of detections.
    """

    mean_ap: float
    ap: Mapping[str, float]
    truths: Mapping[str, int]
    detections: Mapping[str, int]

    def as_metrics(self) -> dict[str, float]:
        """``vindr/mAP40`` and ``vindr/AP40/<class name>``."""
        return {"vindr/mAP40": self.mean_ap} | {f"vindr/AP40/{k}": v for k, v in self.ap.items()}


@dataclass(frozen=True)
class _Flat:
    """All images' boxes in one table."""

    image: NDArray[np.int64]  # (N,)
    label: NDArray[np.int64]  # (N,)
    score: NDArray[np.float64]  # (N,)
    box: NDArray[np.float64]  # (N, 4) xyxy

    def __getitem__(self, index) -> "_Flat":
        return _Flat(self.image[index], self.label[index], self.score[index], self.box[index])


def evaluate(
    predictions: PredictionSet, truth: PredictionSet, iou_threshold: float = IOU_THRESHOLD
) -> VindrResult:
    """Score predictions.

    Args:
        predictions: image id -> detections; an image may be missing. Class 14 rows are detections
            of "no finding"; without any, that class scores 0.
        truth: image id -> true boxes; an image without boxes is normal.
        iou_threshold: an overlap must be strictly greater.

    Ties in score keep their order: by image id, then as they stand in the prediction.

    Raises:
        InputError: an image is predicted that the truth does not hold.
    """
    unknown = set(predictions).difference(truth)
    if unknown:
        raise InputError(f"predictions for image {min(unknown)}, which the annotations lack")
    ids = sorted(truth)
    truths = _flatten([truth[i] if len(truth[i]) else no_finding() for i in ids])
    detections = _flatten([predictions.get(i, Predictions()) for i in ids])
    detections = detections[np.argsort(-detections.score, kind="stable")]
    correct = match(detections, truths, iou_threshold)
    ap, counts_g, counts_d = {}, {}, {}
    for label, name in enumerate(CLASS_NAMES):
        mine = detections.label == label
        counts_g[name] = int((truths.label == label).sum())
        counts_d[name] = int(mine.sum())
        ap[name] = average_precision(correct[mine], counts_g[name])
    measured = [value for value in ap.values() if not np.isnan(value)]
    mean = float(np.mean(measured)) if measured else float("nan")
    return VindrResult(mean, ap, counts_g, counts_d)


def match(detections: _Flat, truths: _Flat, iou_threshold: float) -> NDArray[np.bool_]:
    """Which detections are right, (D,), for detections sorted by falling score."""
    correct = np.zeros(len(detections.score), dtype=bool)
    d, g = _pairs(detections, truths)
    if len(d) == 0:
        return correct
    overlap = _paired_iou(detections.box[d], truths.box[g])
    # Each detection's best ground truth: pairs stand in order of d, then g, so the first maximum
    # is the first ground truth among equals.
    starts = np.flatnonzero(np.r_[True, d[1:] != d[:-1]])
    best = np.maximum.reduceat(overlap, starts)
    is_best = overlap == np.repeat(best, np.diff(np.r_[starts, len(d)]))
    at = np.flatnonzero(is_best)
    at = at[np.unique(d[at], return_index=True)[1]]
    at = at[overlap[at] > iou_threshold]
    # Of the detections that chose the same ground truth, the first (best scored) has it.
    _, first = np.unique(g[at], return_index=True)
    correct[d[at[first]]] = True
    return correct


def average_precision(correct: NDArray[np.bool_], truths: int) -> float:
    """Area under the monotone precision-recall curve of detections sorted by falling score.

    NaN without ground truth: there is nothing to find, so nothing to score.
    """
    if truths == 0:
        return float("nan")
    hits = np.cumsum(correct)
    precision = hits / np.arange(1, len(hits) + 1)
    envelope = np.maximum.accumulate(precision[::-1])[::-1]
    # Recall grows by 1/truths at each hit and nowhere else.
    return float(envelope[correct].sum() / truths)


def _flatten(images: list[Predictions]) -> _Flat:
    counts = [len(p) for p in images]
    if not sum(counts):
        empty = np.zeros(0, np.int64)
        return _Flat(empty, empty, np.zeros(0), np.zeros((0, 4)))
    return _Flat(
        np.repeat(np.arange(len(images)), counts),
        np.concatenate([p.labels for p in images]),
        np.concatenate([p.scores for p in images]),
        np.concatenate([p.boxes for p in images]),
    )


def _pairs(detections: _Flat, truths: _Flat) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
    """Indices (P,), (P,) of all detections with all ground truths of their image and class."""
    classes = len(CLASS_NAMES)
    key_d = detections.image * classes + detections.label
    key_g = truths.image * classes + truths.label
    order = np.argsort(key_g, kind="stable")
    start = np.searchsorted(key_g[order], key_d, "left")
    count = np.searchsorted(key_g[order], key_d, "right") - start
    d = np.repeat(np.arange(len(key_d)), count)
    within = np.arange(len(d)) - np.repeat(np.cumsum(count) - count, count)
    return d, order[np.repeat(start, count) + within]


def _paired_iou(a: NDArray[np.float64], b: NDArray[np.float64]) -> NDArray[np.float64]:
    """IoU (P,) of a[i] with b[i]."""
    sides = np.clip(np.minimum(a[:, 2:], b[:, 2:]) - np.maximum(a[:, :2], b[:, :2]), 0, None)
    intersection = sides[:, 0] * sides[:, 1]
    return intersection / (box_ops.area(a) + box_ops.area(b) - intersection)
