"""What goes wrong: TIDE's kinds of errors, classes taken for one another, boxes in the right place.

Bolya et al., "TIDE: A general toolbox for identifying object detection errors", ECCV 2020. Foreground is the
overlap that the metric asks for, background is TIDE's 0.1. What an error costs is what the competition's mAP
gains when it alone is mended.

Shapes: D detections, G ground truths, P pairs of the two in one image.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vindr_det.categories import CLASS_NAMES, FINDINGS, NO_FINDING_ID
from vindr_det.metrics import vindr
from vindr_det.metrics.froc import mean_over_findings
from vindr_det.metrics.matching import Flags, Floats, Ints, Matched, best_pair, paired_iou, pairs

BACKGROUND_IOU = 0.1
#: Kinds of false boxes, in the order in which they are asked for, and truths that nothing explains.
KINDS = ("localisation", "classification", "duplicate", "background", "both", "missed")
LOCALISATION_IOUS = (0.1, 0.3, 0.5, 0.7)


@dataclass(frozen=True)
class ErrorKinds:
    """Errors and what they cost.

    Attributes:
        counts: kind -> false boxes, or missed ground truths.
        gains: kind -> what the mAP gains when these are mended.
    """

    counts: Mapping[str, int]
    gains: Mapping[str, float]


def kinds(matched: Matched) -> ErrorKinds:
    """Sort every false box of the 14 findings into one kind, and the missed findings.

    localisation: overlaps a truth of its class too little; classification: overlaps one of another class
    enough; duplicate: of a truth that is found already; background: overlaps nothing; both: overlaps one of
    another class too little. Missed are truths that are neither found nor explained by one of the first two.
    """
    same, other = _nearest(matched, True), _nearest(matched, False)
    enough, some = matched.iou_threshold, BACKGROUND_IOU
    false = ~matched.correct & (matched.detections.label != NO_FINDING_ID)
    asked = [
        (same.overlap > some) & (same.overlap <= enough), other.overlap > enough, same.overlap > enough,
        np.maximum(same.overlap, other.overlap) <= some, np.ones(len(false), bool)]
    masks: dict[str, Flags] = {}
    for kind, mask in zip(KINDS[:-1], asked, strict=True):
        masks[kind] = mask & false
        false = false & ~mask
    explained = np.zeros(len(matched.truths), bool)
    explained[matched.truth_of[matched.correct]] = True
    explained[same.truth[masks["localisation"]]] = True
    explained[other.truth[masks["classification"]]] = True
    missed = ~explained & (matched.truths.label != NO_FINDING_ID)
    base = vindr.score(matched).mean_ap
    mended = {
        "localisation": _moved(matched, masks["localisation"], same.truth),
        "classification": _moved(matched, masks["classification"], other.truth),
        **{kind: _without(matched, masks[kind]) for kind in ("duplicate", "background", "both")},
        "missed": _found(matched, missed),
    }
    counts = {kind: int(mask.sum()) for kind, mask in masks.items()} | {"missed": int(missed.sum())}
    return ErrorKinds(counts, {kind: vindr.score(one).mean_ap - base for kind, one in mended.items()})


@dataclass(frozen=True)
class _Nearest:
    """(D,) the ground truth with most overlap, and that overlap; -1 and 0 where there is none."""

    truth: Ints
    overlap: Floats


def _nearest(matched: Matched, same_class: bool) -> _Nearest:
    """Among the ground truths of a detection's class, or among those of all others."""
    found, truths = matched.detections, matched.truths
    d, g = pairs(found, truths, same_class)
    if not same_class:
        differ = found.label[d] != truths.label[g]
        d, g = d[differ], g[differ]
    overlap = paired_iou(found.box[d], truths.box[g])
    at = best_pair(d, overlap)
    truth, best = np.full(len(found), -1), np.zeros(len(found))
    truth[d[at]], best[d[at]] = g[at], overlap[at]
    return _Nearest(truth, best)


def _moved(matched: Matched, rows: Flags, target: Ints) -> Matched:
    """These boxes become those of their ground truth; where that is found already they go."""
    label = matched.detections.label.copy()
    label[rows] = matched.truths.label[target[rows]]
    truth_of = np.where(rows, target, matched.truth_of)
    kept = np.ones(len(label), bool)
    claimed = np.flatnonzero(truth_of >= 0)
    # Right ones keep what they have, whatever the score of those that come to it.
    claimed = claimed[np.argsort(rows[claimed], kind="stable")]
    first = np.unique(truth_of[claimed], return_index=True)[1]
    kept[np.delete(claimed, first)] = False
    return _without(replace(matched, detections=replace(matched.detections, label=label), truth_of=truth_of),
                    ~kept)


def _without(matched: Matched, rows: Flags) -> Matched:
    return replace(matched, detections=matched.detections[~rows], truth_of=matched.truth_of[~rows])


def _found(matched: Matched, missed: Flags) -> Matched:
    """Without the ground truths that were missed."""
    number = np.cumsum(~missed) - 1
    truth_of = np.where(matched.correct, number[matched.truth_of], -1)
    return replace(matched, truths=matched.truths[~missed], truth_of=truth_of)


def confusion(matched: Matched, score: float) -> NDArray[np.int64]:
    """(15, 15) true class by detected class among boxes of at least this score.

    Boxes, best first, take the ground truth of their image that they overlap most, whatever its class. The
    last row counts boxes on nothing, the last column findings without a box.
    """
    sure = matched.detections.score >= score
    found = matched.detections[sure & (matched.detections.label != NO_FINDING_ID)]
    truths = matched.truths[matched.truths.label != NO_FINDING_ID]
    d, g = pairs(found, truths, same_class=False)
    overlap = paired_iou(found.box[d], truths.box[g])
    over = overlap > matched.iou_threshold
    d, g = d[over], g[over]
    nothing = len(FINDINGS)
    matrix = np.zeros((nothing + 1, nothing + 1), np.int64)
    of_truth, of_box = np.full(len(truths), nothing), np.full(len(found), nothing)
    # By score, then by overlap: each box and each ground truth once.
    for at in np.lexsort((-overlap[over], d)).tolist():
        if of_box[d[at]] == nothing and of_truth[g[at]] == nothing:
            of_box[d[at]], of_truth[g[at]] = truths.label[g[at]], found.label[d[at]]
    np.add.at(matrix, (truths.label, of_truth), 1)
    alone = of_box == nothing
    np.add.at(matrix, (np.full(alone.sum(), nothing), found.label[alone]), 1)
    return matrix


def localisation(
    matched: Matched, weights: Floats | None = None, ious: Sequence[float] = LOCALISATION_IOUS
) -> Floats:
    """(R, 14, T) share of images with a finding whose best-scored box of it overlaps a true one by more.

    As Li et al., "Thoracic disease identification and localization with limited supervision", CVPR 2018,
    measure it; an image without such a box counts as wrong. NaN for findings that no image has.

    Args:
        matched: the detections.
        weights: (R, I) how often each image counts; None counts each once.
        ious: overlaps that must be exceeded.
    """
    weights = np.ones((1, len(matched.ids))) if weights is None else weights
    found, truths = matched.detections, matched.truths
    d, g = pairs(found, truths, same_class=True)
    overlap = paired_iou(found.box[d], truths.box[g])
    at = best_pair(d, overlap)
    best = np.zeros(len(found))
    best[d[at]] = overlap[at]
    # Detections stand best first, so the first of an image and class is its best-scored one.
    key = found.image * len(CLASS_NAMES) + found.label
    keys, first = np.unique(key, return_index=True)
    top = np.zeros(matched.counts.size)
    top[keys] = best[first]
    top = top.reshape(matched.counts.shape)[:, : len(FINDINGS)]
    there = matched.counts[:, : len(FINDINGS)] > 0
    with np.errstate(invalid="ignore"):
        return np.stack([weights @ ((top > iou) & there) / (weights @ there) for iou in ious], axis=2)


def as_metrics(found: ErrorKinds, placed: Floats) -> dict[str, float]:
    """``errors/<kind>``, ``errors/<kind>/gain`` and ``localisation/accuracy@<IoU>`` of (14, T)."""
    flat: dict[str, float] = {}
    for kind in KINDS:
        flat |= {f"errors/{kind}": found.counts[kind], f"errors/{kind}/gain": found.gains[kind]}
    means = mean_over_findings(placed[None])[0]
    return flat | {f"localisation/accuracy@{iou:g}": float(mean)
                   for iou, mean in zip(LOCALISATION_IOUS, means, strict=True)}
