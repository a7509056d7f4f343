"""Tables of image-level labels: what convert_vindr.py and convert_nih.py write, as arrays.

A table is a CSV with ``image_id`` or ``image``, columns of 0..1 named after labels, and, where they are
known, ``fold`` and ``patient``. Values between 0 and 1 are shares of readers.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.categories import CLASS_NAMES, NIH_LABELS, column_of
from vindr_det.errors import InputError
from vindr_det.files import IMAGE_SUFFIXES, csv_row, read_csv, require_texts
from vindr_det.folds import refuse_leaks
from vindr_det.inputs import list_images
from vindr_det.packed import PackedImages

ABNORMAL = "abnormal"
#: DATA.TARGET -> the labels that a model predicts.
TARGETS: Mapping[str, tuple[str, ...]] = {
    ABNORMAL: (ABNORMAL,), "vindr15": CLASS_NAMES, "nih14": NIH_LABELS}
_NORMAL = ("No finding", "No Finding")


@dataclass(frozen=True)
class LabelTable:
    """N images and their labels.

    Attributes:
        image_ids: (N,) the files' stems.
        names: (K,) labels, columns of ``targets``.
        targets: (N, K) float32, 0..1.
        normal: (N,) whether nothing is wrong with the image.
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


def read_table(path: str | Path, target: str) -> LabelTable:
    """A table of labels.

    Args:
        path: CSV.
        target: a key of :data:`TARGETS`.

    Raises:
        InputError: a column is missing, a value is not in 0..1, or an image is repeated.
    """
    if target not in TARGETS:
        raise InputError(f"DATA.TARGET is {target!r}, expected one of {', '.join(TARGETS)}")
    frame = read_csv(path)
    key = next((name for name in ("image_id", "image") if name in frame), None)
    if key is None:
        raise InputError(f"{path}: has no column image_id or image")
    require_texts(path, frame, [key])
    ids = frame[key].map(_image_id).to_numpy(str)
    repeated = pd.Series(ids).duplicated().to_numpy()
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        raise InputError(f"{path}, row {csv_row(row)}: image {ids[row]} is repeated")
    groups, what = (frame["patient"].to_numpy(str), "patient") if "patient" in frame else (ids, "image")
    folds = frame["fold"].to_numpy(np.int64) if "fold" in frame else np.full(len(frame), -1)
    return LabelTable(ids, TARGETS[target], _targets(path, frame, target), _abnormal(path, frame) == 0,
                      groups, folds, what)


def _image_id(name: str) -> str:
    """Without an image's suffix; the last number of a UID is none."""
    return Path(name).stem if Path(name).suffix.lower() in IMAGE_SUFFIXES else name


def _targets(path: str | Path, frame: pd.DataFrame, target: str) -> NDArray[np.float32]:
    if target == ABNORMAL:
        return _abnormal(path, frame)[:, None]
    return np.column_stack([_values(path, frame, name) for name in TARGETS[target]])


def _abnormal(path: str | Path, frame: pd.DataFrame) -> NDArray[np.float32]:
    if ABNORMAL in frame:
        return _values(path, frame, ABNORMAL)
    name = next((name for name in _NORMAL if name in frame), None)
    if name is not None:
        return 1 - _values(path, frame, name)
    known = [name for name in (*NIH_LABELS, *CLASS_NAMES) if name in frame]
    if not known:
        raise InputError(f"{path}: has no column {ABNORMAL}, {' or '.join(_NORMAL)}, nor one of a label")
    return np.max([_values(path, frame, name) for name in known], axis=0)


def _values(path: str | Path, frame: pd.DataFrame, name: str) -> NDArray[np.float32]:
    if name not in frame:
        raise InputError(f"{path}: has no column {name!r}")
    values = pd.to_numeric(frame[name], errors="coerce").to_numpy(np.float32)
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(bad):
        raise InputError(f"{path}, row {csv_row(int(bad[0]))}: {name} is {frame[name].iloc[bad[0]]}, "
                         "expected 0 to 1")
    return values


@dataclass(frozen=True)
class Tables:
    """What a config's DATA describes.

    Attributes:
        table: images to train on and, fold by fold, to hold out.
        validation: held out instead of folds, where there is a list of its own.
        test: never trained on, never chosen by.
    """

    table: LabelTable
    validation: LabelTable | None
    test: LabelTable | None


def read_tables(cfg: Any) -> Tables:
    """DATA.LABELS, VALIDATION and TEST, without images that are not there if DATA.PARTIAL.

    Raises:
        InputError: a table is faulty, an image is missing, or a patient stands in two parts.
    """
    node = cfg.DATA
    table = _present(read_table(node.LABELS, node.TARGET), cfg)
    validation, test = (_present(read_table(path, node.TARGET), cfg) if path else None
                        for path in (node.VALIDATION, node.TEST))
    if validation is None:
        held = table.folds < 0
        if held.all():
            raise InputError(f"{node.LABELS}: has no folds, expected a column fold, or DATA.VALIDATION")
        table = table[~held]
        parts = {f"fold {fold}": table.groups[table.folds == fold] for fold in np.unique(table.folds)}
    else:
        parts = {"DATA.LABELS": table.groups, "DATA.VALIDATION": validation.groups}
    if test is not None:
        parts["DATA.TEST"] = test.groups
    refuse_leaks(parts, table.what)
    return Tables(table, validation, test)


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
