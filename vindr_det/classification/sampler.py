"""The order in which labeled images are trained on: shuffled or label-balanced, the same after a resume.

To add a sampler, add its name to SAMPLERS in config.py and its weights to :data:`_WEIGHTS`.
"""

from collections.abc import Callable, Iterator
from dataclasses import dataclass

import numpy as np
from numpy.typing import NDArray
from torch.utils.data import Sampler

from vindr_det.training.sampler import SampleKey, seed_of


@dataclass(frozen=True)
class Shard:
    """Which part of each step's images a process takes.

    Attributes:
        rank: of this process, from 0.
        world_size: processes that train one model together.
    """

    rank: int = 0
    world_size: int = 1


SINGLE_PROCESS = Shard()


def balanced_weights(targets: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) sampling probabilities: an image weighs as its rarest label, or as having none."""
    present = np.column_stack([targets >= 0.5, ~(targets >= 0.5).any(axis=1)])
    rarity = 1 / np.maximum(present.sum(axis=0), 1)
    weights = (present * rarity).max(axis=1)
    return weights / weights.sum()


#: SOLVER.SAMPLER -> (N, K) targets to (N,) probabilities of drawing with replacement; None shuffles.
_WEIGHTS: dict[str, Callable[[NDArray[np.float32]], NDArray[np.float64]] | None] = {
    "shuffle": None, "weighted": balanced_weights}


class EpochSampler(Sampler[SampleKey]):
    """A new order in each epoch, a function of the seed and the epoch alone.

    Several processes take turns, so that each step has the same images as with a single process.

    Args:
        targets: (N, K) 0..1 of the images.
        seed: of all epochs' orders.
        name: of SOLVER.SAMPLER.
        shard: of this process; images that cannot be shared evenly are skipped in this epoch.
    """

    def __init__(
        self, targets: NDArray[np.float32], seed: int, name: str = "shuffle", shard: Shard = SINGLE_PROCESS
    ) -> None:
        self.count, self.seed, self.shard, self.epoch = len(targets), seed, shard, 0
        weigh = _WEIGHTS[name]
        self.weights = None if weigh is None else weigh(targets)

    def set_epoch(self, epoch: int) -> None:
        """Called by Lightning before each epoch."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.shard.world_size

    def __iter__(self) -> Iterator[SampleKey]:
        rng = np.random.default_rng([self.seed, self.epoch])
        rows = (rng.permutation(self.count) if self.weights is None
                else rng.choice(self.count, self.count, p=self.weights))
        step = self.shard.world_size
        for place in range(self.shard.rank, len(self) * step, step):
            yield SampleKey(int(rows[place]), seed_of(self.seed, self.epoch * self.count + place))
