"""YOLO's folders as a release: a text file per image, a row per box, coordinates as shares of the image.

``data.yaml`` names the classes and the folders of images of each part; labels/ stands in the place of
images/. Without it the classes are in ``classes.txt``. An image without a text file, or with an empty one,
has no box; but see :mod:`vindr_det.data.yolo_folders`. Boxes count in the pixels of the image files, or of
the originals where ``meta.csv`` beside ``data.yaml``, or --meta, has their sizes; it may name patients too.
What else YOLO's files cannot hold is in the tables of :mod:`vindr_det.data.yolo_tables` where
:mod:`vindr_det.data.yolo_files` wrote the folders. Findings of the label set that data.yaml states, but does
not name as classes, are unknown on all images.
"""

import logging
from collections.abc import Sequence
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd

from vindr_det.data.box_rows import EDGES, to_records, with_empty_images
from vindr_det.data.coco_categories import is_no_finding, label_set_of_categories
from vindr_det.data.folds import label_matrix
from vindr_det.data.image_frames import ImageFrames, frames_of_files, image_frames, read_patients
from vindr_det.data.release import Annotations, Conversion, Release, Table, boxes_in_labels, summary_of_boxes
from vindr_det.data.yolo_folders import Labels, find_labels
from vindr_det.data.yolo_tables import (
    META,
    READERS,
    UNKNOWN,
    original_names,
    patients_of_tables,
    unknown_findings,
    with_readers,
)
from vindr_det.exceptions import InputError
from vindr_det.files import read_text
from vindr_det.structures.boxes import from_unit
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record

log = logging.getLogger(__name__)

# Shares may exceed the image by what rounding to six digits does.
_ROUNDING = 1e-5


def read(
    options: Conversion, annotations: str | Path, meta: Sequence[str | Path] | None = None,
    images: str | Path | None = None, patients: str | Path | None = None,
) -> Annotations:
    """YOLO's folders, as conversion takes them.

    Args:
        options: of the folds.
        annotations: data.yaml, or the folder with data.yaml or classes.txt and labels/.
        meta: tables of the original sizes; None takes meta.csv beside data.yaml, or the files' headers.
        images: folder of the images where it is not images/; boxes' text files are then in labels/.
        patients: table of image_id and patient_id; None takes the column patient, or patient_id, of meta.csv
            and of ``meta``.

    Raises:
        InputError: a row is faulty, a class has no name, an image is missing, a text file has no image, or
            none of the images of a folder has a text file.
    """
    labels = find_labels(Path(annotations), images)
    own = labels.root / META
    tables = meta or ([own] if own.is_file() else None)
    frames = _frames(labels, tables, options)
    label_set = label_set_of_categories(labels.root.resolve().name, {
        "categories": [{"id": i, "name": name} for i, name in enumerate(labels.names)],
        "info": {"label_set": labels.label_set}})
    rows, places = _rows(labels, frames)
    ids = _class_ids(labels, label_set)
    rows["class_id"] = [-1 if number < 0 else ids[int(number)] for number in rows["class_id"]]
    normal = len(rows) - len(labels.files) - int((rows["class_id"] >= 0).sum())
    if normal:
        log.warning("%s: %d rows of the class no finding left out", labels.source, normal)
    records = to_records(lambda i: places[i], rows, frames, label_set)
    records = _with_unknown(labels, label_set, ids, records)
    names = [record.image_id for record in records]
    known = dict.fromkeys(map(Path, [*(tables or []), *([own] if own.is_file() else [])]))
    owners = patients_of_tables(list(known), records) if patients is None else read_patients(patients, names)
    parts = np.array([labels.parts[name] for name in names]) if labels.parts else None
    return Annotations(boxes_in_labels(records, owners), label_matrix(records), owners, records, parts=parts)


def _with_unknown(
    labels: Labels, label_set: LabelSet, ids: Sequence[int], records: Sequence[Record]
) -> list[Record]:
    """The records with their boxes' readers, and the findings that may be there without a box."""
    absent = sorted(set(range(len(label_set))).difference(ids))
    if absent:
        log.warning("%s: %d findings of %s are no classes and are unknown on all images", labels.source,
                    len(absent), label_set.name)
    unknown = unknown_findings(labels.root / UNKNOWN, label_set, records, labels.files)
    return [replace(record, unknown=tuple(sorted({*unknown.get(record.image_id, ()), *absent})))
            for record in with_readers(labels.root / READERS, records, labels.files)]


def _class_ids(labels: Labels, label_set: LabelSet) -> list[int]:
    """Class id of the label set for each class; a class "no finding" has none."""
    ids = []
    for name in labels.names:
        label = -1 if is_no_finding(name) else label_set.id_of(name)
        if label is None:
            raise InputError(f"{labels.source}: class {name!r} is not one of the {len(label_set)} findings "
                             f"of {label_set.name}")
        ids.append(-1 if label >= len(label_set) else label)
    return ids


def _frames(labels: Labels, tables: Sequence[str | Path] | None, options: Conversion) -> ImageFrames:
    """Sizes by the tables or the files, and the names of the files below the folder of data.yaml."""
    frames = (image_frames(list(labels.files), None, tables) if tables else
              frames_of_files({name: file for name, (file, _) in labels.files.items()}, options.workers))
    named = {name: _below(file, labels.root) for name, (file, _) in labels.files.items()}
    if tables and (labels.root / META) in [Path(table) for table in tables]:
        named |= original_names(labels.root / META, labels.files)
    return replace(frames, names=named)


def _below(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _rows(labels: Labels, frames: ImageFrames) -> tuple[pd.DataFrame, list[str]]:
    """A row per box, with classes as in the files, and one per image without; and where each box stands."""
    names, places, values = [], [], []
    for name, (_, text) in labels.files.items():
        for line, row in _parsed(text, len(labels.names)):
            names.append(name)
            places.append(f"{text}, row {line}")
            values.append(row)
    numbers = np.array(values, float).reshape(-1, 5)
    center, half = numbers[:, 1:3], numbers[:, 3:] / 2
    sides = frames.sizes.reindex(names)[["height", "width"]].to_numpy(float)
    corners = np.hstack([center - half, center + half])
    pixels = np.array([from_unit([box], *side)[0] for box, side in zip(corners, sides, strict=True)])
    rows = pd.DataFrame(pixels.reshape(-1, 4), columns=EDGES).assign(image_id=names, class_id=numbers[:, 0])
    return with_empty_images(rows, labels.files), places


def _parsed(path: Path, classes: int) -> list[tuple[int, list[float]]]:
    """The line number and five numbers of each box of a text file, none where there is no file."""
    if not path.is_file():
        return []
    rows = []
    for number, line in enumerate(read_text(path).splitlines(), start=1):
        if line.strip():
            rows.append((number, _numbers(f"{path}, row {number}", line.split(), classes)))
    return rows


def _numbers(place: str, values: Sequence[str], classes: int) -> list[float]:
    try:
        numbers = [float(value) for value in values]
    except ValueError:
        numbers = []
    if len(numbers) != 5 or not np.isfinite(numbers).all():
        raise InputError(f"{place}: {' '.join(values)[:80]!r}, expected five numbers: class, center x and y, "
                         "width, height")
    if numbers[0] not in range(classes):
        raise InputError(f"{place}: class {values[0]} has no name, expected 0 to {classes - 1}")
    if min(numbers[1:]) < -_ROUNDING or max(numbers[1:]) > 1 + _ROUNDING:
        raise InputError(f"{place}: {' '.join(values)}, expected shares of the image from 0 to 1")
    return numbers


RELEASE = Release("yolo", None, read, summary_of_boxes, {"annotations": (Table("YOLO's data.yaml"),)})
