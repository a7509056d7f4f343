"""Boxes of equal score: their order is the file's, and AP depends on it.

Shapes: O random orders, R bootstrap replicates, D detections.
"""

from collections.abc import Sequence

import numpy as np

from vindr_det.metrics import voc
from vindr_det.metrics.bootstrap import Bootstrap, Floats
from vindr_det.metrics.intervals import Replicated
from vindr_det.metrics.matching import Aimed, Matched

#: Random orders of equal scores.
ORDERS = 50
#: From this share of tied boxes on, AP is given over random orders too.
MANY = 0.05


def share(matched: Matched) -> float:
    """Share of boxes that have their score in common with another box of their class; 0 without boxes."""
    found = matched.detections
    _, kind, count = np.unique(
        np.stack([found.label, found.score]), axis=1, return_inverse=True, return_counts=True)
    return float((count[kind.reshape(-1)] > 1).mean()) if len(found) else 0.0


def orders(aimed: Aimed, count: int = ORDERS, seed: int = 0) -> list[Matched]:
    """Detections that are matched in random orders of equal scores."""
    rng = np.random.default_rng(seed)
    return [aimed.ties_shuffled(rng).matched() for _ in range(count)]


def average_precisions(shuffled: Sequence[Matched]) -> Floats:
    """(O, 15) AP of every class in each order."""
    once = np.ones((1, len(shuffled[0].ids)))
    return np.concatenate([voc.average_precisions(one, once) for one in shuffled])


def replicated(shuffled: Sequence[Matched], bootstrap: Bootstrap) -> Replicated:
    """Mean AP over the orders, and replicates that are each in one of them."""
    parts = bootstrap.split(len(shuffled))
    drawn = [voc.replicates(one, part) for one, part in zip(shuffled, parts, strict=False)]
    return Replicated(average_precisions(shuffled).mean(axis=0), np.concatenate(drawn),
                      bootstrap.groups_with(shuffled[0].counts > 0))
