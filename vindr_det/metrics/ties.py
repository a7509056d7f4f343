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
    runs = np.concatenate([np.diff(ranked.tie_starts) for ranked in matched.by_class])
    return float(runs[runs > 1].sum() / runs.sum()) if len(runs) else 0.0


def random_orders(assigned: Assigned, count: int = ORDERS, seed: int = 0) -> Iterator[Matched]:
    """The detections matched in random orders of equal scores; in their only order where no two are equal.

    One after the other: each takes as much memory as the detections.
    """
    matched = assigned.matched()
    if not tied_share(matched):
        yield matched
        return
    rng = np.random.default_rng(seed)
    for _ in range(count):
        yield assigned.shuffle_ties(rng).matched()


def average_precisions(shuffled: Iterable[Matched]) -> Floats:
    """(O, K) AP of every class in each order."""
    return np.concatenate([voc.average_precisions(matched, np.ones((1, len(matched.ids))))
                           for matched in shuffled])


def tie_replicates(shuffled: Sequence[Matched], bootstrap: Bootstrap) -> Replicated:
    """Mean AP over the orders, and replicates, each of them in one order."""
    parts = bootstrap.split(len(shuffled))
    drawn = [voc.ap_replicates(matched, part) for matched, part in zip(shuffled, parts, strict=False)]
    return Replicated(average_precisions(shuffled).mean(axis=0), np.concatenate(drawn),
                      bootstrap.groups_with(shuffled[0].counts > 0))
