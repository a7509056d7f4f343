"""Tables of predictions, and what they are worth."""

from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tabulate import tabulate

from vindr_det.classification.labels import LabelTable, columns_of
from vindr_det.classification.operating_points import Chosen, Label, calibrated
from vindr_det.classification.plots import reliability_plot
from vindr_det.metrics.bootstrap import Bootstrap, Estimate
from vindr_det.metrics.calibration import reliability
from vindr_det.metrics.classification import mean_of_measurable, measure
from vindr_det.structures.label_sets import column_of


def prediction_frame(
    table: LabelTable, found: NDArray, spread: NDArray | None = None
) -> pd.DataFrame:
    """image_id, fold, patient where known, a 0..1 column a label and its ``p_...``, with ``..._sd``."""
    frame = pd.DataFrame({"image_id": table.image_ids, "fold": table.folds})
    if table.what == "patient":
        frame["patient"] = table.groups
    for place, (name, column) in enumerate(zip(table.names, columns_of(table.names), strict=True)):
        frame[name] = table.targets[:, place].round(4)
        frame[column] = found[:, place].astype(float)
        if spread is not None:
            frame[f"{column}_sd"] = spread[:, place].astype(float)
    return frame


def estimate(
    frame: pd.DataFrame, names: Sequence[str], bootstrap: Bootstrap
) -> dict[str, dict[str, Estimate]]:
    """``auc`` and ``ap`` with intervals a label, of the images for which it is known; nothing for labels with
    too few positives."""
    result = {}
    for name in names:
        known = frame[name].notna().to_numpy()
        drawn = replace(bootstrap, group_of=bootstrap.group_of[known])
        result[name] = measure(frame[name][known] >= 0.5, frame[column_of(name)][known], drawn)
    return result


def bootstrap_of(frame: pd.DataFrame) -> Bootstrap:
    """Patients are drawn whole where the frame knows them, else images."""
    return Bootstrap.of(frame["patient" if "patient" in frame else "image_id"])


def calibrate(frame: pd.DataFrame, chosen: Mapping[str, Chosen]) -> pd.DataFrame:
    """Probabilities by the stored calibrations; a column says whether there are any."""
    known = set(chosen).intersection(frame)
    result = frame.assign(calibrated=int(bool(known)))
    for column in known:
        result[column] = chosen[column].calibration(frame[column])
    return result


def plot_reliability(
    frame: pd.DataFrame, labels: Sequence[Label], chosen: Mapping[str, Chosen], picture: Path
) -> None:
    """A diagram a label: as the models said, and calibrated by other parts than the images are in."""
    title = {column_of(name): name for name in frame}
    curves = {title[label.column]: {
        "as predicted": reliability(label.truth, label.p),
        "calibrated": reliability(label.truth, calibrated(label, chosen[label.column].calibration, True))}
        for label in labels if label.column in chosen}
    if curves:
        reliability_plot(curves, picture)


def as_json(found: Mapping[str, Mapping[str, Estimate]]) -> dict[str, Any]:
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


def text(frame: pd.DataFrame, found: Mapping[str, Mapping[str, Estimate]]) -> str:
    """A table for people."""
    rows = []
    for name, values in found.items():
        positives = int((frame[name] >= 0.5).sum())
        rows.append([name, positives, str(values["auc"]) if values else "not measurable",
                     str(values["ap"]) if values else ""])
    return tabulate(rows, ["label", f"of {len(frame)}", "AUC [95 %]", "AP [95 %]"], disable_numparse=True,
                    colalign=("left", "right", "left", "left"))
