"""The section of a classifier: out-of-fold AUC, curves, reliability and operating points of its labels."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vindr_det.classification.operating_points import LabelPredictions, label_predictions, read_points
from vindr_det.classification.plots import label_curves, title_of
from vindr_det.classification.report import bootstrap_of
from vindr_det.classification.run_folder import METRICS_FILE, OOF_FILE
from vindr_det.exceptions import InputError
from vindr_det.figures import palette
from vindr_det.files import read_json
from vindr_det.metrics.calibration import reliability
from vindr_det.report.blocks import Block, Cell, LineChart, Section, Series, Table, score_cell
from vindr_det.structures.label_sets import column_of
from vindr_det.tables import read_csv

_RATES = ("sensitivity", "specificity", "ppv", "f1", "accuracy")


def classifier_section(folder: str | None) -> Section | None:
    """The section of a training's OUTPUT_DIR; None without one.

    Raises:
        InputError: it has no out-of-fold predictions or metrics, or they are damaged.
    """
    if folder is None:
        return None
    metrics = read_json(Path(folder) / METRICS_FILE)
    if not isinstance(metrics, dict) or "auc" not in metrics:
        raise InputError(f"{Path(folder) / METRICS_FILE}: has no auc, expected the OUTPUT_DIR of vindr-det "
                         "train-classifier")
    frame = read_csv(Path(folder) / OOF_FILE, ["image_id"], texts=["image_id"])
    names = [str(name) for name in frame if column_of(str(name)) in frame]
    labels = label_predictions(frame, names, bootstrap_of(frame))
    blocks: list[Block] = [*_charts(labels, _calibrations(folder)), _label_table(frame, names, metrics)]
    rates = metrics.get("operating_points")
    if isinstance(rates, dict) and rates:
        blocks.append(_points_table(rates))
    about = metrics.get("about")
    notes = [f"{len(frame):,} images. AUC: {about['auc']}." if isinstance(about, dict) and "auc" in about
             else f"{len(frame):,} images, out of fold."]
    return Section("classifier", "Classifier", blocks, notes)


def _calibrations(folder: str) -> Mapping[str, Any]:
    try:
        return read_points(folder)
    except InputError:  # of an earlier version, or none
        return {}


def _charts(labels: Sequence[LabelPredictions], fitted: Mapping[str, Any]) -> list[Block]:
    if not labels:
        return []
    roc, precision, reliable = [], [], []
    for label, color in zip(labels, palette(len(labels)), strict=True):
        curves, name, code = label_curves(label), title_of(label.column), _code(color)
        roc.append(Series(f"{name}  {curves.auc:.3f}", curves.roc, code))
        precision.append(Series(f"{name}  {curves.ap:.3f}", curves.precision_recall, code))
        p = label.calibrated(fitted[label.column].calibration, True) if label.column in fitted else label.p
        reliable.append(Series(name, reliability(label.truth, p)[:, :2], code, marked=True))
    share, whole = "share of the images that have the label", (0.0, 1.0)
    return [
        LineChart(
            "ROC",
            "A line per label with enough images; the legend has the AUC.",
            "1 - specificity",
            "sensitivity",
            roc,
            whole,
            whole,
            diagonal=True,
        ),
        LineChart(
            "Precision-recall",
            "A line per label; the legend has the average precision.",
            "recall",
            "precision",
            precision,
            whole,
            whole,
        ),
        LineChart(
            "Reliability",
            "Cross-fitted calibrated probability against the share that is positive, in 15 "
            "bins; the diagonal is what is ideal.",
            "probability",
            share,
            reliable,
            whole,
            whole,
            diagonal=True,
        ),
    ]


def _code(color: Any) -> str:
    from matplotlib.colors import to_hex

    return to_hex(color)


def _label_table(frame: pd.DataFrame, names: Sequence[str], metrics: Mapping[str, Any]) -> Table:
    summary = metrics.get("calibration")
    errors = summary if isinstance(summary, dict) else {}
    rows = []
    for name in names:
        column, of_label = column_of(name), errors.get(column_of(name), {})
        rows.append([Cell(name), Cell.of(int((frame[name] >= 0.5).sum())),
                     score_cell(metrics, f"auc/{column}"), score_cell(metrics, f"ap/{column}"),
                     *(Cell.of(of_label.get(key, float("nan"))) for key in ("ece", "ece_calibrated"))])
    return Table("Per label", ["label", "positives", "AUC [95 %]", "AP [95 %]", "calibration error",
                               "calibrated"], rows)


def _points_table(rates: Mapping[str, Any]) -> Table:
    rows = [
        [
            Cell(title_of(key.partition("/")[0])),
            Cell(key.partition("/")[2]),
            Cell.of(of_point["threshold"]),
            *(score_cell(of_point, rate) for rate in _RATES),
        ]
        for key, of_point in rates.items()
        if isinstance(of_point, dict) and "threshold" in of_point
    ]
    return Table("Operating points, cross-fitted", ["label", "point", "threshold", *_RATES], rows)
