"""Work on many files: in processes that start clean, or on a Dask cluster.

A *runner* is a function ``run(work, items)`` that yields ``(item, work(item))`` in the order in
which they end, and ``(item, None)`` for an item that took its process down.
"""

import logging
import multiprocessing
import os
import signal
import threading
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, Executor, Future, ProcessPoolExecutor, wait
from concurrent.futures.process import BrokenProcessPool
from contextlib import contextmanager
from functools import partial
from itertools import islice
from typing import Any, TypeVar

from vindr_det.errors import InputError

Item = TypeVar("Item")
Runner = Callable[[Callable[[Any], Any], Sequence[Any]], Iterator[tuple[Any, Any]]]

#: No image takes so long to decode; a process that does hangs and is ended.
_SECONDS_AN_ITEM = 300


def process_pool(workers: int | None, jobs: int) -> ProcessPoolExecutor:
    """A pool of at most ``jobs`` processes; ``workers`` None takes one a core.

    The processes are not forked from this one: OpenCV's and OpenMP's threads do not survive a
    fork, and a child that needs them would wait for ever.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    count = max(1, min(workers or os.cpu_count() or 1, jobs))
    return ProcessPoolExecutor(count, mp_context=context, initializer=_start)


@contextmanager
def local_runner(workers: int | None, jobs: int) -> Iterator[Runner]:
    """A runner on this machine's cores."""
    yield partial(_run_locally, workers or os.cpu_count() or 1, jobs)


@contextmanager
def dask_runner(address: str) -> Iterator[Runner]:
    """A runner on the Dask cluster whose scheduler listens at ``address`` (host:port).

    The workers need this package and must see the same folders.

    Raises:
        InputError: Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("--dask needs Dask: pip install 'vindr_det[dask]'") from error
    try:
        client = Client(address, timeout=5)
    except (OSError, ValueError) as error:
        raise InputError(f"--dask {address}: no scheduler answers there, expected host:port "
                         f"({type(error).__name__})") from error
    with client:
        slots = sum(client.nthreads().values())
        if not slots:
            raise InputError(f"--dask {address}: the scheduler has no workers")
        with client.get_executor(pure=False) as executor:
            yield partial(_run, executor, 4 * slots)


def silence_decoders() -> None:
    """What decoders fail at is reported with the file's name by us; their own lines only confuse."""
    for name in ("pydicom", "openjpeg", "libjpeg"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _run(
    executor: Executor, ahead: int, work: Callable[[Item], Any], items: Iterable[Item]
) -> Iterator[tuple[Item, Any]]:
    """Keep ``ahead`` items under way, whatever their number."""
    items = iter(items)
    waiting: dict[Future, Item] = {}
    while True:
        for item in islice(items, ahead - len(waiting)):
            waiting[executor.submit(_quietly, work, item)] = item
        if not waiting:
            return
        for future in wait(waiting, return_when=FIRST_COMPLETED).done:
            yield waiting.pop(future), future.result()


def _run_locally(
    workers: int, jobs: int, work: Callable[[Item], Any], items: Sequence[Item]
) -> Iterator[tuple[Item, Any]]:
    """As :func:`_run`; after a crash the items that were under way are tried one by one."""
    ahead = 2 * workers
    left = list(items)
    while left:
        done = set()
        try:
            with process_pool(workers, jobs) as pool:
                for item, result in _run(pool, ahead, work, left):
                    done.add(item)
                    yield item, result
        except BrokenProcessPool:
            left = [item for item in left if item not in done]
            for item in left[:ahead]:
                yield item, _run_alone(work, item)
            left = left[ahead:]
        else:
            return


def _run_alone(work: Callable[[Item], Any], item: Item) -> Any:
    """The item's result, or None if it takes its process down."""
    try:
        with process_pool(1, 1) as pool:
            return pool.submit(_quietly, work, item).result()
    except BrokenProcessPool:
        return None


def _quietly(work: Callable[[Item], Any], item: Item) -> Any:
    """Run one item with one OpenCV thread, ended by the system if it hangs."""
    import cv2

    # The processes are the parallelism; OpenCV's own threads would only fight them for cores.
    cv2.setNumThreads(1)
    silence_decoders()
    if hasattr(signal, "alarm") and threading.current_thread() is threading.main_thread():
        signal.alarm(_SECONDS_AN_ITEM)  # nobody catches it: the process ends
        try:
            return work(item)
        finally:
            signal.alarm(0)
    return work(item)


def _start() -> None:
    silence_decoders()
    threading.Thread(target=_end_with_parent, daemon=True).start()


def _end_with_parent() -> None:
    """A worker whose parent was killed would wait for its next item for ever."""
    parent = multiprocessing.parent_process()
    if parent is not None:
        parent.join()
        os._exit(1)
