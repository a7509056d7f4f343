"""Curves of a training, from the files that it leaves: a detector's metrics.json, a classifier's histories.

``metrics.json`` has a JSON object per line with the ``iteration``, from 0; ``fold<k>_history.csv`` a row per
epoch. Both become named curves of (N, 2): iterations or epochs that are done, and values.
"""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.figures import (
    add_axes,
    legend_below,
    legend_of_all,
    legend_right,
    new_figure,
    on_film,
    palette,
    write_figure,
)
from vindr_det.imaging.palette import code_of
from vindr_det.structures.label_sets import LABEL_SETS, LabelSet, label_set_named
from vindr_det.tables import read_csv, to_numbers
from vindr_det.training.results import histories, is_component, metrics_rows, write_results

log = logging.getLogger(__name__)

Curves = dict[str, NDArray[np.float64]]

RESULTS_FILE = "results.png"
_CLASS_AP = ("vindr/AP40/", "voc/AP40/")
#: Labels of a multi-label classifier in its history.
_LABEL_AUC = "held_out_auc/"
_LOSSES = {"total_loss": "training", "validation_loss": "validation",
           "validation_normal/loss": "validation, normal images",
           "validation_abnormal/loss": "validation, abnormal images"}
_APS = {"vindr/mAP40": "mAP at IoU > .4 (VinBigData)", "voc/mAP40": "mAP at IoU > .4",
        "coco/AP40": "COCO AP at IoU .40", "coco/AP50": "COCO AP at IoU .50"}
_PARTS = {"": "training", "inner_": "images set aside", "held_out_": "held out"}
_COLORS = {"training": "#777777", "validation": "#1f4e79", "validation, normal images": "#558b2f",
           "validation, abnormal images": "#c06020", "images set aside": "#558b2f", "held out": "#1f4e79"}


def read_metrics(path: str | Path) -> Curves:
    """Curves of a detector's training; a last line that was cut by a kill is left out.

    Raises:
        InputError: missing, empty, or a line is no JSON object with an iteration.
    """
    values: dict[str, dict[int, float]] = {}
    for row in metrics_rows(path):
        done = int(row["iteration"]) + 1
        for key, value in row.items():
            values.setdefault(key, {})[done] = float(value)
    return {key: np.array(sorted(points.items())) for key, points in values.items() if key != "iteration"}


def read_history(path: str | Path) -> Curves:
    """Curves of a fold of a classifier; epochs without a value are left out.

    Raises:
        InputError: missing, or it has no column epoch.
    """
    frame = read_csv(path, ["epoch"])
    epochs = to_numbers(frame["epoch"])
    columns = {name: np.column_stack([epochs, to_numbers(frame[name])]) for name in frame if name != "epoch"}
    return {name: values[np.isfinite(values).all(axis=1)] for name, values in columns.items()}


def smoothed(values: NDArray[np.float64], factor: float) -> NDArray[np.float64]:
    """(N,) moving average: each value is ``factor`` times the average before and the rest the new value."""
    result = np.array(values, dtype=float)
    for place in range(1, len(result)):
        result[place] = factor * result[place - 1] + (1 - factor) * result[place]
    return result


def plot_training(folder: str | Path, out: str | Path | None = None, smooth: float = 0.0) -> Path:
    """Write ``results.png`` of a training, which may still be running.

    Args:
        folder: OUTPUT_DIR of a detector or a classifier.
        out: folder of the picture; None takes ``folder``.
        smooth: factor of :func:`smoothed`; the values themselves stay visible as faint lines.

    Raises:
        InputError: the folder has no such files.
    """
    if not 0 <= smooth < 1:
        raise InputError(f"--smooth {smooth}: expected 0 to below 1")
    folder, paths = Path(folder), histories(folder)
    if paths:
        figure = classifier_figure({fold: read_history(path) for fold, path in paths.items()}, smooth)
    elif (folder / "metrics.json").is_file() and not (folder / "operating_points.json").is_file():
        figure = detector_figure(read_metrics(folder / "metrics.json"), smooth, _label_set(folder))
    else:
        raise InputError(f"{folder}: has no fold*_history.csv and no metrics.json of a detector, expected "
                         "the OUTPUT_DIR of vindr-det train or train_classifier.py")
    path = Path(out or folder) / RESULTS_FILE
    write_figure(path, figure)
    return path


def plot_after_training(folder: str | Path) -> None:
    """``results.csv`` and ``results.png`` at the end of a training; a failure is a warning."""
    write_results(folder)
    try:
        plot_training(folder)
    except Exception as error:
        log.warning("%s: results.png was not drawn (%s: %s); vindr-det plot-training can repeat it", folder,
                    type(error).__name__, error)


def _label_set(folder: Path) -> LabelSet | None:
    """That of the training's config.yaml; None without one that tells."""
    try:
        keys = yaml.safe_load((folder / "config.yaml").read_text(encoding="utf-8"))["VINDR"]
        return label_set_named(keys["LABEL_SET"], tuple(keys["FINDINGS"]))
    except (OSError, UnicodeDecodeError, yaml.YAMLError, LookupError, TypeError, InputError):
        return None


def detector_figure(curves: Curves, smooth: float = 0.0, label_set: LabelSet | None = None) -> Any:
    """Losses and their components, AP, learning rate, and AP per class over iterations and at the end.

    Args:
        curves: of :func:`read_metrics`.
        smooth: factor of :func:`smoothed`.
        label_set: which colors the classes have; None takes the first shipped one that has them all.
    """
    figure = new_figure(20, 10)
    upper, lower = figure.subfigures(2, 1)
    loss, ap, rate, parts = (add_axes(upper, 1, 4, place) for place in (1, 3, 4, 2))
    _draw(loss, {name: curves[key] for key, name in _LOSSES.items() if key in curves}, smooth)
    _limit_to_losses(loss)
    _draw(ap, {name: curves[key] for key, name in _APS.items() if key in curves}, smooth)
    _draw(rate, {"_rate": curves["lr"]} if "lr" in curves else {})
    of_class = {key.split("/", 2)[2]: points for key, points in curves.items()
                if key.startswith(_CLASS_AP)}
    _draw(parts, {key.removeprefix("loss_"): points for key, points in curves.items()
                  if is_component(key)}, smooth)
    _limit_to_losses(parts)
    class_curves = add_axes(lower, 1, 2, 1)
    on_film(class_curves)
    colors = _class_colors(list(of_class), label_set)
    _draw(class_curves, of_class, smooth, colors)
    if of_class:
        _last_ap(add_axes(lower, 1, 2, 2), of_class, colors)
    for axes, title, unit in ((loss, "Loss", "loss"), (ap, "Average precision", "AP"),
                              (rate, "Learning rate", "learning rate"),
                              (parts, "Components of the training loss", "loss"),
                              (class_curves, "AP at IoU > .4 per class", "AP")):
        axes.set(title=title, xlabel="iterations", ylabel=unit)
    for axes, legend in ((loss, legend_below), (ap, legend_below), (parts, legend_below),
                         (class_curves, legend_right)):
        axes.set_ylim(bottom=0)
        if axes.lines:
            legend(axes)
    return figure


def classifier_figure(folds: Mapping[int, Curves], smooth: float = 0.0) -> Any:
    """Losses, AUC and learning rate over epochs, a column per fold.

    Args:
        folds: number of a fold -> its curves, of :func:`read_history`.
        smooth: factor of :func:`smoothed`.
    """
    figure = new_figure(max(7, 1.2 + 3.8 * len(folds)), 9)
    for place, (fold, curves) in enumerate(folds.items(), start=1):
        loss, auc, rate = (add_axes(figure, 3, len(folds), row * len(folds) + place) for row in range(3))
        for axes, kind in ((loss, "loss"), (auc, "auc")):
            parts = {name: curves[f"{prefix}{kind}"] for prefix, name in _PARTS.items()
                     if len(curves.get(f"{prefix}{kind}", ()))}
            _draw(axes, parts, smooth)
        _label_range(auc, [points for key, points in curves.items() if key.startswith(_LABEL_AUC)])
        _draw(rate, {"_rate": curves["lr"]} if "lr" in curves else {})
        loss.set(title=f"fold {fold}", ylabel="loss")
        auc.set(ylabel="AUC")
        rate.set(ylabel="learning rate", xlabel="epochs")
        for axes in (loss, auc, rate):
            axes.xaxis.get_major_locator().set_params(integer=True)
    for row in range(3):
        _same_range(figure.axes[row::3])
    legend_of_all(figure)
    return figure


def _class_colors(names: Sequence[str], label_set: LabelSet | None) -> dict[str, str]:
    """The findings' colors, as pictures have them."""
    sets = [label_set] if label_set else LABEL_SETS.values()
    classes = next((of_set.classes for of_set in sets if set(names) <= set(of_set.classes)), names)
    return {name: code_of(list(classes).index(name)) for name in names}


def _draw(axes: Any, curves: Curves, smooth: float = 0.0, colors: Mapping[str, Any] | None = None) -> None:
    """Lines, or a note that nothing was measured; those of a part are dashed, over that of the whole."""
    colors = colors or dict(zip(curves, palette(len(curves)), strict=True)) | _COLORS
    for name, points in curves.items():
        line = {"color": colors[name], "marker": "o" if len(points) < 40 else None, "markersize": 2.5,
                "linestyle": (0, (3, 3)) if name.startswith("validation, ") else "-"}
        if smooth:
            axes.plot(*points.T, color=colors[name], linewidth=0.8, alpha=0.3, label="_values")
        axes.plot(points[:, 0], smoothed(points[:, 1], smooth),
                  linewidth=2.6 if name == "validation" else 1.3, label=name, **line)
    if not curves:
        axes.text(0.5, 0.5, "not measured", ha="center", va="center", transform=axes.transAxes,
                  bbox={"facecolor": "white", "edgecolor": "none"})


def _same_range(row: Sequence[Any]) -> None:
    """Make the folds comparable."""
    low, high = zip(*(axes.get_ylim() for axes in row), strict=True)
    for axes in row:
        axes.set_ylim(min(low), max(high))


def _limit_to_losses(axes: Any) -> None:
    """Begin at 0, and let a few large losses at the start not hide the rest."""
    lines = [line.get_ydata()[np.isfinite(line.get_ydata())] for line in axes.lines]
    highest = max((np.percentile(values, 95) for values in lines if len(values)), default=0)
    axes.set_ylim(0, 1.1 * highest or 1)


def _label_range(axes: Any, labels: Sequence[NDArray[np.float64]]) -> None:
    """The range of the labels' AUC in the held-out fold, and their median."""
    if not labels:
        return
    epochs = np.unique(np.concatenate([points[:, 0] for points in labels]))
    by_epoch = [np.concatenate([points[points[:, 0] == epoch, 1] for points in labels]) for epoch in epochs]
    low, middle, high = (np.array([reduce(values) for values in by_epoch])
                         for reduce in (np.min, np.median, np.max))
    color = _COLORS["held out"]
    axes.fill_between(epochs, low, high, color=color, alpha=0.15, linewidth=0, label="held out, all labels")
    axes.plot(epochs, middle, color=color, linestyle=":", label="held out, median of labels")


def _last_ap(axes: Any, of_class: Curves, colors: Mapping[str, str]) -> None:
    """A bar per class, of the last validation."""
    last = max(int(points[-1, 0]) for points in of_class.values())
    bars = axes.barh(list(of_class), [points[-1, 1] for points in of_class.values()],
                     color=[colors[name] for name in of_class], edgecolor="#202020", linewidth=0.6)
    axes.set(title=f"AP at IoU > .4 per class after {last} iterations", xlabel="AP")
    axes.bar_label(bars, fmt="%.3f", padding=3, fontsize="small")
    axes.invert_yaxis()
    axes.margins(x=0.12)
