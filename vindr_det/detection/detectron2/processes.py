"""Several processes that train together, and end together with one error message."""

import contextlib
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any, TypeVar

import detectron2.utils.comm as comm
from detectron2.engine import create_ddp_model
from detectron2.engine import launch as detectron2_launch
from torch import nn
from torch.multiprocessing import get_context
from torch.multiprocessing.spawn import ProcessException

from vindr_det.detection.interface import Launch
from vindr_det.exceptions import PLACE_ERRORS, InputError
from vindr_det.training.interruption import max_over_ranks

Result = TypeVar("Result")


def run(work: Callable[..., None], launch: Launch, device: str, args: tuple[Any, ...]) -> None:
    """Detectron2's ``launch``, which raises a process's InputError or error of the disk again.

    Args:
        work: function that each process runs.
        launch: number of processes and machines.
        device: MODEL.DEVICE. Detectron2 puts each process on a GPU where it sees one, so GPUs are hidden from
            processes of ``cpu``.
        args: arguments of ``work``.

    Raises:
        InputError: the first of any process.
    """
    errors = get_context("spawn").SimpleQueue()
    with _gpus_hidden() if device == "cpu" else contextlib.nullcontext():
        try:
            detectron2_launch(_report, launch.processes, launch.machines, launch.rank, launch.url,
                              args=(errors, work, args))
        except ProcessException:
            if errors.empty():
                raise
            raise InputError(errors.get()) from None


def _report(errors: Any, work: Callable[..., None], args: tuple[Any, ...]) -> None:
    try:
        work(*args)
    except (InputError, OSError) as error:
        from_disk = isinstance(error, OSError) and error.errno in PLACE_ERRORS
        if comm.get_world_size() == 1 or not (from_disk or isinstance(error, InputError)):
            raise
        errors.put(str(error) if isinstance(error, InputError)
                   else f"{error.filename or 'a file'}: {error.strerror}")
        sys.exit(2)


@contextlib.contextmanager
def _gpus_hidden() -> Iterator[None]:
    """Hide the GPUs from processes that are started within the context."""
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
    """Run this rank's part of some work; an InputError of any rank is raised on all ranks.

    Otherwise the other ranks would wait in their next collective operation until it times out.

    Returns:
        What ``work`` returned on this rank.

    Raises:
        InputError: this rank's, or else that of another rank.
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


def wrapped(model: nn.Module, cfg: Any) -> nn.Module:
    """The model, wrapped where several processes train it; DefaultTrainer wraps it for GPUs alone."""
    device_ids = [comm.get_local_rank()] if str(cfg.MODEL.DEVICE).startswith("cuda") else None
    return create_ddp_model(model, broadcast_buffers=False, device_ids=device_ids)
