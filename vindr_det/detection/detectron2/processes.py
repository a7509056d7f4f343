"""Several processes that end as one, with the one line that tells why."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import detectron2.utils.comm as comm
from detectron2.engine import launch as detectron2_launch
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessException

from vindr_det.detection.interface import Launch
from vindr_det.exceptions import PLACE_ERRORS, InputError
from vindr_det.training.interruption import max_over_ranks

Result = TypeVar("Result")


def run(work: Callable[..., None], launch: Launch, device: str, args: tuple[Any, ...]) -> None:
    """Detectron2's ``launch``, but a process's InputError, or what the disk said, comes out in one line.

    Args:
        work: what each process does.
        launch: on how many.
        device: MODEL.DEVICE. Detectron2 puts each process on a GPU where there is one; those of ``cpu``
            do not get to see any.
        args: of ``work``.

    Raises:
        InputError: the first that a process met.
    """
    errors = get_context("spawn").SimpleQueue()
    with _gpus_hidden() if device == "cpu" else contextlib.nullcontext():
        try:
            detectron2_launch(_tell, launch.processes, launch.machines, launch.rank, launch.url,
                              args=(errors, work, args))
        except ProcessException:
            if errors.empty():
                raise
            raise InputError(errors.get()) from None


def _tell(errors: Any, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    try:
        work(*args)
    except (InputError, OSError) as error:
        of_the_disk = isinstance(error, OSError) and error.errno in PLACE_ERRORS
        if comm.get_world_size() == 1 or not (of_the_disk or isinstance(error, InputError)):
            raise
        errors.put(str(error) if isinstance(error, InputError)
                   else f"{error.filename or 'a file'}: {error.strerror}")
        sys.exit(2)


@contextlib.contextmanager
def _gpus_hidden() -> Iterator[None]:
    """From the processes that are started meanwhile."""
    before = os.environ.get("CUDA_VISIBLE_DEVICES")
    os.environ["CUDA_VISIBLE_DEVICES"] = ""
    try:
        yield
    finally:
        if before is None:
            del os.environ["CUDA_VISIBLE_DEVICES"]
        else:
            os.environ["CUDA_VISIBLE_DEVICES"] = before


def on_all_ranks(work: Callable[[], Result]) -> Result:
    """One rank's part of some work; where it is refused on one rank, it is refused on all.

    A rank that left alone would let the others wait in their next common operation until it times out.

    Raises:
        InputError: this rank's, or else another one's.
    """
    error = result = None
    try:
        result = work()
    except InputError as own:
        error = own
    if _any_rank(error is not None):
        texts = comm.all_gather(error and str(error))
        raise error or InputError(next(text for text in texts if text))
    return result  # type: ignore[return-value]


def _any_rank(flag: bool) -> bool:
    return bool(max_over_ranks(int(flag)))
