"""Which share of a run's images a process predicts."""

import os
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass

from vindr_det.exceptions import InputError
from vindr_det.imaging.image_run import ImageRun
from vindr_det.imaging.inputs import Input

#: Of ``--shard``: the rank and the number of processes are those that torchrun gives.
TORCHRUN = "torchrun"


@dataclass(frozen=True)
class Shard:
    """The share of a process: its number from 0, of how many."""

    index: int
    count: int

    def of(self, run: ImageRun, batch: int) -> ImageRun:
        """The share of a run: every ``count``-th batch, so that the batches are those of the whole run."""
        groups = batches(run.inputs, batch)[self.index::self.count]
        return run.of([source for group in groups for source in group])


def shard_of(text: str, environment: Mapping[str, str] = os.environ) -> Shard:
    """The shard that ``--shard`` names.

    Args:
        text: ``2/8``, the second of eight, or ``torchrun``.
        environment: has torchrun's ``RANK`` and ``WORLD_SIZE``.

    Raises:
        InputError: neither of the two.
    """
    if text == TORCHRUN:
        given = [environment.get(name, "") for name in ("RANK", "WORLD_SIZE")]
        if not all(map(str.isdecimal, given)):
            raise InputError("--shard torchrun: RANK and WORLD_SIZE are not set, expected torchrun to start "
                             "this command")
        rank, count = map(int, given)
        if rank >= count:
            raise InputError(f"--shard torchrun: RANK is {rank} and WORLD_SIZE {count}, expected a RANK "
                             "below it")
        return Shard(rank, count)
    match = re.fullmatch(r"(\d+)/(\d+)", text)
    if not match or not 1 <= int(match[1]) <= int(match[2]):
        raise InputError(f"--shard {text}: expected such as 1/4 to 4/4, or torchrun")
    return Shard(int(match[1]) - 1, int(match[2]))


def batches(inputs: Sequence[Input], size: int) -> list[Sequence[Input]]:
    """Inputs that are predicted in one call."""
    return [inputs[start:start + size] for start in range(0, len(inputs), size)]


def device_of_rank(device: str, environment: Mapping[str, str] = os.environ) -> str:
    """``cuda:1`` for the second process that torchrun starts on a machine; on a CPU the device as it is.

    Args:
        device: of ``--device``; any but ``auto`` stays.
        environment: has torchrun's ``LOCAL_RANK``.
    """
    import torch

    count = torch.cuda.device_count()
    return f"cuda:{int(environment.get('LOCAL_RANK', 0)) % count}" if device == "auto" and count else device
