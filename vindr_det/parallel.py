"""Worker processes that start clean."""

import logging
import multiprocessing
import os
from concurrent.futures import ProcessPoolExecutor


def process_pool(workers: int | None, jobs: int) -> ProcessPoolExecutor:
    """A pool of at most ``jobs`` processes; ``workers`` None takes one a core.

    The processes are not forked from this one: OpenCV's and OpenMP's threads do not survive a
    fork, and a child that needs them would wait for ever.
    """
    methods = multiprocessing.get_all_start_methods()
    context = multiprocessing.get_context("forkserver" if "forkserver" in methods else "spawn")
    count = max(1, min(workers or os.cpu_count() or 1, jobs))
    return ProcessPoolExecutor(count, mp_context=context, initializer=_start)


def silence_decoders() -> None:
    """What decoders fail at is reported with the file's name by us; their own lines only confuse."""
    for name in ("pydicom", "openjpeg", "libjpeg"):
        logging.getLogger(name).setLevel(logging.CRITICAL)


def _start() -> None:
    import cv2

    # The processes are the parallelism; OpenCV's own threads would only fight them for cores.
    cv2.setNumThreads(1)
    silence_decoders()
