"""Tables of image-level labels: what convert_vindr.py and convert_nih.py write, as arrays.

A table is a CSV with ``image_id`` or ``image``, columns of 0..1 named after labels, and, where they are
known, ``fold`` and ``patient``. Values between 0 and 1 are shares of readers, -1 is uncertain and a blank
unknown; what is not known is NaN in targets, and neither losses nor metrics look at it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.classification.label_columns import ABNORMAL, NORMAL, LabelColumns
from vindr_det.classification.label_table import LabelTable
from vindr_det.classification.leaks import check_disjoint
from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.packed import PackedImages
from vindr_det.structures.label_sets import CLASS_NAMES, NIH_LABELS, column_of
from vindr_det.tables import csv_row

log = logging.getLogger(__name__)

#: Keys of DATA that name tables.
TABLES = ("LABELS", "VALIDATION", "TEST", "CALIBRATION")
#: DATA.TARGET -> the labels that a model predicts.
TARGETS: Mapping[str, tuple[str, ...]] = {
    ABNORMAL: (ABNORMAL,), "vindr15": CLASS_NAMES, "nih14": NIH_LABELS}


def read_table(
    path: str | Path, target: str | Sequence[str], uncertain: str = "ignore", blank: str = "ignore"
) -> LabelTable:
    """A table of labels.

    Args:
        path: CSV.
        target: a key of :data:`TARGETS`, or the labels by name.
        uncertain: what a label of -1 means: ignore, zeros or ones.
        blank: what a blank label means.

    Raises:
        InputError: a column is missing, a value is not in 0..1, a fold or patient is blank, or an image is
            repeated.
    """
    if isinstance(target, str) and target not in TARGETS:
        raise InputError(f"DATA.TARGET is {target!r}, expected one of {', '.join(TARGETS)}")
    wanted = TARGETS[target] if isinstance(target, str) else tuple(target)
    source = LabelColumns.read(path, uncertain, blank)
    ids = source.names("image", "an image's name")
    if ids is None:
        raise InputError(f"{path}: has no column image_id or image")
    repeated = pd.Series(ids).duplicated().to_numpy()
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        raise InputError(f"{path}, row {csv_row(row)}: image {ids[row]} is repeated")
    patients, what = source.names("patient", "a name"), "patient"
    if patients is None:
        patients, what = ids, "image"
    source.refuse_contradictions()
    abnormal = _abnormal(source)
    targets = np.column_stack([abnormal if name == ABNORMAL else source.labels(name) for name in wanted])
    known = ~np.isnan(abnormal)
    return LabelTable(ids, wanted, targets, abnormal == 0, patients, source.folds(), what,
                      None if known.all() else known)


def _abnormal(source: LabelColumns) -> NDArray[np.float32]:
    if ABNORMAL in source.frame:
        return source.abnormal(ABNORMAL)
    name = next((name for name in NORMAL if name in source.frame), None)
    if name is not None:
        return source.abnormal(name)
    known = [name for name in (*NIH_LABELS, *CLASS_NAMES) if name in source.frame]
    if not known:
        raise InputError(f"{source.path}: has no column {ABNORMAL}, {' or '.join(NORMAL)}, nor one of a "
                         "label")
    values = np.column_stack([source.labels(name) for name in known])
    most = np.nan_to_num(values).max(axis=1)
    # One finding makes an image abnormal, whatever is not known of the others.
    return np.where((most < 0.5) & np.isnan(values).any(axis=1), np.float32("nan"), most)


@dataclass(frozen=True)
class Tables:
    """What a config's DATA describes.

    Attributes:
        table: images to train on and, fold by fold, to hold out.
        validation: held out instead of folds, where there is a list of its own.
        test: never trained on, never chosen by.
        calibration: a list that no model is trained on, where there is one of its own.
    """

    table: LabelTable
    validation: LabelTable | None = None
    test: LabelTable | None = None
    calibration: LabelTable | None = None

    def by_path(self, cfg: Any) -> dict[str, LabelTable]:
        """The file that each was read from -> its images."""
        found = zip(TABLES, (self.table, self.validation, self.test, self.calibration), strict=True)
        return {cfg.DATA[name]: table for name, table in found if table is not None}


def read_tables(cfg: Any) -> Tables:
    """DATA.LABELS, VALIDATION, TEST and CALIBRATION, without images that are not there if DATA.PARTIAL.

    Raises:
        InputError: a table is faulty, an image is missing, or a patient stands in two parts.
    """
    node = cfg.DATA
    table, validation, test, calibration = (
        _present(read_table(node[name], node.TARGET, node.UNCERTAIN, node.BLANK), cfg)
        if node[name] else None for name in TABLES)
    if table is None:
        raise InputError("DATA.LABELS is empty, expected a table of labels")
    if validation is None:
        held = table.folds < 0
        if held.all():
            raise InputError(f"{node.LABELS}: has no folds, expected a column fold, or DATA.VALIDATION")
        if held.any():
            log.info("%s: %d of %d images have no fold (-1) and are left out", node.LABELS, held.sum(),
                     len(held))
        table = table[~held]
    given = dict(zip(TABLES, (table, validation, test, calibration), strict=True))
    check_disjoint({f"DATA.{name}": one for name, one in given.items() if one is not None},
                   by_fold=validation is None)
    unknown = int(np.isnan(table.targets).sum())
    if unknown:
        log.info("%s: %d of %d labels are not known and are left out", node.LABELS, unknown,
                 table.targets.size)
    return Tables(table, validation, test, calibration)


def _present(table: LabelTable, cfg: Any) -> LabelTable:
    known = PackedImages(cfg.DATA.PACKED) if cfg.DATA.PACKED else list_images(cfg.DATA.IMAGES)
    there = np.array([image_id in known for image_id in table.image_ids])
    if there.all():
        return table
    where, first = cfg.DATA.PACKED or cfg.DATA.IMAGES, table.image_ids[~there][0]
    if not there.any():
        raise InputError(f"{where}: none of {len(table)} labeled images is there, the first is {first}; "
                         f"expected names such as {next(iter(known), '')}")
    if not cfg.DATA.PARTIAL:
        raise InputError(f"{where}: {(~there).sum()} of {len(table)} labeled images are missing, the first "
                         f"is {first}; DATA.PARTIAL True goes on with the others")
    return table[there]


def subsample_normals(table: LabelTable, share: float, seed: int) -> LabelTable:
    """Keep a ``share`` of the normal images, chosen at random."""
    normal = np.flatnonzero(table.normal)
    kept = np.random.default_rng(seed).permutation(normal)[: round(share * len(normal))]
    rows = np.sort(np.concatenate([np.flatnonzero(~table.normal), kept]))
    return table[rows]


def columns_of(names: Sequence[str]) -> list[str]:
    """Of several labels."""
    return [column_of(name) for name in names]
