"""Processes and devices of a training: one fold per device, or each fold's steps shared by all devices."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import multiprocessing

from vindr_det.device import resolve_device
from vindr_det.exceptions import InputError
from vindr_det.parallel import silence_decoders

PARALLEL = ("folds", "ddp")


def devices(wanted: str, count: int = 1, source: str = "DEVICE") -> list[str]:
    """``cuda:0``, ``cuda:1``, ... or ``count`` times ``cpu``.

    Args:
        wanted: auto, cpu, cuda, or the first GPU as cuda:1.
        count: number of devices.
        source: the key or flag that ``wanted`` comes from, for errors.

    Raises:
        InputError: this machine has fewer GPUs.
    """
    if count < 1:
        raise InputError(f"--num-gpus {count}: expected 1 or more")
    kind, _, first = resolve_device(wanted).partition(":")
    if kind == "cpu":
        return ["cpu"] * count
    available, start = torch.cuda.device_count(), int(first or 0)
    if not available:
        raise InputError(f"{source} is {wanted}, but this machine has no usable GPU; expected cpu")
    if start + count > available:
        asked = f" with --num-gpus {count}" if source == "DEVICE" else ""
        raise InputError(f"{source} is {wanted}{asked}: this machine has {available} GPUs")
    return [f"cuda:{start + place}" for place in range(count)]


def check_precision(precision: str, device: str) -> None:
    """Refuse half precision on a CPU.

    Raises:
        InputError: float16 on a CPU.
    """
    if precision == "16-mixed" and device == "cpu":
        raise InputError("SOLVER.PRECISION is 16-mixed, which needs a GPU; expected 32-true or bf16-mixed "
                         "on a CPU")


def folds_per_process(folds: Sequence[int], count: int) -> list[list[int]]:
    """Folds of each of ``count`` processes in turn; fewer lists where there are fewer folds."""
    return [list(folds[place::count]) for place in range(min(count, len(folds)))]


def run(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """Call ``work(*arguments[i])`` in the i-th of as many new processes; if one fails the others are ended.

    Raises:
        InputError: what the first failing process raised.
    """
    errors = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        multiprocessing.start_processes(_in_process, (work, arguments, logging.getLogger().level, errors),
                                        nprocs=len(arguments), start_method="spawn")
    except (multiprocessing.ProcessExitedException, multiprocessing.ProcessRaisedException):
        # Another process may have failed first, because this one had ended.
        if errors.empty():
            raise
        raise InputError(errors.get()) from None


def _in_process(
    place: int, work: Callable[..., None], arguments: Sequence[tuple[Any, ...]], level: int, errors: Any
) -> None:
    logging.basicConfig(level=level, format="%(levelname).1s %(message)s", stream=sys.stderr, force=True)
    silence_decoders()
    try:
        work(*arguments[place])
    except InputError as error:
        errors.put(str(error))
        sys.exit(2)


def free_port() -> int:
    """A free port of this machine, for the processes of one training."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return listener.getsockname()[1]


def join_group(rank: int, world_size: int, port: int) -> None:
    """Set the environment by which Lightning joins the processes that train one model."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank),
                   "NODE_RANK": "0", "WORLD_SIZE": str(world_size)}
    if rank:
        logging.getLogger().setLevel(logging.WARNING)
