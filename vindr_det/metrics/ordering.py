"""Stable orders of many rows by score, key or class, several times as fast as numpy's stable sorts."""

import numpy as np
from numpy.typing import NDArray

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def best_first(score: Floats) -> Ints:
    """(N,) rows by falling score, equal ones as they stand: a stable sort, but faster than numpy's."""
    order = np.argsort(-score)
    run = np.cumsum(np.diff(score[order], prepend=np.inf) != 0) * len(score)
    return np.sort(run + order) - run  # rows of equal score in their order


def grouped(key: Ints) -> Ints:
    """(N,) rows by a rising key, equal ones as they stand: likewise.

    Args:
        key: (N,) of at least 0, below 2 ** 63 / N.
    """
    bits = len(key).bit_length()
    return np.sort((key << bits) | np.arange(len(key))) & ((1 << bits) - 1)


def rows_by_class(label: Ints, classes: int) -> list[Ints]:
    """Per class the rows of its detections, in their order."""
    order = np.argsort(label.astype(np.uint16), kind="stable")
    return np.split(order, np.cumsum(np.bincount(label, minlength=classes))[:-1])
