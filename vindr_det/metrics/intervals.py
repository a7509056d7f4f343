"""Metrics with confidence intervals, and differences of two.

Shapes: R replicates, K classes.
"""

from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray

from vindr_det.metrics.bootstrap import SHARE, Estimate, Floats, interval
from vindr_det.metrics.matching import mean_over_classes

#: The normal quantile of 95 %.
_Z = 1.959964
#: Bias falls as the number of images to the power of -2/3: measured for AP at 200 to 3,000 images, between
#: 1, the rate of a smooth statistic, and 1/2, that of a maximum.
_RATE = 2 / 3
#: The bias's standard deviation, as a share of it, if all rates from 1/2 to 1 were equally likely.
_DOUBT = 0.25
#: Binomial trials that one image is worth at most. APs of classes come to 1 to 4, AUCs to 2 to 3.
_MOST = 4
#: Images with a class that an interval of its AP needs.
MIN_COUNT = 10


@dataclass(frozen=True)
class Replicated:
    """A metric in [0, 1] of K classes on all images and on bootstrap replicates of them.

    Attributes:
        values: (K,) on the images as they are; NaN without ground truth.
        drawn: (R, K) on replicates; NaN where a replicate has no ground truth.
        images: (K,) images (groups of images) with ground truth.
    """

    values: Floats
    drawn: Floats
    images: NDArray[np.int64]

    @property
    def value(self) -> float:
        """Mean over the classes with ground truth; NaN without any."""
        return float(mean_over_classes(self.values[None])[0])

    @property
    def means(self) -> Floats:
        """(R,) the same of the replicates."""
        return mean_over_classes(self.drawn)

    def of_class(self, at: int) -> "Replicated":
        """One class alone."""
        return Replicated(self.values[[at]], self.drawn[:, [at]], self.images[[at]])

    def estimate(self) -> Estimate:
        """The mean over classes with its interval; NaN without ground truth.

        The interval is for the mean over the same classes in the population: Wilson's (1927) around the
        value less its bias, with the number of trials that gives the variance over replicates (as for complex
        samples, Franco et al., J. Surv. Stat. Methodol. 2019). It lies in [0, 1] and has a width even where
        all replicates agree. A class shows nothing of its variance in replicates that have none or all of its
        images; for these it counts as one binomial trial per image.
        """
        known = ~np.isnan(self.values)
        if not known.any():
            return Estimate(np.nan, np.nan, np.nan, np.nan)
        drawn, images = self.drawn[:, known], self.images[known]
        absent = np.isnan(drawn)
        center = np.where(absent.all(axis=0), self.values[known], _mean(drawn))
        bias = float((center - self.values[known]).mean() / ((1 / SHARE)**_RATE - 1))
        value = float(np.clip(self.value - bias, 0, 1))
        seen = np.where(absent, 0, drawn - center).mean(axis=1).var()
        unseen = np.minimum(2 * absent.mean(axis=0), 1) / images
        variance = seen + value * (1 - value) * unseen.mean() / len(images) + (_DOUBT * bias) ** 2
        return Estimate(self.value, *_wilson(value, variance, len(images) / (1 / images).mean()), bias)


def _mean(drawn: Floats) -> Floats:
    """(K,) over replicates."""
    return mean_over_classes(drawn.T)


def _wilson(value: float, variance: float, images: float) -> tuple[float, float]:
    """Wilson's interval with the number of trials that has this variance.

    Args:
        value: in [0, 1].
        variance: of the value; where it is 0 each image counts as one trial.
        images: that the value is measured on.
    """
    spread = value * (1 - value)
    # Rounding may leave some 1e-30 of variance.
    trials = min(spread / variance, _MOST * images) if variance > 1e-15 and spread > 0 else images
    middle = value + _Z**2 / 2 / trials
    half = _Z * np.sqrt(spread / trials + _Z**2 / 4 / trials**2)
    scale = 1 + _Z**2 / trials
    return float(np.clip((middle - half) / scale, 0, 1)), float(np.clip((middle + half) / scale, 0, 1))


@dataclass(frozen=True)
class Difference:
    """One metric of two prediction files on the same images.

    Attributes:
        a: value of the first file.
        b: of the second.
        gain: a - b with its interval; each replicate takes the same images from both.
        wins: share of replicates in which a is better; equal ones count half.
    """

    a: float
    b: float
    gain: Estimate
    wins: float

    @classmethod
    def of(cls, a: Replicated, b: Replicated) -> "Difference":
        """Of two files on the same replicates, without those in which nothing can be measured."""
        gain = a.means - b.means
        gain = gain[~np.isnan(gain)]
        wins = float((gain > 0).mean() + (gain == 0).mean() / 2)
        return cls(a.value, b.value, Estimate(a.value - b.value, *interval(gain)), wins)
