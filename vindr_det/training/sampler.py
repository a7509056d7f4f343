"""In which order images are trained on, and with which random numbers: a function of the seed alone.

What happens to the n-th image of a training depends on the seed and on n, not on the number of
loader processes, not on what was drawn before, and not on whether the training was interrupted.
So a resumed training goes on with exactly the images and augmentations that it would have had.
"""

import itertools
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
from torch.utils.data import Sampler

from vindr_det.data.splits import normal_count
from vindr_det.exceptions import InputError
from vindr_det.structures.records import Record


class SampleKey(NamedTuple):
    """One draw.

    Attributes:
        row: of the image in the data set.
        seed: for everything random that is done to it.
    """

    row: int
    seed: int


class TrainingOrder(Sampler[SampleKey]):
    """All images in random order, again and again; each rank takes its own share.

    Of normal images an epoch may hold some only. The next ones come in the next epoch, so that all
    come equally often in the long run.

    Args:
        repeats: (N,) how often each image comes in one epoch; 2.3 is twice, and three times in
            three of ten epochs.
        seed: of the order, the same on all ranks.
        rank: this process.
        world: number of processes.
        skip: images that this rank has taken before a resume.
        normal: rows of the normal images.
        drawn: how many of them come in each epoch; None for all.
    """

    def __init__(
        self, repeats: Sequence[float], seed: int, rank: int = 0, world: int = 1, skip: int = 0,
        normal: Sequence[int] = (), drawn: int | None = None,
    ) -> None:
        self.repeats = np.asarray(repeats, dtype=float)
        self.seed, self.rank, self.world, self.skip = seed, rank, world, skip
        self.drawn = len(normal) if drawn is None else drawn
        self._normal = np.random.default_rng(seed).permutation(np.asarray(normal, dtype=int))

    def __iter__(self) -> Iterator[SampleKey]:
        position, turn = 0, 0
        for rows in self._epochs():
            for row in rows.tolist():
                mine = position % self.world == self.rank
                position += 1
                if not mine:
                    continue
                turn += 1
                if turn > self.skip:
                    yield SampleKey(row, seed_of(self.seed, position))

    def _epochs(self) -> Iterator[np.ndarray]:
        for number in itertools.count():
            rng = np.random.default_rng([self.seed, number])
            times = np.floor(self.repeats + rng.random(len(self.repeats))).astype(int)
            times[np.roll(self._normal, -number * self.drawn)[self.drawn :]] = 0
            yield rng.permutation(np.repeat(np.arange(len(times)), times))


def seed_of(seed: int, position: int) -> int:
    """A seed of its own for the image at each position of the order."""
    return int(np.random.SeedSequence([seed, position]).generate_state(1)[0])


def repeat_factors(
    records: Sequence[Record], threshold: float, in_epoch: int | None = None
) -> list[float]:
    """How often each image comes, so that rare findings come oftener (Gupta et al., LVIS, 2019).

    A finding on a share f of the images asks for max(1, sqrt(threshold / f)); an image takes the
    largest that its findings ask for. A threshold of 0 repeats nothing.

    Args:
        records: the images.
        threshold: see above.
        in_epoch: images in an epoch; None for all.
    """
    total = len(records) if in_epoch is None else in_epoch
    images = Counter(label for record in records for label in set(record.truth.labels.tolist()))
    wanted = {label: max(1.0, (threshold * total / count) ** 0.5) for label, count in images.items()}
    return [max((wanted[label] for label in record.truth.labels.tolist()), default=1.0)
            for record in records]


def batch_part(cfg: Any, world: int) -> int:
    """Images that a process takes at once: IMS_PER_BATCH over the ranks and VINDR.ACCUMULATE.

    Raises:
        InputError: the batch cannot be divided so.
    """
    parts = world * cfg.VINDR.ACCUMULATE
    if cfg.SOLVER.IMS_PER_BATCH % parts:
        raise InputError(f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, expected a multiple of "
                         f"{parts} ({world} processes, VINDR.ACCUMULATE {cfg.VINDR.ACCUMULATE})")
    return cfg.SOLVER.IMS_PER_BATCH // parts


def training_order(
    cfg: Any, records: Sequence[Record], rank: int, world: int, start: int
) -> TrainingOrder:
    """The order of a training that has ``start`` iterations behind it."""
    done = start * cfg.VINDR.ACCUMULATE * batch_part(cfg, world)
    normal = [row for row, record in enumerate(records) if record.normal]
    drawn = normal_count(cfg, records)
    in_epoch = len(records) - len(normal) + drawn
    repeats = repeat_factors(records, cfg.VINDR.REPEAT_THRESHOLD, in_epoch)
    return TrainingOrder(repeats, max(cfg.SEED, 0), rank, world, done, normal, drawn)
