"""Is the best-scored box of a finding where the finding is?

Li et al., "Thoracic disease identification and localization with limited supervision", CVPR 2018.

Shapes: I images, R replicates, T overlaps.
"""

import numpy as np

from vindr_det.metrics.bootstrap import Bootstrap, Floats
from vindr_det.metrics.matching import NUM_CLASSES, Matched, mean_over_classes, nearest
from vindr_det.structures.label_sets import FINDINGS

#: Overlaps that must be exceeded.
IOUS = (0.1, 0.3, 0.5, 0.7)


def accuracies(matched: Matched) -> Floats:
    """(14, T) share of images with a finding whose best-scored box of it overlaps a true one by more.

    An image without such a box counts as wrong. NaN for findings that no image has.
    """
    return _shares(matched, _top_overlaps(matched), np.ones((1, len(matched.ids))))[0]


def replicates(matched: Matched, bootstrap: Bootstrap) -> Floats:
    """(R, 14, T) :func:`accuracies` of every replicate."""
    top = _top_overlaps(matched)
    return np.concatenate([_shares(matched, top, part) for part in bootstrap.parts()])


def _top_overlaps(matched: Matched) -> Floats:
    """(I, 14) overlap of each image's best-scored box of each finding; 0 without one."""
    found, best = matched.detections, nearest(matched, same_class=True).overlap
    # Detections stand best first, so the first of an image and class is its best-scored one.
    keys, first = np.unique(found.image * NUM_CLASSES + found.label, return_index=True)
    top = np.zeros(matched.counts.size)
    top[keys] = best[first]
    return top.reshape(matched.counts.shape)[:, : len(FINDINGS)]


def _shares(matched: Matched, top: Floats, weights: Floats) -> Floats:
    """(R, 14, T) with each image counted as its weight (R, I) says."""
    there = matched.counts[:, : len(FINDINGS)] > 0
    with np.errstate(invalid="ignore"):
        return np.stack([weights @ ((top > iou) & there) / (weights @ there) for iou in IOUS], axis=2)


def as_metrics(accuracy: Floats) -> dict[str, float]:
    """``localization/accuracy@<IoU>`` of (14, T): means over findings."""
    means = mean_over_classes(accuracy[None])[0]
    return {f"localization/accuracy@{iou:g}": float(mean) for iou, mean in zip(IOUS, means, strict=True)}
