"""Ctrl-C, SIGTERM and SIGUSR1 end a training after the step that it is in, with a state to resume from.

SIGUSR1 is what SLURM is usually told to send before a job's time is over.
"""

import contextlib
import os
import signal
import threading
import time
from collections.abc import Iterator
from multiprocessing import active_children
from types import FrameType
from typing import Any

import torch
from torch import distributed

_SIGNALS = (signal.SIGINT, signal.SIGTERM, signal.SIGUSR1)
#: A terminal and a launcher may both pass on the same Ctrl-C; seconds.
_ECHO = 1.0


class Interrupted(KeyboardInterrupt):
    """A signal ended the training; the text says where a resume goes on.

    Attributes:
        status: the exit status that shells expect: 130 after Ctrl-C, 143 after SIGTERM, 138 after SIGUSR1.
    """

    def __init__(self, number: int, state: Any) -> None:
        where = f"--resume goes on from {state}" if state else "there was no iteration to resume from yet"
        super().__init__(f"interrupted; {where}")
        self.status = 128 + number


class Interruption:
    """Remembers SIGINT, SIGTERM and SIGUSR1 while it is entered; a later second Ctrl-C stops at once.

    One that the process was started to ignore, as a shell's background jobs are, stays ignored.

    Args:
        forward: pass signals on to the processes that this one has started.

    Attributes:
        signal: the number of the one that came to this process; 0 for none.
        ends: the number of the one that all processes have agreed to end for; 0 for none.
    """

    def __init__(self, forward: bool = False) -> None:
        self.forward, self.signal, self.ends, self._since = forward, 0, 0, 0.0
        self._before: dict[int, Any] = {}

    def __enter__(self) -> "Interruption":
        if threading.current_thread() is threading.main_thread() and not self._before:
            heeded = [number for number in _SIGNALS if signal.getsignal(number) is not signal.SIG_IGN]
            self._before = {number: signal.signal(number, self._note) for number in heeded}
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
        """The signal to end for, which any process of the training may have got; all must ask together."""
        self.ends = self.signal
        if distributed.is_available() and distributed.is_initialized():
            told = torch.tensor(self.signal, device="cuda" if distributed.get_backend() == "nccl" else "cpu")
            distributed.all_reduce(told, distributed.ReduceOp.MAX)
            self.ends = int(told)
        return self.ends

    def until(self, items: Any) -> "Until":
        """``items``, as long as there was no signal."""
        return Until(items, self)


class Until:
    """What a loader gives, until a signal comes.

    Args:
        items: has a length, and can be iterated over.
        interruption: tells of the signal.
    """

    def __init__(self, items: Any, interruption: Interruption) -> None:
        self.items, self.interruption = items, interruption

    def __len__(self) -> int:
        return len(self.items)

    def __iter__(self) -> Iterator[Any]:
        for item in self.items:
            if self.interruption.signal:
                return
            yield item


def leave_signals_to_trainer(_: int) -> None:
    """For a data loader's workers, which get a terminal's Ctrl-C and a cluster's SIGTERM as well.

    They serve the step that the trainer finishes; the trainer's own SIGTERM ends them.
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
