"""COCO AP of bootstrap replicates: the matching once, the curves for each replicate.

faster-coco-eval gives the value (:mod:`vindr_det.metrics.coco`); a thousand runs of it would take an hour.
A test holds both equal. The rules are those of cocodataset.org's evaluation code: of one image and class the
100 best detections count; each takes the ground truth that it overlaps most among those that are left, if
that is at least the threshold, and the last of equals; precision is read off at 101 recalls.

Shapes: T thresholds, D detections, G ground truths, P pairs, R replicates.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

from vindr_det.metrics.bootstrap import Bootstrap, Floats
from vindr_det.metrics.coco import AT, MOST, THRESHOLDS
from vindr_det.metrics.matching import NUM_CLASSES, Ints, Table, pairs
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import FINDINGS
from vindr_det.structures.records import Record

_RECALLS = np.linspace(0, 1, 101)


@dataclass(frozen=True)
class CocoMatched:
    """Detections, best first, of I images.

    Attributes:
        image: (D,) index of the image.
        label: (D,) class ids 0..13.
        correct: (T, D) at each threshold.
        counts: (I, 14) ground truths of each image and class.
    """

    image: Ints
    label: Ints
    correct: NDArray[np.bool_]
    counts: Ints


def match(predictions: PredictionSet, records: Sequence[Record]) -> CocoMatched:
    """Hold detections against the truth at all of :data:`vindr_det.metrics.coco.THRESHOLDS`.

    Args:
        predictions: image id -> detections; class 14 is left out.
        records: I images with their true boxes; equal scores stand in their order.
    """
    truths = Table.of([record.truth for record in records])
    found = Table.of([predictions.get(record.image_id, Predictions()).findings() for record in records])
    found = found[np.lexsort((-found.score, found.label, found.image))]
    place = _place_in_group(found.image * NUM_CLASSES + found.label)
    found, place = found[place < MOST], place[place < MOST]
    correct = _greedy(found, truths, place)
    # As pycocotools merges images: by score, equals by image.
    order = np.argsort(-found.score, kind="stable")
    counts = np.bincount(truths.image * NUM_CLASSES + truths.label, minlength=len(records) * NUM_CLASSES)
    return CocoMatched(found.image[order], found.label[order], correct[:, order],
                       counts.reshape(len(records), NUM_CLASSES)[:, : len(FINDINGS)])


def _place_in_group(key: Ints) -> Ints:
    """0, 1, 2, ... within each run of equal keys."""
    starts = np.flatnonzero(np.diff(key, prepend=-1))
    return np.arange(len(key)) - np.repeat(starts, np.diff(starts, append=len(key)))


def _greedy(found: Table, truths: Table, place: Ints) -> NDArray[np.bool_]:
    """(T, D): the first detections of all images and classes choose, then the second ones, and so on."""
    correct = np.zeros((len(THRESHOLDS), len(found)), bool)
    taken = np.zeros((len(THRESHOLDS), len(truths)), bool)
    d, g = pairs(found, truths, same_class=True)
    overlap = box_ops.paired_iou(found.box[d], truths.box[g])
    order = np.argsort(place[d], kind="stable")
    ends = np.searchsorted(place[d][order], np.arange(MOST + 1))
    for start, end in pairwise(ends):
        turn = order[start:end]
        if not len(turn):
            continue
        # Turned round, so that the first maximum is the last of equals.
        turn = turn[::-1]
        starts = np.flatnonzero(np.diff(d[turn], prepend=-1))
        for at, threshold in enumerate(THRESHOLDS):
            left = np.where(taken[at, g[turn]], -1.0, overlap[turn])
            best = np.maximum.reduceat(left, starts)
            is_best = left == np.repeat(best, np.diff(starts, append=len(turn)))
            rows = np.flatnonzero(is_best & (left >= min(threshold, 1 - 1e-10)))
            rows = rows[np.unique(d[turn[rows]], return_index=True)[1]]
            correct[at, d[turn[rows]]] = True
            taken[at, g[turn[rows]]] = True
    return correct


def replicates(matched: CocoMatched, bootstrap: Bootstrap) -> dict[str, Floats]:
    """``coco/AP`` and so on, (R, 14) each, for replicates of the matched records; NaN without truth."""
    rows = [np.flatnonzero(matched.label == label) for label in range(len(FINDINGS))]
    widest = max(len(matched.counts), *map(len, rows))
    parts = [_precisions(matched, rows, part) for part in bootstrap.parts(widest)]
    precision = np.concatenate(parts)  # (R, T, 14)
    return {"coco/AP": precision[:, 1:].mean(axis=1)} | {name: precision[:, at] for name, at in AT.items()}


def _precisions(matched: CocoMatched, rows: list[Ints], weights: Floats) -> Floats:
    """(R, T, 14) 101-point AP; NaN without ground truth."""
    totals = weights @ matched.counts
    result = np.empty((len(weights), len(THRESHOLDS), len(FINDINGS)))
    for label, mine in enumerate(rows):
        drawn = weights[:, matched.image[mine]]
        seen = np.cumsum(drawn, axis=1)
        for at in range(len(THRESHOLDS)):
            true_positives = np.flatnonzero(matched.correct[at, mine])
            result[:, at, label] = _average(drawn[:, true_positives], seen[:, true_positives], totals[:, label])
    return result


def _average(found: Floats, seen: Floats, total: Floats) -> Floats:
    """(R,) precision at 101 recalls, from the hits alone: between them it only falls."""
    with np.errstate(invalid="ignore", divide="ignore"):
        recalled = np.cumsum(found, axis=1)
        precision = np.nan_to_num(recalled / (seen + np.spacing(1)))
        recall = recalled / total[:, None]
    envelope = np.maximum.accumulate(precision[:, ::-1], axis=1)[:, ::-1]
    # Each hit gives its precision to the recalls that it is the first to reach.
    first = np.diff(np.searchsorted(_RECALLS, recall, "right"), axis=1, prepend=0)
    return np.where(total > 0, (envelope * first).sum(axis=1) / len(_RECALLS), np.nan)
