"""Figures of a classifier: ROC, precision-recall, thresholds, reliability, label frequencies.

Curves over epochs are in :mod:`vindr_det.training.plots`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.classification.operating_points import LabelPredictions, OperatingPoints
from vindr_det.figures import add_axes, legend_of_all, legend_right, new_figure, palette
from vindr_det.metrics.calibration import reliability
from vindr_det.metrics.classification import auc, average_precision, curve, measurable

_COLORS = ("#c06020", "#1f4e79", "#558b2f", "#7b4397", "#777777")
#: Column of a table of thresholds -> name of its line.
_RATES = {"sensitivity": "sensitivity", "specificity": "specificity", "precision": "precision", "f1": "F1",
          "accuracy": "accuracy"}


def title_of(column: str) -> str:
    """``pleural effusion`` of ``p_pleural_effusion``."""
    return column.removeprefix("p_").replace("_", " ")


def roc_figure(labels: Sequence[LabelPredictions], too_few: Sequence[str] = ()) -> Any:
    """ROC and precision-recall curves of all labels, with AUC and AP in the legends.

    Args:
        labels: the images; labels with too few positive or negative ones are named below, without a curve.
        too_few: names of further such labels.
    """
    enough = [label for label in labels if measurable(label.truth)]
    few = [*(title_of(label.column) for label in labels if not measurable(label.truth)), *too_few]
    figure = new_figure(15, 6)
    roc, precision_recall = (add_axes(figure, 1, 2, place) for place in (1, 2))
    roc.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":", label="_chance")
    for label, color in zip(enough, palette(len(enough)), strict=True):
        curves = label_curves(label)
        roc.plot(
            *curves.roc.T, color=color, linewidth=1.3, label=f"{title_of(label.column)}  {curves.auc:.3f}"
        )
        precision_recall.step(*curves.precision_recall.T, color=color, linewidth=1.3,
                              label=f"{title_of(label.column)}  {curves.ap:.3f}")
    roc.set(title="ROC (legend: AUC)", xlabel="1 - specificity", ylabel="sensitivity")
    precision_recall.set(title="Precision-recall (legend: average precision)", xlabel="recall (sensitivity)",
                         ylabel="precision (PPV)")
    for axes in (roc, precision_recall):
        axes.set(xlim=(-0.01, 1.01), ylim=(-0.01, 1.01))
        if enough:
            legend_right(axes)
    if few:
        figure.supxlabel(f"not measured, too few images: {', '.join(few)}", fontsize="small")
    return figure


@dataclass(frozen=True)
class LabelCurves:
    """ROC and precision-recall of a label, of G distinct probabilities.

    Attributes:
        roc: (G + 1, 2) 1 - specificity and sensitivity, from the corner 0, 0.
        precision_recall: (G + 1, 2) recall and precision, from recall 0.
        auc: area under the ROC curve.
        ap: average precision.
    """

    roc: NDArray[np.float64]
    precision_recall: NDArray[np.float64]
    auc: float
    ap: float


def label_curves(label: LabelPredictions) -> LabelCurves:
    """The curves of a label with positive and negative images."""
    counts = curve(label.truth, label.p)
    true_positives, false_positives = counts.true_positives[0], counts.false_positives[0]
    recall = _from(0, true_positives / true_positives[-1])
    precision = true_positives / (true_positives + false_positives)
    return LabelCurves(np.column_stack([_from(0, false_positives / false_positives[-1]), recall]),
                       np.column_stack([recall, _from(precision[0], precision)]),
                       float(auc(counts)[0]), float(average_precision(counts)[0]))


def threshold_figure(table: pd.DataFrame) -> Any:
    """Sensitivity, specificity, precision, F1 and accuracy over thresholds, for each probability.

    Args:
        table: of :func:`vindr_det.classification.external_scores.threshold_table`.
    """
    parts = dict(list(table.groupby("probability", sort=False)))
    figure, grid = _grid(len(parts), 3.6, 3.4)
    for place, (column, part) in enumerate(parts.items(), start=1):
        axes = add_axes(figure, *grid, place)
        for color, (rate, name) in zip(_COLORS, _RATES.items(), strict=True):
            axes.plot(part["threshold"], part[rate], color=color, linewidth=1.3, label=name)
        title = title_of(str(column))
        if part["f1"].notna().any():
            best = part.loc[part["f1"].idxmax()]
            axes.axvline(best["threshold"], color="#999999", linewidth=1, linestyle=":")
            title += f"\nF1 up to {best['f1']:.3f} at {best['threshold']:g}"
        axes.set(title=title, xlabel="threshold", ylabel="rate on these images", ylim=(-0.02, 1.02))
    legend_of_all(figure)
    return figure


def reliability_figure(labels: Sequence[LabelPredictions], fitted: Mapping[str, OperatingPoints]) -> Any:
    """A reliability diagram (DeGroot and Fienberg, 1983) per label: predicted, and cross-fitted calibrated.

    Args:
        labels: the images.
        fitted: column -> its calibration.
    """
    shown = [label for label in labels if label.column in fitted]
    figure, grid = _grid(len(shown), 3.2, 3.2)
    for place, label in enumerate(shown, start=1):
        calibrated = label.calibrated(fitted[label.column].calibration, True)
        _diagram(figure.add_subplot(*grid, place), title_of(label.column), {
            "as predicted": reliability(label.truth, label.p),
            "calibrated": reliability(label.truth, calibrated)})
    legend_of_all(figure)
    return figure


def frequency_figure(table: pd.DataFrame) -> Any:
    """Shares of positive and negative labels, and the same times the weights that the loss gives them.

    Args:
        table: of :func:`vindr_det.classification.frequencies.frequencies`; means over its folds are drawn.
    """
    means = table.groupby("label", sort=False).mean(numeric_only=True)
    place = np.arange(len(means))
    figure = new_figure(13, 1.8 + 0.34 * len(means))
    folds = table["fold"].nunique()
    titles = {"": "Frequency in training" + (f", mean of {folds} folds" if folds > 1 else ""),
              "weighted_": "Times the loss's weight"}
    for number, (prefix, title) in enumerate(titles.items(), start=1):
        axes = add_axes(figure, 1, 2, number)
        parts = {name: means[f"{prefix}{name}"] for name in ("positive", "negative")}
        for offset, color, (name, values) in zip((-0.2, 0.2), _COLORS, parts.items(), strict=False):
            bars = axes.barh(place + offset, values, 0.38, color=color, label=name)
            axes.bar_label(bars, [f"{value:.3f}" for value in values], padding=3, fontsize="x-small")
        axes.set_yticks(place, means.index)
        axes.invert_yaxis()
        axes.set(title=title, xlabel="share of the known labels", xlim=(0, 1.1))
        if all(values.isna().all() for values in parts.values()):
            axes.text(0.5, 0.5, "this loss has no fixed weights", ha="center", transform=axes.transAxes)
    legend_of_all(figure)
    return figure


def _from(start: float, values: NDArray[np.float64]) -> NDArray[np.float64]:
    return np.concatenate([[start], values])


def _grid(count: int, width: float, height: float) -> tuple[Any, tuple[int, int]]:
    """A figure for ``count`` axes, and its rows and columns."""
    columns = max(1, min(4, count))
    rows = max(1, math.ceil(count / columns))
    return new_figure(max(6, 0.6 + width * columns), 0.6 + height * rows), (rows, columns)


def _diagram(axes: Any, label: str, curves: Mapping[str, NDArray[np.float64]]) -> None:
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
    for color, (name, bins) in zip(_COLORS, curves.items(), strict=False):
        predicted, observed, count = bins[bins[:, 2] > 0].T
        axes.plot(predicted, observed, color=color, linewidth=1, label=name)
        axes.scatter(predicted, observed, s=6 + 60 * count / count.sum(), color=color)
    axes.set(title=label, xlim=(0, 1), ylim=(0, 1), xlabel="predicted", ylabel="fraction of positives")
