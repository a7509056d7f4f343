"""Which images a fold's model is trained on, which choose its epoch, and which choose for the ensemble.

A fold's own images never choose anything for its model: what is reported on them would be too good. The mean
of several models has another distribution than each of them, and every image of a fold has been trained on by
all models but one; so what is chosen for the mean needs images that no model is trained on.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.classification.labels import LabelTable, Tables
from vindr_det.exceptions import InputError

log = logging.getLogger(__name__)

#: Images of either side from which on a share is set aside, and an ensemble's points are chosen on it: the
#: standard error of 5 % of 100 images is .022, as much as the mean of five models differs from each of them
#: (benchmarks/points.py).
ENOUGH = 100


@dataclass(frozen=True)
class Split:
    """One model's images.

    Attributes:
        learn: trained on.
        held_out: predicted by it alone.
        inner: choose its epoch; none of them is in ``learn`` or ``held_out``.
    """

    learn: LabelTable
    held_out: LabelTable
    inner: LabelTable | None = None


@dataclass(frozen=True)
class Splits:
    """All models' images.

    Attributes:
        folds: fold -> its images.
        calibration: images that no model is trained on; None where there are too few, or one model alone.
    """

    folds: Mapping[int, Split]
    calibration: LabelTable | None


def split(tables: Tables, cfg: Any) -> Splits:
    """What a config makes of its tables.

    Raises:
        InputError: there is nothing to choose the epoch on.
    """
    table, inner = tables.table, cfg.SOLVER.SELECT == "inner"
    folds = np.zeros(len(table), np.int64) - 1 if tables.validation is not None else table.folds
    aside = np.zeros(len(table), bool)
    if tables.calibration is None and (inner or tables.validation is None):
        aside = set_aside(table, folds, cfg.DATA.CALIBRATION_SHARE, cfg.SEED)
        if not inner and not _enough(table[aside]):
            log.info("too few images to set any aside: operating points are those of single models, and the "
                     "mean of several has other rates; DATA.CALIBRATION takes a list")
            aside[:] = False
    if tables.validation is not None:
        held = replace(tables.validation, folds=np.zeros(len(tables.validation), np.int64))
        parts = {0: Split(table[~aside], held, _inner(tables, table[aside], inner))}
        return Splits(parts, tables.calibration)
    parts = {int(fold): Split(table[(folds != fold) & ~aside], table[folds == fold],
                              _inner(tables, table[aside & (folds != fold)], inner))
             for fold in np.unique(folds)}
    return Splits(parts, tables.calibration or (table[aside] if aside.any() else None))


def _inner(tables: Tables, aside: LabelTable, wanted: bool) -> LabelTable | None:
    if not wanted:
        return None
    chosen = tables.calibration or aside
    if not chosen.normal.any() or not chosen.abnormal.any():
        raise InputError(f"SOLVER.SELECT is inner, and {len(chosen)} images outside the fold are there to "
                         "choose the epoch on, expected normal and abnormal ones; raise "
                         "DATA.CALIBRATION_SHARE")
    return chosen


def _enough(table: LabelTable) -> bool:
    return min(int(table.normal.sum()), int(table.abnormal.sum())) >= ENOUGH


def set_aside(
    table: LabelTable, folds: NDArray[np.int64], share: float, seed: int
) -> NDArray[np.bool_]:
    """(N,) whether an image's patient is drawn: a share of each fold's normal, unknown and abnormal ones."""
    patients, first, of = np.unique(table.groups, return_index=True, return_inverse=True)
    worst = np.zeros(len(patients), np.int64)
    np.maximum.at(worst, of.reshape(-1), np.where(table.normal, 0, 1 + table.abnormal))
    strata = 3 * folds[first] + worst
    rng, drawn = np.random.default_rng(seed), np.zeros(len(patients), bool)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        drawn[members[: round(share * len(members))]] = True
    return drawn[of.reshape(-1)]
