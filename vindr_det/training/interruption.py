"""Ctrl-C, SIGTERM and SIGUSR1 end a training after its current step, with a state to resume from.

SLURM is usually told to send SIGUSR1 before a job's time is over.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from functools import lru_cache
from multiprocessing import active_children
from types import FrameType
from typing import Any

import torch
from torch import distributed

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
#: Seconds in which a second Ctrl-C is the same one: a terminal and a launcher may both pass it on.
_ECHO = 1.0


class Interrupted(KeyboardInterrupt):
    """A signal ended the training; the message names the state that a resume continues from.

    Attributes:
        status: the exit status that shells expect: 130 after Ctrl-C, 143 after SIGTERM, 138 after SIGUSR1.
    """

    def __init__(self, number: int, state: Any) -> None:
        where = f"--resume continues from {state}" if state else "there was no iteration to resume from yet"
        super().__init__(f"interrupted; {where}")
        self.status = 128 + number


class Interruption:
    """Remembers SIGINT, SIGTERM and SIGUSR1 within its context; a second Ctrl-C, later, stops at once.

    A signal that the process was started to ignore, as a shell's background jobs are, stays ignored.

    Args:
        forward: pass signals on to the processes that this one has started.

    Attributes:
        signal: number of the signal that this process received; 0 for none.
        ends: number of the signal that all processes have agreed to end for; 0 for none.
    """

    def __init__(self, forward: bool = False) -> None:
        self.forward, self.signal, self.ends, self._since = forward, 0, 0, 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread() and not self._before:
            handled = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in handled}
        return self

    def __exit__(self, *_: Any) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)
        self._before = {}

    def _note(self, number: int, _: FrameType | None) -> None:
        now = time.monotonic()
        if self.signal and number == signal.SIGINT and now - self._since > _ECHO:
            raise KeyboardInterrupt
        self.signal, self._since = self.signal or number, self._since or now
        for child in active_children() if self.forward else []:
            with contextlib.suppress(ProcessLookupError):
                os.kill(child.pid or 0, number)

    def agreed(self) -> int:
        """The signal to end for, whichever process received it; a collective call of all processes."""
        self.ends = max_over_ranks(self.signal)
        return self.ends

    def until(self, loader: Any) -> "InterruptibleLoader":
        """The batches of ``loader`` until a signal comes."""
        return InterruptibleLoader(loader, self)


def max_over_ranks(value: int) -> int:
    """The largest ``value`` of all processes of the training; a collective call of all of them.

    It goes over the processors: over NCCL each rank would wait until its GPU has done all that is queued.
    """
    if not (distributed.is_available() and distributed.is_initialized()):
        return value
    largest = torch.tensor(value)
    distributed.all_reduce(largest, distributed.ReduceOp.MAX, group=_gloo_group(distributed.group.WORLD))
    return int(largest)


@lru_cache(maxsize=1)
def _gloo_group(world: Any) -> Any:
    """A group of all processes that exchanges tensors of the processor."""
    return world if distributed.get_backend(world) == "gloo" else distributed.new_group(backend="gloo")


class InterruptibleLoader:
    """A data loader that ends early after a signal.

    Args:
        loader: a sized iterable of batches.
        interruption: knows of the signal.
    """

    def __init__(self, loader: Any, interruption: Interruption) -> None:
        self.loader, self.interruption = loader, interruption

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[Any]:
        for batch in self.loader:
            if self.interruption.signal:
                return
            yield batch


def leave_signals_to_trainer(_: int) -> None:
    """``worker_init_fn`` of data loaders, whose workers receive Ctrl-C and SIGTERM too.

    They ignore both, since the trainer finishes its step with their batches; only a SIGTERM of the trainer
    ends them.
    """
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    signal.signal(signal.SIGUSR1, signal.SIG_IGN)
    if hasattr(signal, "sigwaitinfo"):
        signal.pthread_sigmask(signal.SIG_BLOCK, {signal.SIGTERM})
        threading.Thread(target=_end_with_trainer, args=(os.getppid(),), daemon=True).start()


def _end_with_trainer(trainer: int) -> None:
    while signal.sigwaitinfo({signal.SIGTERM}).si_pid != trainer:
        pass
    os._exit(0)
