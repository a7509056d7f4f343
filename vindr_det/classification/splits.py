"""DATA's tables, checked for leaks, and which images train, hold out, select the epoch and calibrate.

A fold's own images select nothing for its model: a score on them would be optimistic. The mean of several
models is distributed otherwise than each of them, and all models but one were trained on any image of a fold;
so operating points of the mean need images that no model is trained on.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.classification.label_table import LabelTable, read_table
from vindr_det.data.folds import check_disjoint_patients
from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.packed import PackedImages

log = logging.getLogger(__name__)

#: Keys of DATA that name tables.
TABLES = ("LABELS", "VALIDATION", "TEST", "CALIBRATION")
#: Normal and abnormal images each that calibrate an ensemble: the standard error of 5 % of 100 images is
#: .022, as much as the mean of five models differs from each of them (benchmarks/points.py).
MIN_CALIBRATION = 100


@dataclass(frozen=True)
class Tables:
    """The tables that DATA names.

    Attributes:
        table: images to train on and, fold by fold, to hold out.
        validation: held out instead of folds; None without such a table.
        test: neither trained on nor used for any choice.
        calibration: a table that no model is trained on; None without such a table.
    """

    table: LabelTable
    validation: LabelTable | None = None
    test: LabelTable | None = None
    calibration: LabelTable | None = None

    def by_path(self, cfg: Any) -> dict[str, LabelTable]:
        """Path of each table -> its images."""
        tables = zip(TABLES, (self.table, self.validation, self.test, self.calibration), strict=True)
        return {cfg.DATA[name]: table for name, table in tables if table is not None}


def read_tables(cfg: Any) -> Tables:
    """Read DATA.LABELS, VALIDATION, TEST and CALIBRATION; with DATA.PARTIAL without images that are missing.

    Raises:
        InputError: a table is faulty, an image is missing, or a patient is in two parts.
    """
    node = cfg.DATA
    table, validation, test, calibration = (
        _with_images(read_table(node[name], node.TARGET, node.UNCERTAIN, node.BLANK), cfg)
        if node[name] else None for name in TABLES)
    if table is None:
        raise InputError("DATA.LABELS is empty, expected a table of labels")
    if validation is None:
        table = _with_folds(table, node.LABELS)
    named = dict(zip(TABLES, (table, validation, test, calibration), strict=True))
    check_disjoint({f"DATA.{name}": part for name, part in named.items() if part is not None},
                   by_fold=validation is None)
    unknown = int(np.isnan(table.targets).sum())
    if unknown:
        log.info("%s: %d of %d labels are not known and are ignored", node.LABELS, unknown,
                 table.targets.size)
    return Tables(table, validation, test, calibration)


def _with_folds(table: LabelTable, path: str) -> LabelTable:
    without = table.folds < 0
    if without.all():
        raise InputError(f"{path}: has no folds, expected a column fold, or DATA.VALIDATION")
    if without.any():
        log.info("%s: %d of %d images have no fold (-1) and are ignored", path, without.sum(), len(without))
    return table[~without]


def _with_images(table: LabelTable, cfg: Any) -> LabelTable:
    known = PackedImages(cfg.DATA.PACKED) if cfg.DATA.PACKED else list_images(cfg.DATA.IMAGES)
    present = np.array([image_id in known for image_id in table.image_ids])
    if present.all():
        return table
    folder, first = cfg.DATA.PACKED or cfg.DATA.IMAGES, table.image_ids[~present][0]
    if not present.any():
        raise InputError(f"{folder}: none of {len(table)} labeled images is there, the first is {first}; "
                         f"expected names such as {next(iter(known), '')}")
    if not cfg.DATA.PARTIAL:
        raise InputError(f"{folder}: {(~present).sum()} of {len(table)} labeled images are missing, the "
                         f"first is {first}; DATA.PARTIAL True ignores them")
    return table[present]


def check_disjoint(tables: Mapping[str, LabelTable], by_fold: bool) -> None:
    """Refuse an image or, as far as the tables know them, a patient in two parts.

    Args:
        tables: name -> images; the first is trained on.
        by_fold: the first table's folds are parts too.

    Raises:
        InputError: names the image or patient and the two parts.
    """
    parts = _parts(tables, by_fold)
    check_disjoint_patients({name: part.image_ids for name, part in parts.items()}, "image")
    with_patients = {name: part for name, part in parts.items() if part.group_kind == "patient"}
    check_disjoint_patients({name: part.groups for name, part in with_patients.items()}, "patient")
    # One table may write 00000005 and another 5.
    check_disjoint_patients({name: [_without_zeros(group) for group in set(part.groups)]
                             for name, part in tables.items() if part.group_kind == "patient"}, "patient")
    unknown = [name for name, part in tables.items() if part.group_kind != "patient"]
    if unknown:
        log.warning("%s %s no column of patients (patient, patient_id): a patient in two parts, such as "
                    "training and test, would not be seen", " and ".join(unknown),
                    "has" if len(unknown) == 1 else "have")


def _parts(tables: Mapping[str, LabelTable], by_fold: bool) -> dict[str, LabelTable]:
    if not by_fold:
        return dict(tables)
    table = next(iter(tables.values()))
    folds = {f"fold {fold}": table[table.folds == fold] for fold in np.unique(table.folds)}
    return folds | dict(list(tables.items())[1:])


def _without_zeros(patient: str) -> str:
    return patient.lstrip("0") or "0" if patient.isdigit() else patient


@dataclass(frozen=True)
class Split:
    """One model's images.

    Attributes:
        train: trained on.
        held_out: predicted out of fold.
        inner: select its epoch, disjoint from ``train`` and ``held_out``; None where the last epoch is kept.
    """

    train: LabelTable
    held_out: LabelTable
    inner: LabelTable | None = None


@dataclass(frozen=True)
class Splits:
    """All models' images.

    Attributes:
        folds: fold -> its images.
        calibration: images that no model is trained on; None where there are too few, or a single model.
    """

    folds: Mapping[int, Split]
    calibration: LabelTable | None


def split(tables: Tables, cfg: Any) -> Splits:
    """Assign the images of DATA's tables to the models.

    Raises:
        InputError: there are no images to select the epoch on.
    """
    table, inner = tables.table, cfg.SOLVER.SELECT == "inner"
    folds = np.zeros(len(table), np.int64) - 1 if tables.validation is not None else table.folds
    aside = np.zeros(len(table), bool)
    if tables.calibration is None and (inner or tables.validation is None):
        aside = set_aside(table, folds, cfg.DATA.CALIBRATION_SHARE, cfg.SEED)
        if not inner and not _enough(table[aside]):
            log.info("too few images to set any aside for calibration: operating points are those of single "
                     "models, and their mean has other rates; DATA.CALIBRATION takes a table")
            aside[:] = False
    if tables.validation is not None:
        held_out = replace(tables.validation, folds=np.zeros(len(tables.validation), np.int64))
        parts = {0: Split(table[~aside], held_out, _inner(tables, table[aside], inner))}
        return Splits(parts, tables.calibration)
    parts = {int(fold): Split(table[(folds != fold) & ~aside], table[folds == fold],
                              _inner(tables, table[aside & (folds != fold)], inner))
             for fold in np.unique(folds)}
    return Splits(parts, tables.calibration or (table[aside] if aside.any() else None))


def _inner(tables: Tables, aside: LabelTable, wanted: bool) -> LabelTable | None:
    if not wanted:
        return None
    inner = tables.calibration or aside
    if not inner.normal.any() or not inner.abnormal.any():
        raise InputError(f"SOLVER.SELECT is inner, and {len(inner)} images outside the fold are there to "
                         "choose the epoch on, expected normal and abnormal ones; raise "
                         "DATA.CALIBRATION_SHARE")
    return inner


def _enough(table: LabelTable) -> bool:
    return min(int(table.normal.sum()), int(table.abnormal.sum())) >= MIN_CALIBRATION


def set_aside(
    table: LabelTable, folds: NDArray[np.int64], fraction: float, seed: int
) -> NDArray[np.bool_]:
    """Draw patients to calibrate on, stratified by fold and by normal, unknown and abnormal.

    Returns:
        (N,) whether an image's patient is drawn.
    """
    patients, first, patient_of = np.unique(table.groups, return_index=True, return_inverse=True)
    patient_of = patient_of.reshape(-1)
    status = np.zeros(len(patients), np.int64)
    np.maximum.at(status, patient_of, np.where(table.normal, 0, 1 + table.abnormal))
    strata = 3 * folds[first] + status
    rng, drawn = np.random.default_rng(seed), np.zeros(len(patients), bool)
    for stratum in np.unique(strata):
        members = rng.permutation(np.flatnonzero(strata == stratum))
        drawn[members[: round(fraction * len(members))]] = True
    return drawn[patient_of]
