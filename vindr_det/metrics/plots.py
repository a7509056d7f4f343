"""Figures of detections against truth: precision-recall curves, and the confusion matrix with background.

Shapes: K classes, F findings, P true positives of a class.
"""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.figures import add_axes, legend_right, new_figure, on_film, try_figure
from vindr_det.imaging.palette import code_of
from vindr_det.metrics.bootstrap import Floats
from vindr_det.metrics.matching import Matched, mean_over_classes, precision_envelope
from vindr_det.metrics.tide import confusion_matrix
from vindr_det.metrics.voc import VindrResult
from vindr_det.structures.label_sets import LabelSet

PR_FILE, CONFUSION_FILE = "pr_curve.png", "confusion_matrix.png"
#: Boxes of lower scores are not in the picture of the confusion matrix, unless another score is asked for.
CONFUSION_SCORE = 0.25
_BACKGROUND = "background"
_RECALLS = np.linspace(0, 1, 501)


def write_pictures(folder: str | Path, matched: Matched, score: float = CONFUSION_SCORE) -> None:
    """Write ``pr_curve.png`` and ``confusion_matrix.png``; a failure to draw is a warning.

    Args:
        folder: of the pictures.
        matched: the detections.
        score: lowest of the confusion matrix's boxes.
    """
    try_figure(Path(folder) / PR_FILE, lambda: pr_figure(matched))
    matrix = confusion_matrix(matched, score)
    try_figure(Path(folder) / CONFUSION_FILE, lambda: confusion_figure(
        matrix, matched.label_set, score, matched.iou_threshold))


def pr_curve(matched: Matched, label: int) -> tuple[Floats, Floats]:
    """Recall and monotone precision of a class, whose area is its AP.

    Args:
        matched: the detections.
        label: class id.

    Returns:
        (P,) recall, rising; (P,) precision, at each recall the best of this and all higher recalls.
    """
    correct = matched.correct[matched.rows[label]]
    at = np.flatnonzero(correct)
    true_positives = np.arange(1, len(at) + 1)
    precision = precision_envelope((true_positives / (at + 1))[None])[0]
    return true_positives / matched.counts[:, label].sum(), precision


def pr_figure(matched: Matched) -> Any:
    """Precision over recall of each class that has ground truth, and their mean; the legend has the APs."""
    result, names = VindrResult.of_matched(matched), matched.label_set.classes
    figure = new_figure(10, 6.5)
    axes, curves = add_axes(figure, 1, 1, 1), []
    measured = [label for label, name in enumerate(names) if result.truths[name]]
    on_film(axes)
    for label in measured:
        recall, precision = pr_curve(matched, label)
        curves.append((recall, precision))
        axes.step(*with_ends(recall, precision), where="pre", color=code_of(label), linewidth=1.4,
                  label=f"{names[label]}  {result.ap[names[label]]:.3f}  ({result.truths[names[label]]})")
    if curves:
        axes.plot(*mean_curve(curves), color="white", linewidth=2.5, label=f"mean  {result.mean_ap:.3f}")
        legend_right(axes)
    axes.set(title=f"Precision-recall at IoU > {matched.iou_threshold:g} (legend: AP, number of true boxes)",
             xlabel="recall", ylabel="precision", xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
    return figure


def mean_curve(curves: Sequence[tuple[Floats, Floats]]) -> tuple[Floats, Floats]:
    """Mean precision of classes at equal recalls.

    Args:
        curves: of :func:`pr_curve`, a class each.

    Returns:
        (R,) recalls and (R,) mean precision.
    """
    return _RECALLS, mean_over_classes(np.array([_at_recalls(*points) for points in curves])[None])[0]


def _at_recalls(recall: Floats, precision: Floats) -> Floats:
    """Precision at :data:`_RECALLS`, 0 beyond the highest recall."""
    return np.append(precision, 0.0)[np.searchsorted(recall, _RECALLS - 1e-9)]


def with_ends(recall: Floats, precision: Floats) -> tuple[Floats, Floats]:
    """A curve of :func:`pr_curve` from recall 0 to the highest, and down to precision 0 there."""
    if not len(recall):
        return np.array([0.0, 0.0]), np.array([0.0, 0.0])
    return (np.concatenate([[0.0], recall, recall[-1:]]), np.concatenate([precision[:1], precision, [0.0]]))


def confusion_figure(matrix: NDArray[np.int64], label_set: LabelSet, score: float, iou: float) -> Any:
    """True findings in columns, detected ones in rows, each with background; colors are shares of a column.

    Args:
        matrix: (F + 1, F + 1) of :func:`vindr_det.metrics.tide.confusion_matrix`, true by detected.
        label_set: of the findings.
        score: lowest of the boxes.
        iou: above which a box has found a finding.
    """
    counts, names = matrix.T, [*label_set.findings, _BACKGROUND]
    shares = counts / np.maximum(counts.sum(axis=0), 1)
    side = 3.5 + 0.42 * len(names)
    figure = new_figure(side + 1, side)
    axes = figure.add_subplot(1, 1, 1)
    image = axes.imshow(shares, cmap="Blues", vmin=0, vmax=1)
    figure.colorbar(image, ax=axes, label="share of the column", shrink=0.7)
    for row, column in zip(*np.nonzero(counts), strict=True):
        axes.text(column, row, counts[row, column], ha="center", va="center", fontsize="x-small",
                  color="white" if shares[row, column] > 0.5 else "black")
    axes.set_xticks(range(len(names)), names, rotation=90)
    axes.set_yticks(range(len(names)), names)
    axes.set(xlabel="true", ylabel="detected",
             title=f"Confusion matrix at IoU > {iou:g}, scores from {score:g} on")
    return figure
