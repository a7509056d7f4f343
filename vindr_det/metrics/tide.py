"""TIDE errors, and the confusion matrix of findings.

Bolya et al., "TIDE: A general toolbox for identifying object detection errors", ECCV 2020. Foreground is the
overlap that the metric asks for, background is TIDE's 0.1. dAP is what the competition's mAP gains when one
error alone is fixed.

Why no library: tidecv and hotcoco match as COCO does at IoU >= .40, and their dAP is of a 101-point mean
without class 14, not of ``vindr/mAP40``; supervision's confusion matrix prefers boxes of the right class to
boxes of higher score.

Shapes: D detections, G ground truths, P pairs of the two in one image, F findings.
"""

from collections.abc import Mapping
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from vindr_det.metrics.matching import Flags, Ints, Matched, nearest, pairs
from vindr_det.metrics.metric import MatchedPredictions, Metric, format_value
from vindr_det.metrics.voc import VindrResult

BACKGROUND_IOU = 0.1
#: Types of false positives, in the order in which they are tested, and truths that none of them explains.
ERRORS = ("localization", "classification", "duplicate", "background", "both", "missed")


class TideAnalysis(Metric):
    """``tide/<error>``, a number of boxes, and ``tide/<error>/dAP``."""

    details = ("tide/",)

    def compute(self, matched: MatchedPredictions) -> dict[str, float]:
        errors = tide_errors(matched.voc)
        return {f"tide/{name}": errors.counts[name] for name in ERRORS} | {
            f"tide/{name}/dAP": errors.delta_ap[name] for name in ERRORS}

    def table(self, values: Mapping[str, float]) -> str:
        rows = [[name, int(values[f"tide/{name}"]), format_value(values[f"tide/{name}/dAP"])]
                for name in ERRORS]
        return tabulate(rows, ["TIDE error", "boxes", "dAP of mAP40"], disable_numparse=True,
                        colalign=("left", "right", "right"))


@dataclass(frozen=True)
class TideErrors:
    """Errors and their cost.

    Attributes:
        counts: error -> false positives, or missed ground truths.
        delta_ap: error -> what the competition's mAP gains when these are fixed.
    """

    counts: Mapping[str, int]
    delta_ap: Mapping[str, float]


def tide_errors(matched: Matched) -> TideErrors:
    """Sort every false positive of the findings into one type, and count the missed findings.

    localization: overlaps a truth of its class too little; classification: overlaps one of another class
    enough; duplicate: of a truth that is already detected; background: overlaps nothing; both: overlaps one
    of another class too little. Missed are truths that are neither detected nor explained by one of the first
    two.
    """
    matched = matched.ranked
    same, other = matched.nearest_of_class, nearest(matched.detections, matched.truths, same_class=False)
    masks = _error_masks(matched, same.overlap, other.overlap)
    explained = np.zeros(len(matched.truths), bool)
    explained[matched.truth_of[matched.correct]] = True
    explained[same.truth[masks["localization"]]] = True
    explained[other.truth[masks["classification"]]] = True
    missed = ~explained & matched.truths.is_finding
    base = VindrResult.of_matched(matched).mean_ap
    fixed = {
        "localization": _moved(matched, masks["localization"], same.truth),
        "classification": _moved(matched, masks["classification"], other.truth),
        **{name: _without(matched, masks[name]) for name in ("duplicate", "background", "both")},
        "missed": _without_truths(matched, missed),
    }
    counts = {name: int(mask.sum()) for name, mask in masks.items()} | {"missed": int(missed.sum())}
    return TideErrors(counts, {name: VindrResult.of_matched(repaired).mean_ap - base
                               for name, repaired in fixed.items()})


def _error_masks(matched: Matched, same: NDArray[np.float64], other: NDArray[np.float64]) -> dict[str, Flags]:
    """Error -> (D,) which detections it is; each false positive has the first type that fits.

    Args:
        matched: the detections, best first.
        same: (D,) highest IoU with a truth of the detection's class.
        other: (D,) highest IoU with a truth of another class.
    """
    enough, some = matched.iou_threshold, BACKGROUND_IOU
    false = ~matched.correct & matched.detections.is_finding
    tests = [(same > some) & (same <= enough), other > enough, same > enough,
             np.maximum(same, other) <= some, np.ones(len(false), bool)]
    masks: dict[str, Flags] = {}
    for name, mask in zip(ERRORS[:-1], tests, strict=True):
        masks[name] = mask & false
        false = false & ~mask
    return masks


def _moved(matched: Matched, rows: Flags, target: Ints) -> Matched:
    """These boxes become those of their ground truth; where that is already detected they go."""
    label = matched.detections.label.copy()
    label[rows] = matched.truths.label[target[rows]]
    truth_of = np.where(rows, target, matched.truth_of)
    kept = np.ones(len(label), bool)
    claimed = np.flatnonzero(truth_of >= 0)
    # True positives keep their truth, whatever the score of the boxes that are moved to it.
    claimed = claimed[np.argsort(rows[claimed], kind="stable")]
    first = np.unique(truth_of[claimed], return_index=True)[1]
    kept[np.delete(claimed, first)] = False
    return _without(replace(matched, detections=replace(matched.detections, label=label), truth_of=truth_of),
                    ~kept)


def _without(matched: Matched, rows: Flags) -> Matched:
    """Without these detections."""
    return replace(matched, detections=matched.detections[~rows], truth_of=matched.truth_of[~rows])


def _without_truths(matched: Matched, missed: Flags) -> Matched:
    """Without the ground truths that were missed."""
    number = np.append(np.cumsum(~missed) - 1, -1)  # which false positives, of truth -1, keep
    return replace(matched, truths=matched.truths[~missed], truth_of=number[matched.truth_of])


def confusion_matrix(matched: Matched, score: float) -> NDArray[np.int64]:
    """(F + 1, F + 1) true finding by detected finding among boxes of at least this score.

    Boxes, best first, take the ground truth of their image that they overlap most, whatever its class. The
    last row counts boxes on nothing, the last column findings without a box.
    """
    matched = matched.ranked
    shown = (matched.detections.score >= score) & matched.detections.is_finding
    detections = matched.detections[shown]
    truths = matched.truths[matched.truths.is_finding]
    d, g, overlap = pairs(detections, truths, same_class=False)
    over = overlap > matched.iou_threshold
    d, g = d[over], g[over]
    nothing = len(matched.label_set)
    of_truth, of_box = np.full(len(truths), nothing), np.full(len(detections), nothing)
    # By score, then by overlap: each box and each ground truth once.
    for at in np.lexsort((-overlap[over], d)).tolist():
        if of_box[d[at]] == nothing and of_truth[g[at]] == nothing:
            of_box[d[at]], of_truth[g[at]] = truths.label[g[at]], detections.label[d[at]]
    matrix = np.zeros((nothing + 1, nothing + 1), np.int64)
    np.add.at(matrix, (truths.label, of_truth), 1)
    np.add.at(matrix[nothing], detections.label[of_box == nothing], 1)
    return matrix
