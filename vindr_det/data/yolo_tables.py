"""The tables beside YOLO's folders, with what YOLO's files cannot hold."""

import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import replace
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.box_rows import class_ids, row_of
from vindr_det.data.release import own_patients
from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record
from vindr_det.tables import as_numbers, letters_of, read_csv, refuse_first

#: Tables beside data.yaml: original sizes, names and patients; unknown findings; who drew a box.
META, UNKNOWN, READERS = "meta.csv", "unknown.csv", "readers.csv"
# Joins the readers of a box.
_SEPARATOR = "|"
# The letters of columns such as patient_id and Patient ID.
_PATIENT = ("patient", "patientid")


def readers_text(names: Sequence[str]) -> str:
    """Readers' names in a text; ``|`` and ``%`` in a name are written as in URLs."""
    text = _SEPARATOR.join(name.replace("%", "%25").replace(_SEPARATOR, "%7C") for name in names)
    # A single one may be called NA, which tables take for no value.
    return text + _SEPARATOR if len(names) == 1 and not re.search("[0-9]", text) else text


def readers_of(text: str) -> tuple[str, ...]:
    """The names in a text of :func:`readers_text`."""
    return tuple(name.replace("%7C", _SEPARATOR).replace("%25", "%")
                 for name in text.split(_SEPARATOR) if name)


def names_its_image(file_name: str, image_id: str) -> bool:
    """Whether a file's name is that of an image: its stem, or its path where stems are shared."""
    path = PurePath(file_name)
    return image_id in (image_id_of(path), "_".join([*path.parts[:-1], image_id_of(path)]),
                        "_".join(path.parts))


def original_names(path: Path, known: Collection[str]) -> dict[str, str]:
    """Image id -> the original's file, by the column file_name of meta.csv where that is filled in.

    Args:
        path: of meta.csv.
        known: ids of the images of the folders.

    Raises:
        InputError: the name is another image's.
    """
    table = read_csv(path, ["image_id"], {"file_name": str})
    if "file_name" not in table:
        return {}
    ids, names = table["image_id"], table["file_name"].fillna("").str.strip()
    named = (ids.isin(known) & (names != "")).to_numpy()
    other = [filled and not names_its_image(name, image_id)
             for filled, name, image_id in zip(named, names, ids, strict=True)]
    refuse_first(path, other, lambda i: f"file_name {names.iloc[i]!r} is no file of image {ids.iloc[i]}")
    return dict(zip(ids[named], names[named], strict=True))


def patients_of_tables(paths: Sequence[str | Path], records: Sequence[Record]) -> NDArray | None:
    """(N,) of the column patient, or patient_id, of tables of sizes; None where there is none.

    Raises:
        InputError: an image has two patients, or some have one and others none.
    """
    owner_of: dict[str, str] = {}
    for path in paths:
        table = read_csv(path, ["image_id"])
        for column in (name for name in table if letters_of(name) in _PATIENT):
            _add_patients(path, table, column, owner_of)
    first = next(iter(paths), "")
    return own_patients([first] * len(records), [
        replace(record, patient=owner_of.get(record.image_id)) for record in records])


def _add_patients(path: str | Path, table: pd.DataFrame, column: str, owner_of: dict[str, str]) -> None:
    known = table[table[column].notna()]
    for image_id, owner in zip(known["image_id"], known[column], strict=True):
        if owner_of.setdefault(image_id, owner) != owner:
            raise InputError(f"{path}: image {image_id} has {column} {owner}, and patient "
                             f"{owner_of[image_id]} elsewhere; expected a single patient")


def unknown_findings(
    path: Path, label_set: LabelSet, records: Sequence[Record], known: Collection[str]
) -> Mapping[str, tuple[int, ...]]:
    """Image id -> findings without a box that may be there, by unknown.csv.

    Args:
        path: of unknown.csv; nothing is unknown where it is missing.
        label_set: of the findings.
        records: the images with their boxes.
        known: ids of the images of the folders.

    Raises:
        InputError: another image, another class, or a finding that has a box there.
    """
    if not path.is_file():
        return {}
    table = read_csv(path, ["image_id", "class_name"])
    _refuse_other_images(path, table, known)
    table["class_id"] = class_ids(row_of(path), table["class_name"], label_set)
    drawn = {(record.image_id, label) for record in records for label in record.truth.labels.tolist()}
    both = [pair in drawn for pair in zip(table["image_id"], table["class_id"], strict=True)]
    refuse_first(path, both, lambda i: f"image {table['image_id'].iloc[i]} has a box of "
                 f"{table['class_name'].iloc[i]}, expected either")
    findings = table[table["class_id"] < len(label_set)]  # "no finding" follows from them
    return {name: tuple(np.unique(rows).tolist()) for name, rows in findings.groupby("image_id")["class_id"]}


def with_readers(path: Path, records: Sequence[Record], known: Collection[str]) -> list[Record]:
    """The records with the readers of their boxes, and the share of readers who agree, by readers.csv.

    Args:
        path: of readers.csv; the records stay as they are where it is missing.
        records: the images with their boxes.
        known: ids of the images of the folders.

    Raises:
        InputError: another image, other boxes, or a share outside 0 to 1.
    """
    if not path.is_file():
        return list(records)
    table = read_csv(path, ["image_id", "row", "agreement", "readers"], {"readers": str})
    _refuse_other_images(path, table, known)
    table["agreement"] = as_numbers(table["agreement"])
    refuse_first(path, ~table["agreement"].between(0, 1), lambda i:
                 f"agreement {table['agreement'].iloc[i]}, expected 0 to 1")
    groups = dict(iter(table.groupby("image_id")))
    return [_with_own_readers(path, record, groups[record.image_id]) if record.image_id in groups else record
            for record in records]


def _with_own_readers(path: Path, record: Record, rows: pd.DataFrame) -> Record:
    if rows["row"].tolist() != list(range(1, len(record.truth) + 1)):
        raise InputError(f"{path}: image {record.image_id} has {len(record.truth)} boxes, but rows "
                         f"{rows['row'].tolist()} here; expected the same, or no {READERS}")
    readers = tuple(readers_of(text) if isinstance(text, str) else () for text in rows["readers"])
    truth = replace(record.truth, scores=rows["agreement"].to_numpy(float))
    return replace(record, truth=truth, readers=readers if any(readers) else ())


def _refuse_other_images(path: Path, table: pd.DataFrame, known: Collection[str]) -> None:
    refuse_first(path, ~table["image_id"].isin(known), lambda i:
                 f"image {table['image_id'].iloc[i]} is none of the {len(known)} images of the folders")
