"""Calibration of probabilities: temperature and Platt scaling, reliability, calibration error.

Temperature scaling (Guo et al., 2017) undoes overconfidence. It cannot undo a loss that weighs positives more
than their prevalence, which shifts all logits by a constant; Platt scaling (1999) has an intercept for that.
"""

from collections.abc import Callable
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize, minimize_scalar

_EDGE = 1e-6
#: Bounds of a slope's logarithm: it stays positive, so that the order of images does.
_SLOPES = (-4.0, 4.0)


def logit(p: ArrayLike) -> NDArray[np.float64]:
    """Log odds of probabilities, which are clipped just inside 0 and 1."""
    kept = np.clip(np.asarray(p, dtype=float), _EDGE, 1 - _EDGE)
    return np.log(kept) - np.log1p(-kept)


@dataclass(frozen=True)
class Calibration:
    """Logits times a slope plus an intercept; it keeps the order of images.

    Attributes:
        method: ``none``, ``temperature`` (no intercept) or ``platt``.
        slope: above 0.
        intercept: added to the logit.
    """

    method: str = "none"
    slope: float = 1.0
    intercept: float = 0.0

    def __call__(self, p: ArrayLike) -> NDArray[np.float64]:
        """Calibrated probabilities."""
        if self.method == "none":
            return np.asarray(p, dtype=float)
        return 1 / (1 + np.exp(-self.slope * logit(p) - self.intercept))


def cross_entropy(truth: ArrayLike, p: ArrayLike) -> float:
    """Mean negative log likelihood of labels 0..1."""
    return _logit_entropy(np.asarray(truth, dtype=float), logit(p))


def _logit_entropy(labels: NDArray, logits: NDArray) -> float:
    """Cross entropy of logits."""
    return float(np.mean(np.logaddexp(0, logits) - labels * logits))


def fit_temperature(truth: ArrayLike, p: ArrayLike) -> float:
    """The temperature with the least cross entropy; above 1 where a model was overconfident."""
    labels, logits = np.asarray(truth, dtype=float), logit(p)
    best = minimize_scalar(lambda log_t: _logit_entropy(labels, logits / np.exp(log_t)), bounds=_SLOPES,
                           method="bounded")
    return float(np.exp(best.x))


def fit_platt(truth: ArrayLike, p: ArrayLike) -> Calibration:
    """Slope and intercept with the least cross entropy.

    Labels are smoothed as if one more image had been seen on either side (Platt, 1999), so that the slope
    stays finite where the scores separate the classes.
    """
    labels, logits = np.asarray(truth, dtype=bool), logit(p)
    positives = int(labels.sum())
    soft = np.where(labels, (positives + 1) / (positives + 2), 1 / (len(labels) - positives + 2))

    def entropy(parameters: NDArray[np.float64]) -> tuple[float, NDArray[np.float64]]:
        slope = np.exp(parameters[0])
        scaled = slope * logits + parameters[1]
        error = 1 / (1 + np.exp(-scaled)) - soft
        return _logit_entropy(soft, scaled), np.array([np.mean(error * logits) * slope, error.mean()])

    log_slope, intercept = minimize(entropy, np.zeros(2), jac=True, bounds=[_SLOPES, (-30, 30)]).x
    return Calibration("platt", float(np.exp(log_slope)), float(intercept))


def _temperature(truth: ArrayLike, p: ArrayLike) -> Calibration:
    return Calibration("temperature", 1 / fit_temperature(truth, p))


#: Name -> fit(truth, p), from the simplest to the richest; of equals the first is chosen.
METHODS: dict[str, Callable[[ArrayLike, ArrayLike], Calibration]] = {
    "none": lambda truth, p: Calibration(), "temperature": _temperature, "platt": fit_platt}


def choose_calibration(truth: ArrayLike, p: ArrayLike, parts: ArrayLike) -> Calibration:
    """The method with the least cross-validated cross entropy, fitted on all images.

    Args:
        truth: (N,) 0 or 1.
        p: (N,) probabilities.
        parts: (N,) folds of the cross-validation; images of one patient are in one part.
    """
    truth, p, parts = (np.asarray(values) for values in (truth, p, parts))
    costs = {name: cross_entropy(truth, cross_fitted(truth, p, parts, fit)) for name, fit in METHODS.items()}
    return METHODS[min(costs, key=lambda name: costs[name])](truth, p)


def cross_fitted(
    truth: NDArray, p: NDArray, parts: NDArray, fit: Callable[[ArrayLike, ArrayLike], Calibration]
) -> NDArray[np.float64]:
    """(N,) probabilities, each part calibrated by a fit on the others, if these have both classes."""
    result = np.array(p, dtype=float)
    for part in np.unique(parts):
        own, others = parts == part, parts != part
        if 0 < truth[others].sum() < others.sum():
            result[own] = fit(truth[others], p[others])(p[own])
    return result


def reliability(truth: ArrayLike, p: ArrayLike, bins: int = 15) -> NDArray[np.float64]:
    """(bins, 3) per bin of equal width: mean probability, share of positives, images; NaN if empty."""
    labels, values = np.asarray(truth, dtype=float), np.asarray(p, dtype=float)
    where = np.minimum((values * bins).astype(int), bins - 1)
    count = np.bincount(where, minlength=bins).astype(float)
    with np.errstate(invalid="ignore"):
        return np.column_stack([np.bincount(where, values, bins) / count,
                                np.bincount(where, labels, bins) / count, count])


def calibration_error(truth: ArrayLike, p: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: mean distance of probability and share of positives, over images."""
    predicted, observed, count = reliability(truth, p, bins).T
    return float(np.nansum(np.abs(predicted - observed) * count) / count.sum())
