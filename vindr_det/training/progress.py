"""What a training tells a person while it works: a line of progress, and the time that is left."""

import datetime
import logging
import time
from collections.abc import Iterable, Iterator, Mapping, Sized
from typing import Any, TypeVar

import torch
from lightning.pytorch.profilers import Profiler
from tqdm import tqdm

log = logging.getLogger(__name__)

TOTAL = "total_loss"
#: Share of the time that a training may wait for its batches before it says so.
WAITED = 0.3

Item = TypeVar("Item")


def bar(batches: Iterable[Item], what: str) -> Iterator[Item]:
    """The batches, with a bar where there is a terminal; of several processes the first alone has one.

    Args:
        batches: such as a loader.
        what: they are for.
    """
    total = len(batches) if isinstance(batches, Sized) else None
    group = torch.distributed.is_available() and torch.distributed.is_initialized()
    hidden = True if group and torch.distributed.get_rank() else None
    return iter(tqdm(batches, total=total, desc=what, unit="batch", leave=False, disable=hidden))


def duration(seconds: float) -> str:
    """Hours, minutes and seconds, with days before them where there are any."""
    return str(datetime.timedelta(seconds=max(0, round(seconds))))


def progress_line(
    done: int, total: int, losses: Mapping[str, float], rate: float, seconds: float, data_seconds: float
) -> str:
    """A line of a detector's training, of either engine.

    Args:
        done: iterations that are finished.
        total: of the training.
        losses: ``total_loss`` and its components.
        rate: learning rate.
        seconds: per iteration.
        data_seconds: of these, how long it waited for its batch.
    """
    parts = "  ".join(f"{name.removeprefix('loss_')} {value:.4f}" for name, value in sorted(losses.items())
                      if name != TOTAL)
    return (f"iteration {done}/{total}  loss {losses[TOTAL]:.4f} ({parts})  lr {rate:.5f}  "
            f"{seconds:.3f} s/iteration, data {data_seconds:.3f}  eta {duration(seconds * (total - done))}")


class LoaderWatch:
    """Tells that a training waits for its batches, which more loader processes would shorten.

    Args:
        key: of the config, that has the number of loader processes.
    """

    def __init__(self, key: str) -> None:
        self.key = key
        self._seconds = self._waited = 0.0
        self._told = False

    def add(self, seconds: float, waited: float) -> None:
        """Take in what some steps took, and of it what they waited for.

        Logs as :meth:`tell`, but for the first of these times, of which the start of the loader is a part.
        """
        first = not self._seconds
        self._seconds += seconds
        self._waited += waited
        if not first:
            self.tell()

    def tell(self) -> None:
        """Log a line, once, where the steps so far waited for more than :data:`WAITED` of their time."""
        share = self._waited / self._seconds if self._seconds > 0 else 0.0
        if share > WAITED and not self._told:
            self._told = True
            log.warning("the training waits for its images for %.0f %% of the time; a larger %s, a packed "
                        "file of images or fewer augmentations would make it faster", 100 * share, self.key)


class DataTimer(Profiler):
    """Measures how long a Lightning training waits for batches.

    Attributes:
        waited: seconds since :meth:`taken` was called last.
    """

    def __init__(self) -> None:
        super().__init__()
        self.waited = 0.0
        self._since: float | None = None

    def start(self, action_name: str) -> None:
        """Begin to wait for a batch; other actions are not measured."""
        if _is_loading(action_name):
            self._since = time.perf_counter()

    def stop(self, action_name: str) -> None:
        """The batch has come."""
        if _is_loading(action_name) and self._since is not None:
            self.waited += time.perf_counter() - self._since
            self._since = None

    def taken(self) -> float:
        """The seconds so far; begins again at 0."""
        waited, self.waited = self.waited, 0.0
        return waited

    def setup(self, **_: Any) -> None:
        """Nothing to set up: no file is written."""


def _is_loading(action_name: str) -> bool:
    return action_name.endswith("train_dataloader_next")
