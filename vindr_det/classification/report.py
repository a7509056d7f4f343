"""A training's predictions as tables, metrics and text."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate

from vindr_det.classification.history import measures
from vindr_det.classification.label_table import LabelTable, columns_of
from vindr_det.classification.losses import Loss
from vindr_det.classification.operating_points import OperatingPoints
from vindr_det.metrics.bootstrap import Bootstrap, Estimate
from vindr_det.metrics.classification import mean_of_measurable, measure, summary_of_labels
from vindr_det.structures.label_sets import column_of


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
    return flat | over_labels(estimates)


def not_measured(estimates: Mapping[str, Mapping[str, Estimate]]) -> list[str]:
    """Names of the labels of :func:`estimate` with too few positive or negative images."""
    return [name for name, values in estimates.items() if not values]


def over_labels(estimates: Mapping[str, Mapping[str, Estimate]]) -> dict[str, float]:
    """``auc/min``, ``auc/max``, ``auc/mean`` and ``auc/median`` where several labels could be measured."""
    values = [of_label["auc"].value for of_label in estimates.values() if "auc" in of_label]
    summary = summary_of_labels(values) if len(values) > 1 else {}
    return {f"auc/{name}": value for name, value in summary.items()}


def over_labels_text(summary: Mapping[str, float]) -> str:
    """:func:`over_labels` in a line; empty for none."""
    values = "  ".join(f"{name.removeprefix('auc/')} {value:.4f}" for name, value in summary.items())
    return f"AUC over the labels: {values}" if values else ""


def text(frame: pd.DataFrame, estimates: Mapping[str, Mapping[str, Estimate]]) -> str:
    """A table of the labels, their positives, AUC and AP, and what the AUC is over the labels."""
    rows = []
    for name, values in estimates.items():
        positives = int((frame[name] >= 0.5).sum())
        rows.append([name, positives, str(values["auc"]) if values else "not measurable",
                     str(values["ap"]) if values else ""])
    table = tabulate(rows, ["label", f"of {len(frame)}", "AUC [95 %]", "AP [95 %]"], disable_numparse=True,
                     colalign=("left", "right", "left", "left"))
    summary = over_labels_text(over_labels(estimates))
    return f"{table}\n{summary}" if summary else table


def confusion_text(rates: Mapping[str, Mapping[str, Any]], point: str) -> str:
    """A table of the counts and rates of each label at an operating point.

    Args:
        rates: ``<column>/<point>`` -> counts and rates.
        point: its name.
    """
    rows = [[name.removesuffix(f"/{point}"), f"{values['threshold']:.4f}",
             *(f"{values[count]:.0f}" for count in ("tp", "fp", "fn", "tn")),
             *(f"{values[rate]:.3f}" if rate in values else ""
               for rate in ("sensitivity", "specificity", "ppv", "f1", "accuracy"))]
            for name, values in rates.items() if name.endswith(f"/{point}")]
    return tabulate(rows, ["probability", "threshold", "TP", "FP", "FN", "TN", "sensitivity", "specificity",
                           "precision", "F1", "accuracy"], disable_numparse=True,
                    colalign=("left", *["right"] * 10)) if rows else ""


def scores_of_models(models: Mapping[int, pd.DataFrame], names: Sequence[str]) -> dict[str, dict[str, Any]]:
    """Scores of each fold's model alone, not calibrated.

    Args:
        models: fold -> predictions of the same images.
        names: the labels.

    Returns:
        ``fold0``, ``fold1``, ..., ``mean`` and ``sd`` (of a sample) -> ``auc`` (mean over labels),
        ``accuracy`` at .5 and ``loss`` (cross entropy) over all known labels; None where not measurable.
    """
    labels, columns = list(names), columns_of(names)
    scores = pd.DataFrame({
        f"fold{fold}": measures(frame[labels].to_numpy(float), frame[columns].to_numpy(float), Loss())
        for fold, frame in models.items()}).T[["auc", "accuracy", "loss"]]
    rows = pd.concat([scores, scores.agg(["mean", "std"]).rename(index={"std": "sd"})])
    return {str(name): {key: None if np.isnan(value) else float(value) for key, value in row.items()}
            for name, row in rows.iterrows()}


def scores_text(scores: Mapping[str, Mapping[str, Any]]) -> str:
    """:func:`scores_of_models` as a table."""
    rows = [[name, *("" if value is None else f"{value:.4f}" for value in row.values())]
            for name, row in scores.items()]
    return tabulate(rows, ["model", "AUC", "accuracy", "loss"], disable_numparse=True)
