"""The columns of a table of labels: by which names they go, and which values they may hold."""

import re
from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.files import IMAGE_SUFFIXES
from vindr_det.structures.label_sets import CLASS_NAMES, FINDINGS, NIH_LABELS
from vindr_det.tables import csv_row, read_csv, to_numbers

ABNORMAL = "abnormal"
NORMAL = ("No finding", "No Finding")
#: CheXpert's findings under names of its own; Support Devices are none (Irvin et al., 2019).
CHEXPERT_FINDINGS = ("Enlarged Cardiomediastinum", "Lung Lesion", "Pleural Effusion", "Pleural Other",
                     "Fracture")
#: What DATA.UNCERTAIN and DATA.BLANK make of such a label.
MEANING: Mapping[str, float] = {"ignore": float("nan"), "zeros": 0.0, "ones": 1.0}
#: Letters and digits of the names that a column goes by.
_ROLES: Mapping[str, tuple[str, ...]] = {
    "image": ("imageid", "image", "imageindex"), "fold": ("fold",),
    "patient": ("patient", "patientid", "subject", "subjectid")}


def image_id(name: str) -> str:
    """Without an image's suffix; the last number of a UID is none."""
    return Path(name).stem if Path(name).suffix.lower() in IMAGE_SUFFIXES else name


@dataclass(frozen=True)
class LabelColumns:
    """A table as it was read, and what its uncertain and blank labels mean.

    Attributes:
        path: the file.
        frame: its columns.
        uncertain: what a label of -1 is.
        blank: what a blank label is.
    """

    path: str | Path
    frame: pd.DataFrame
    uncertain: float = float("nan")
    blank: float = float("nan")

    @classmethod
    def read(cls, path: str | Path, uncertain: str, blank: str) -> "LabelColumns":
        """From a CSV; see :data:`MEANING`."""
        return cls(path, read_csv(path), MEANING[uncertain], MEANING[blank])

    def refuse(self, bad: NDArray[np.bool_], column: str, expected: str) -> None:
        """Raise for the first of the bad rows."""
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(f"{self.path}, row {csv_row(row)}: {column} is {self._told(column, row)}, "
                             f"expected {expected}")

    def _told(self, column: str, row: int) -> str:
        value = self.frame[column].iloc[row]
        text = "" if pd.isna(value) else str(value).strip()
        return f"{text[:20]}...{text[-4:]}" if len(text) > 60 else text or "blank"

    def labels(self, name: str, opposite: bool = False) -> NDArray[np.float32]:
        """(N,) of one column: 0..1, or what it means that there is none.

        Args:
            name: of the column.
            opposite: the label is what the column denies; zeros and ones are of the label.
        """
        if name not in self.frame:
            raise InputError(f"{self.path}: has no column {name!r}")
        values = to_numbers(self.frame[name])
        blank, uncertain = self.frame[name].isna().to_numpy(), values == -1
        self.refuse(~((values >= 0) & (values <= 1)) & ~blank & ~uncertain, name, "0 to 1, -1 or a blank")
        values = 1 - values if opposite else values
        return np.where(blank, self.blank, np.where(uncertain, self.uncertain, values)).astype(np.float32)

    def abnormal(self, name: str) -> NDArray[np.float32]:
        """(N,) of :data:`ABNORMAL`, or of one of :data:`NORMAL`; a finding decides where it is open."""
        values, given = self.labels(name, name in NORMAL), to_numbers(self.frame[name])
        present = np.zeros(len(self.frame), bool)
        for finding in (*NIH_LABELS, *FINDINGS, *CHEXPERT_FINDINGS):
            if finding in self.frame:
                present |= to_numbers(self.frame[finding]) >= 0.5
        return np.where(present & ~(given >= 0), np.float32(1), values)

    def names(self, role: str, what: str) -> NDArray[np.str_] | None:
        """(N,) of the column of a role, which every row has; None where there is no such column.

        Raises:
            InputError: a row has none, or two columns of the role say different things.
        """
        found = self._columns(role)
        if not found:
            return None
        for name in found:
            self.refuse(self.frame[name].isna().to_numpy(), name, what)
        first, *others = (self.frame[name].astype(str).str.strip().map(image_id) for name in found)
        for name, values in zip(found[1:], others, strict=True):
            self._refuse_pair((first != values).to_numpy(), found[0], name, "the same")
        return (first if role == "image" else self.frame[found[0]].astype(str).str.strip()).to_numpy(str)

    def folds(self) -> NDArray[np.int64]:
        """(N,) from 0; -1 where there is no such column."""
        found = self._columns("fold")
        if not found:
            return np.full(len(self.frame), -1)
        values, column = to_numbers(self.frame[found[0]]), self.frame[found[0]]
        truth = column.map(lambda value: isinstance(value, bool | np.bool_)).to_numpy(bool)
        self.refuse(truth | ~((values >= -1) & (values == np.floor(values)) & (values < 2**31)), found[0],
                    "a whole number from 0, or -1 for none")
        return values.astype(np.int64)

    def _columns(self, role: str) -> list[str]:
        known = {name: re.sub(r"[\W_]", "", str(name)).casefold() for name in self.frame}
        return sorted((name for name in known if known[name] in _ROLES[role]),
                      key=lambda name: _ROLES[role].index(known[name]))

    def refuse_contradictions(self) -> None:
        """Raise for a row that certainly calls an image both normal and abnormal.

        Shares of readers, uncertain and unknown labels contradict nothing, and an image may be abnormal for a
        finding that no column is about.
        """
        certain = {name: to_numbers(self.frame[name]) for name in dict.fromkeys(
            (ABNORMAL, *NORMAL, *NIH_LABELS, *CLASS_NAMES)) if name in self.frame}
        is_one, is_zero = partial(_is, certain, 1.0), partial(_is, certain, 0.0)
        for normal in NORMAL:
            self._refuse_pair(is_one(normal) & is_one(ABNORMAL), normal, ABNORMAL, "one of them to be 0")
            self._refuse_pair(is_zero(normal) & is_zero(ABNORMAL), ABNORMAL, normal, "one of them to be 1")
        for finding in (*NIH_LABELS, *FINDINGS):
            self._refuse_pair(is_zero(ABNORMAL) & is_one(finding), ABNORMAL, finding, "no finding there")
            for normal in NORMAL:
                self._refuse_pair(is_one(normal) & is_one(finding), normal, finding, "no finding there")
        first, second = (certain.get(name) for name in NORMAL)
        if first is not None and second is not None:
            self._refuse_pair(~((first == second) | (np.isnan(first) & np.isnan(second))), *NORMAL,
                              "the same")

    def _refuse_pair(self, bad: NDArray[np.bool_], one: str, other: str, expected: str) -> None:
        if bad.any():
            row = int(np.flatnonzero(bad)[0])
            raise InputError(f"{self.path}, row {csv_row(row)}: {one} is {self._told(one, row)}, but {other} "
                             f"is {self._told(other, row)}, expected {expected}")


def _is(certain: Mapping[str, NDArray[np.float64]], value: float, name: str) -> NDArray[np.bool_]:
    return certain[name] == value if name in certain else np.zeros(1, bool)
