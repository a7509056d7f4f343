"""Files of image-level probabilities by any classifier: read them, and check them against labels."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.metrics.classification import auc, curve
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet, column_of
from vindr_det.tables import csv_row, read_csv, to_numbers

#: What a probability may mean: that the image has any finding, or that it has none. Columns of these names
#: state it.
P_ABNORMAL, P_NO_FINDING = MEANINGS = ("p_abnormal", "p_no_finding")


@dataclass(frozen=True)
class ClassifierOutput:
    """A classifier's probabilities for one image.

    Attributes:
        p_abnormal: P(any finding).
        findings: (C,) P of each finding; None where the classifier does not predict them all.
        label_set: of the findings.
        columns: all probabilities of a classifier that was run, by their names in its table.
    """

    p_abnormal: float
    findings: NDArray[np.float64] | None = None
    label_set: LabelSet = VINBIGDATA
    columns: Mapping[str, float] = field(default_factory=dict)

    @property
    def named(self) -> dict[str, float]:
        """All probabilities by name; of findings as in the table of a classifier."""
        findings = {} if self.findings is None else {
            column_of(name): float(p) for name, p in zip(self.label_set.findings, self.findings, strict=True)}
        return dict(self.columns) or {P_ABNORMAL: self.p_abnormal, **findings}


class ProbabilityColumn(NamedTuple):
    """A column of probabilities.

    Attributes:
        column: its name in the file.
        meaning: of its values, p_abnormal or p_no_finding.
    """

    column: str
    meaning: str

    @classmethod
    def from_json(cls, values: Mapping[str, Any]) -> "ProbabilityColumn":
        """The reverse of ``_asdict``; files of earlier versions call the meaning ``says``."""
        return cls(values["column"], values["meaning"] if "meaning" in values else values["says"])


def find_probability_column(
    path: str | Path, column: str | None = None, meaning: str | None = None, allow_inverted: bool = False
) -> ProbabilityColumn:
    """Which column of a file holds the probabilities, and what they mean.

    Args:
        path: the file; only its header is read.
        column: its name; None takes p_abnormal or else p_no_finding, whatever ``meaning`` is.
        meaning: of its values; None takes the column's name, and p_abnormal where that is neither of both.
        allow_inverted: accept a meaning that contradicts the column's name.

    Raises:
        InputError: no such column, an unknown meaning, or a meaning that the column's name contradicts.
    """
    result = _find(path, read_csv(path, ["image_id"]), column, meaning)
    if result.column in MEANINGS and result.meaning != result.column and not allow_inverted:
        raise InputError(f"{path}: column {result.column} is taken for {result.meaning}, expected "
                         f"{result.column} as its name states (--allow-inverted)")
    return result


def read_classifier_outputs(
    path: str | Path, column: str | None = None, meaning: str | None = None, label_set: LabelSet = VINBIGDATA
) -> dict[str, ClassifierOutput]:
    """image id -> :func:`read_probabilities`, with P of each finding where the file has all of them.

    Args:
        path: as there.
        column: likewise.
        meaning: likewise.
        label_set: of the findings, whose columns are ``p_<finding>``.

    Raises:
        InputError: as there; or a probability of a finding is not in [0, 1].
    """
    frame = read_csv(path, ["image_id"], dtype={"image_id": str})
    p_abnormal = _p_abnormal(path, frame, column, meaning)
    names = [column_of(name) for name in label_set.findings]
    if not set(names) <= set(frame.columns):
        return {image_id: ClassifierOutput(p) for image_id, p in p_abnormal.items()}
    values = np.column_stack([to_numbers(frame[name]) for name in names])
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)).all(axis=1))
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{path}, row {csv_row(row)}: findings of image {frame['image_id'].iloc[row]} are "
                         f"{values[row].tolist()}, expected 0 to 1")
    return {image_id: ClassifierOutput(p_abnormal[image_id], value, label_set)
            for image_id, value in zip(frame["image_id"], values, strict=True)}


def read_probabilities(
    path: str | Path, column: str | None = None, meaning: str | None = None
) -> dict[str, float]:
    """image id -> P(abnormal), from a CSV with a column image_id and one of probabilities.

    Args:
        path: the file.
        column: as of :func:`find_probability_column`.
        meaning: likewise; check other people's files with :func:`check_not_inverted`.

    Raises:
        InputError: a column is missing, an image is repeated, or a value is not in [0, 1].
    """
    return _p_abnormal(path, read_csv(path, ["image_id"], dtype={"image_id": str}), column, meaning)


def _find(
    path: str | Path, frame: pd.DataFrame, name: str | None, meaning: str | None
) -> ProbabilityColumn:
    if name is None:
        name = next((known for known in MEANINGS if known in frame), P_ABNORMAL)
        meaning = name
    if meaning is None:
        meaning = name if name in MEANINGS else P_ABNORMAL
    if meaning not in MEANINGS:
        raise InputError(f"meaning {meaning!r}, expected {' or '.join(MEANINGS)}")
    if name not in frame:
        raise InputError(f"{path}: has no column {name!r}, expected {' or '.join(MEANINGS)} or a name")
    return ProbabilityColumn(name, meaning)


def _p_abnormal(
    path: str | Path, frame: pd.DataFrame, column: str | None, meaning: str | None
) -> dict[str, float]:
    name, meaning = _find(path, frame, column, meaning)
    values = to_numbers(frame[name])
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)) | frame["image_id"].duplicated().to_numpy())
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{path}, row {csv_row(row)}: image {frame['image_id'].iloc[row]} with {name} "
                         f"{frame[name].iloc[row]}, expected each image once and 0 to 1")
    values = values if meaning == P_ABNORMAL else 1 - values
    return dict(zip(frame["image_id"], values.tolist(), strict=True))


def check_not_inverted(
    p_abnormal: Mapping[str, float], abnormal: Mapping[str, bool], source: str, allow_inverted: bool = False
) -> float:
    """AUC of P(abnormal) on the images that have a label.

    Args:
        p_abnormal: image id -> P(abnormal).
        abnormal: image id -> truth.
        source: names the probabilities in errors.
        allow_inverted: accept an AUC below 0.5.

    Raises:
        InputError: the AUC is below 0.5, which inverted probabilities explain better than a bad classifier;
            or no image has a label, or all labels are the same.
    """
    ids = [image_id for image_id in p_abnormal if image_id in abnormal]
    truth = [abnormal[image_id] for image_id in ids]
    if not 0 < sum(truth) < len(truth):
        raise InputError(f"{source}: {len(ids)} of its images have labels, {sum(truth)} of them abnormal; "
                         "expected normal and abnormal ones, to check whether the probabilities are inverted")
    area = float(auc(curve(truth, [p_abnormal[image_id] for image_id in ids]))[0])
    if area < 0.5 and not allow_inverted:
        raise InputError(f"{source}: AUC of P(abnormal) is {area:.4f} on {len(ids)} labeled images; its "
                         "probabilities are inverted (P(no finding) instead of P(abnormal))")
    return area
