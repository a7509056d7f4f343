"""How the time of a step grows with its input: seconds at several sizes, and the exponent of a power law."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

Clock = Callable[[], float]


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The b of seconds = a * sizes ** b, by least squares of the logarithms: 1 is linear growth.

    Args:
        sizes: of the input, two or more different ones.
        seconds: at each size.
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure(
    step: Callable[[int], Callable[[], Any]], sizes: Sequence[int], *, turns: int = 3,
    clock: Clock = time.process_time,
) -> list[float]:
    """Least seconds of a step at each size, over turns through all sizes after one that does not count.

    Args:
        step: size -> the work of that size; preparing its input here is not timed.
        sizes: of the input.
        turns: that count.
        clock: processor seconds, which other jobs change least; a step that waits, or has several processes,
            needs ``time.perf_counter``.
    """
    works = [step(size) for size in sizes]
    spent = [[_seconds(work, clock) for work in works] for _ in range(turns + 1)]
    return np.min(spent[1:], axis=0).tolist()


def _seconds(work: Callable[[], Any], clock: Clock) -> float:
    began = clock()
    work()
    return clock() - began
