"""What goes wrong: TIDE's kinds of errors, and classes taken for one another.

Bolya et al., "TIDE: A general toolbox for identifying object detection errors", ECCV 2020. Foreground is the
overlap that the metric asks for, background is TIDE's 0.1. What an error costs is what the competition's mAP
gains when it alone is mended.

Shapes: D detections, G ground truths, P pairs of the two in one image.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vindr_det.metrics import voc
from vindr_det.metrics.matching import Flags, Ints, Matched, nearest, pairs
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.label_sets import FINDINGS, NO_FINDING_ID

BACKGROUND_IOU = 0.1
#: Kinds of false boxes, in the order in which they are asked for, and truths that nothing explains.
ERROR_TYPES = ("localization", "classification", "duplicate", "background", "both", "missed")


@dataclass(frozen=True)
class TideErrors:
    """Errors and what they cost.

    Attributes:
        counts: kind -> false boxes, or missed ground truths.
        gains: kind -> what the mAP gains when these are mended.
    """

    counts: Mapping[str, int]
    gains: Mapping[str, float]


def kinds(matched: Matched) -> TideErrors:
    """Sort every false box of the 14 findings into one kind, and the missed findings.

    localization: overlaps a truth of its class too little; classification: overlaps one of another class
    enough; duplicate: of a truth that is found already; background: overlaps nothing; both: overlaps one of
    another class too little. Missed are truths that are neither found nor explained by one of the first two.
    """
    same, other = nearest(matched, True), nearest(matched, False)
    enough, some = matched.iou_threshold, BACKGROUND_IOU
    false = ~matched.correct & (matched.detections.label != NO_FINDING_ID)
    asked = [
        (same.overlap > some) & (same.overlap <= enough), other.overlap > enough, same.overlap > enough,
        np.maximum(same.overlap, other.overlap) <= some, np.ones(len(false), bool)]
    masks: dict[str, Flags] = {}
    for kind, mask in zip(ERROR_TYPES[:-1], asked, strict=True):
        masks[kind] = mask & false
        false = false & ~mask
    explained = np.zeros(len(matched.truths), bool)
    explained[matched.truth_of[matched.correct]] = True
    explained[same.truth[masks["localization"]]] = True
    explained[other.truth[masks["classification"]]] = True
    missed = ~explained & (matched.truths.label != NO_FINDING_ID)
    base = voc.score(matched).mean_ap
    repaired = {
        "localization": _moved(matched, masks["localization"], same.truth),
        "classification": _moved(matched, masks["classification"], other.truth),
        **{kind: _without(matched, masks[kind]) for kind in ("duplicate", "background", "both")},
        "missed": _found(matched, missed),
    }
    counts = {kind: int(mask.sum()) for kind, mask in masks.items()} | {"missed": int(missed.sum())}
    return TideErrors(counts, {kind: voc.score(one).mean_ap - base for kind, one in repaired.items()})


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
    overlap = box_ops.paired_iou(found.box[d], truths.box[g])
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


def as_metrics(found: TideErrors) -> dict[str, float]:
    """``errors/<kind>`` and ``errors/<kind>/gain``."""
    return {f"errors/{kind}": found.counts[kind] for kind in ERROR_TYPES} | {
        f"errors/{kind}/gain": found.gains[kind] for kind in ERROR_TYPES}
