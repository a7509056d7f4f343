"""Detections matched with ground truths as PASCAL VOC does it, over all images at once.

Shapes here and in the other metrics: I images, D detections, G ground truths, P pairs of a detection and a
ground truth of the same image (of the same class only where stated), R bootstrap replicates, K classes.
"""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from functools import cached_property
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.metrics.bootstrap import Floats
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet, no_finding
from vindr_det.structures.label_sets import CLASS_NAMES

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

NUM_CLASSES = len(CLASS_NAMES)
#: The competition's: an overlap must be strictly greater.
IOU_THRESHOLD = 0.4


@dataclass(frozen=True)
class Table:
    """All images' boxes as columns.

    Attributes:
        image: (N,) index of the image.
        label: (N,) class ids 0..14.
        score: (N,).
        box: (N, 4) xyxy, original pixels.
    """

    image: Ints
    label: Ints
    score: Floats
    box: Floats

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: Ints | Flags) -> "Table":
        return Table(self.image[index], self.label[index], self.score[index], self.box[index])

    @classmethod
    def of(cls, images: Sequence[Predictions]) -> "Table":
        """The boxes of all images; image i is ``images[i]``."""
        counts = [len(image) for image in images]
        if not sum(counts):
            return cls(np.zeros(0, np.int64), np.zeros(0, np.int64), np.zeros(0), np.zeros((0, 4)))
        return cls(np.repeat(np.arange(len(images)), counts),
                   np.concatenate([image.labels for image in images]),
                   np.concatenate([image.scores for image in images]),
                   np.concatenate([image.boxes for image in images]))

    def counts(self, images: int) -> Ints:
        """(I, K) boxes per image and class, of so many images."""
        flat = np.bincount(self.image * NUM_CLASSES + self.label, minlength=images * NUM_CLASSES)
        return flat.reshape(images, NUM_CLASSES)


@dataclass(frozen=True)
class Matched:
    """Detections, best first, and which of them are true positives.

    Attributes:
        ids: (I,) image ids, sorted.
        detections: D of them by falling score; equal scores are ordered by image id, then as in the file.
        truths: the ground truths; a normal image's is one box ``0 0 1 1`` of class 14.
        truth_of: (D,) the ground truth that a true positive is matched with; -1 for a false positive.
        iou_threshold: that an overlap must exceed.
    """

    ids: Sequence[str]
    detections: Table
    truths: Table
    truth_of: Ints
    iou_threshold: float

    @property
    def correct(self) -> Flags:
        """(D,) whether a detection is a true positive."""
        return self.truth_of >= 0

    @cached_property
    def rows(self) -> list[Ints]:
        """Per class the rows of its detections, best first."""
        order = np.argsort(self.detections.label, kind="stable")
        ends = np.searchsorted(self.detections.label[order], np.arange(NUM_CLASSES + 1))
        return [order[start:end] for start, end in pairwise(ends)]

    @property
    def widest(self) -> int:
        """The most values that one replicate needs at a time: images, or detections of one class."""
        return max(len(self.ids), *map(len, self.rows))

    @cached_property
    def counts(self) -> Ints:
        """(I, K) ground truths per image and class, class 14 among them."""
        return self.truths.counts(len(self.ids))


@dataclass(frozen=True)
class Assigned:
    """Detections, best first, and the ground truth that each overlaps most, before duplicates are sorted out.

    Attributes:
        ids: as of :class:`Matched`.
        detections: as of :class:`Matched`.
        truths: as of :class:`Matched`.
        target: (D,) the ground truth of its class and image that a detection overlaps most; -1 where that
            is not enough.
        iou_threshold: that an overlap must exceed.
    """

    ids: Sequence[str]
    detections: Table
    truths: Table
    target: Ints
    iou_threshold: float

    def matched(self) -> Matched:
        """Of the detections with the same target, the first (best scored) is the true positive."""
        truth_of, at = np.full(len(self.target), -1), np.flatnonzero(self.target >= 0)
        taken, first = np.unique(self.target[at], return_index=True)
        truth_of[at[first]] = taken
        return Matched(self.ids, self.detections, self.truths, truth_of, self.iou_threshold)

    def shuffle_ties(self, rng: np.random.Generator) -> "Assigned":
        """The same with detections of equal score in a random order."""
        order = np.lexsort((rng.random(len(self.target)), -self.detections.score))
        return replace(self, detections=self.detections[order], target=self.target[order])


def match(predictions: PredictionSet, truth: PredictionSet, iou_threshold: float) -> Matched:
    """Match predictions with the truth as PASCAL VOC does.

    Detections are taken by falling score; each goes to the ground truth of its class and image that it
    overlaps most. It is a true positive if that overlap exceeds the threshold and the ground truth is not
    taken yet.

    Args:
        predictions: image id -> detections; an image may be missing.
        truth: image id -> true boxes; an image without boxes is normal.
        iou_threshold: an overlap must be strictly greater.

    Raises:
        InputError: an image is predicted that the truth does not hold.
    """
    return assign(predictions, truth, iou_threshold).matched()


def assign(predictions: PredictionSet, truth: PredictionSet, iou_threshold: float) -> Assigned:
    """The first half of :func:`match`, which does not depend on the order of equal scores."""
    unknown = set(predictions).difference(truth)
    if unknown:
        raise InputError(f"predictions for image {min(unknown)}, which the annotations lack")
    ids, normal, nothing = sorted(truth), no_finding(), Predictions()
    truths = Table.of([truth[i] if len(truth[i]) else normal for i in ids])
    detections = Table.of([predictions.get(i, nothing) for i in ids])
    detections = detections[np.argsort(-detections.score, kind="stable")]
    own = nearest(detections, truths, same_class=True)
    target = np.where(own.overlap > iou_threshold, own.truth, -1)
    return Assigned(ids, detections, truths, target, iou_threshold)


def mean_over_classes(values: Floats) -> Floats:
    """Mean of (R, K, ...) over the K classes, those that are not NaN; NaN without any."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)


def precision_envelope(precision: Floats) -> Floats:
    """(R, D) precision made monotone: at each recall the best of this and all higher recalls."""
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


def best_pair(d: Ints, overlap: Floats) -> Ints:
    """Per detection that has pairs the row of the one with most overlap, the first of equals.

    Args:
        d: (P,) detections; the rows of each stand together.
        overlap: (P,) IoU of each pair.
    """
    if not len(d):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.diff(d, prepend=-1))
    best = np.maximum.reduceat(overlap, starts)
    at = np.flatnonzero(overlap == np.repeat(best, np.diff(starts, append=len(d))))
    return at[np.unique(d[at], return_index=True)[1]]


@dataclass(frozen=True)
class Nearest:
    """The ground truth that each detection overlaps most, taken or not.

    Attributes:
        truth: (D,) the ground truth of its image that a detection overlaps most; -1 where there is none.
        overlap: (D,) that IoU; 0 where there is none.
    """

    truth: Ints
    overlap: Floats


def nearest(detections: Table, truths: Table, same_class: bool) -> Nearest:
    """The nearest truths among those of each detection's class, or among those of all other classes."""
    d, g, overlap = pairs(detections, truths, same_class)
    if not same_class:
        differ = detections.label[d] != truths.label[g]
        d, g, overlap = d[differ], g[differ], overlap[differ]
    at = best_pair(d, overlap)
    truth, best = np.full(len(detections), -1), np.zeros(len(detections))
    truth[d[at]], best[d[at]] = g[at], overlap[at]
    return Nearest(truth, best)


def pairs(detections: Table, truths: Table, same_class: bool) -> tuple[Ints, Ints, Floats]:
    """All detections with all ground truths of their image (and class).

    Returns:
        (P,) indices of detections, rising; (P,) indices of ground truths; (P,) their IoU.
    """
    key_d, key_g = (
        table.image * NUM_CLASSES + table.label if same_class else table.image
        for table in (detections, truths))
    order = np.argsort(key_g, kind="stable")
    many = np.bincount(key_g, minlength=int(max(key_d.max(initial=-1), key_g.max(initial=-1))) + 1)
    start, count = (np.cumsum(many) - many)[key_d], many[key_d]
    d = np.repeat(np.arange(len(key_d)), count)
    within = np.arange(len(d)) - np.repeat(np.cumsum(count) - count, count)
    g = order[np.repeat(start, count) + within]
    return d, g, box_ops.paired_iou(detections.box[d], truths.box[g])
