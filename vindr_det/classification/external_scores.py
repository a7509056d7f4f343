"""Scores of a classifier's file as tables and as JSON."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from tabulate import tabulate

from vindr_det.classification.external_compare import Difference
from vindr_det.metrics.bootstrap import Estimate


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
    """

    images: int
    abnormal: int
    estimates: Mapping[str, Mapping[str, Estimate]]
    calibration: Mapping[str, Mapping[str, Any]]
    rates: Mapping[str, Mapping[str, Any]]
    source: str
    differences: Mapping[str, Difference]
    calibration_note: str = ""

    def text(self) -> str:
        """All tables, to be printed."""
        parts = [f"{self.images} images, {self.abnormal} abnormal", self._estimates_table()]
        if self.calibration_note:
            parts.append(f"ECE is {self.calibration_note}")
        if self.rates:
            parts += [f"operating points: {self.source}", self._rates_table()]
        if self.differences:
            parts += ["the second file minus the first", self._differences_table()]
        return "\n\n".join(parts)

    def _estimates_table(self) -> str:
        rows = [[name, *(str(values.get(metric, "not measurable")) for metric in ("auc", "ap")),
                 *(f"{self.calibration[name][key]:.4f}" if name in self.calibration else ""
                   for key in ("ece", "ece_calibrated"))] for name, values in self.estimates.items()]
        return _table(rows, ["probability", "AUC [95 %]", "AP [95 %]", "ECE", "ECE, calibrated"])

    def _rates_table(self) -> str:
        rows = [[*name.rsplit("/", 1), f"{values['threshold']:.4f}",
                 *(_rate(values, rate) for rate in ("sensitivity", "specificity", "ppv", "npv"))]
                for name, values in self.rates.items()]
        return _table(rows, ["probability", "point", "threshold", "sensitivity", "specificity", "PPV", "NPV"])

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


def _table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    return tabulate(rows, head, disable_numparse=True)


def _rate(values: Mapping[str, Any], rate: str) -> str:
    if rate not in values:
        return ""
    low, high = values[f"{rate}/ci95"]
    return f"{values[rate]:.3f} [{low:.3f}, {high:.3f}]"
