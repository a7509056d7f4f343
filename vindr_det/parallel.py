"""Work on many files, in processes that start clean; :mod:`vindr_det.dask_cluster` does it on many machines.

A *runner* is a function ``run(work, items)`` that yields ``(item, work(item))`` in the order in
which they end, and ``(item, Failure)`` for an item whose work raised or killed its process.
"""

import logging
import math
import multiprocessing
import os
import signal
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import (
    FIRST_COMPLETED,
    Executor,
    Future,
    ProcessPoolExecutor,
    ThreadPoolExecutor,
    wait,
)
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from vindr_det.exceptions import InputError

Item = TypeVar("Item")
Result = TypeVar("Result")
Runner = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[tuple[Any, Any]]]

#: No image takes so long to decode; a process that does is hanging and is ended.
SECONDS_PER_ITEM = 300
#: Questions to a disk at a time, and how many a thread asks in turn.
_THREADS, _ITEMS_PER_THREAD = 16, 256


@dataclass(frozen=True)
class Failure:
    """Why an item has no result, in one line."""

    reason: str


_CRASHED = Failure("its decoder crashed or did not end")


def process_pool(workers: int | None, jobs: int) -> ProcessPoolExecutor:
    """A pool of at most ``jobs`` processes; ``workers`` None takes one per core.

    The processes are not forked from this one: OpenCV's and OpenMP's threads do not survive a
    fork, and a child that needs them would hang.
    """
    count = max(1, min(workers or os.cpu_count() or 1, jobs))
    return ProcessPoolExecutor(count, mp_context=_context(), initializer=_start)


def _context() -> Any:
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    if context.get_start_method() == "forkserver":
        # Imported once by the server that the processes are forked from, not once by each of them.
        context.set_forkserver_preload(["__main__", "vindr_det.imaging.image_run"])
    return context


def start_early() -> None:
    """Start the server of the pools' processes: it imports its modules while this process imports torch."""
    if _context().get_start_method() == "forkserver":
        from multiprocessing import forkserver

        forkserver.ensure_running()


@contextmanager
def local_runner(workers: int | None, jobs: int) -> Iterator[Runner]:
    """A runner on this machine's cores."""
    yield partial(_run_locally, workers or os.cpu_count() or 1, jobs)


def in_threads(work: Callable[[Item], Result], items: Sequence[Item]) -> list[Result]:
    """``work`` of each item, in order; for questions to a disk, which on a network wait for their answers."""
    size = max(1, min(_ITEMS_PER_THREAD, len(items) // _THREADS))
    parts = [items[start:start + size] for start in range(0, len(items), size)]
    with ThreadPoolExecutor(_THREADS) as pool:
        return [result for results in pool.map(lambda part: [work(item) for item in part], parts)
                for result in results]


def silence_decoders() -> None:
    """Turn off the decoders' own log lines: our errors name the file, theirs do not."""
    for name in ("pydicom", "openjpeg", "libjpeg"):
        decoder = logging.getLogger(name)
        decoder.setLevel(logging.CRITICAL)
        decoder.disabled = True  # pydicom sets its level again where it is imported later


def guarded(work: Callable[[Item], Result], item: Item) -> Result | Failure:
    """The result of ``work``, or why it fails; the only place that catches an item's errors."""
    try:
        return work(item)
    except Exception as error:  # decoders raise whatever their C library reports
        return Failure(reason_of(error))


def reason_of(error: BaseException) -> str:
    """An error as a single line."""
    text = " ".join(str(error).split())
    if isinstance(error, MemoryError):
        return f"not enough memory ({text})" if text else "not enough memory"
    if isinstance(error, OSError) and error.strerror:
        return f"cannot be read ({error.strerror})"
    return text if isinstance(error, InputError) else f"{type(error).__name__}: {text}"


def as_they_end(
    submit: Callable[[Item], Future], ahead: int, items: Iterable[Item],
    ended: Callable[[set[Future]], set[Future]] | None = None,
) -> Iterator[tuple[Item, Future]]:
    """Keep a number of items running.

    Args:
        submit: begins an item.
        ahead: how many run or wait at a time.
        items: all of them.
        ended: waits, and returns some of the futures; None takes those that are done.

    Yields:
        Each item and its future, as they end.
    """
    items = iter(items)
    waiting: dict[Future, Item] = {}
    while True:
        for item in islice(items, ahead - len(waiting)):
            waiting[submit(item)] = item
        if not waiting:
            return
        for future in (ended or _first_ended)(set(waiting)):
            yield waiting.pop(future), future


def _first_ended(futures: set[Future]) -> set[Future]:
    return wait(futures, return_when=FIRST_COMPLETED).done


@contextmanager
def _none_left(pool: Executor) -> Iterator[None]:
    """After a crash end the processes that the pool began meanwhile, for which its end would wait forever."""
    try:
        yield
    except BrokenProcessPool:
        for process in list((getattr(pool, "_processes", None) or {}).values()):
            process.kill()
        raise


def _run_locally(
    workers: int, jobs: int, work: Callable[[Item], Any], items: Sequence[Item]
) -> Iterator[tuple[Item, Any]]:
    """As :func:`as_they_end`; after a crash the items that were running are tried one by one."""
    ahead = 2 * workers
    left = list(items)
    while left:
        done = set()
        try:
            with process_pool(workers, jobs) as pool, _none_left(pool):
                for item, future in as_they_end(lambda item: pool.submit(quietly, work, item), ahead, left):
                    result = future.result()
                    done.add(item)
                    yield item, result
        except BrokenProcessPool:
            left = [item for item in left if item not in done]
            for item in left[:ahead]:
                yield item, run_alone(work, item)
            left = left[ahead:]
        else:
            return


def in_order(
    work: Callable[[Item], Any], items: Sequence[Item], workers: int, ahead: int,
    seconds: float = SECONDS_PER_ITEM,
) -> Iterator[tuple[Item, Any]]:
    """As a runner on this machine, but in the order of the items.

    Args:
        work: what to do with an item; importable.
        items: in the order wanted.
        workers: processes; 0 works in this one, where a decoder that crashes ends the program.
        ahead: items that are running or wait to be taken; their results stay in memory.
        seconds: after which an item's process is ended.
    """
    left = deque(items)
    while left and not workers:
        yield left[0], guarded(work, left.popleft())
    while left:
        waiting: deque[tuple[Item, Future]] = deque()
        try:
            with process_pool(workers, len(left)) as pool, _none_left(pool):
                while left or waiting:
                    while left and len(waiting) < ahead:
                        waiting.append((left[0], pool.submit(quietly, work, left[0], seconds)))
                        left.popleft()
                    result = waiting[0][1].result()
                    yield waiting.popleft()[0], result
        except BrokenProcessPool:
            while waiting:
                item, future = waiting.popleft()
                whole = future.done() and future.exception() is None
                result = future.result() if whole else None
                del future  # its error holds this frame, and so the items, until garbage is collected
                if not whole:  # an only item has had its process for itself
                    result = _CRASHED if len(items) == 1 else run_alone(work, item, seconds)
                yield item, result


def run_alone(work: Callable[[Item], Any], item: Item, seconds: float = SECONDS_PER_ITEM) -> Any:
    """The item's result from a process of its own, or a :class:`Failure` if that process dies."""
    try:
        with process_pool(1, 1) as pool:
            return pool.submit(quietly, work, item, seconds).result()
    except BrokenProcessPool:
        return _CRASHED


def quietly(work: Callable[[Item], Any], item: Item, seconds: float = SECONDS_PER_ITEM) -> Any:
    """The result of an item, or a :class:`Failure`, with one OpenCV thread.

    Args:
        work: what to do with the item.
        item: whatever ``work`` takes.
        seconds: after which the system ends the process.
    """
    import cv2

    # OpenCV's own threads would compete with the processes for cores.
    cv2.setNumThreads(1)
    silence_decoders()
    with _ALARM.after(seconds):
        return guarded(work, item)


class _Alarm:
    """The alarm signal of a process, for the items of all its threads; it is not caught and ends the process.

    The system sends it, so that it works while a decoder does not let Python run.
    """

    def __init__(self) -> None:
        self._lock, self._ends = threading.Lock(), dict[object, float]()

    @contextmanager
    def after(self, seconds: float) -> Iterator[None]:
        """End the process if the body takes longer."""
        key = object()
        self._set(key, time.monotonic() + seconds)
        try:
            yield
        finally:
            self._set(key, None)

    def _set(self, key: object, end: float | None) -> None:
        with self._lock:
            self._ends.pop(key, None)
            if end is not None:
                self._ends[key] = end
            if hasattr(signal, "alarm"):
                left = min(self._ends.values(), default=None)
                signal.alarm(0 if left is None else max(1, math.ceil(left - time.monotonic())))


_ALARM = _Alarm()


def _start() -> None:
    silence_decoders()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """End a worker whose parent was killed; it would wait for its next item forever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
