"""Resamples of images, and the intervals that come from them (Efron & Tibshirani, 1993).

Images that belong together, such as a patient's, are drawn together. What is kept is how often each group
was drawn: small integers, once for all labels and measures.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

Floats = NDArray[np.float64]

#: Values that are handed out at once: 32 MB.
_PART = 4_000_000
_LEVEL = 0.95


@dataclass(frozen=True)
class Bootstrap:
    """R resamples of N images in G groups.

    Attributes:
        drawn: (R, G) how often each group was drawn.
        group_of: (N,) the group of each image.
    """

    drawn: NDArray[np.uint16]
    group_of: NDArray[np.intp]

    @classmethod
    def of(cls, groups: ArrayLike, count: int = 1000, seed: int = 0) -> "Bootstrap":
        """Draw whole groups with replacement, as many as there are.

        Args:
            groups: (N,) which images are drawn together; all different draws single images.
            count: resamples.
            seed: same seed, same resamples.
        """
        _, group_of = np.unique(np.asarray(groups), return_inverse=True)
        total, rng = int(group_of.max()) + 1, np.random.default_rng(seed)
        drawn = np.empty((count, total), np.uint16)
        for row in drawn:
            row[:] = np.bincount(rng.integers(0, total, total), minlength=total)
        return cls(drawn, group_of.reshape(-1))

    def parts(self, width: int = 0) -> Iterator[Floats]:
        """(r, N) weights of the images, a few resamples at a time.

        Args:
            width: values a resample that the caller will make of them, where these are more than N.
        """
        step = max(1, _PART // max(width, len(self.group_of)))
        for start in range(0, len(self.drawn), step):
            yield self.drawn[start:start + step, self.group_of].astype(float)


def interval(values: Floats | Sequence[float]) -> tuple[float, float]:
    """95 % percentile interval of resampled values, those that are not NaN."""
    low, high = np.nanquantile(np.asarray(values, dtype=float), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Measured:
    """A value with its 95 % bootstrap interval."""

    value: float
    low: float
    high: float

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"
