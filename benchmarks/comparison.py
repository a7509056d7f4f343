"""Ours against a peer: the same work, taking turns, as a ratio with its spread."""

import json
import statistics
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from typing import Any


@dataclass(frozen=True)
class Row:
    """A line of RESULTS.md.

    Attributes:
        step: what is done, with its size: "mapper, 1024 px".
        ours: what of this project does it.
        peer: what it is compared with.
        ours_value: median over the turns, in ``unit``.
        peer_value: likewise.
        unit: of both values: "s", "images/s", "MB".
        ratio: median over the turns of how many times better ours is; above 1 ours is ahead.
        low: smallest ratio of a turn.
        high: largest.
        target: the ratio to reach; None for none.
        note: of the inputs, or of what was checked to be equal.
    """

    step: str
    ours: str
    peer: str
    ours_value: float
    peer_value: float
    unit: str
    ratio: float
    low: float
    high: float
    target: float | None = None
    note: str = ""

    @property
    def verdict(self) -> str:
        """The target, and whether every turn reached it or the median alone; empty without one."""
        if self.target is None:
            return ""
        words = "reached" if self.low >= self.target else "reached by the median"
        return f"{self.target:g} {words if self.ratio >= self.target else 'missed'}"


def seconds(work: Callable[[], Any]) -> float:
    """Wall seconds of a call."""
    began = time.perf_counter()
    work()
    return time.perf_counter() - began


def processor_seconds(work: Callable[[], Any]) -> float:
    """Processor seconds of a call, of all threads of this process: other jobs change it least."""
    began = time.process_time()
    work()
    return time.process_time() - began


def alternate(
    step: str, ours: tuple[str, Callable[[], Any]], peer: tuple[str, Callable[[], Any]], *,
    turns: int = 5, per: float | None = None, measure: Callable[[Callable[[], Any]], float] = seconds,
    target: float | None = None, note: str = "",
) -> Row:
    """Time both in turns, after one turn that does not count; who begins changes with the turn.

    Args:
        step: as of :class:`Row`, like ``target`` and ``note``.
        ours: name and work.
        peer: likewise.
        turns: that count.
        per: items in a call, for values in items per second; None for seconds.
        measure: seconds of a call.
        target: as of :class:`Row`.
        note: likewise.
    """
    ours_times, peer_times = [], []
    for turn in range(turns + 1):
        pair = [(ours_times, ours[1]), (peer_times, peer[1])]
        for times, work in pair if turn % 2 else reversed(pair):
            times.append(measure(work))
    return of_turns(step, (ours[0], ours_times[1:]), (peer[0], peer_times[1:]), per=per, target=target,
                    note=note)


def of_turns(
    step: str, ours: tuple[str, list[float]], peer: tuple[str, list[float]], *, per: float | None = None,
    unit: str = "s", target: float | None = None, note: str = "",
) -> Row:
    """The row of values that were measured in turns, lower is better.

    Args:
        step: as of :class:`Row`, like ``unit``, ``target`` and ``note``.
        ours: name and a value per turn: seconds, or bytes.
        peer: likewise, in the same order.
        per: as of :func:`alternate`.
        unit: of the values; with ``per`` it is items per second.
        target: as of :class:`Row`.
        note: likewise.
    """
    ratios = [theirs / own for own, theirs in zip(ours[1], peer[1], strict=True)]
    values = [statistics.median(times) for times in (ours[1], peer[1])]
    own, theirs = [per / value for value in values] if per else values
    return Row(step, ours[0], peer[0], own, theirs, "images/s" if per else unit, statistics.median(ratios),
               min(ratios), max(ratios), target, note)


def as_json(rows: list[Row]) -> str:
    """Rows as a JSON list."""
    return json.dumps([asdict(row) for row in rows])


def from_json(text: str) -> list[Row]:
    """Rows of :func:`as_json`."""
    return [Row(**row) for row in json.loads(text)]
