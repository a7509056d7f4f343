"""Tables of image-level labels: what convert_vindr.py and convert_nih.py write, as arrays.

A table is a CSV with ``image_id`` or ``image``, columns of 0..1 named after labels, and, where they are
known, ``fold`` and ``patient``. Values between 0 and 1 are shares of readers, -1 is uncertain and a blank
unknown; what is not known is NaN in targets, and neither losses nor metrics look at it.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.categories import CLASS_NAMES, NIH_LABELS, column_of
from vindr_det.errors import InputError
from vindr_det.files import IMAGE_SUFFIXES, csv_row, read_csv
from vindr_det.folds import refuse_leaks
from vindr_det.inputs import list_images
from vindr_det.packed import PackedImages

log = logging.getLogger(__name__)

ABNORMAL = "abnormal"
#: DATA.TARGET -> the labels that a model predicts.
TARGETS: Mapping[str, tuple[str, ...]] = {
    ABNORMAL: (ABNORMAL,), "vindr15": CLASS_NAMES, "nih14": NIH_LABELS}
_NORMAL = ("No finding", "No Finding")
#: What DATA.UNCERTAIN and DATA.BLANK make of such a label.
_MEANING: Mapping[str, float] = {"ignore": float("nan"), "zeros": 0.0, "ones": 1.0}


@dataclass(frozen=True)
class LabelTable:
    """N images and their labels.

    Attributes:
        image_ids: (N,) the files' stems.
        names: (K,) labels, columns of ``targets``.
        targets: (N, K) float32, 0..1; NaN where it is not known.
        normal: (N,) whether nothing is known to be wrong with the image.
        groups: (N,) patients where they are known, else image ids.
        folds: (N,) from 0; -1 where there is none.
        what: ``patient`` or ``image``: what groups hold.
    """

    image_ids: NDArray[np.str_]
    names: tuple[str, ...]
    targets: NDArray[np.float32]
    normal: NDArray[np.bool_]
    groups: NDArray[np.str_]
    folds: NDArray[np.int64]
    what: str = "image"

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, rows: Any) -> "LabelTable":
        """A part, by mask or indices."""
        return replace(self, image_ids=self.image_ids[rows], targets=self.targets[rows],
                       normal=self.normal[rows], groups=self.groups[rows], folds=self.folds[rows])


@dataclass(frozen=True)
class _Source:
    """A table as it was read, and what its uncertain and blank labels mean."""

    path: str | Path
    frame: pd.DataFrame
    uncertain: float
    blank: float

    def refuse(self, bad: NDArray[np.bool_], column: str, expected: str) -> None:
        """Raise for the first of the bad rows."""
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            value = self.frame[column].iloc[row]
            told = "blank" if pd.isna(value) or not str(value).strip() else value
            raise InputError(f"{self.path}, row {csv_row(row)}: {column} is {told}, expected {expected}")

    def labels(self, name: str) -> NDArray[np.float32]:
        """(N,) of one column: 0..1, or what it means that there is none."""
        if name not in self.frame:
            raise InputError(f"{self.path}: has no column {name!r}")
        values = pd.to_numeric(self.frame[name], errors="coerce").to_numpy(np.float32, copy=True)
        blank, uncertain = self.frame[name].isna().to_numpy(), values == -1
        self.refuse(~((values >= 0) & (values <= 1)) & ~blank & ~uncertain, name, "0 to 1, -1 or a blank")
        values[blank], values[uncertain] = self.blank, self.uncertain
        return values

    def names(self, column: str, what: str) -> NDArray[np.str_]:
        """(N,) of a column that every row has."""
        values = self.frame[column].str.strip().replace("", None)
        self.refuse(values.isna().to_numpy(), column, what)
        return values.to_numpy(str)

    def folds(self) -> NDArray[np.int64]:
        """(N,) from 0; -1 where there is no such column."""
        if "fold" not in self.frame:
            return np.full(len(self.frame), -1)
        values = pd.to_numeric(self.frame["fold"], errors="coerce").to_numpy(float)
        self.refuse(~((values >= -1) & (values == np.floor(values)) & (values < 2**31)), "fold",
                    "a whole number from 0, or -1 for none")
        return values.astype(np.int64)


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
    frame = read_csv(path)
    source = _Source(path, frame, _MEANING[uncertain], _MEANING[blank])
    key = next((name for name in ("image_id", "image") if name in frame), None)
    if key is None:
        raise InputError(f"{path}: has no column image_id or image")
    ids = np.array([_image_id(name) for name in source.names(key, "an image's name")], dtype=str)
    repeated = pd.Series(ids).duplicated().to_numpy()
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        raise InputError(f"{path}, row {csv_row(row)}: image {ids[row]} is repeated")
    groups, what = (source.names("patient", "a name"), "patient") if "patient" in frame else (ids, "image")
    abnormal = _abnormal(source)
    targets = np.column_stack([abnormal if name == ABNORMAL else source.labels(name) for name in wanted])
    return LabelTable(ids, wanted, targets, abnormal == 0, groups, source.folds(), what)


def _image_id(name: str) -> str:
    """Without an image's suffix; the last number of a UID is none."""
    return Path(name).stem if Path(name).suffix.lower() in IMAGE_SUFFIXES else name


def _abnormal(source: _Source) -> NDArray[np.float32]:
    if ABNORMAL in source.frame:
        return source.labels(ABNORMAL)
    name = next((name for name in _NORMAL if name in source.frame), None)
    if name is not None:
        return 1 - source.labels(name)
    known = [name for name in (*NIH_LABELS, *CLASS_NAMES) if name in source.frame]
    if not known:
        raise InputError(f"{source.path}: has no column {ABNORMAL}, {' or '.join(_NORMAL)}, nor one of a "
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


def read_tables(cfg: Any) -> Tables:
    """DATA.LABELS, VALIDATION, TEST and CALIBRATION, without images that are not there if DATA.PARTIAL.

    Raises:
        InputError: a table is faulty, an image is missing, or a patient stands in two parts.
    """
    node = cfg.DATA
    table, validation, test, calibration = (
        _present(read_table(path, node.TARGET, node.UNCERTAIN, node.BLANK), cfg) if path else None
        for path in (node.LABELS, node.VALIDATION, node.TEST, node.CALIBRATION))
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
        parts = {f"fold {fold}": table.groups[table.folds == fold] for fold in np.unique(table.folds)}
    else:
        parts = {"DATA.LABELS": table.groups, "DATA.VALIDATION": validation.groups}
    others = {"DATA.TEST": test, "DATA.CALIBRATION": calibration}
    refuse_leaks(parts | {name: one.groups for name, one in others.items() if one is not None}, table.what)
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
    where = cfg.DATA.PACKED or cfg.DATA.IMAGES
    if not cfg.DATA.PARTIAL or not there.any():
        first = table.image_ids[~there][0]
        raise InputError(f"{where}: {(~there).sum()} of {len(table)} labelled images are missing, the first "
                         f"is {first}; DATA.PARTIAL True goes on with the others")
    return table[there]


def thin_normal(table: LabelTable, share: float, seed: int) -> LabelTable:
    """Keep a ``share`` of the normal images, chosen at random."""
    normal = np.flatnonzero(table.normal)
    kept = np.random.default_rng(seed).permutation(normal)[: round(share * len(normal))]
    rows = np.sort(np.concatenate([np.flatnonzero(~table.normal), kept]))
    return table[rows]


def columns_of(names: Sequence[str]) -> list[str]:
    """Of several labels."""
    return [column_of(name) for name in names]
