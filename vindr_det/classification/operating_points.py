"""Operating points and calibrations: chosen on images that a model has not seen, counted on others again.

Rates on the images that chose a threshold are too good. Here each part's images are counted at the threshold
that the other parts choose; what is stored is chosen on all parts.
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
#: Images of either side from which on a calibration is fitted.
MIN_CALIBRATED = 20
_PARTS = 5


@dataclass(frozen=True)
class Targets:
    """Which operating points are wanted beside Youden's and .5."""

    sensitivity: Sequence[float] = (0.95,)
    specificity: Sequence[float] = (0.95,)


@dataclass(frozen=True)
class Chosen:
    """What is stored of one label.

    Attributes:
        calibration: of its probability.
        thresholds: operating point -> threshold of the calibrated probability.
        source: what they were chosen on.
    """

    calibration: Calibration
    thresholds: Mapping[str, float]
    source: str = ""


@dataclass(frozen=True)
class Label:
    """The images of a table for which one label is known.

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

    def calibration(self) -> Calibration:
        """What pays on parts that it was not fitted on; none where too few images could tell."""
        if min(int(self.truth.sum()), int((~self.truth).sum())) < MIN_CALIBRATED:
            return Calibration()
        return choose_calibration(self.truth, self.p, self.parts)


def labels_of(frame: pd.DataFrame, names: Sequence[str], bootstrap: Bootstrap) -> list[Label]:
    """Of a table's labels those that can be measured, without images for which they are not known.

    Args:
        frame: with a column a label (NaN: not known) and its ``p_...``.
        names: the labels.
        bootstrap: of all images of the table.
    """
    found, parts = [], parts_of(frame)
    for name in names:
        known = frame[name].notna().to_numpy()
        truth = frame[name].to_numpy(float)[known] >= 0.5
        if measurable(truth):
            found.append(Label(column_of(name), frame["image_id"].to_numpy(str)[known], truth,
                               frame[column_of(name)].to_numpy(float)[known], parts[known],
                               replace(bootstrap, group_of=bootstrap.group_of[known])))
    return found


def parts_of(frame: pd.DataFrame) -> NDArray[np.int64]:
    """(N,) the folds, or where there is one alone five random parts; a patient is in one of them."""
    if "fold" in frame and frame["fold"].nunique() > 1:
        return frame["fold"].to_numpy(np.int64)
    return parts_of_groups(frame["patient" if "patient" in frame else "image_id"].to_numpy(str))


def parts_of_groups(groups: NDArray[np.str_]) -> NDArray[np.int64]:
    """(N,) five random parts, always the same; images of one patient are in one of them."""
    _, patient = np.unique(groups, return_inverse=True)
    order = np.random.default_rng(0).permutation(int(patient.max(initial=-1)) + 1)
    return order[patient.reshape(-1)] % _PARTS


def choose(labels: Sequence[Label], targets: Targets, source: str) -> dict[str, Chosen]:
    """Column -> what is stored of it."""
    found = {}
    for label in labels:
        calibration = label.calibration()
        found[label.column] = Chosen(calibration, thresholds(label.truth, calibration(label.p), targets), source)
    return found


def thresholds(truth: NDArray, p: NDArray, targets: Targets) -> dict[str, float]:
    """Operating point -> threshold; ``threshold_0.5`` is always there."""
    return {"threshold_0.5": 0.5} | operating_points(truth, p, targets.sensitivity, targets.specificity)


def crossed_rates(labels: Sequence[Label], chosen: Mapping[str, Chosen], targets: Targets) -> dict[str, Any]:
    """``<column>/<point>`` -> counts and rates of each part at what the other parts choose.

    Labels of which the rest without a part is too little are left out.
    """
    result: dict[str, Any] = {}
    for label in labels:
        margins = _margins(label, METHODS[chosen[label.column].calibration.method], targets)
        for point, margin in margins.items():
            result[f"{label.column}/{point}"] = {"threshold": chosen[label.column].thresholds[point]} | _counted(
                label, margin, 0.0)
    return result


def _margins(one: Label, fit: Any, targets: Targets) -> dict[str, NDArray[np.float64]]:
    """Operating point -> (N,) how far each image is above the threshold that others choose."""
    margins: dict[str, NDArray[np.float64]] = {}
    for part in np.unique(one.parts):
        own, others = one.parts == part, one.parts != part
        if not measurable(one.truth[others]):
            return {}
        calibration = fit(one.truth[others], one.p[others])
        found = thresholds(one.truth[others], calibration(one.p[others]), targets)
        for point, threshold in found.items():
            margins.setdefault(point, np.zeros(len(one.p)))[own] = calibration(one.p[own]) - threshold
    return margins


def applied(labels: Sequence[Label], chosen: Mapping[str, Chosen]) -> dict[str, Any]:
    """``<column>/<point>`` -> counts and rates at given points; the truth is read for counting alone."""
    return {f"{label.column}/{point}": {"threshold": threshold} | _counted(
                label, chosen[label.column].calibration(label.p), threshold)
            for label in labels if label.column in chosen
            for point, threshold in chosen[label.column].thresholds.items()}


def _counted(one: Label, scores: NDArray[np.float64], threshold: float) -> dict[str, Any]:
    values: dict[str, Any] = dict(vars(Confusion.at(one.truth, scores, threshold)))
    for rate, estimate in rates(one.truth, scores, threshold, one.bootstrap).items():
        values |= {rate: estimate.value, f"{rate}/ci95": [estimate.low, estimate.high]}
    return values


def calibrations(labels: Sequence[Label], chosen: Mapping[str, Chosen], crossed: bool) -> dict[str, Any]:
    """Column -> method, calibration error and cross entropy before and after.

    Args:
        labels: the images.
        chosen: what is stored.
        crossed: whether it was chosen on these images; each part is then calibrated by the others.
    """
    result = {}
    for label in labels:
        if label.column in chosen:
            calibration = chosen[label.column].calibration
            after = calibrated(label, calibration, crossed)
            result[label.column] = asdict(calibration) | {
                "ece": calibration_error(label.truth, label.p),
                "ece_calibrated": calibration_error(label.truth, after),
                "nll": cross_entropy(label.truth, label.p), "nll_calibrated": cross_entropy(label.truth, after)}
    return result


def calibrated(one: Label, calibration: Calibration, crossed: bool) -> NDArray[np.float64]:
    """(N,) probabilities; ``crossed`` as for :func:`calibrations`."""
    return (cross_fitted(one.truth, one.p, one.parts, METHODS[calibration.method]) if crossed
            else calibration(one.p))


def save_points(
    folder: Path, chosen: Mapping[str, Chosen], fitted: Mapping[str, Sequence[str]] | None = None
) -> None:
    """``operating_points.json``: thresholds, calibrations and what they were chosen on.

    Args:
        folder: of the file.
        chosen: column -> what is stored of it.
        fitted: source of ``chosen`` -> ids of its images.
    """
    used = {one.source for one in chosen.values()}
    write_json(folder / POINTS_FILE, {
        "points": {column: dict(one.thresholds) for column, one in chosen.items()},
        "calibration": {column: asdict(one.calibration) for column, one in chosen.items()},
        "chosen_on": {column: one.source for column, one in chosen.items()},
        "images_of": {source: in_sample.as_json(ids) for source, ids in (fitted or {}).items()
                      if source in used}})


def seen_by(folder: str | Path, ids: Sequence[str]) -> str:
    """What must be said of points and calibrations that are applied to these images; empty if nothing."""
    path = Path(folder) / POINTS_FILE
    parts = read_json(path).get("images_of", {})
    try:
        fitted = [name for part in parts.values() for name in in_sample.read_images(path, part)]
    except (InputError, AttributeError):
        fitted = []
    if not fitted:
        return "the images that chose them are not known, so this may be in sample"
    found = in_sample.shared(fitted, ids)
    return f"in sample: {len(found)} of {len(ids)} images chose them, which flatters" if found else ""


def _calibration(values: Mapping[str, Any]) -> Calibration:
    found = Calibration(**values)
    if found.method not in METHODS:
        raise ValueError(f"method {found.method!r}, expected {', '.join(METHODS)}")
    if _number("slope", found.slope) <= 0:
        raise ValueError(f"slope {found.slope}, expected more than 0")
    _number("intercept", found.intercept)
    return found


def _number(name: str, value: Any) -> float:
    if isinstance(value, bool) or not isinstance(value, int | float) or not math.isfinite(value):
        raise ValueError(f"{name} {value!r}, expected a number")
    return float(value)


def read_points(folder: str | Path) -> dict[str, Chosen]:
    """Column -> operating points and calibration of a training.

    A folder of an earlier version holds thresholds of probabilities that are not calibrated, and a
    temperature that was never applied.

    Raises:
        InputError: the folder has none.
    """
    path = Path(folder) / POINTS_FILE
    if not path.is_file():
        raise InputError(f"{path}: no such file; expected the folder of a finished train_classifier.py")
    data = read_json(path)
    try:
        sources, fitted = data["chosen_on"], data.get("calibration", {})
        return {column: Chosen(_calibration(fitted.get(column, {})),
                               {name: _number(name, value) for name, value in values.items()
                                if name != "temperature"},
                               str(sources.get(column, "")))
                for column, values in data["points"].items()}
    except (KeyError, TypeError, ValueError, AttributeError, OverflowError) as error:
        raise InputError(f"{path}: not what train_classifier.py writes ({error}); train anew with --resume"
                         ) from error
