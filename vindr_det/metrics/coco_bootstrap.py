"""COCO AP of bootstrap replicates: the matching once, the curves per replicate.

hotcoco gives the value (:mod:`vindr_det.metrics.coco`); a thousand runs of it would take an hour.
A test holds both equal. The rules are those of cocodataset.org's evaluation code: per image and class the
100 best detections count; each takes the ground truth that it overlaps most among those that are left, if
that is at least the threshold, and the last of equals; precision is read off at 101 recalls.

Shapes: I images, T thresholds, D detections, G ground truths, P pairs, R replicates, F findings.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from functools import cached_property, partial
from itertools import pairwise

import numpy as np

from vindr_det.metrics.bootstrap import Bootstrap, Floats, counts_down_to
from vindr_det.metrics.matching import (
    Flags,
    Ints,
    Table,
    comparable,
    pairs,
    precision_envelope,
)
from vindr_det.metrics.ordering import best_first, best_first_within, best_pair, columns_by_class, grouped
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.records import Record, label_set_of_records

#: .40 stands beside COCO's own ten thresholds and is left out of AP.
THRESHOLDS = np.array([0.4, *np.linspace(0.5, 0.95, 10)])
#: Rows of THRESHOLDS.
ROW_OF = {"coco/AP40": 0, "coco/AP50": 1, "coco/AP75": 6}
#: Detections per image and class that count.
MAX_DETECTIONS = 100
#: Detections per image and class of COCO's average recalls.
RECALL_LIMITS = (1, 10, MAX_DETECTIONS)
_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class CocoMatched:
    """Detections of I images: image by image, class by class, best first.

    Attributes:
        image: (D,) index of the image.
        label: (D,) ids of findings.
        score: (D,).
        correct: (T, D) whether it is a true positive at each threshold.
        rank: (D,) 0 for the best of its image and class, 1 for the second, ...
        counts: (I, F) ground truths per image and finding.
    """

    image: Ints
    label: Ints
    score: Floats
    correct: Flags
    rank: Ints
    counts: Ints

    @cached_property
    def by_class(self) -> list["_ClassMatches"]:
        """Of each finding, as pycocotools merges images: by score, equals by image."""
        parts = columns_by_class(self.label, (self.image, self.score, self.correct.T), self.counts.shape[1])
        return [_ClassMatches.of(image[order], correct[order].T)
                for image, score, correct in parts for order in [best_first(score)]]


def match(predictions: PredictionSet, records: Sequence[Record]) -> CocoMatched:
    """Match detections with the truth as COCO does, at all of :data:`THRESHOLDS`.

    Args:
        predictions: image id -> detections; "no finding" is left out, and findings that are unknown on their
            image.
        records: I images with their true boxes; equal scores stand in their order.
    """
    label_set, predictions = label_set_of_records(records), comparable(predictions, records)
    truths = Table.of([record.truth for record in records], label_set)
    detections = Table.of([predictions.get(record.image_id, Predictions()) for record in records], label_set)
    detections = detections[best_first_within(detections.image, detections.image_and_class, detections.score)]
    rank = _rank_in_group(detections.image_and_class)
    detections, rank = detections[rank < MAX_DETECTIONS], rank[rank < MAX_DETECTIONS]
    correct = _greedy(detections, truths, rank)
    return CocoMatched(detections.image, detections.label, detections.score, correct,
                       rank, truths.counts(len(records))[:, : len(label_set)])


def _rank_in_group(key: Ints) -> Ints:
    """0, 1, 2, ... within each run of equal keys."""
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    return np.arange(len(key)) - np.repeat(starts, np.diff(starts, append=len(key)))


def _greedy(detections: Table, truths: Table, rank: Ints) -> Flags:
    """(T, D): the best detections of all images and classes choose first, then the second best, and so on."""
    correct = np.zeros((len(detections), len(THRESHOLDS)), bool).T  # a detection's stand together
    taken = np.zeros((len(THRESHOLDS), len(truths)), bool)
    d, g, overlap = pairs(detections, truths, same_class=True)
    order = grouped(rank[d])
    ends = np.searchsorted(rank[d][order], np.arange(MAX_DETECTIONS + 1))
    for start, end in pairwise(ends):
        turn = order[start:end][::-1]  # reversed, so that the first maximum is the last of equals
        for at, threshold in enumerate(THRESHOLDS):
            free = np.where(taken[at, g[turn]], -1.0, overlap[turn])
            rows = best_pair(d[turn], free)
            rows = turn[rows[free[rows] >= min(threshold, 1 - 1e-10)]]
            correct[at, d[rows]] = True
            taken[at, g[rows]] = True
    return correct


def ap_replicates(matched: CocoMatched, bootstrap: Bootstrap) -> dict[str, Floats]:
    """``coco/AP`` and so on, (R, F) each, for replicates of the matched records; NaN without truth."""
    precision = bootstrap.apply(partial(_precisions, matched.counts, matched.by_class))  # (R, T, F)
    return {"coco/AP": precision[:, 1:].mean(axis=1)} | {key: precision[:, at] for key, at in ROW_OF.items()}


def recall_replicates(matched: CocoMatched, bootstrap: Bootstrap) -> dict[str, Floats]:
    """``coco/AR1`` and so on, (R, F) each, for replicates of the matched records; NaN without truth."""
    (images, findings), shares = matched.counts.shape, matched.correct[1:].mean(axis=0)
    result = {}
    for limit in RECALL_LIMITS:
        recalled = np.zeros((images, findings))
        counted = matched.rank < limit
        np.add.at(recalled, (matched.image[counted], matched.label[counted]), shares[counted])
        result[f"coco/AR{limit}"] = bootstrap.apply(partial(_recalled, matched.counts, recalled))
    return result


def _recalled(counts: Ints, recalled: Floats, weights: Floats) -> Floats:
    """(R, F) share of the ground truths that are detected; NaN without ground truth."""
    totals = weights @ counts
    return np.divide(weights @ recalled, totals, out=np.full(totals.shape, np.nan), where=totals > 0)


@dataclass(frozen=True)
class _ClassMatches:
    """One finding's detections, best first, and what of them no weights of the images change.

    Attributes:
        image: (D,) index of the image.
        matches: (M,) those that are a true positive at any threshold.
        correct: (T,) per threshold which of the matches are one there.
    """

    image: Ints
    matches: Ints
    correct: Sequence[Ints]

    @classmethod
    def of(cls, image: Ints, correct: Flags) -> "_ClassMatches":
        matches = np.flatnonzero(correct.any(axis=0))
        return cls(image, matches, [np.flatnonzero(row) for row in correct[:, matches]])


def _precisions(counts: Ints, classes: Sequence[_ClassMatches], weights: Floats) -> Floats:
    """(R, T, F) 101-point AP; NaN without ground truth."""
    totals = weights @ counts
    result = np.empty((len(weights), len(THRESHOLDS), len(classes)))
    for label, own in enumerate(classes):
        drawn = weights.take(own.image[own.matches], axis=1)
        seen = counts_down_to(weights, own.image, own.matches)
        for at, correct in enumerate(own.correct):
            result[:, at, label] = _average_precision(drawn[:, correct], seen[:, correct], totals[:, label])
    return result


def _average_precision(gained: Floats, seen: Floats, total: Floats) -> Floats:
    """(R,) mean precision at 101 recalls, from the true positives alone: between them precision only falls.

    Args:
        gained: how often each true positive counts, best first.
        seen: detections down to each of them.
        total: (R,) ground truths.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        recalled = np.cumsum(gained, axis=1)
        precision = np.nan_to_num(recalled / (seen + np.spacing(1)))
        recall = recalled / total[:, None]
    # Each true positive gives its precision to the recalls that it is the first to reach.
    first = np.diff(np.searchsorted(_RECALLS, recall, "right"), axis=1, prepend=0)
    return np.where(total > 0, (precision_envelope(precision) * first).sum(axis=1) / len(_RECALLS), np.nan)
