"""Is the best-scored box of a finding where the finding is?

Li et al., "Thoracic disease identification and localization with limited supervision", CVPR 2018; per finding
it is what papers report on NIH's boxes. Only images with a true box of the finding count.

Shapes: I images, R bootstrap replicates, F findings, T IoU thresholds.
"""

from functools import partial

import numpy as np

from vindr_det.metrics.bootstrap import Bootstrap, Floats
from vindr_det.metrics.intervals import Replicated
from vindr_det.metrics.matching import Matched, mean_over_classes
from vindr_det.metrics.metric import MatchedPredictions, Metric, by_key, replicate
from vindr_det.structures.label_sets import LabelSet

#: IoU -> key; the overlap must exceed it.
KEYS = {iou: f"localization/accuracy@{iou:g}" for iou in (0.1, 0.3, 0.5, 0.7)}


class LocalizationAccuracy(Metric):
    """``localization/accuracy@<IoU>``, means over findings, and ``localization/<finding>@<IoU>``."""

    details = ("localization/",)
    summary = tuple(KEYS.values())

    def compute(self, matched: MatchedPredictions) -> dict[str, float]:
        return as_metrics(accuracies(matched.voc), matched.label_set)

    def replicates(self, matched: MatchedPredictions, bootstrap: Bootstrap) -> dict[str, Replicated]:
        means = replicate(matched, bootstrap, lambda part: by_key(
            KEYS.values(), accuracy_replicates(matched.voc, part)))
        return means | {f"localization/{name}@{iou:g}": means[key].of_class(at)
                        for iou, key in KEYS.items() for at, name in enumerate(matched.label_set.findings)}


def accuracies(matched: Matched) -> Floats:
    """(F, T) share of images with a finding whose best-scored box of it overlaps a true one by more.

    An image without such a box counts as wrong. NaN for findings that no image has.
    """
    return _shares(matched, _top_overlaps(matched), np.ones((1, len(matched.ids))))[0]


def accuracy_replicates(matched: Matched, bootstrap: Bootstrap) -> Floats:
    """(R, F, T) :func:`accuracies` of every replicate."""
    return bootstrap.apply(partial(_shares, matched, _top_overlaps(matched)))


def _top_overlaps(matched: Matched) -> Floats:
    """(I, F) overlap of each image's best-scored box of each finding; 0 without one."""
    matched = matched.ranked  # best first, so that the first of an image and class is its best-scored one
    keys, first = np.unique(matched.detections.image_and_class, return_index=True)
    top = np.zeros(matched.counts.size)
    top[keys] = matched.nearest_of_class.overlap[first]
    return top.reshape(matched.counts.shape)[:, : len(matched.label_set)]


def _shares(matched: Matched, top: Floats, weights: Floats) -> Floats:
    """(R, F, T) accuracies where image i counts weights[r, i] times."""
    there = matched.counts[:, : len(matched.label_set)] > 0
    with np.errstate(invalid="ignore"):
        return np.stack([weights @ ((top > iou) & there) / (weights @ there) for iou in KEYS], axis=2)


def as_metrics(accuracy: Floats, label_set: LabelSet) -> dict[str, float]:
    """``localization/accuracy@<IoU>`` of (F, T) accuracies, means, and ``localization/<finding>@<IoU>``."""
    flat = dict(zip(KEYS.values(), mean_over_classes(accuracy[None])[0].tolist(), strict=True))
    for name, row in zip(label_set.findings, accuracy.tolist(), strict=True):
        flat |= {f"localization/{name}@{iou:g}": value for iou, value in zip(KEYS, row, strict=True)}
    return flat
