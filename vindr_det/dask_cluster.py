"""Work on many files on a Dask cluster, whose workers may die, hang, or stand in other folders."""

import time
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import FIRST_COMPLETED, CancelledError, Executor, Future, wait
from contextlib import contextmanager
from dataclasses import dataclass
from functools import partial
from typing import Any, TypeVar

from vindr_det.exceptions import InputError, one_line
from vindr_det.parallel import SECONDS_PER_ITEM, Runner, as_they_end, quietly, run_alone

Item = TypeVar("Item")

#: Items that the cluster is given per thread of its workers: the one that runs, and the next.
_QUEUED = 2
#: Seconds between checks for the cluster's workers; a run ends after four checks without any.
_PATIENCE = 15


@contextmanager
def dask_runner(address: str, seconds: float = SECONDS_PER_ITEM) -> Iterator[Runner]:
    """A runner on the Dask cluster whose scheduler listens at ``address`` (host:port).

    The workers need this package and must see the same folders under the same absolute paths.

    Args:
        address: of the scheduler.
        seconds: the longest that an item may take.

    Raises:
        InputError: Dask is not installed, or no scheduler answers.
    """
    try:
        from distributed import Client
    except ImportError as error:
        raise InputError("--dask needs Dask: pip install distributed") from error
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
            yield partial(_run_on_dask, _Cluster(client, _QUEUED * slots, seconds), executor)


@dataclass(frozen=True)
class _Cluster:
    """A Dask cluster, the items that it is given at a time, and the longest that one may take."""

    client: Any
    ahead: int
    seconds: float


def _run_on_dask(
    cluster: _Cluster, executor: Executor, work: Callable[[Item], Any], items: Sequence[Item]
) -> Iterator[tuple[Item, Any]]:
    """A runner; an item that Dask gives up, or has for too long, is tried here, alone.

    Dask gives up an item whose workers died several times, and may lose a result that died with its worker.
    """
    work_there = partial(quietly, work, seconds=cluster.seconds)
    begun = dict[Future, float]()

    def submit(item: Item) -> Future:
        future = executor.submit(work_there, item)
        begun[future] = time.monotonic()
        return future

    for item, future in as_they_end(submit, cluster.ahead, items, partial(_ended_on_dask, cluster, begun)):
        yield item, _taken(cluster.client, future, work_there, item)


def _taken(client: Any, future: Future, work: Callable[[Item], Any], item: Item) -> Any:
    """The result of an item that has ended on the cluster, or else of one that is tried here, alone."""
    from distributed import KilledWorker

    if not future.done():
        future.cancel()
        return run_alone(work, item)
    try:
        return future.result()
    except (KilledWorker, CancelledError) as error:
        if _workers_of(client) is None:
            raise InputError("--dask: the scheduler has ended; --resume continues from here") from error
        return run_alone(work, item)
    except Exception as error:  # an item's own errors are caught where it runs
        raise InputError(f"--dask: a worker cannot run vindr_det as it is here ({one_line(error)}); expected "
                         "the same version on all machines") from error


def _ended_on_dask(cluster: _Cluster, begun: dict[Future, float], futures: set[Future]) -> set[Future]:
    """Futures that are done, or were begun so long ago that their workers must hang, as on a frozen machine.

    Raises:
        InputError: the cluster has had no workers for a while.
    """
    idle = 0
    while True:
        done = wait(futures, timeout=min(_PATIENCE, cluster.seconds), return_when=FIRST_COMPLETED).done
        latest = time.monotonic() - (_QUEUED + 1) * cluster.seconds  # each waits for those before it
        if ended := done or {future for future in futures if begun[future] < latest}:
            for future in ended:
                del begun[future]
            return ended
        idle = 0 if _workers_of(cluster.client) else idle + 1
        if idle > 3:
            raise InputError("--dask: the cluster has lost all its workers; --resume continues from here")


def _workers_of(client: Any) -> int | None:
    """How many workers the cluster has; None if its scheduler does not answer."""
    try:
        return len(client.nthreads()) if client.status == "running" else None
    except OSError:
        return None
