"""Stable orders of many rows by score, key or class, and the best: several times as fast as numpy's sorts."""

from collections.abc import Sequence
from itertools import pairwise

import numpy as np
from numpy.typing import NDArray

#: Rows that caches hold with their columns.
_BLOCK = 1 << 16

Floats = NDArray[np.float64]
Ints = NDArray[np.int64]


def best_first(score: Floats) -> Ints:
    """(N,) rows by falling score, equal ones as they stand: a stable sort, but faster than numpy's."""
    if not (score[1:] > score[:-1]).any():
        return np.arange(len(score))
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


def best_first_within(image: Ints, key: Ints, score: Floats) -> Ints:
    """(N,) rows by a rising key and falling score, equal ones as they stand: some images at a time.

    Args:
        image: (N,) rising, which caches hold some of.
        key: (N,) as of :func:`grouped`; no image has a key below the one before.
        score: (N,).
    """
    ends = np.searchsorted(image, image[_BLOCK - 1::_BLOCK], "right")
    orders = []
    for start, end in pairwise([0, *ends.tolist(), len(image)]):
        order = best_first(score[start:end])
        orders.append(start + order[grouped(key[start:end][order])])
    return np.concatenate(orders)


def best_pair(d: Ints, overlap: Floats) -> Ints:
    """Per detection that has pairs the row of the one with most overlap, the first of equals.

    Likewise per ground truth the row of its best-scored detection.

    Args:
        d: (P,) detections, or ground truths; the rows of each stand together.
        overlap: (P,) IoU of each pair, or scores.
    """
    if not len(d):
        return np.zeros(0, np.int64)
    starts = np.flatnonzero(np.diff(d, prepend=-1))
    best = np.maximum.reduceat(overlap, starts)
    at = np.flatnonzero(overlap == np.repeat(best, np.diff(starts, append=len(d))))
    return at[np.flatnonzero(np.diff(d[at], prepend=-1))]


def rows_by_class(label: Ints, classes: int) -> list[Ints]:
    """Per class the rows of its detections, in their order."""
    order = np.argsort(label.astype(np.uint16), kind="stable")
    return np.split(order, np.cumsum(np.bincount(label, minlength=classes))[:-1])


def columns_by_class(label: Ints, columns: Sequence[NDArray], classes: int) -> list[list[NDArray]]:
    """Per class the rows of these columns, in their order: a block of rows at a time, whatever their number.

    Args:
        label: (N,) class ids.
        columns: (N,) each.
        classes: K.
    """
    blocks = []
    for start in range(0, max(len(label), 1), _BLOCK):
        part = slice(start, start + _BLOCK)
        rows = rows_by_class(label[part], classes)
        blocks.append([[column[part][own] for column in columns] for own in rows])
    return [[np.concatenate(parts) for parts in zip(*of_class, strict=True)]
            for of_class in zip(*blocks, strict=True)]
