"""A training's predictions as tables, metrics, text and reliability diagrams."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate

from vindr_det.classification.label_table import LabelTable, columns_of
from vindr_det.classification.operating_points import LabelPredictions, OperatingPoints
from vindr_det.files import atomic_path
from vindr_det.metrics.bootstrap import Bootstrap, Estimate
from vindr_det.metrics.calibration import reliability
from vindr_det.metrics.classification import mean_of_measurable, measure
from vindr_det.structures.label_sets import column_of

_COLORS = ("#c06020", "#1f4e79", "#558b2f")


def prediction_frame(
    table: LabelTable, probabilities: NDArray, spread: NDArray | None = None
) -> pd.DataFrame:
    """Labels and probabilities, a row per image.

    Args:
        table: the images.
        probabilities: (N, K).
        spread: (N, K) standard deviations over models; None for none.

    Returns:
        image_id, fold, patient where known, and per label its 0..1, its ``p_...`` and with a spread
        ``p_..._sd``.
    """
    frame = pd.DataFrame({"image_id": table.image_ids, "fold": table.folds})
    if table.group_kind == "patient":
        frame["patient"] = table.groups
    for place, (name, column) in enumerate(zip(table.names, columns_of(table.names), strict=True)):
        frame[name] = table.targets[:, place].round(4)
        frame[column] = probabilities[:, place].astype(float)
        if spread is not None:
            frame[f"{column}_sd"] = spread[:, place].astype(float)
    return frame


def estimate(
    frame: pd.DataFrame, names: Sequence[str], bootstrap: Bootstrap
) -> dict[str, dict[str, Estimate]]:
    """Label -> ``auc`` and ``ap`` over the images for which it is known; empty if too few are positive."""
    result = {}
    for name in names:
        known = frame[name].notna().to_numpy()
        replicates = replace(bootstrap, group_of=bootstrap.group_of[known])
        result[name] = measure(frame[name][known] >= 0.5, frame[column_of(name)][known], replicates)
    return result


def bootstrap_of(frame: pd.DataFrame) -> Bootstrap:
    """Replicates over patients where the frame has them, else over images."""
    return Bootstrap.of(frame["patient" if "patient" in frame else "image_id"])


def calibrate(frame: pd.DataFrame, fitted: Mapping[str, OperatingPoints]) -> pd.DataFrame:
    """Apply calibrations; a column ``calibrated`` states whether there are any (0 or 1)."""
    columns = set(fitted).intersection(frame)
    result = frame.assign(calibrated=int(bool(columns)))
    for column in columns:
        result[column] = fitted[column].calibration(frame[column])
    return result


def mean_of_models(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """The mean of the probabilities of models that predict the same images."""
    return frames[0].assign(**{
        name: np.mean([frame[name].to_numpy(float) for frame in frames], axis=0) for name in columns})


def as_json(estimates: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
    """``auc/p_effusion`` and ``auc/p_effusion/ci95``; null where nothing could be measured."""
    flat: dict[str, Any] = {}
    for metric in ("auc", "ap"):
        for name, values in estimates.items():
            value = values.get(metric)
            flat[f"{metric}/{column_of(name)}"] = value.value if value else None
            if value:
                flat[f"{metric}/{column_of(name)}/ci95"] = [value.low, value.high]
        mean = mean_of_measurable([values[metric] for values in estimates.values() if metric in values])
        flat[metric] = None if np.isnan(mean) else mean
    return flat


def text(frame: pd.DataFrame, estimates: Mapping[str, Mapping[str, Estimate]]) -> str:
    """A table of the labels, their positives, AUC and AP."""
    rows = []
    for name, values in estimates.items():
        positives = int((frame[name] >= 0.5).sum())
        rows.append([name, positives, str(values["auc"]) if values else "not measurable",
                     str(values["ap"]) if values else ""])
    return tabulate(rows, ["label", f"of {len(frame)}", "AUC [95 %]", "AP [95 %]"], disable_numparse=True,
                    colalign=("left", "right", "left", "left"))


def plot_reliability(
    frame: pd.DataFrame, labels: Sequence[LabelPredictions], fitted: Mapping[str, OperatingPoints], path: Path
) -> None:
    """Write a reliability diagram per label: as predicted, and cross-fitted calibrated.

    Args:
        frame: with the labels' names as columns.
        labels: the images.
        fitted: column -> its calibration.
        path: of the PNG.
    """
    title = {column_of(name): name for name in frame}
    curves = {title[label.column]: {
        "as predicted": reliability(label.truth, label.p),
        "calibrated": reliability(label.truth, label.calibrated(fitted[label.column].calibration, True))}
        for label in labels if label.column in fitted}
    if curves:
        _plot(curves, path)


def _plot(curves: Mapping[str, Mapping[str, NDArray[np.float64]]], path: Path) -> None:
    """Write reliability diagrams (DeGroot and Fienberg, 1983) of label -> name of a curve -> (bins, 3)."""
    # A canvas of its own instead of pyplot: no global state, no display.
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    columns = min(4, len(curves))
    rows = math.ceil(len(curves) / columns)
    figure = Figure(figsize=(0.6 + 3.2 * columns, 0.4 + 3.2 * rows), layout="constrained")
    FigureCanvasAgg(figure)
    for place, (label, parts) in enumerate(curves.items(), start=1):
        _diagram(figure.add_subplot(rows, columns, place), label, parts)
    with atomic_path(path) as temporary:
        figure.savefig(temporary, dpi=100)


def _diagram(axes: Any, label: str, curves: Mapping[str, NDArray[np.float64]]) -> None:
    axes.plot([0, 1], [0, 1], color="#999999", linewidth=1, linestyle=":")
    for color, (name, bins) in zip(_COLORS, curves.items(), strict=False):
        predicted, observed, count = bins[bins[:, 2] > 0].T
        axes.plot(predicted, observed, color=color, linewidth=1, label=name)
        axes.scatter(predicted, observed, s=6 + 60 * count / count.sum(), color=color)
    axes.set(title=label, xlim=(0, 1), ylim=(0, 1), xlabel="predicted", ylabel="fraction of positives")
    axes.legend(frameon=False, fontsize="small", loc="upper left")
