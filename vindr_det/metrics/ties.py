"""Boxes of equal score: their order is the file's, and AP depends on it.

Shapes: O random orders, R bootstrap replicates, D detections, K classes.
"""

from collections.abc import Iterable, Iterator, Sequence

import numpy as np

from vindr_det.metrics import voc
from vindr_det.metrics.bootstrap import Bootstrap, Floats
from vindr_det.metrics.intervals import Replicated
from vindr_det.metrics.matching import Assigned, Matched

#: Random orders of equal scores.
ORDERS = 50
#: From this share of tied boxes on, AP is reported over random orders too.
MIN_SHARE = 0.05


def tied_share(matched: Matched) -> float:
    """Share of boxes that have their score in common with another box of their class; 0 without boxes."""
    detections = matched.detections
    _, group, count = np.unique(
        np.stack([detections.label, detections.score]), axis=1, return_inverse=True, return_counts=True)
    return float((count[group.reshape(-1)] > 1).mean()) if len(detections) else 0.0


def random_orders(assigned: Assigned, count: int = ORDERS, seed: int = 0) -> Iterator[Matched]:
    """The detections matched in random orders of equal scores; in their only order where no two are equal."""
    matched = assigned.matched()
    if not tied_share(matched):
        yield matched
        return
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield assigned.shuffle_ties(rng).matched()


def average_precisions(shuffled: Iterable[Matched]) -> Floats:
    """(O, K) AP of every class in each order, of which one alone is in memory."""
    return np.concatenate([voc.average_precisions(matched, np.ones((1, len(matched.ids))))
                           for matched in shuffled])


def tie_replicates(shuffled: Sequence[Matched], bootstrap: Bootstrap) -> Replicated:
    """Mean AP over the orders, and replicates, each of them in one order."""
    parts = bootstrap.split(len(shuffled))
    drawn = [voc.ap_replicates(matched, part) for matched, part in zip(shuffled, parts, strict=False)]
    return Replicated(average_precisions(shuffled).mean(axis=0), np.concatenate(drawn),
                      bootstrap.groups_with(shuffled[0].counts > 0))
