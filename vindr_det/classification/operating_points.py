"""Operating points and calibrations: fitted on images that no model was trained on, estimated on others.

Rates on the images that a threshold was chosen on are optimistic. Rates here are cross-fitted: each part's
images are counted at the threshold that the other parts give; what is stored is fitted on all parts.

The rules of operating points (Youden, sensitivity, specificity) are in
:mod:`vindr_det.metrics.classification`, the methods of calibration in :mod:`vindr_det.metrics.calibration`.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data import in_sample
from vindr_det.exceptions import InputError
from vindr_det.files import read_json, write_json
from vindr_det.metrics.bootstrap import Bootstrap
from vindr_det.metrics.calibration import (
    METHODS,
    Calibration,
    calibration_error,
    choose_calibration,
    cross_entropy,
    cross_fitted,
)
from vindr_det.metrics.classification import Confusion, measurable, operating_points, rates
from vindr_det.structures.label_sets import column_of

POINTS_FILE = "operating_points.json"
#: Positive and negative images each from which on a calibration is fitted.
MIN_CALIBRATED = 20
_NUM_PARTS = 5


@dataclass(frozen=True)
class TargetRates:
    """Rates that operating points are wanted for, beside Youden's and the threshold .5."""

    sensitivity: Sequence[float] = (0.95,)
    specificity: Sequence[float] = (0.95,)


@dataclass(frozen=True)
class OperatingPoints:
    """Calibration and thresholds of one label.

    Attributes:
        calibration: of its probability.
        thresholds: operating point -> threshold of the calibrated probability.
        source: the predictions that they were fitted on.
    """

    calibration: Calibration
    thresholds: Mapping[str, float]
    source: str = ""


@dataclass(frozen=True)
class LabelPredictions:
    """Truth and probabilities of one label, of the N images for which it is known.

    Attributes:
        column: of the probability.
        ids: (N,) of the images.
        truth: (N,) bool.
        p: (N,) probabilities, not calibrated.
        parts: (N,) of the cross-fitting.
        bootstrap: of these images.
    """

    column: str
    ids: NDArray[np.str_]
    truth: NDArray[np.bool_]
    p: NDArray[np.float64]
    parts: NDArray[np.int64]
    bootstrap: Bootstrap

    def fit_calibration(self) -> Calibration:
        """The method with the best cross-fitted likelihood; none where there are too few images."""
        if min(int(self.truth.sum()), int((~self.truth).sum())) < MIN_CALIBRATED:
            return Calibration()
        return choose_calibration(self.truth, self.p, self.parts)

    def calibrated(self, calibration: Calibration, crossed: bool) -> NDArray[np.float64]:
        """(N,) calibrated probabilities.

        Args:
            calibration: to apply.
            crossed: fit its method on the other parts instead, for a calibration that was fitted on these
                images.
        """
        return (cross_fitted(self.truth, self.p, self.parts, METHODS[calibration.method]) if crossed
                else calibration(self.p))


def label_predictions(
    frame: pd.DataFrame, names: Sequence[str], bootstrap: Bootstrap
) -> list[LabelPredictions]:
    """Labels with enough positive and negative images, each without the images for which it is unknown.

    Args:
        frame: with a column per label (NaN: unknown) and its ``p_...``.
        names: the labels.
        bootstrap: of all rows of the frame.
    """
    result, parts = [], cross_fit_parts(frame)
    for name in names:
        known = frame[name].notna().to_numpy()
        truth = frame[name].to_numpy(float)[known] >= 0.5
        if measurable(truth):
            result.append(LabelPredictions(
                column_of(name), frame["image_id"].to_numpy(str)[known], truth,
                frame[column_of(name)].to_numpy(float)[known], parts[known],
                replace(bootstrap, group_of=bootstrap.group_of[known])))
    return result


def cross_fit_parts(frame: pd.DataFrame) -> NDArray[np.int64]:
    """(N,) the folds, or five random parts where there is a single fold; a patient is in one part."""
    if "fold" in frame and frame["fold"].nunique() > 1:
        return frame["fold"].to_numpy(np.int64)
    return random_parts(frame["patient" if "patient" in frame else "image_id"].to_numpy(str))


def random_parts(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """(N,) five random parts, always the same; images of one patient are in one of them."""
    _, patient = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(0).permutation(int(patient.max(initial=-1)) + 1)
    return order[patient.reshape(-1)] % _NUM_PARTS


def fit_points(
    labels: Sequence[LabelPredictions], targets: TargetRates, source: str
) -> dict[str, OperatingPoints]:
    """Column -> calibration and thresholds, fitted on all images of the label."""
    result = {}
    for label in labels:
        calibration = label.fit_calibration()
        points = thresholds(label.truth, calibration(label.p), targets)
        result[label.column] = OperatingPoints(calibration, points, source)
    return result


def thresholds(truth: NDArray, p: NDArray, targets: TargetRates) -> dict[str, float]:
    """Operating point -> threshold; ``threshold_0.5`` is always there."""
    return {"threshold_0.5": 0.5} | operating_points(truth, p, targets.sensitivity, targets.specificity)


def cross_fitted_rates(
    labels: Sequence[LabelPredictions], fitted: Mapping[str, OperatingPoints], targets: TargetRates
) -> dict[str, Any]:
    """``<column>/<point>`` -> counts and rates, each part's at the threshold that the other parts give.

    Labels with too few images outside any part have the threshold .5 alone, which needs no others.
    """
    result: dict[str, Any] = {}
    for label in labels:
        points = fitted[label.column]
        for point, margin in _margins(label, points.calibration.method, targets).items():
            counts = _counts_and_rates(label, margin, 0.0)
            result[f"{label.column}/{point}"] = {"threshold": points.thresholds[point]} | counts
    return result


def _margins(label: LabelPredictions, method: str, targets: TargetRates) -> dict[str, NDArray[np.float64]]:
    """Operating point -> (N,) how far each image is above the threshold that the other parts give."""
    margins: dict[str, NDArray[np.float64]] = {}
    for part in np.unique(label.parts):
        own, others = label.parts == part, label.parts != part
        if not measurable(label.truth[others]):
            return {"threshold_0.5": label.p - 0.5} if method == "none" else {}
        calibration = METHODS[method](label.truth[others], label.p[others])
        points = thresholds(label.truth[others], calibration(label.p[others]), targets)
        for point, threshold in points.items():
            margins.setdefault(point, np.zeros(len(label.p)))[own] = calibration(label.p[own]) - threshold
    return margins


def rates_at(labels: Sequence[LabelPredictions], fitted: Mapping[str, OperatingPoints]) -> dict[str, Any]:
    """``<column>/<point>`` -> counts and rates at operating points that were fitted on other images.

    Labels for which nothing was fitted are counted at .5, not calibrated.
    """
    unfitted = OperatingPoints(Calibration(), {"threshold_0.5": 0.5})
    stored = {label.column: fitted.get(label.column, unfitted) for label in labels}
    return {f"{label.column}/{point}": {"threshold": threshold} | _counts_and_rates(
                label, stored[label.column].calibration(label.p), threshold)
            for label in labels for point, threshold in stored[label.column].thresholds.items()}


def _counts_and_rates(
    label: LabelPredictions, scores: NDArray[np.float64], threshold: float
) -> dict[str, Any]:
    values: dict[str, Any] = dict(vars(Confusion.at(label.truth, scores, threshold)))
    for rate, estimate in rates(label.truth, scores, threshold, label.bootstrap).items():
        values |= {rate: estimate.value, f"{rate}/ci95": [estimate.low, estimate.high]}
    return values


def calibration_summary(
    labels: Sequence[LabelPredictions], fitted: Mapping[str, OperatingPoints], crossed: bool
) -> dict[str, Any]:
    """Column -> method, expected calibration error and cross entropy before and after.

    Args:
        labels: the images.
        fitted: column -> its calibration.
        crossed: whether it was fitted on these images; each part is then calibrated by the others.
    """
    result = {}
    for label in labels:
        if label.column in fitted:
            calibration = fitted[label.column].calibration
            after = label.calibrated(calibration, crossed)
            result[label.column] = asdict(calibration) | {
                "ece": calibration_error(label.truth, label.p),
                "ece_calibrated": calibration_error(label.truth, after),
                "nll": cross_entropy(label.truth, label.p),
                "nll_calibrated": cross_entropy(label.truth, after)}
    return result


def save_points(
    folder: Path, fitted: Mapping[str, OperatingPoints], images: Mapping[str, Sequence[str]] | None = None
) -> None:
    """Write ``operating_points.json``: thresholds, calibrations and the images that they were fitted on.

    Args:
        folder: of the file.
        fitted: column -> its operating points.
        images: source of operating points -> ids of its images.
    """
    used = {points.source for points in fitted.values()}
    write_json(folder / POINTS_FILE, {
        "points": {column: dict(points.thresholds) for column, points in fitted.items()},
        "calibration": {column: asdict(points.calibration) for column, points in fitted.items()},
        "chosen_on": {column: points.source for column, points in fitted.items()},
        "images_of": {source: in_sample.as_json(ids) for source, ids in (images or {}).items()
                      if source in used}})


def in_sample_note(folder: str | Path, ids: Sequence[str]) -> str:
    """A caution where stored points are applied to images that they were fitted on; else empty."""
    path = Path(folder) / POINTS_FILE
    parts = read_json(path).get("images_of", {})
    try:
        fitted_on = [name for part in parts.values() for name in in_sample.read_images(path, part)]
    except (InputError, AttributeError):
        fitted_on = []
    if not fitted_on:
        return "the images that chose them are not known, so this may be in sample"
    shared = in_sample.shared(fitted_on, ids)
    return f"in sample: {len(shared)} of {len(ids)} images chose them, which is optimistic" if shared else ""


def read_points(folder: str | Path) -> dict[str, OperatingPoints]:
    """Column -> operating points and calibration of a training.

    A folder of an earlier version holds thresholds of probabilities that are not calibrated, and a
    temperature that was never applied.

    Raises:
        InputError: the folder has none, or they are damaged.
    """
    path = Path(folder) / POINTS_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the folder of a finished train_classifier.py")
    return points_of(read_json(path), path)


def points_of(data: Any, path: str | Path) -> dict[str, OperatingPoints]:
    """What :func:`read_points` reads, from what the file holds.

    Args:
        data: its JSON.
        path: named in errors.

    Raises:
        InputError: they are damaged.
    """
    try:
        sources, calibrations = data["chosen_on"], data.get("calibration", {})
        return {column: OperatingPoints(_calibration(calibrations.get(column, {})),
                                        {name: _number(name, value) for name, value in values.items()
                                         if name != "temperature"},
                                        str(sources.get(column, "")))
                for column, values in data["points"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: not what vindr-det train-classifier writes ({error}); train again with "
                         "--resume") from error


def _calibration(values: Mapping[str, Any]) -> Calibration:
    calibration = Calibration(**values)
    if calibration.method not in METHODS:
        raise ValueError(f"method {calibration.method!r}, expected {', '.join(METHODS)}")
    if _number("slope", calibration.slope) <= 0:
        raise ValueError(f"slope {calibration.slope}, expected more than 0")
    _number("intercept", calibration.intercept)
    return calibration


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} {value!r}, expected a number")
    return float(value)


def number_of_point(point: str) -> float | None:
    """A threshold that stands in the place of an operating point's name; None for a name.

    Raises:
        InputError: the number is not of 0 to 1.
    """
    try:
        threshold = float(point)
    except ValueError:
        return None
    if not 0 <= threshold <= 1:
        raise InputError(f"--point {point}: expected a number from 0 to 1, or the name of an operating point")
    return threshold
