"""Random halves of the images, from which intervals come (:mod:`vindr_det.metrics.intervals`).

A replicate is a half of the images, drawn without replacement, followed by the other half. A statistic's
variance over halves is its variance over samples, as that of bootstrap replicates is (Shao & Wu, "A general
theory for jackknife variance estimation", Ann. Stat. 1989). AP is why it is halves: it is biased upward in
small samples, copies of an image agree with themselves, and so the percentiles of a bootstrap with
replacement repeat the bias and add their own. What a half has more than the whole is an estimate of what the
whole has more than all images there are. ``benchmarks/interval_coverage.py`` measures how often intervals hold.

Images that belong together, such as a patient's, are drawn together.

Shapes: N images, G groups of them, R replicates, K classes.
"""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vindr_det.structures.records import Record

Floats = NDArray[np.float64]

#: Values that are handed out at once: 32 MB.
_PART = 4_000_000
_LEVEL = 0.95


@dataclass(frozen=True)
class Bootstrap:
    """R replicates of N images in G groups.

    Attributes:
        drawn: (R, G) how often each group counts.
        group_of: (N,) the group of each image.
    """

    drawn: NDArray[np.uint8]
    group_of: NDArray[np.intp]

    @classmethod
    def of(cls, groups: ArrayLike, count: int = 1000, seed: int = 0) -> "Bootstrap":
        """Random halves of the groups, every second one the rest of the one before.

        Args:
            groups: (N,) which images are drawn together; all different draws single images.
            count: replicates.
            seed: same seed, same replicates.
        """
        _, group_of = np.unique(np.asarray(groups), return_inverse=True)
        total, rng = int(group_of.max()) + 1, np.random.default_rng(seed)
        drawn = np.zeros((count, total), np.uint8)
        for at in range(0, count, 2):
            drawn[at, rng.permutation(total)[:total // 2]] = 1
            drawn[at + 1:at + 2] = 1 - drawn[at]
        return cls(drawn, group_of.reshape(-1))

    def whole(self) -> "Bootstrap":
        """One replicate, which is all images."""
        return Bootstrap(np.ones((1, self.drawn.shape[1]), np.uint8), self.group_of)

    def split(self, count: int) -> "list[Bootstrap]":
        """The replicates in at most so many equal parts."""
        rows = np.array_split(self.drawn, min(count, len(self.drawn)))
        return [Bootstrap(drawn, self.group_of) for drawn in rows]

    def parts(self, width: int = 0) -> Iterator[Floats]:
        """(r, N) weights of the images, a few replicates at a time.

        Args:
            width: values per replicate that the caller will make of them, where these are more than N.
        """
        step = max(1, _PART // max(width, len(self.group_of)))
        for start in range(0, len(self.drawn), step):
            yield self.drawn[start:start + step, self.group_of].astype(float)

    def groups_with(self, there: ArrayLike) -> NDArray[np.int64]:
        """(K,) groups of which an image has the class.

        Args:
            there: (N, K) whether an image has it.
        """
        return np.array([len(np.unique(self.group_of[column])) for column in np.asarray(there, bool).T])


def interval(values: Floats | Sequence[float]) -> tuple[float, float]:
    """95 % percentile interval of replicates of a difference, whose biases cancel; NaN do not count."""
    low, high = np.nanquantile(np.asarray(values, dtype=float), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Estimate:
    """A value in [0, 1] or a difference, with its 95 % interval.

    Attributes:
        value: on the images as they are.
        low: lower end.
        high: upper end.
        bias: what the value is probably too high by, because there are no more images.
    """

    value: float
    low: float
    high: float
    bias: float = 0.0

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def image_bootstrap(records: Sequence[Record], count: int, seed: int = 0) -> Bootstrap:
    """Replicates of single images: VinBigData does not tell which are of one patient."""
    return Bootstrap.of(np.arange(len(records)), count, seed)
