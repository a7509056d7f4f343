"""DATA's tables, checked for leaks, and which images train, hold out, select the epoch and calibrate.

A fold's own images select nothing for its model: a score on them would be optimistic. The mean of several
models is distributed otherwise than each of them, and all models but one were trained on any image of a fold;
so operating points of the mean need images that no model is trained on.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.classification import leaks
from vindr_det.classification.label_table import LabelTable, read_table, subsample_normals
from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.packed import PackedImages, warn_if_newer

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
        dropped: table -> number of its images that DATA.ON_LEAK dropped.
    """

    table: LabelTable
    validation: LabelTable | None = None
    test: LabelTable | None = None
    calibration: LabelTable | None = None
    dropped: Mapping[str, int] = field(default_factory=dict)

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
    if not node.LABELS:
        raise InputError("DATA.LABELS is empty, expected a table of labels")
    parts = {f"DATA.{name}": _read(name, cfg) for name in TABLES if node[name]}
    whole = parts
    if node.ON_LEAK == "drop":
        parts = drop_leaks(parts)
        _require_images(parts, whole, "DATA.ON_LEAK drop")
    dropped = {name: len(whole[name]) - len(part) for name, part in parts.items()}
    check_disjoint(parts, by_fold=not node.VALIDATION)
    if node.KEEP_NORMAL_IN == "all":
        parts = {name: subsample_normals(part, node.KEEP_NORMAL, cfg.SEED) for name, part in parts.items()}
        _require_images(parts, whole, f"DATA.KEEP_NORMAL {node.KEEP_NORMAL:g}")
    table = parts["DATA.LABELS"]
    unknown = int(np.isnan(table.targets).sum())
    if unknown:
        log.info("%s: %d of %d labels are not known and are ignored", node.LABELS, unknown,
                 table.targets.size)
    validation, test, calibration = (parts.get(f"DATA.{name}") for name in TABLES[1:])
    return Tables(table, validation, test, calibration,
                  {name: count for name, count in dropped.items() if count})


def _require_images(left: Mapping[str, LabelTable], whole: Mapping[str, LabelTable], key: str) -> None:
    for name, part in left.items():
        if not len(part):
            raise InputError(f"{key}: leaves none of the {len(whole[name])} images of {name}, expected some")


def _read(name: str, cfg: Any) -> LabelTable:
    node = cfg.DATA
    table = _with_images(read_table(node[name], node.TARGET, node.UNCERTAIN, node.BLANK), cfg)
    return _with_folds(table, node.LABELS) if name == "LABELS" and not node.VALIDATION else table


def trained_on(table: LabelTable, cfg: Any) -> LabelTable:
    """The images of a training part that DATA.KEEP_NORMAL leaves."""
    if cfg.DATA.KEEP_NORMAL_IN == "all":  # then the tables hold no others
        return table
    return subsample_normals(table, cfg.DATA.KEEP_NORMAL, cfg.SEED)


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
    if cfg.DATA.PACKED:
        beside = Path(cfg.DATA.PACKED).parent
        warn_if_newer(cfg.DATA.PACKED, [beside / f"{image_id}.png" for image_id in table.image_ids])
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
    overlaps = leaks.find_overlaps(_parts(tables, by_fold))
    if overlaps:
        log.info("images and patients in two parts:\n%s", leaks.report(overlaps))
    leaks.refuse(overlaps, "DATA.ON_LEAK drop keeps each in the last table alone; folds must be by patient")
    leaks.warn_of_unknown_patients(tables)


def drop_leaks(tables: Mapping[str, LabelTable]) -> dict[str, LabelTable]:
    """Without images and patients that a later one of LABELS, CALIBRATION, VALIDATION and TEST has too."""
    order = [f"DATA.{name}" for name in ("LABELS", "CALIBRATION", "VALIDATION", "TEST")]
    kept = leaks.kept_rows({name: tables[name] for name in order if name in tables})
    leaks.log_dropped(kept)
    return {name: table[kept[name]] for name, table in tables.items()}


def _parts(tables: Mapping[str, LabelTable], by_fold: bool) -> dict[str, LabelTable]:
    if not by_fold:
        return dict(tables)
    table = next(iter(tables.values()))
    folds = {f"fold {fold}": table[table.folds == fold] for fold in np.unique(table.folds)}
    return folds | dict(list(tables.items())[1:])


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
        dropped: as :class:`Tables` has it.
    """

    folds: Mapping[int, Split]
    calibration: LabelTable | None
    dropped: Mapping[str, int] = field(default_factory=dict)


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
        return Splits(parts, tables.calibration, tables.dropped)
    parts = {int(fold): Split(table[(folds != fold) & ~aside], table[folds == fold],
                              _inner(tables, table[aside & (folds != fold)], inner))
             for fold in np.unique(folds)}
    return Splits(parts, tables.calibration or (table[aside] if aside.any() else None), tables.dropped)


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
