"""What out-of-fold and test predictions are worth: measures, operating points, calibration."""

import json
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate

from vindr_det.categories import column_of
from vindr_det.classification.labels import LabelTable, columns_of
from vindr_det.classification.plots import reliability_plot
from vindr_det.errors import InputError
from vindr_det.files import write_json
from vindr_det.metrics.bootstrap import Bootstrap, Measured
from vindr_det.metrics.calibration import calibration_error, fit_temperature, reliability, warmed
from vindr_det.metrics.classification import (
    Confusion,
    mean_of_measurable,
    measurable,
    measure,
    operating_points,
    rates,
)

POINTS_FILE = "operating_points.json"


def prediction_frame(
    table: LabelTable, found: NDArray, spread: NDArray | None = None
) -> pd.DataFrame:
    """image_id, fold, patient where known, a 0..1 column a label and its ``p_...``, with ``..._sd``."""
    frame = pd.DataFrame({"image_id": table.image_ids, "fold": table.folds})
    if table.what == "patient":
        frame["patient"] = table.groups
    for place, (name, column) in enumerate(zip(table.names, columns_of(table.names), strict=True)):
        frame[name] = table.targets[:, place].round(4)
        frame[column] = np.round(found[:, place].astype(float), 6)
        if spread is not None:
            frame[f"{column}_sd"] = np.round(spread[:, place].astype(float), 6)
    return frame


def measured(
    frame: pd.DataFrame, names: Sequence[str], bootstrap: Bootstrap
) -> dict[str, dict[str, Measured]]:
    """``auc`` and ``ap`` with intervals a label; nothing for labels with too few positives."""
    return {name: measure(frame[name] >= 0.5, frame[column_of(name)], bootstrap) for name in names}


def resamples_of(frame: pd.DataFrame) -> Bootstrap:
    """Patients are drawn whole where the frame knows them, else images."""
    return Bootstrap.of(frame["patient" if "patient" in frame else "image_id"])


def choose_points(frame: pd.DataFrame, names: Sequence[str]) -> dict[str, dict[str, float]]:
    """Thresholds and the temperature of each measurable label, chosen on these predictions."""
    return {column_of(name): operating_points(frame[name] >= 0.5, frame[column_of(name)])
            | {"temperature": fit_temperature(frame[name] >= 0.5, frame[column_of(name)])}
            for name in names if measurable(frame[name] >= 0.5)}


def save_points(folder: Path, points: Mapping[str, Any], frame: pd.DataFrame) -> None:
    """``operating_points.json``, with what they were chosen on."""
    write_json(folder / POINTS_FILE, {
        "chosen_on": {"predictions": "oof_predictions.csv", "images": len(frame)}, "points": dict(points)})


def read_points(folder: str | Path) -> Mapping[str, Mapping[str, float]]:
    """Column -> operating points of a training.

    Raises:
        InputError: the folder has none.
    """
    path = Path(folder) / POINTS_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the folder of a finished train_classifier.py")
    return json.loads(path.read_text(encoding="utf-8"))["points"]


def applied(
    frame: pd.DataFrame, names: Sequence[str], points: Mapping[str, Mapping[str, float]],
    bootstrap: Bootstrap,
) -> dict[str, Any]:
    """Counts and, with intervals, rates at given points; the labels are read for counting alone."""
    result: dict[str, Any] = {}
    for name in names:
        column = column_of(name)
        for point, threshold in points.get(column, {}).items():
            if point == "temperature":
                continue
            truth = frame[name] >= 0.5
            counts = Confusion.at(truth, frame[column], threshold)
            values = {"threshold": threshold, **vars(counts)}
            for rate, one in rates(truth, frame[column], threshold, bootstrap).items():
                values |= {rate: one.value, f"{rate}/ci95": [one.low, one.high]}
            result[f"{column}/{point}"] = values
    return result


def calibration(
    frame: pd.DataFrame, names: Sequence[str], picture: Path
) -> dict[str, dict[str, float]]:
    """Expected calibration error before and after a temperature that other folds chose, and a plot."""
    result, curves = {}, {}
    for name in names:
        truth, p = (frame[name] >= 0.5).to_numpy(), frame[column_of(name)].to_numpy(float)
        if not measurable(truth):
            continue
        after = _warmed_by_other_folds(frame["fold"].to_numpy(), truth, p)
        result[column_of(name)] = {"ece": calibration_error(truth, p),
                                   "ece_with_temperature": calibration_error(truth, after)}
        curves[name] = {"as predicted": reliability(truth, p),
                        "with temperature": reliability(truth, after)}
    if curves:
        reliability_plot(curves, picture)
    return result


def _warmed_by_other_folds(folds: NDArray, truth: NDArray, p: NDArray) -> NDArray:
    after = p.copy()
    for fold in np.unique(folds):
        others = folds != fold
        if others.any() and 0 < truth[others].sum() < others.sum():
            after[~others] = warmed(p[~others], fit_temperature(truth[others], p[others]))
    return after


def as_json(found: Mapping[str, Mapping[str, Measured]]) -> dict[str, Any]:
    """``auc/p_effusion`` and ``auc/p_effusion/ci95``; null where nothing could be measured."""
    flat: dict[str, Any] = {}
    for kind in ("auc", "ap"):
        for name, values in found.items():
            one = values.get(kind)
            flat[f"{kind}/{column_of(name)}"] = one.value if one else None
            if one:
                flat[f"{kind}/{column_of(name)}/ci95"] = [one.low, one.high]
        mean = mean_of_measurable([values[kind] for values in found.values() if kind in values])
        flat[kind] = None if np.isnan(mean) else mean
    return flat


def text(frame: pd.DataFrame, found: Mapping[str, Mapping[str, Measured]]) -> str:
    """A table for people."""
    rows = []
    for name, values in found.items():
        positives = int((frame[name] >= 0.5).sum())
        rows.append([name, positives, str(values["auc"]) if values else "not measurable",
                     str(values["ap"]) if values else ""])
    return tabulate(rows, ["label", f"of {len(frame)}", "AUC [95 %]", "AP [95 %]"], disable_numparse=True,
                    colalign=("left", "right", "left", "left"))
