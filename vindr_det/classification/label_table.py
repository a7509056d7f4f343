"""A table of image-level labels (CSV) as arrays: its column names, its values, and what they mean.

A table has ``image_id`` or ``image``, columns of 0..1 named after labels and, where they are known, ``fold``
and ``patient``; ``vindr-det convert vinbigdata`` and ``vindr-det convert nih`` write such tables. Values
between 0 and 1 are fractions of readers, -1 is uncertain and a blank unknown. Unknown labels are NaN in
targets; losses and metrics ignore them.
"""

import difflib
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.classification.targets import ABNORMAL, labels_of_target
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json, image_id_in_table
from vindr_det.structures.label_sets import CLASS_NAMES, FINDINGS, NIH_LABELS, column_of
from vindr_det.tables import csv_row, read_csv, refuse_first, to_numbers, whole_number

NORMAL = ("No finding", "No Finding")
#: CheXpert's findings that have no VinBigData or NIH name; Support Devices is none (Irvin et al., 2019).
CHEXPERT_FINDINGS = ("Enlarged Cardiomediastinum", "Lung Lesion", "Pleural Effusion", "Pleural Other",
                     "Fracture")
#: DATA.UNCERTAIN and DATA.BLANK -> the target of such a label.
LABEL_POLICIES: Mapping[str, float] = {"ignore": float("nan"), "zeros": 0.0, "ones": 1.0}
#: Role of a column -> its accepted names, reduced to letters and digits.
_ROLES: Mapping[str, tuple[str, ...]] = {
    "image": ("imageid", "image", "imageindex"), "fold": ("fold",),
    "patient": ("patient", "patientid", "subject", "subjectid")}


@dataclass(frozen=True)
class LabelTable:
    """N images and their K labels.

    Attributes:
        image_ids: (N,) file names without suffix.
        names: (K,) labels, columns of ``targets``.
        targets: (N, K) float32, 0..1; NaN where unknown.
        normal: (N,) whether the image is known to be without any finding.
        groups: (N,) patients where they are known, else image ids.
        folds: (N,) from 0; -1 where there is none.
        group_kind: ``patient`` or ``image``, what ``groups`` holds.
        known: (N,) whether normal or abnormal is known; None where it is for all images.
    """

    image_ids: NDArray[np.str_]
    names: tuple[str, ...]
    targets: NDArray[np.float32]
    normal: NDArray[np.bool_]
    groups: NDArray[np.str_]
    folds: NDArray[np.int64]
    group_kind: str = "image"
    known: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def abnormal(self) -> NDArray[np.bool_]:
        """(N,) whether the image is known to have a finding; unknown is neither normal nor abnormal."""
        return ~self.normal if self.known is None else ~self.normal & self.known

    def one_class(self) -> bool:
        """Whether every label has a single value among the images for which it is known."""
        columns = (column[~np.isnan(column)] for column in self.targets.T)
        return not any(len(column) and column.min() < column.max() for column in columns)

    def __getitem__(self, rows: Any) -> "LabelTable":
        """Some of the images, by mask or indices."""
        return replace(self, image_ids=self.image_ids[rows], targets=self.targets[rows],
                       normal=self.normal[rows], groups=self.groups[rows], folds=self.folds[rows],
                       known=None if self.known is None else self.known[rows])


def subsample_normals(table: LabelTable, fraction: float, seed: int) -> LabelTable:
    """Keep a random ``fraction`` of the normal images and all others."""
    normal = np.flatnonzero(table.normal)
    kept = np.random.default_rng(seed).permutation(normal)[: round(fraction * len(normal))]
    rows = np.sort(np.concatenate([np.flatnonzero(~table.normal), kept]))
    return table[rows]


def columns_of(names: Sequence[str]) -> list[str]:
    """Probability columns of labels, such as ``p_abnormal``."""
    return [column_of(name) for name in names]


def read_table(
    path: str | Path, target: str | Sequence[str], uncertain: str = "ignore", blank: str = "ignore"
) -> LabelTable:
    """Read a table of labels.

    Args:
        path: CSV.
        target: as DATA.TARGET; other columns of labels may be missing.
        uncertain: what a label of -1 becomes, a key of :data:`LABEL_POLICIES`.
        blank: what a blank label becomes, likewise.

    Raises:
        InputError: a column is missing, a value is not in 0..1, a fold or patient is blank, or an image is
            repeated.
    """
    names = labels_of_target(target)
    source = _LabelFile(path, _read(path), LABEL_POLICIES[uncertain], LABEL_POLICIES[blank])
    identity = _identities(source)
    source.check_consistent()
    labels = {name: source.labels(name) for name in names if name != ABNORMAL}
    abnormal = source.abnormal(names)
    targets = np.column_stack([labels.get(name, abnormal) for name in names])
    known = ~np.isnan(abnormal)
    return LabelTable(identity.image_ids, names, targets, abnormal == 0, identity.groups, source.folds(),
                      identity.group_kind, None if known.all() else known)


@dataclass(frozen=True)
class Identities:
    """N images and their patients.

    Attributes:
        image_ids: (N,) file names without suffix.
        groups: (N,) patients where they are known, else image ids.
        group_kind: ``patient`` or ``image``, what ``groups`` holds.
    """

    image_ids: NDArray[np.str_]
    groups: NDArray[np.str_]
    group_kind: str

    def __len__(self) -> int:
        return len(self.image_ids)


def read_identities(path: str | Path) -> Identities:
    """The images and patients of a table, whatever its labels.

    Raises:
        InputError: a column is missing, a patient is blank, or an image is repeated.
    """
    return _identities(_LabelFile(path, _read(path), 0, 0))


def _read(path: str | Path) -> pd.DataFrame:
    if holds_json(path):
        raise InputError(f"{path}: is JSON, expected a table (CSV)")
    return read_csv(path)


def _identities(source: "_LabelFile") -> Identities:
    ids = source.identifiers("image", "an image's name")
    if ids is None:
        raise InputError(f"{source.path}: has no column image_id or image")
    repeated = pd.Series(ids).duplicated().to_numpy()
    if repeated.any():
        row = int(np.flatnonzero(repeated)[0])
        raise InputError(f"{source.path}, row {csv_row(row)}: image {ids[row]} is repeated")
    patients = source.identifiers("patient", "a name")
    return Identities(ids, ids, "image") if patients is None else Identities(ids, patients, "patient")


@dataclass(frozen=True)
class _LabelFile:
    """A table as it was read.

    Attributes:
        path: the file.
        frame: its columns.
        uncertain: the target of a label of -1.
        blank: the target of a blank label.
    """

    path: str | Path
    frame: pd.DataFrame
    uncertain: float
    blank: float

    def labels(self, name: str, negate: bool = False) -> NDArray[np.float32]:
        """(N,) 0..1 of a column, or what uncertain and blank labels become.

        Args:
            name: of the column.
            negate: the label is the complement of the column; uncertain and blank refer to the label.
        """
        if name not in self.frame:
            columns = self.frame.columns.astype(str).tolist()
            raise InputError(f"{self.path}: has no column {name!r}, expected a label such as "
                             f"{', '.join(difflib.get_close_matches(name, columns, 3, 0.5) or columns[:20])}")
        values = to_numbers(self.frame[name])
        blank, uncertain = self.frame[name].isna().to_numpy(), values == -1
        self._check(~((values >= 0) & (values <= 1)) & ~blank & ~uncertain, name, "0 to 1, -1 or a blank")
        values = 1 - values if negate else values
        return np.where(blank, self.blank, np.where(uncertain, self.uncertain, values)).astype(np.float32)

    def abnormal(self, asked: Sequence[str]) -> NDArray[np.float32]:
        """(N,) P(any finding), by the column abnormal, else by no finding, else by the findings' columns.

        Args:
            asked: labels that count as findings beside those of NIH and VinBigData.
        """
        own = next((name for name in (ABNORMAL, *NORMAL) if name in self.frame), None)
        if own is not None:
            values, stated = self.labels(own, negate=own in NORMAL), to_numbers(self.frame[own])
            return np.where(self._has_finding() & ~(stated >= 0), np.float32(1), values)
        known = [name for name in dict.fromkeys([*NIH_LABELS, *CLASS_NAMES, *asked]) if name in self.frame]
        if not known:
            raise InputError(f"{self.path}: has no column {ABNORMAL}, {' or '.join(NORMAL)}, nor one of a "
                             "label")
        labels = np.column_stack([self.labels(name) for name in known])
        highest = np.nan_to_num(labels).max(axis=1)
        # One finding makes an image abnormal, whether or not the other labels are known.
        return np.where((highest < 0.5) & np.isnan(labels).any(axis=1), np.float32("nan"), highest)

    def _has_finding(self) -> NDArray[np.bool_]:
        present = np.zeros(len(self.frame), bool)
        for finding in (*NIH_LABELS, *FINDINGS, *CHEXPERT_FINDINGS):
            if finding in self.frame:
                present |= to_numbers(self.frame[finding]) >= 0.5
        return present

    def identifiers(self, role: str, expected: str) -> NDArray[np.str_] | None:
        """(N,) image or patient ids; None where the table has no such column.

        Args:
            role: ``image`` or ``patient``.
            expected: names a valid value in the error.

        Raises:
            InputError: a row has none, or two columns of the role disagree.
        """
        columns = self._columns(role)
        if not columns:
            return None
        for name in columns:
            self._check(self.frame[name].isna().to_numpy(), name, expected)
        stripped = [self.frame[name].astype(str).str.strip() for name in columns]
        as_id = image_id_in_table if role == "image" else whole_number
        first, *others = (values.map(as_id) for values in stripped)
        for name, values in zip(columns[1:], others, strict=True):
            self._check_pair((first != values).to_numpy(), columns[0], name, "the same")
        return first.to_numpy(str)

    def folds(self) -> NDArray[np.int64]:
        """(N,) from 0; -1 where the table has no such column."""
        columns = self._columns("fold")
        if not columns:
            return np.full(len(self.frame), -1)
        values, column = to_numbers(self.frame[columns[0]]), self.frame[columns[0]]
        boolean = column.map(lambda value: isinstance(value, bool | np.bool_)).to_numpy(bool)
        self._check(boolean | ~((values >= -1) & (values == np.floor(values)) & (values < 2**31)), columns[0],
                    "a whole number from 0, or -1 for none")
        return values.astype(np.int64)

    def _columns(self, role: str) -> list[str]:
        reduced = {name: re.sub(r"[\W_]", "", str(name)).casefold() for name in self.frame}
        return sorted((name for name in reduced if reduced[name] in _ROLES[role]),
                      key=lambda name: _ROLES[role].index(reduced[name]))

    def check_consistent(self) -> None:
        """Refuse a row whose certain labels call an image both normal and abnormal.

        Fractions of readers, uncertain and unknown labels contradict nothing, and an image may be abnormal
        for a finding that has no column.
        """
        certain = {name: to_numbers(self.frame[name]) for name in dict.fromkeys(
            (ABNORMAL, *NORMAL, *NIH_LABELS, *CLASS_NAMES)) if name in self.frame}
        is_one, is_zero = partial(_equals, certain, 1.0), partial(_equals, certain, 0.0)
        for normal in NORMAL:
            self._check_pair(is_one(normal) & is_one(ABNORMAL), normal, ABNORMAL, "one of them to be 0")
            self._check_pair(is_zero(normal) & is_zero(ABNORMAL), ABNORMAL, normal, "one of them to be 1")
        for finding in (*NIH_LABELS, *FINDINGS):
            self._check_pair(is_zero(ABNORMAL) & is_one(finding), ABNORMAL, finding, "no finding there")
            for normal in NORMAL:
                self._check_pair(is_one(normal) & is_one(finding), normal, finding, "no finding there")
        first, second = (certain.get(name) for name in NORMAL)
        if first is not None and second is not None:
            self._check_pair(~((first == second) | (np.isnan(first) & np.isnan(second))), *NORMAL, "the same")

    def _check(self, bad: NDArray[np.bool_], column: str, expected: str) -> None:
        refuse_first(self.path, bad, lambda row: f"{column} is {self._shown(column, row)}, expected "
                     f"{expected}")

    def _check_pair(self, bad: NDArray[np.bool_], first: str, second: str, expected: str) -> None:
        refuse_first(self.path, bad, lambda row: f"{first} is {self._shown(first, row)}, but {second} is "
                     f"{self._shown(second, row)}, expected {expected}")

    def _shown(self, column: str, row: int) -> str:
        value = self.frame[column].iloc[row]
        text = "" if pd.isna(value) else str(value).strip()
        return f"{text[:20]}...{text[-4:]}" if len(text) > 60 else text or "blank"


def _equals(certain: Mapping[str, NDArray[np.float64]], value: float, name: str) -> NDArray[np.bool_]:
    return certain[name] == value if name in certain else np.zeros(1, bool)
