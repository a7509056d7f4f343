"""Are probabilities what they say? Temperature scaling and reliability (Guo et al., 2017)."""

import numpy as np
from numpy.typing import ArrayLike, NDArray
from scipy.optimize import minimize_scalar

_EDGE = 1e-6


def logit(p: ArrayLike) -> NDArray[np.float64]:
    """Of probabilities kept off 0 and 1."""
    kept = np.clip(np.asarray(p, dtype=float), _EDGE, 1 - _EDGE)
    return np.log(kept) - np.log1p(-kept)


def warmed(p: ArrayLike, temperature: float) -> NDArray[np.float64]:
    """Probabilities whose logits are divided by a temperature; their order stays."""
    return 1 / (1 + np.exp(-logit(p) / temperature))


def fit_temperature(truth: ArrayLike, p: ArrayLike) -> float:
    """The temperature with the least cross entropy; above 1 where a model was too sure of itself."""
    labels, logits = np.asarray(truth, dtype=float), logit(p)

    def entropy(log_t: float) -> float:
        scaled = logits / np.exp(log_t)
        return float(np.mean(np.logaddexp(0, scaled) - labels * scaled))

    return float(np.exp(minimize_scalar(entropy, bounds=(-4, 4), method="bounded").x))


def reliability(truth: ArrayLike, p: ArrayLike, bins: int = 15) -> NDArray[np.float64]:
    """(bins, 3) in bins of equal width: mean probability, share of positives, images; NaN where empty."""
    labels, values = np.asarray(truth, dtype=float), np.asarray(p, dtype=float)
    where = np.minimum((values * bins).astype(int), bins - 1)
    count = np.bincount(where, minlength=bins).astype(float)
    with np.errstate(invalid="ignore"):
        return np.column_stack([np.bincount(where, values, bins) / count,
                                np.bincount(where, labels, bins) / count, count])


def calibration_error(truth: ArrayLike, p: ArrayLike, bins: int = 15) -> float:
    """Expected calibration error: distance of the two means, over images."""
    said, happened, count = reliability(truth, p, bins).T
    return float(np.nansum(np.abs(said - happened) * count) / count.sum())
