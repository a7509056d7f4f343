"""Files of image-level probabilities, by whichever classifier: read, and held against labels."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.metrics.classification import auc, curve
from vindr_det.structures.label_sets import FINDINGS, column_of
from vindr_det.tables import csv_row, read_csv, to_numbers

#: Columns that classifiers write; their names tell which of the two probabilities they hold.
P_ABNORMAL, P_NO_FINDING = SIGNS = ("p_abnormal", "p_no_finding")


@dataclass(frozen=True)
class ClassifierOutput:
    """What a classifier says about one image.

    Attributes:
        p_abnormal: P(the image shows any finding).
        findings: (14,) P of each finding; None where the classifier does not tell them.
    """

    p_abnormal: float
    findings: NDArray[np.float64] | None = None


class Column(NamedTuple):
    """A column of probabilities.

    Attributes:
        column: its name in the file.
        says: what its values are, p_abnormal or p_no_finding.
    """

    column: str
    meaning: str


def column_in(
    path: str | Path, column: str | None = None, meaning: str | None = None, allow_inverted: bool = False
) -> Column:
    """Which column of a file holds the probabilities, and what they mean.

    Args:
        path: the file; its header alone is looked at.
        column: None takes p_abnormal or else p_no_finding, whatever ``meaning`` is.
        says: what the values of ``column`` are; None takes what its name says, and P(abnormal) where that
            says nothing. Other people's files do not tell, and both are in use.
        allow_inverted: take a meaning that contradicts the column's own name.

    Raises:
        InputError: no such column, an unknown meaning, or one that the column's name contradicts.
    """
    found = _column(path, read_csv(path, ["image_id"]), column, meaning)
    if found.column in SIGNS and found.meaning != found.column and not allow_inverted:
        raise InputError(f"{path}: column {found.column} is taken for {found.meaning}, expected {found.column} "
                         "as its name says (--allow-inverted)")
    return found


def read_outputs(
    path: str | Path, column: str | None = None, meaning: str | None = None
) -> dict[str, ClassifierOutput]:
    """image id -> what a classifier's file says: :func:`read_probabilities`, and findings where all are told.

    Raises:
        InputError: as there; or a probability of a finding is not in [0, 1].
    """
    frame = read_csv(path, ["image_id"], dtype={"image_id": str})
    p_abnormal = _probabilities(path, frame, column, meaning)
    names = [column_of(name) for name in FINDINGS]
    if not set(names) <= set(frame.columns):
        return {image_id: ClassifierOutput(p) for image_id, p in p_abnormal.items()}
    values = np.column_stack([to_numbers(frame[name]) for name in names])
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)).all(axis=1))
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{path}, row {csv_row(row)}: findings of image {frame['image_id'].iloc[row]} are "
                         f"{values[row].tolist()}, expected 0 to 1")
    return {image_id: ClassifierOutput(p_abnormal[image_id], value)
            for image_id, value in zip(frame["image_id"], values, strict=True)}


def read_probabilities(
    path: str | Path, column: str | None = None, meaning: str | None = None
) -> dict[str, float]:
    """image id -> P(abnormal) from a CSV with a column image_id and one of probabilities.

    Args:
        path: the file.
        column: as of :func:`column_in`.
        says: likewise; hold other people's files against labels with :func:`check_sign`, or against boxes
            with :func:`check_agreement`.

    Raises:
        InputError: a column is missing, an image is repeated, or a value is not in [0, 1].
    """
    return _probabilities(path, read_csv(path, ["image_id"], dtype={"image_id": str}), column, meaning)


def _column(path: str | Path, frame: pd.DataFrame, name: str | None, meaning: str | None) -> Column:
    if name is None:
        name = next((known for known in SIGNS if known in frame), P_ABNORMAL)
        meaning = name
    if meaning is None:
        meaning = name if name in SIGNS else P_ABNORMAL
    if meaning not in SIGNS:
        raise InputError(f"sign {meaning!r}, expected {' or '.join(SIGNS)}")
    if name not in frame:
        raise InputError(f"{path}: has no column {name!r}, expected {' or '.join(SIGNS)} or a name")
    return Column(name, meaning)


def _probabilities(
    path: str | Path, frame: pd.DataFrame, column: str | None, meaning: str | None
) -> dict[str, float]:
    name, meaning = _column(path, frame, column, meaning)
    values = to_numbers(frame[name])
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)) | frame["image_id"].duplicated().to_numpy())
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{path}, row {csv_row(row)}: image {frame['image_id'].iloc[row]} with {name} "
                         f"{frame[name].iloc[row]}, expected each image once and 0 to 1")
    values = values if meaning == P_ABNORMAL else 1 - values
    return dict(zip(frame["image_id"], values.tolist(), strict=True))


def check_sign(
    p_abnormal: Mapping[str, float], abnormal: Mapping[str, bool], source: str, allow_inverted: bool = False
) -> float:
    """AUC of the probabilities against labels, where both know an image.

    Raises:
        InputError: it is below 0.5, which inverted labels explain better than a bad classifier, and
            ``allow_inverted`` is not set; or no image is known to both, or all are of one kind.
    """
    ids = [image_id for image_id in p_abnormal if image_id in abnormal]
    truth = [abnormal[image_id] for image_id in ids]
    if not 0 < sum(truth) < len(truth):
        raise InputError(f"{source}: {len(ids)} of its images have labels, {sum(truth)} of them abnormal; "
                         "expected both kinds, to hold its sign against")
    found = float(auc(curve(truth, [p_abnormal[image_id] for image_id in ids]))[0])
    if found < 0.5 and not allow_inverted:
        raise InputError(f"{source}: AUC of P(abnormal) is {found:.4f} on {len(ids)} labeled images; its "
                         "sign is swapped, expected P(abnormal) where it says p_abnormal")
    return found
