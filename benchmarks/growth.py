"""How the time of a step grows with its input: seconds at several sizes, and the exponent of a power law."""

import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np
from comparison import Row, of_turns

Clock = Callable[[], float]
#: The work of a size; what happens before it is returned is not timed.
Step = Callable[[int], Callable[[], Any]]

#: The exponent that no step should exceed: linear, and something for caches that overflow.
LIMIT = 1.05


def exponent(sizes: Sequence[float], seconds: Sequence[float]) -> float:
    """The b of seconds = a * sizes ** b, by least squares of the logarithms: 1 is linear growth.

    Args:
        sizes: of the input, two or more different ones.
        seconds: at each size.
    """
    return float(np.polyfit(np.log(sizes), np.log(seconds), 1)[0])


def measure(
    step: Step, sizes: Sequence[int], *, turns: int = 3, clock: Clock = time.process_time
) -> list[float]:
    """Least seconds of a step at each size, over turns through all sizes after one that does not count.

    Args:
        step: as of :data:`Step`.
        sizes: of the input.
        turns: that count.
        clock: processor seconds, which other jobs change least; a step that waits, or has several processes,
            needs ``time.perf_counter``.
    """
    return np.min(_turns(step, sizes, turns, clock), axis=0).tolist()


def growth_row(
    name: str, step: Step, sizes: Sequence[int], *, turns: int = 5, clock: Clock = time.process_time,
    note: str = "",
) -> Row:
    """The exponent of a step against :data:`LIMIT`, a value per turn.

    It is that of the lesser seconds of the turn and of the one before, since other work only adds.

    Args:
        name: of the step.
        step: likewise, and the rest as of :func:`measure`.
        sizes: of the input.
        turns: that count.
        clock: of seconds.
        note: as of :class:`comparison.Row`.
    """
    seconds = np.array(_turns(step, sizes, turns + 1, clock))
    exponents = [exponent(sizes, least) for least in np.minimum(seconds[1:], seconds[:-1])]
    shown = ", ".join(f"{size:,}" for size in sizes)
    return of_turns(f"growth of {name}", (f"at {shown} images", exponents), ("limit", [LIMIT] * turns),
                    unit="exponent", target=1, note=note)


def _turns(step: Step, sizes: Sequence[int], turns: int, clock: Clock) -> list[list[float]]:
    works = [step(size) for size in sizes]
    return [[_seconds(work, clock) for work in works] for _ in range(turns + 1)][1:]


def _seconds(work: Callable[[], Any], clock: Clock) -> float:
    began = clock()
    work()
    return clock() - began
