"""Bootstrap replicates of the images, from which :mod:`vindr_det.metrics.intervals` takes all intervals.

A replicate is a half of the images, drawn without replacement; the next replicate is the other half. A
statistic's variance over halves estimates its variance over samples, as that over bootstrap replicates does
(Shao & Wu, "A general theory for jackknife variance estimation", Ann. Stat. 1989). The reason for halves is
AP, which is biased upward in small samples: in a bootstrap with replacement copies of an image agree with
each other, so its percentiles repeat the bias and add their own. By how much a half exceeds the whole
estimates by how much the whole exceeds the population. ``benchmarks/interval_coverage.py`` measures how often
intervals cover the true value.

Images that belong together, such as a patient's, are drawn together.

Shapes: N images, G groups of them, R replicates, K classes.
"""

from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vindr_det.exceptions import InputError
from vindr_det.structures.records import Record

Floats = NDArray[np.float64]

#: Part of the groups in a replicate. The estimate of the bias (:mod:`.intervals`) derives from it; draws of
#: another kind, such as with replacement, need another estimate there.
SHARE = 0.5
#: Weights per part of the replicates: 2 MB, which caches hold, whatever the number of images.
_PART = 250_000
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
        """Random halves of the groups, every second replicate the other half of the one before.

        Args:
            groups: (N,) the group of each image, such as its patient; images of one group are drawn together.
            count: R, the number of replicates.
            seed: the same seed gives the same replicates.
        """
        _, group_of = np.unique(np.asarray(groups), return_inverse=True)
        total, rng = int(group_of.max()) + 1, np.random.default_rng(seed)
        drawn = np.zeros((count, total), np.uint8)
        for at in range(0, count, 2):
            drawn[at, rng.permutation(total)[:int(total * SHARE)]] = 1
            drawn[at + 1:at + 2] = 1 - drawn[at]
        return cls(drawn, group_of.reshape(-1))

    def whole(self) -> "Bootstrap":
        """A single replicate: all images."""
        return Bootstrap(np.ones((1, self.drawn.shape[1]), np.uint8), self.group_of)

    def split(self, count: int) -> "list[Bootstrap]":
        """The replicates in at most ``count`` equal parts."""
        rows = np.array_split(self.drawn, min(count, len(self.drawn)))
        return [Bootstrap(drawn, self.group_of) for drawn in rows]

    def parts(self) -> Iterator[Floats]:
        """Weights (r, N) of the images, a few replicates at a time: metrics read them in any order."""
        step = max(1, _PART // len(self.group_of))
        for start in range(0, len(self.drawn), step):
            yield self.drawn[start:start + step, self.group_of].astype(float)

    def apply(self, metric: Callable[[Floats], Floats]) -> Floats:
        """(R, ...) values of a metric on all replicates.

        Args:
            metric: weights (r, N) of the images -> values (r, ...).
        """
        return np.concatenate([metric(part) for part in self.parts()])

    def groups_with(self, there: ArrayLike) -> NDArray[np.int64]:
        """(K,) number of groups with an image that has the class.

        Args:
            there: (N, K) whether an image has it.
        """
        return np.array([len(np.unique(self.group_of[column])) for column in np.asarray(there, bool).T])


def counts_down_to(weights: Floats, image: NDArray[np.int64], at: NDArray[np.int64]) -> Floats:
    """(R, P) how many detections there are down to each of these, in every replicate.

    Args:
        weights: (R, N) how often each image counts.
        image: (D,) the image of each detection, best first.
        at: (P,) rows of detections, rising.
    """
    from scipy.sparse import csr_array

    ends = np.concatenate([[0], at + 1])
    between = csr_array((np.ones(ends[-1]), image[:ends[-1]], ends), shape=(len(at), weights.shape[1]))
    return np.cumsum((between @ weights.T).T, axis=1)


def interval(values: Floats | Sequence[float]) -> tuple[float, float]:
    """95 % percentile interval of replicates, for differences, whose biases cancel; NaN are left out."""
    low, high = np.nanquantile(np.asarray(values, dtype=float), [(1 - _LEVEL) / 2, (1 + _LEVEL) / 2])
    return float(low), float(high)


@dataclass(frozen=True)
class Estimate:
    """A value in [0, 1] or a difference, with its 95 % confidence interval.

    Attributes:
        value: on the images as they are.
        low: lower end.
        high: upper end.
        bias: how much too high the value probably is because the images are few.
    """

    value: float
    low: float
    high: float
    bias: float = 0.0

    def __str__(self) -> str:
        return f"{self.value:.4f} [{self.low:.4f}, {self.high:.4f}]"


def image_bootstrap(
    records: Sequence[Record], count: int, seed: int = 0, patients: Mapping[str, str] | None = None
) -> Bootstrap:
    """Replicates of images, sorted by id; those of one patient are drawn together.

    Args:
        records: the images.
        count: number of replicates.
        seed: the same seed gives the same replicates.
        patients: image id -> patient; None draws single images, since VinBigData does not publish which
            images are of one patient.

    Raises:
        InputError: an image has no patient.
    """
    if not patients:
        return Bootstrap.of(np.arange(len(records)), count, seed)
    ids = sorted(record.image_id for record in records)
    lacking = [image_id for image_id in ids if image_id not in patients]
    if lacking:
        raise InputError(f"image {lacking[0]} has no patient ({len(lacking)} of {len(ids)} have none), "
                         "expected one for each annotated image")
    return Bootstrap.of([patients[image_id] for image_id in ids], count, seed)
