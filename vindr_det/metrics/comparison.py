"""Is one classifier better than another on the same images? Paired differences of AUC and AP.

DeLong's test (DeLong et al., Biometrics 1988, by the ranks of Sun and Xu, IEEE Signal Processing Letters
2014) assumes independent images. Where patients have several, the bootstrap that draws whole patients is
valid (Rutter, Academic Radiology 2000), so both are reported.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike
from scipy.stats import norm, rankdata

from vindr_det.metrics.bootstrap import Bootstrap, Estimate, Floats, interval
from vindr_det.metrics.classification import areas

_QUANTILE = float(norm.ppf(0.975))


@dataclass(frozen=True)
class DeLong:
    """The difference of two AUCs on the same images.

    Attributes:
        difference: first less second, with its 95 % interval.
        p: two-sided p-value of no difference.
    """

    difference: Estimate
    p: float


def delong(truth: ArrayLike, first: ArrayLike, second: ArrayLike) -> DeLong:
    """DeLong's test of two scores for each of N images.

    Args:
        truth: (N,) 0 or 1; with a single positive or negative the interval and p are NaN.
        first: (N,) scores of one classifier.
        second: (N,) scores of the other.
    """
    labels = np.asarray(truth, dtype=bool)
    parts = [_placements(labels, np.asarray(scores, dtype=float)) for scores in (first, second)]
    positives, negatives = parts[0][0] - parts[1][0], parts[0][1] - parts[1][1]
    value = float(positives.mean())
    if min(len(positives), len(negatives)) < 2:
        return DeLong(Estimate(value, np.nan, np.nan), np.nan)
    deviation = float(np.sqrt(sum(side.var(ddof=1) / len(side) for side in (positives, negatives))))
    p = 2 * float(norm.sf(abs(value) / deviation)) if deviation > 0 else float(value == 0)
    return DeLong(Estimate(value, value - _QUANTILE * deviation, value + _QUANTILE * deviation), p)


def _placements(labels: np.ndarray, scores: Floats) -> tuple[Floats, Floats]:
    """Per positive the share of negatives below it, per negative the share of positives above it."""
    own, others, every = scores[labels], scores[~labels], rankdata(scores)
    return ((every[labels] - rankdata(own)) / len(others),
            1 - (every[~labels] - rankdata(others)) / len(own))


def paired(
    truth: ArrayLike, first: ArrayLike, second: ArrayLike, bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """``auc`` and ``ap`` of the first less those of the second, both on the same replicates."""
    whole, drawn = ([areas(truth, scores, part) for scores in (first, second)]
                    for part in (bootstrap.whole(), bootstrap))
    return {name: Estimate(float(whole[0][name][0] - whole[1][name][0]),
                           *interval(drawn[0][name] - drawn[1][name])) for name in whole[0]}
