"""Folders of TFRecord files, as data sets of Kaggle are shared: to packed images and tables of labels.

Each record has an encoded image, its file name and its label, by default as in the data sets of 256 x 256
NIH ChestX-ray14: ``image``, ``image_idx`` (00000001_000.png) and ``label`` (0 normal, 1 abnormal).
"""

import logging
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from fnmatch import fnmatch
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from vindr_det.data.conversion_files import replaced_files
from vindr_det.data.folds import assign_folds, check_disjoint_patients
from vindr_det.data.nih import ABNORMAL, patient_of
from vindr_det.data.release import NO_FOLD
from vindr_det.data.tfrecord_file import RawRecord, features_of, read_records, reread
from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of
from vindr_det.imaging.packed import FILE_NAME, write_packed
from vindr_det.imaging.read import read_encoded
from vindr_det.imaging.resize import Target, resize
from vindr_det.tables import write_csv

log = logging.getLogger(__name__)

SUFFIXES = (".tfrec", ".tfrecord", ".tfrecords")
#: The table of records that were left out.
DAMAGED_FILE = "damaged.csv"
_COUNT_IN_NAME = re.compile(r"-(\d+)\.")


@dataclass(frozen=True)
class Layout:
    """What the records of a folder hold, and what to make of them.

    Attributes:
        image: name of the feature with the bytes of a JPEG or PNG file.
        name: of the feature with the image's file name.
        label: of the feature with 0 (normal) or 1 (abnormal).
        test: pattern of the names of the files that hold test images, whatever the case.
        size: side of the packed images, pixels.
        folds: number of folds.
        seed: of the folds.
    """

    image: str = "image"
    name: str = "image_idx"
    label: str = "label"
    test: str = "test*"
    size: int = 256
    folds: int = 5
    seed: int = 0


@dataclass(frozen=True)
class _Entry:
    """An image that can be read: where it is, its file name and its label."""

    record: RawRecord
    image: str
    label: int
    is_test: bool


def convert_tfrecords(
    folder: str | Path, out: str | Path, layout: Layout | None = None
) -> tuple[str, int]:
    """Write ``packed.npy``, ``train_val.csv`` (in folds by patient), ``test.csv`` and ``damaged.csv``.

    Records that are damaged, lack a feature, hold no image or repeat one are left out, logged with their file
    and offset, and listed in ``damaged.csv``.

    Args:
        folder: of ``.tfrec``, ``.tfrecord`` or ``.tfrecords`` files.
        out: folder to create.
        layout: None takes the defaults.

    Returns:
        A summary, and the number of records that were left out.

    Raises:
        InputError: no file, no record that can be read, a patient in the test files and in others, or folds
            that cannot be made.
    """
    layout = layout or Layout()
    if layout.size < 16:
        raise InputError(f"--size {layout.size}: expected at least 16 pixels")
    files = _files_of(folder)
    entries, damaged = _read_all(files, layout)
    if not entries:
        reason = damaged[0][-1] if damaged else "the files are empty"
        raise InputError(f"{folder}: none of its records can be read; the first: {reason}")
    _require_training(entries, files, layout)
    tables = _tables(entries, layout)
    with replaced_files(out) as temporary:
        for name, table in tables.items():
            write_csv(temporary / f"{name}.csv", table)
        columns = ["file", "record", "offset", "reason"]
        write_csv(temporary / DAMAGED_FILE, pd.DataFrame(damaged, columns=columns))
        ids = [image_id_of(entry.image) for entry in entries]
        images = (_pixels(entry.record, layout) for entry in entries)
        write_packed(temporary / FILE_NAME, ids, images, [(layout.size, layout.size)] * len(ids))
    return _summary(tables, damaged, out), len(damaged)


def _require_training(entries: Sequence[_Entry], files: Sequence[Path], layout: Layout) -> None:
    training = [file for file in files if not _is_test(file, layout)]
    if training and all(entry.is_test for entry in entries):
        raise InputError(f"{training[0]}: no record of it can be read, nor of any other of {len(training)} "
                         "files to train on")


def _files_of(folder: str | Path) -> list[Path]:
    files = sorted(path for path in Path(folder).glob("*") if path.suffix.lower() in SUFFIXES)
    if not files:
        raise InputError(f"{folder}: holds no TFRecord file, expected some of *{', *'.join(SUFFIXES)}")
    return files


def _read_all(files: Iterable[Path], layout: Layout) -> tuple[list[_Entry], list[tuple[str, int, int, str]]]:
    """The images that can be read, and a row of ``damaged.csv`` for each record that is left out."""
    entries: dict[str, _Entry] = {}
    damaged = []
    for file in tqdm(list(files), desc="read", unit="file", disable=None):
        records = 0
        for record in read_records(file):
            records += 1
            try:
                entry = _entry(record, layout)
                _refuse_repeat(entry, entries)
                entries[image_id_of(entry.image)] = entry
            except InputError as error:
                log.warning("%s", error)
                reason = str(error).removeprefix(f"{record}: ")
                damaged.append((file.name, record.number, record.offset, reason))
        _compare_with_name(file, records)
    return list(entries.values()), damaged


def _entry(record: RawRecord, layout: Layout) -> _Entry:
    """A record's image, read once to see whether it can be; its bytes are not kept."""
    features = features_of(record)
    for key, kind in ((layout.image, bytes), (layout.name, bytes), (layout.label, int)):
        if not isinstance(features.get(key), kind):
            raise InputError(f"{record}: has no feature {key} with one value of type {kind.__name__}; it has "
                             f"{', '.join(sorted(features)) or 'none'}")
    name, label = features[layout.name], features[layout.label]
    assert isinstance(name, bytes) and isinstance(label, int)
    if label not in (0, 1):
        raise InputError(f"{record}: {layout.label} is {label}, expected 0 or 1")
    image = name.decode("utf-8", "backslashreplace").strip()
    if not image:
        raise InputError(f"{record}: {layout.name} is empty, expected an image's name")
    _pixels(record, layout)
    kept = RawRecord(record.file, record.number, record.offset)
    return _Entry(kept, image, label, _is_test(record.file, layout))


def _is_test(file: Path, layout: Layout) -> bool:
    return fnmatch(file.name.casefold(), layout.test.casefold())


def _pixels(record: RawRecord, layout: Layout) -> NDArray[np.uint8]:
    """(S, S) gray of a record, whose bytes are read again where they were not kept."""
    data = features_of(record if record.data else reread(record))[layout.image]
    assert isinstance(data, bytes)
    return resize(read_encoded(str(record), data), Target(layout.size, keep_aspect=False))


def _refuse_repeat(entry: _Entry, entries: dict[str, _Entry]) -> None:
    earlier = entries.get(image_id_of(entry.image))
    if earlier is not None:
        raise InputError(f"{entry.record}: image {entry.image} was in {earlier.record.file.name}, record "
                         f"{earlier.record.number} already")


def _compare_with_name(file: Path, records: int) -> None:
    """Warn where a file holds another number of records than its name tells, as in ``train00-1000.tfrec``."""
    stated = _COUNT_IN_NAME.search(file.name)
    if stated and int(stated[1]) != records:
        log.warning("%s: holds %d records, its name tells %s", file, records, stated[1])


def _tables(entries: Sequence[_Entry], layout: Layout) -> dict[str, pd.DataFrame]:
    """The tables ``train_val`` and ``test``, those that have images."""
    frame = pd.DataFrame({"image": [entry.image for entry in entries]})
    patients = _patients(frame["image"])
    if patients is not None:
        frame["patient"] = patients
    frame[ABNORMAL] = [entry.label for entry in entries]
    is_test = np.array([entry.is_test for entry in entries])
    parts = {"train_val": frame[~is_test], "test": frame[is_test]}
    if "patient" in frame:
        check_disjoint_patients({name: part["patient"] for name, part in parts.items()}, "patient")
    return {name: part.assign(fold=_folds(part, layout) if name == "train_val" else NO_FOLD)
            for name, part in parts.items() if len(part)}


def _patients(images: pd.Series) -> pd.Series | None:
    """The patient of each image, an image without one being its own; None where all are."""
    files = images.str.replace("\\", "/", regex=False).str.rsplit("/").str[-1]
    patients = patient_of(files + ".")
    known = patients >= 0
    if not known.all():
        log.warning("%d of %d names, such as %s, tell no patient: each of these images counts as a patient "
                    "of its own, and patients may be in several folds", (~known).sum(), len(images),
                    images[~known].iloc[0])
    if not known.any():
        return None
    return patients if known.all() else patients.astype(str).where(known, "image " + images)


def _folds(frame: pd.DataFrame, layout: Layout) -> NDArray[np.int64]:
    groups = frame["patient"].to_numpy() if "patient" in frame else None
    return assign_folds(frame[[ABNORMAL]].to_numpy(np.int64), layout.folds, layout.seed, groups)


def _summary(
    tables: dict[str, pd.DataFrame], damaged: Sequence[tuple[str, int, int, str]], out: str | Path
) -> str:
    lines = [f"{name}: {len(table)} images"
             + (f" of {table['patient'].nunique()} patients" if "patient" in table else "")
             + f", {table[ABNORMAL].sum()} abnormal" for name, table in tables.items()]
    if damaged:
        files = len({row[0] for row in damaged})
        lines.append(f"{len(damaged)} records of {files} files were left out; see {Path(out) / DAMAGED_FILE}")
    return "\n".join([*lines, f"{Path(out) / FILE_NAME}: all images"])
