"""Folds on several devices: one fold per device, or each fold's steps shared by all of them."""

import logging
import os
import socket
import sys
from collections.abc import Callable, Sequence
from typing import Any

import torch
from torch import multiprocessing

from vindr_det.exceptions import InputError
from vindr_det.parallel import silence_decoders
from vindr_det.training.device import best_device

PARALLEL = ("folds", "ddp")


def devices(wanted: str, count: int) -> list[str]:
    """``cuda:0``, ``cuda:1``, ... or as often ``cpu``.

    Args:
        wanted: auto, cpu, cuda, or cuda:1, from which on GPUs are counted.
        count: how many.

    Raises:
        InputError: this machine has fewer GPUs.
    """
    if count < 1:
        raise InputError(f"--num-gpus {count}: expected 1 or more")
    kind, _, first = (best_device() if wanted == "auto" else wanted).partition(":")
    if kind == "cpu":
        return ["cpu"] * count
    here, start = torch.cuda.device_count(), int(first or 0)
    if not here:
        raise InputError(f"DEVICE is {wanted}, but this machine has no usable GPU; add DEVICE cpu")
    if start + count > here:
        raise InputError(f"DEVICE is {wanted} with --num-gpus {count}: this machine has {here} GPUs")
    return [f"cuda:{start + place}" for place in range(count)]


def check_precision(precision: str, device: str) -> None:
    """Refuse half precision where it would become another one.

    Raises:
        InputError: float16 on a CPU.
    """
    if precision == "16-mixed" and device == "cpu":
        raise InputError("SOLVER.PRECISION is 16-mixed, which needs a GPU; expected 32-true or bf16-mixed "
                         "on a CPU")


def deal(folds: Sequence[int], count: int) -> list[list[int]]:
    """Folds for each of ``count`` processes in turn; fewer lists where there are fewer folds."""
    return [list(folds[place::count]) for place in range(min(count, len(folds)))]


def run(work: Callable[..., None], arguments: Sequence[tuple[Any, ...]]) -> None:
    """``work(*arguments[i])`` in the i-th of as many new processes; if one fails the others are ended.

    Raises:
        InputError: what the first failing process raised.
    """
    told = multiprocessing.get_context("spawn").SimpleQueue()
    try:
        multiprocessing.start_processes(_in_process, (work, arguments, logging.getLogger().level, told),
                                        nprocs=len(arguments), start_method="spawn")
    except (multiprocessing.ProcessExitedException, multiprocessing.ProcessRaisedException):
        # The others may have failed first, for want of it.
        if told.empty():
            raise
        raise InputError(told.get()) from None


def _in_process(
    place: int, work: Callable[..., None], arguments: Sequence[tuple[Any, ...]], level: int, told: Any
) -> None:
    logging.basicConfig(level=level, format="%(levelname).1s %(message)s", stream=sys.stderr, force=True)
    silence_decoders()
    try:
        work(*arguments[place])
    except InputError as error:
        told.put(str(error))
        sys.exit(2)


def free_port() -> int:
    """A port on which processes of this machine can find each other."""
    with socket.socket() as one:
        one.bind(("127.0.0.1", 0))
        return one.getsockname()[1]


def join_group(rank: int, world: int, port: int) -> None:
    """Tell Lightning that this process is one of several that train one model."""
    os.environ |= {"MASTER_ADDR": "127.0.0.1", "MASTER_PORT": str(port), "LOCAL_RANK": str(rank),
                   "NODE_RANK": "0", "WORLD_SIZE": str(world)}
    if rank:
        logging.getLogger().setLevel(logging.WARNING)
