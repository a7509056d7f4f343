"""What the data loaders of detectors and classifiers share: options, and items that processes share."""

import gc
import pickle
from collections.abc import Iterable, Sequence
from typing import Any, TypeVar, overload

import numpy as np
import torch

from vindr_det.training.interruption import leave_signals_to_trainer

Item = TypeVar("Item")


class SharedList(Sequence[Item]):
    """A list whose items lie pickled in one buffer, which the workers of a data loader share.

    Of a plain list each worker gets a copy in the end: counting references writes to every object. Items come
    back as new objects, which the caller may change.

    Args:
        items: what to keep.
    """

    def __init__(self, items: Iterable[Item]) -> None:
        buffer, ends = bytearray(), [0]
        for item in items:
            buffer += pickle.dumps(item, pickle.HIGHEST_PROTOCOL)
            ends.append(len(buffer))
        # Tensors, since these are shared with workers that are spawned too, not forked.
        self._ends = torch.tensor(ends)
        self._bytes = torch.from_numpy(np.array(buffer, np.uint8))

    def __len__(self) -> int:
        return len(self._ends) - 1

    @overload
    def __getitem__(self, row: int) -> Item: ...
    @overload
    def __getitem__(self, row: slice) -> list[Item]: ...
    def __getitem__(self, row: int | slice) -> Item | list[Item]:
        if isinstance(row, slice):
            return [self[number] for number in range(len(self))[row]]
        row = range(len(self))[row]
        return pickle.loads(self._bytes[self._ends[row]:self._ends[row + 1]].numpy())


def loader_options(device: str, workers: int, prefetch: int) -> dict[str, Any]:
    """Arguments of torch's DataLoader, of which a trainer may replace some.

    Args:
        device: that the model runs on; batches for a GPU are made in pinned memory.
        workers: number of processes, which live as long as the loader; 0 loads in this one.
        prefetch: batches that each worker prepares ahead.
    """
    return {
        "num_workers": workers, "persistent_workers": workers > 0,
        "prefetch_factor": prefetch if workers else None,
        "pin_memory": device != "cpu" and torch.cuda.is_available(),
        "worker_init_fn": begin_worker,
        # A generator of its own: the loader must not draw from what the model draws from.
        "generator": torch.Generator().manual_seed(0),
    }


def keep_shared(_: int) -> None:
    """``worker_init_fn``: the parent's objects, to which collecting garbage would write, stay shared."""
    gc.freeze()


def begin_worker(number: int) -> None:
    """``worker_init_fn`` of detectors: :func:`keep_shared`, and signals are the trainer's."""
    keep_shared(number)
    leave_signals_to_trainer(number)
