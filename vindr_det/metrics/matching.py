"""Detections matched with ground truths as PASCAL VOC does it, over all images at once.

Shapes here and in the other metrics: I images, D detections, G ground truths, P pairs of a detection and a
ground truth of the same image (of the same class only where stated), R bootstrap replicates, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import cached_property

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.metrics.bootstrap import Floats
from vindr_det.metrics.ordering import best_first, best_pair, columns_by_class, grouped
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet, label_set_of, no_finding
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet, first_difference
from vindr_det.structures.records import Record, known_part, label_set_of_records, without_classes

Ints = NDArray[np.int64]
Flags = NDArray[np.bool_]

#: The competition's: an overlap must be strictly greater.
IOU_THRESHOLD = 0.4


@dataclass(frozen=True)
class Table:
    """All images' boxes as columns.

    Attributes:
        image: (N,) index of the image.
        label: (N,) class ids of the label set.
        score: (N,).
        boxes: (M, 4) xyxy, original pixels; shared by all selections of rows, as copies of them take long.
        at: (N,) the row of each box in ``boxes``.
        label_set: of the class ids.
    """

    image: Ints
    label: Ints
    score: Floats
    boxes: Floats
    at: Ints
    label_set: LabelSet = VINBIGDATA

    def __len__(self) -> int:
        return len(self.score)

    def __getitem__(self, index: Ints | Flags) -> "Table":
        i = np.flatnonzero(index) if index.dtype == bool else index
        return Table(self.image[i], self.label[i], self.score[i], self.boxes, self.at[i], self.label_set)

    def box(self, rows: Ints | slice = slice(None)) -> Floats:
        """(P, 4) boxes of these rows, or all: take() copies whole rows, several times as fast as indexing."""
        return self.boxes.take(self.at[rows], axis=0)

    @property
    def is_finding(self) -> Flags:
        """(N,) whether a box is a finding's, not "no finding"."""
        return self.label < len(self.label_set)

    @classmethod
    def of(cls, images: Sequence[Predictions], label_set: LabelSet = VINBIGDATA) -> "Table":
        """The boxes of all images, of this label set; image i is ``images[i]``."""
        counts = [len(image) for image in images]
        if not sum(counts):
            nothing = np.zeros(0, np.int64)
            return cls(nothing, nothing, np.zeros(0), np.zeros((0, 4)), nothing, label_set)
        return cls(np.repeat(np.arange(len(images)), counts),
                   np.concatenate([image.labels for image in images]),
                   np.concatenate([image.scores for image in images]),
                   np.concatenate([image.boxes for image in images]), np.arange(sum(counts)), label_set)

    @property
    def image_and_class(self) -> Ints:
        """(N,) a number for each image and class."""
        return self.image * len(self.label_set.classes) + self.label

    def counts(self, images: int) -> Ints:
        """(I, K) boxes per image and class, of so many images."""
        classes = len(self.label_set.classes)
        return np.bincount(self.image_and_class, minlength=images * classes).reshape(images, classes)


@dataclass(frozen=True)
class Ranked:
    """The detections of one class, best first, and what of them no weights of the images change.

    Attributes:
        image: (N,) index of the image.
        score: (N,).
        correct: (N,) whether it is a true positive.
    """

    image: Ints
    score: Floats
    correct: Flags

    def __len__(self) -> int:
        return len(self.score)

    @cached_property
    def true(self) -> Ints:
        """(P,) the true positives among them."""
        return np.flatnonzero(self.correct)

    @cached_property
    def false(self) -> Ints:
        """(F,) the false positives."""
        return np.flatnonzero(~self.correct)

    @cached_property
    def false_image(self) -> Ints:
        """(F,) their images."""
        return self.image[self.false]

    @cached_property
    def tie_starts(self) -> Ints:
        """(T + 1,) the first of each run of equal scores, and the end."""
        return np.flatnonzero(np.diff(self.score, prepend=np.nan, append=np.nan) != 0)


@dataclass(frozen=True)
class Matched:
    """Detections and which of them are true positives.

    Attributes:
        ids: (I,) image ids, sorted.
        detections: D of them, by image and as in the file, or best first.
        truths: the ground truths; a normal image's is one box ``0 0 1 1`` of "no finding", where the label
            set has that class.
        truth_of: (D,) the ground truth that a true positive is matched with; -1 for a false positive.
        iou_threshold: that an overlap must exceed.
        known: (I, K) whether the annotations are complete for a class on an image; where they are not, it
            has neither detections nor truths.
    """

    ids: Sequence[str]
    detections: Table
    truths: Table
    truth_of: Ints
    iou_threshold: float
    known: Flags

    @property
    def label_set(self) -> LabelSet:
        """Of truths and detections."""
        return self.truths.label_set

    @property
    def correct(self) -> Flags:
        """(D,) whether a detection is a true positive."""
        return self.truth_of >= 0

    @cached_property
    def ranked(self) -> "Matched":
        """The same by falling score; equal scores are ordered by image id, then as in the file."""
        order = best_first(self.detections.score)
        return replace(self, detections=self.detections[order], truth_of=self.truth_of[order])

    @cached_property
    def by_class(self) -> list[Ranked]:
        """The detections of each class, ordered class by class: caches hold one that do not hold all."""
        of = self.detections
        parts = columns_by_class(of.label, (of.image, of.score, self.correct), len(self.label_set.classes))
        return [Ranked(*(column[order] for column in part)) for part in parts
                for order in [best_first(part[1])]]

    @cached_property
    def nearest_of_class(self) -> "Nearest":
        """The ground truth of its own class that each detection overlaps most."""
        return nearest(self.detections, self.truths, same_class=True)

    @cached_property
    def counts(self) -> Ints:
        """(I, K) ground truths per image and class, "no finding" among them."""
        return self.truths.counts(len(self.ids))


@dataclass(frozen=True)
class Assigned:
    """Detections and the ground truth that each overlaps most, before duplicates are sorted out.

    Attributes:
        ids: as of :class:`Matched`.
        detections: as of :class:`Matched`.
        truths: as of :class:`Matched`.
        target: (D,) the ground truth of its class and image that a detection overlaps most; -1 where that
            is not enough.
        iou_threshold: as of :class:`Matched`.
        known: as of :class:`Matched`.
    """

    ids: Sequence[str]
    detections: Table
    truths: Table
    target: Ints
    iou_threshold: float
    known: Flags

    def matched(self) -> Matched:
        """Of the detections with the same target, the first (best scored) is the true positive."""
        truth_of, at = np.full(len(self.target), -1), np.flatnonzero(self.target >= 0)
        at = at[grouped(self.target[at])]
        at = at[best_pair(self.target[at], self.detections.score[at])]
        truth_of[at] = self.target[at]
        return Matched(self.ids, self.detections, self.truths, truth_of, self.iou_threshold, self.known)

    def shuffle_ties(self, rng: np.random.Generator) -> "Assigned":
        """The same, best first, with detections of equal score in a random order."""
        order = best_first(self.detections.score)
        order = order[np.lexsort((rng.random(len(order)), -self.detections.score[order]))]
        return replace(self, detections=self.detections[order], target=self.target[order])


def match(
    predictions: PredictionSet, truth: PredictionSet, iou_threshold: float,
    unknown: Mapping[str, Sequence[int]] | None = None,
) -> Matched:
    """Match predictions with the truth as PASCAL VOC does.

    Detections are taken by falling score; each goes to the ground truth of its class and image that it
    overlaps most. It is a true positive if that overlap exceeds the threshold and the ground truth is not
    taken yet.

    Args:
        predictions: image id -> detections; an image may be missing.
        truth: image id -> true boxes; an image without boxes is normal.
        iou_threshold: an overlap must be strictly greater.
        unknown: of :func:`vindr_det.structures.records.unknown_of`: image id -> class ids for which its
            annotations are incomplete. The image is left out for these classes.

    Raises:
        InputError: an image is predicted that the truth does not hold, or detections are of another label
            set.
    """
    return assign(predictions, truth, iou_threshold, unknown).matched()


def assign(
    predictions: PredictionSet, truth: PredictionSet, iou_threshold: float,
    unknown: Mapping[str, Sequence[int]] | None = None,
) -> Assigned:
    """The first half of :func:`match`, which does not depend on the order of equal scores."""
    strange, unknown, label_set = set(predictions).difference(truth), unknown or {}, label_set_of(truth)
    if strange:
        raise InputError(f"predictions for image {min(strange)}, which the annotations lack")
    require_label_set(predictions, label_set)
    ids, normal, nothing = sorted(truth), no_finding(label_set=label_set), Predictions()
    boxes = {i: truth[i] if len(truth[i]) else normal for i in ids}
    if unknown:
        predictions, boxes = without_classes(predictions, unknown), without_classes(boxes, unknown)
    truths = Table.of([boxes[i] for i in ids], label_set)
    detections = Table.of([predictions.get(i, nothing) for i in ids], label_set)
    d, g, overlap = pairs(detections, truths, same_class=True)
    at = best_pair(d, overlap)
    at = at[overlap[at] > iou_threshold]
    target = np.full(len(detections), -1)
    target[d[at]] = g[at]
    return Assigned(ids, detections, truths, target, iou_threshold, _known(ids, unknown, label_set))


def _known(ids: Sequence[str], unknown: Mapping[str, Sequence[int]], label_set: LabelSet) -> Flags:
    known = np.ones((len(ids), len(label_set.classes)), bool)
    for at in np.flatnonzero([image_id in unknown for image_id in ids] if unknown else []).tolist():
        known[at, list(unknown[ids[at]])] = False
    return known


def require_label_set(predictions: PredictionSet, label_set: LabelSet) -> None:
    """Refuse detections of another label set than the truth's.

    Raises:
        InputError: names both sets.
    """
    own = label_set_of(predictions)
    if own.classes != label_set.classes and any(map(len, predictions.values())):
        raise InputError(f"predictions of the label set {own.name}, expected {label_set.name} as the "
                         f"annotations have it ({first_difference(own, label_set)})")


def comparable(predictions: PredictionSet, records: Sequence[Record]) -> dict[str, Predictions]:
    """The findings among the detections that the records can judge: of classes that are known on their image.

    Raises:
        InputError: the detections are of another label set.
    """
    require_label_set(predictions, label_set_of_records(records))
    return {image_id: boxes.findings() for image_id, boxes in known_part(predictions, records).items()}


def mean_over_classes(values: Floats) -> Floats:
    """Mean of (R, K, ...) over the K classes, those that are not NaN; NaN without any."""
    known = ~np.isnan(values)
    with np.errstate(invalid="ignore"):
        return np.where(known, values, 0).sum(axis=1) / known.sum(axis=1)


def precision_envelope(precision: Floats) -> Floats:
    """(R, D) precision made monotone: at each recall the best of this and all higher recalls."""
    return np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]


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
        table.image_and_class if same_class else table.image
        for table in (detections, truths))
    order = grouped(key_g)
    many = np.bincount(key_g, minlength=int(max(key_d.max(initial=-1), key_g.max(initial=-1))) + 1)
    paired = np.flatnonzero(many[key_d])  # few of them
    key, count = key_d[paired], many[key_d[paired]]
    d = np.repeat(paired, count)
    within = np.arange(len(d)) - np.repeat(np.cumsum(count) - count, count)
    g = order[np.repeat((np.cumsum(many) - many)[key], count) + within]
    return d, g, box_ops.paired_iou(detections.box(d), truths.box(g))
