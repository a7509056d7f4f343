"""The order of the training images and the random numbers of a training: functions of its seed alone.

What happens to the n-th image depends on the seed and on n, and what a step draws depends on the seed
and on the number of the step: not on the number of loader processes, not on earlier draws, and not on
whether the training was interrupted. So a resumed training has exactly the images, augmentations and
random numbers that it would have had, without any of them in its checkpoint.
"""

import itertools
import random
from collections import Counter
from collections.abc import Iterator, Sequence
from typing import Any, NamedTuple

import numpy as np
import torch
from torch.utils.data import Sampler

from vindr_det.data.splits import normal_count
from vindr_det.exceptions import InputError
from vindr_det.structures.records import Record


class SampleKey(NamedTuple):
    """Which image comes next, and the seed of what is done to it.

    Attributes:
        row: index of the image in the data set.
        seed: seed of all random operations on the image.
    """

    row: int
    seed: int


class TrainingOrder(Sampler[SampleKey]):
    """All images in random order, epoch after epoch; each rank takes its own share.

    An epoch may hold only some of the normal images. The next ones come in the next epoch, so that over
    many epochs all come equally often.

    Args:
        repeats: (N,) how often each image comes in an epoch; 2.3 means twice in seven of ten epochs
            and three times in the others.
        seed: seed of the order, the same on all ranks.
        rank: index of this process.
        world: number of processes.
        skip: images that this rank took before a resume.
        normal: rows of the normal images.
        drawn: normal images per epoch; None for all.
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
    """A different seed for the image at each position of the order."""
    return int(np.random.SeedSequence([seed, position]).generate_state(1)[0])


def seed_step(seed: int, step: int, rank: int = 0) -> None:
    """Seed every generator that a training step draws from.

    Args:
        seed: seed of the training.
        step: number of the step that is about to begin, from 0.
        rank: index of this process; each draws its own numbers.
    """
    for_torch, for_numpy, for_python = np.random.SeedSequence([seed, step, rank]).generate_state(3).tolist()
    torch.manual_seed(for_torch)
    np.random.seed(for_numpy)
    random.seed(for_python)


def repeat_factors(
    records: Sequence[Record], threshold: float, in_epoch: int | None = None
) -> list[float]:
    """How often each image comes per epoch, so that rare findings come more often (Gupta et al., LVIS, 2019).

    A finding on a share f of the images on which it is known has the factor max(1, sqrt(threshold / f)); an
    image takes the largest factor of its findings.

    Args:
        records: the images.
        threshold: share of the images below which a finding is repeated; 0 repeats nothing.
        in_epoch: number of images per epoch; None for all.

    Returns:
        One factor per image, 1 or more.
    """
    total = len(records) if in_epoch is None else in_epoch
    images = Counter(label for record in records for label in set(record.truth.labels.tolist()))
    unknown = Counter(label for record in records for label in record.unknown)
    factors = {label: max(1.0, (threshold * (total - unknown[label]) / count) ** 0.5)
               for label, count in images.items()}
    return [max((factors[label] for label in record.truth.labels.tolist()), default=1.0)
            for record in records]


def batch_part(cfg: Any, world: int) -> int:
    """Images per forward pass of one process: IMS_PER_BATCH divided by the ranks and by VINDR.ACCUMULATE.

    Raises:
        InputError: the batch is not divisible.
    """
    parts = world * cfg.VINDR.ACCUMULATE
    if cfg.SOLVER.IMS_PER_BATCH % parts:
        raise InputError(f"SOLVER.IMS_PER_BATCH is {cfg.SOLVER.IMS_PER_BATCH}, expected a multiple of "
                         f"{parts} ({world} processes, VINDR.ACCUMULATE {cfg.VINDR.ACCUMULATE})")
    return cfg.SOLVER.IMS_PER_BATCH // parts


def training_order(
    cfg: Any, records: Sequence[Record], rank: int, world: int, start: int
) -> TrainingOrder:
    """The order of the images from iteration ``start`` on, for one of ``world`` ranks."""
    done = start * cfg.VINDR.ACCUMULATE * batch_part(cfg, world)
    normal = [row for row, record in enumerate(records) if record.normal]
    drawn = normal_count(cfg, records)
    in_epoch = len(records) - len(normal) + drawn
    repeats = repeat_factors(records, cfg.VINDR.REPEAT_THRESHOLD, in_epoch)
    return TrainingOrder(repeats, max(cfg.SEED, 0), rank, world, done, normal, drawn)
