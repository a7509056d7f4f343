"""Tables with labels of whole images: NIH's Data_Entry table, and any table of 0/1 columns.

What such a table tells of the patients is read too: age, sex, view, follow-up.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np
import pandas as pd

from vindr_det.data.nih import patient_of, read_labels
from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of
from vindr_det.structures.label_sets import NIH
from vindr_det.tables import as_numbers, letters_of, read_csv, refuse_first

log = logging.getLogger(__name__)

#: Columns whose names, reduced to letters and digits, are known, and what they hold.
ROLES: Mapping[str, tuple[str, ...]] = {
    "image": ("imageindex", "imageid", "image", "filename"), "patient": ("patientid", "patient", "subjectid"),
    "age": ("patientage", "age"), "sex": ("patientgender", "patientsex", "gender", "sex"),
    "view": ("viewposition", "view"), "follow_up": ("followup",), "fold": ("fold",)}
_NONE = ("nofinding", "normal")
# Years per unit of an age such as 058Y, 011M or 003D.
_YEARS = {"": 1.0, "Y": 1.0, "M": 1 / 12, "W": 7 / 365.25, "D": 1 / 365.25}


@dataclass(frozen=True)
class ImageLabels:
    """N images and their labels.

    Attributes:
        frame: (N rows) ``image``; ``patient``, ``age`` (years), ``sex``, ``view`` and ``follow_up`` where the
            table has them; and the labels, 0 or 1.
        labels: names of the labels' columns.
        columns: a row per column of the table: type, empty values, distinct values, what it is taken for.
    """

    frame: pd.DataFrame
    labels: tuple[str, ...]
    columns: pd.DataFrame

    @property
    def findings(self) -> list[str]:
        """The labels but those that stand for "none of the findings"."""
        return [name for name in self.labels if letters_of(name) not in _NONE]

    def only(self, names: Sequence[str], source: str) -> "ImageLabels":
        """The images with these names or ids.

        Raises:
            InputError: names the first that the table lacks.
        """
        wanted = pd.Series([image_id_of(name) for name in names], dtype=object)
        ids = self.frame["image"].map(image_id_of)
        unknown = wanted[~wanted.isin(ids)]
        if len(unknown):
            raise InputError(f"{source}: image {unknown.iloc[0]} is not in the table "
                             f"({len(unknown)} are not)")
        return replace(self, frame=self.frame[ids.isin(wanted)].reset_index(drop=True))


def has_image_labels(path: str | Path) -> bool:
    """Whether a table has labels of images, in contrast to boxes.

    Raises:
        InputError: the file is missing, or is no table.
    """
    columns = {letters_of(name) for name in read_csv(path)}
    return not {"classid", "classname", "xmin"} & columns


def read_image_labels(path: str | Path) -> ImageLabels:
    """Read NIH's Data_Entry table, or one with an image's name and 0/1 columns.

    Raises:
        InputError: no column of images or of labels, an image is repeated, or what
            :func:`vindr_det.data.nih.read_labels` refuses.
    """
    table = read_csv(path)
    roles = _roles(table)
    if "Finding Labels" in table:
        labels = read_labels(path)[list(NIH.classes)]
    else:
        labels = _zeros_and_ones(path, table.drop(columns=list(roles.values())))
    if "image" not in roles:
        raise InputError(f"{path}: has no column of images, expected Image Index, image_id or image")
    frame = _facts(path, table, roles)
    meanings = {column: role for role, column in roles.items()} | dict.fromkeys(labels, "label")
    meanings["Finding Labels"] = "labels"
    return ImageLabels(pd.concat([frame, labels], axis=1), tuple(labels), _columns(table, meanings))


def _roles(table: pd.DataFrame) -> dict[str, str]:
    """Role -> column."""
    columns = {letters_of(str(name)): str(name) for name in table}
    known = {role: next((columns[name] for name in names if name in columns), None)
             for role, names in ROLES.items()}
    return {role: column for role, column in known.items() if column is not None}


def _zeros_and_ones(path: str | Path, table: pd.DataFrame) -> pd.DataFrame:
    names = [name for name in table if table[name].isin([0, 1]).all()]
    if not names:
        raise InputError(f"{path}: has no column of labels, expected Finding Labels, or columns of 0 and 1; "
                         f"it has {', '.join(map(str, table))}")
    others = [str(name) for name in table if name not in names]
    if others:
        log.warning("%s: not counted, since they hold other values than 0 and 1: %s", path, ", ".join(others))
    return table[names].astype(np.int8)


def _facts(path: str | Path, table: pd.DataFrame, roles: Mapping[str, str]) -> pd.DataFrame:
    frame = pd.DataFrame({role: table[column] for role, column in roles.items() if role != "fold"})
    images = frame["image"] = frame["image"].astype(str)
    refuse_first(path, images.duplicated(), lambda i: f"image {images.iloc[i]} is repeated")
    if "patient" not in frame and (patient_of(images) >= 0).all():
        frame["patient"] = patient_of(images)
    if "age" in frame:
        frame["age"] = years_of(frame["age"])
    if "follow_up" in frame:
        frame["follow_up"] = as_numbers(frame["follow_up"])
    return frame


def years_of(ages: pd.Series) -> pd.Series:
    """Ages such as 58, 058Y or 011M in years; NaN for what is no age."""
    parts = ages.astype(str).str.strip().str.extract(r"^(\d+(?:\.\d+)?)([YMWD]?)$")
    return as_numbers(parts[0]) * parts[1].map(_YEARS)


def _columns(table: pd.DataFrame, meanings: Mapping[str, str]) -> pd.DataFrame:
    return pd.DataFrame({
        "type": table.dtypes.astype(str), "empty": table.isna().sum(), "distinct": table.nunique(),
        "taken_for": [meanings.get(str(name), "not counted") for name in table]}).rename_axis("column")
