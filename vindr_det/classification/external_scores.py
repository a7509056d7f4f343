"""Scores of a classifier's file as tables and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from vindr_det.classification import plots
from vindr_det.classification.external_compare import LabelDifference
from vindr_det.classification.operating_points import LabelPredictions, number_of_point
from vindr_det.classification.probabilities import MEANINGS
from vindr_det.classification.report import confusion_text, over_labels, over_labels_text
from vindr_det.exceptions import InputError
from vindr_det.figures import write_figure
from vindr_det.files import write_json
from vindr_det.metrics.bootstrap import Estimate
from vindr_det.metrics.classification import sweep
from vindr_det.tables import write_csv

_COUNTS, _RATES = ("tp", "tn", "fp", "fn"), ("sensitivity", "specificity", "precision", "f1", "accuracy")
_THRESHOLD_COLUMNS = ["probability", "threshold", *_COUNTS, *_RATES]


@dataclass(frozen=True)
class ExternalScores:
    """Metrics of each probability column, and of the mean of several.

    Attributes:
        images: with a label.
        abnormal: number of them that are abnormal.
        estimates: column -> ``auc`` and ``ap``; empty where there are too few images of either class.
        calibration: column -> errors as it is and calibrated by other parts of the images.
        rates: ``<column>/<point>`` -> counts and rates.
        source: of the operating points.
        differences: column -> how the second file differs.
        calibration_note: a caution on the images that the calibration was fitted on; empty for none.
        labels: the predictions that all of this is of.
        thresholds: of :func:`threshold_table`; empty if it was not asked for.
    """

    images: int
    abnormal: int
    estimates: Mapping[str, Mapping[str, Estimate]]
    calibration: Mapping[str, Mapping[str, Any]]
    rates: Mapping[str, Mapping[str, Any]]
    source: str
    differences: Mapping[str, LabelDifference]
    calibration_note: str = ""
    labels: Sequence[LabelPredictions] = ()
    thresholds: pd.DataFrame = field(default_factory=pd.DataFrame)

    def text(self, point: str = "threshold_0.5") -> str:
        """All tables, to be printed.

        Args:
            point: operating point of the table of counts; or a number, the threshold of the probabilities as
                they are.

        Raises:
            InputError: no probability has such a point.
        """
        parts = [f"{self.images} images, {self.abnormal} abnormal", self._estimates_table()]
        if self._over_labels():
            parts.append(over_labels_text(self._over_labels()))
        if self.calibration_note:
            parts.append(f"ECE is {self.calibration_note}")
        if self.rates:
            parts += [f"operating points: {self.source}", self._rates_table()]
        threshold = number_of_point(point)
        if threshold is not None:
            parts += [f"counts at {threshold:g} of the probabilities as they are", self._counts_at(threshold)]
        elif self.rates:
            parts += [f"counts at {point}, {self.source}", self._counts_table(point)]
        if len(self.thresholds):
            parts += ["thresholds of the probabilities as they are; the best of them is optimistic on these "
                      "images", _thresholds_text(self.thresholds)]
        if self.differences:
            parts += ["the second file minus the first", self._differences_table()]
        return "\n\n".join(parts)

    def _estimates_table(self) -> str:
        rows = [[name, *(str(values.get(metric, "not measurable")) for metric in ("auc", "ap")),
                 *(f"{self.calibration[name][key]:.4f}" if name in self.calibration else ""
                   for key in ("ece", "ece_calibrated"))] for name, values in self.estimates.items()]
        return _table(rows, ["probability", "AUC [95 %]", "AP [95 %]", "ECE", "ECE, calibrated"])

    def _over_labels(self) -> dict[str, float]:
        """Of the labels, not of several columns of P(abnormal)."""
        return over_labels({name: values for name, values in self.estimates.items() if name.startswith("p_")
                            and name not in MEANINGS})

    def _rates_table(self) -> str:
        rows = [[*name.rsplit("/", 1), f"{values['threshold']:.4f}",
                 *(_rate(values, rate) for rate in ("sensitivity", "specificity", "ppv", "npv"))]
                for name, values in self.rates.items()]
        return _table(rows, ["probability", "point", "threshold", "sensitivity", "specificity", "PPV", "NPV"])

    def _counts_table(self, point: str) -> str:
        known = dict.fromkeys(name.rsplit("/", 1)[1] for name in self.rates)
        if point not in known:
            raise InputError(f"--point {point}: expected one of {', '.join(known)}, or a number from 0 to 1")
        return confusion_text(self.rates, point)

    def _counts_at(self, threshold: float) -> str:
        rows = {f"{label.column}/": row for label in self.labels
                for row in sweep(label.truth, label.p, [threshold])}
        return confusion_text(rows, "")

    def _differences_table(self) -> str:
        rows = [[name, str(value.images), *map(str, value.by_patient.values()),
                 str(value.by_image.difference), f"{value.by_image.p:.3g}"]
                for name, value in self.differences.items()]
        return _table(rows, ["probability", "images", "AUC by patient", "AP by patient",
                             "AUC by image (DeLong)", "p"])

    def as_json(self) -> dict[str, Any]:
        """``auc/<column>`` and ``auc/<column>/ci95``; calibration, points and differences in nodes."""
        flat: dict[str, Any] = {}
        for name, values in self.estimates.items():
            for metric, value in values.items():
                flat |= {f"{metric}/{name}": value.value, f"{metric}/{name}/ci95": [value.low, value.high]}
        flat |= self._over_labels()
        flat |= {"calibration": self.calibration, "operating_points": self.rates,
                 "points_source": self.source, "calibration_note": self.calibration_note}
        for name, difference in self.differences.items():
            for metric, value in difference.by_patient.items():
                flat |= {f"difference/{metric}/{name}": value.value,
                         f"difference/{metric}/{name}/ci95": [value.low, value.high]}
            exact = difference.by_image
            flat |= {f"difference/auc/{name}/delong": {
                "ci95": [exact.difference.low, exact.difference.high], "p": exact.p}}
        return flat


    def write(self, folder: str | Path) -> None:
        """Write metrics.json and roc.png, and with thresholds thresholds.csv and thresholds.png."""
        folder = Path(folder)
        write_json(folder / "metrics.json", self.as_json())
        write_figure(folder / "roc.png", plots.roc_figure(self.labels))
        if len(self.thresholds):
            write_csv(folder / "thresholds.csv", self.thresholds)
            write_figure(folder / "thresholds.png", plots.threshold_figure(self.thresholds))


def threshold_table(labels: Sequence[LabelPredictions], thresholds: Sequence[float]) -> pd.DataFrame:
    """Counts and rates of each probability, as it is, at each threshold.

    Args:
        labels: the images.
        thresholds: (T,).

    Returns:
        Columns probability, threshold, tp, tn, fp, fn, sensitivity, specificity, precision, f1, accuracy.
    """
    rows = [{"probability": label.column, **row} for label in labels
            for row in sweep(label.truth, label.p, thresholds)]
    return pd.DataFrame(rows).rename(columns={"ppv": "precision"}).reindex(columns=_THRESHOLD_COLUMNS)


def _thresholds_text(table: pd.DataFrame) -> str:
    rows = [[row["probability"], f"{row['threshold']:g}", *(f"{row[name]:.0f}" for name in _COUNTS),
             *("" if np.isnan(row[name]) else f"{row[name]:.3f}" for name in _RATES)]
            for row in table.to_dict("records")]
    return _table(rows, ["probability", "threshold", "TP", "TN", "FP", "FN", "sensitivity", "specificity",
                         "precision", "F1", "accuracy"])


def _table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    return tabulate(rows, head, disable_numparse=True)


def _rate(values: Mapping[str, Any], rate: str) -> str:
    if rate not in values:
        return ""
    low, high = values[f"{rate}/ci95"]
    return f"{values[rate]:.3f} [{low:.3f}, {high:.3f}]"
