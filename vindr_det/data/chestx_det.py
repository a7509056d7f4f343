"""ChestX-Det and ChestX-Det10: JSON lists of NIH's images with boxes, 1,024 x 1,024 pixels.

Each entry has ``file_name``, ``syms`` (the boxes' classes) and ``boxes`` (x_min, y_min, x_max, y_max); those
of ChestX-Det, which has 13 classes, have ``polygons`` too. Names of files are not NIH's, so that patients are
not known.
"""

from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.box_rows import (
    EDGES,
    Place,
    class_ids,
    refuse_smaller_frame,
    to_records,
    with_empty_images,
)
from vindr_det.data.folds import label_matrix
from vindr_det.data.image_frames import image_frames, read_patients
from vindr_det.data.release import (
    TRAIN,
    Annotations,
    Conversion,
    Release,
    Table,
    boxes_in_labels,
    compared,
    summary_of_boxes,
)
from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of, read_json
from vindr_det.structures.label_sets import CHESTX_DET, CHESTX_DET10, LabelSet
from vindr_det.structures.records import Record

# A whole number that is no pixel's.
_LARGEST = 2**53
#: Side of NIH's distributed PNGs, whose pixels the boxes count in.
IMAGE_SIDE = 1024
#: Images of each part, and boxes without the one that is listed twice, of the published files.
PUBLISHED: Mapping[str, Mapping[str, int]] = {
    CHESTX_DET.name: {"train images": 3025, "train boxes": 7904, "test images": 553, "test boxes": 1734},
    CHESTX_DET10.name: {"train images": 3001, "train boxes": 6862, "test images": 542, "test boxes": 1476}}


def read(
    options: Conversion, annotations: str | Path, test_annotations: str | Path | None = None,
    images: str | Path | None = None, patients: str | Path | None = None,
) -> Annotations:
    """The lists of one or both parts, as conversion takes them.

    Args:
        options: of the folds.
        annotations: ChestX_Det_train.json, or train.json of ChestX-Det10.
        test_annotations: of the test part.
        images: folder in which each image must exist; its file names are then used.
        patients: table of image_id and patient_id.

    Raises:
        InputError: a list is faulty, an image is repeated or missing, or the two are of different releases.
    """
    given = {TRAIN: annotations} | ({"test": test_annotations} if test_annotations is not None else {})
    entries = {part: _read_entries(path) for part, path in given.items()}
    polygons = {path: _has_polygons(path, entries[part]) for part, path in given.items()}
    if len(set(polygons.values())) > 1:
        raise InputError(f"{test_annotations}: is of another release than {annotations}; with polygons it is "
                         "ChestX-Det, without ChestX-Det10")
    label_set = CHESTX_DET if polygons[annotations] else CHESTX_DET10
    _refuse_repeated(given, entries)
    names = {image_id_of(entry["file_name"]): part for part in given for entry in entries[part]}
    frames = image_frames(list(names), images, None, options.workers, side=IMAGE_SIDE)
    records: list[Record] = []
    for part, path in given.items():
        rows, place = _rows(path, entries[part], label_set)
        refuse_smaller_frame(path, rows, frames)
        records += to_records(place, rows, frames, label_set)
    ids = [record.image_id for record in records]
    owners = None if patients is None else read_patients(patients, ids)
    parts = np.array([names[name] for name in ids])
    return Annotations(boxes_in_labels(records, owners), label_matrix(records), owners, records, parts=parts)


def _read_entries(path: str | Path) -> list[dict[str, Any]]:
    entries = read_json(path)
    if isinstance(entries, dict) and "annotations" in entries:
        raise InputError(f"{path}: looks like a COCO file (format coco), expected a list of images with "
                         "file_name, syms and boxes")
    if not isinstance(entries, list) or not entries:
        raise InputError(f"{path}: expected a JSON list of images with file_name, syms and boxes")
    for number, entry in enumerate(entries, start=1):
        if not _has_form(entry):
            raise InputError(f"{path}, entry {number}: expected file_name, and lists syms and boxes")
        _check_entry(f"{path}: image {entry['file_name']}", entry)
    return entries


def _has_polygons(path: str | Path, entries: Sequence[Mapping[str, Any]]) -> bool:
    """Whether the entries, all or none of them, have polygons."""
    has = ["polygons" in entry for entry in entries]
    if len(set(has)) > 1:
        at = has.index(not has[0])
        first, other = ("polygons", "none") if has[0] else ("no polygons", "some")
        raise InputError(f"{path}, entry {at + 1}: image {entries[at]['file_name']} has {other}, but entry 1 "
                         f"has {first}; expected all with polygons (ChestX-Det) or none (ChestX-Det10)")
    return has[0]


def _is_number(value: Any) -> bool:
    """Whether JSON has a number that a float holds; a whole one may have hundreds of digits."""
    return isinstance(value, float) or (type(value) is int and abs(value) < _LARGEST)


def _has_form(entry: Any) -> bool:
    return (isinstance(entry, dict) and isinstance(entry.get("file_name"), str)
            and bool(entry["file_name"].strip())
            and all(isinstance(entry.get(key), list) for key in ("syms", "boxes")))


def _check_entry(what: str, entry: Mapping[str, Any]) -> None:
    if len(entry["syms"]) != len(entry["boxes"]):
        raise InputError(f"{what} has {len(entry['syms'])} syms and {len(entry['boxes'])} boxes, expected as "
                         "many")
    for box in entry["boxes"]:
        if not isinstance(box, list) or len(box) != 4 or not all(map(_is_number, box)):
            raise InputError(f"{what} has the box {str(box)[:80]}, expected four numbers")


def _refuse_repeated(
    given: Mapping[str, str | Path], entries: Mapping[str, Sequence[Mapping[str, Any]]]
) -> None:
    counts = Counter(image_id_of(entry["file_name"]) for part in given for entry in entries[part])
    repeated = [name for name, count in counts.items() if count > 1]
    if repeated:
        raise InputError(f"{' and '.join(map(str, given.values()))}: image {repeated[0]} is repeated")


def _rows(
    path: str | Path, entries: Sequence[Mapping[str, Any]], label_set: LabelSet
) -> tuple[pd.DataFrame, Place]:
    """A row per box and per image without boxes, and where each box stands."""
    drawn = [(image_id_of(entry["file_name"]), name, *box) for entry in entries
             for name, box in zip(entry["syms"], entry["boxes"], strict=True)]
    table = pd.DataFrame(drawn, columns=["image_id", "name", *EDGES])
    names = table["image_id"].tolist()

    def place(row: int) -> str:
        return f"{path}: image {names[row]}"

    table["class_id"] = class_ids(place, table.pop("name"), label_set)
    return with_empty_images(table, [image_id_of(entry["file_name"]) for entry in entries]), place


def summary(
    annotations: Annotations, fold_of: NDArray[np.int64], options: Conversion, out: Path
) -> list[str]:
    """Counts of images and boxes of each part, compared with the published ones, in lines."""
    counts: Counter[str] = Counter()
    for record, part in zip(annotations.records, np.asarray(annotations.parts), strict=True):
        counts.update({f"{part} images": 1, f"{part} boxes": len(record.truth)})
    published = PUBLISHED[annotations.records[0].label_set.name]
    return [*summary_of_boxes(annotations, fold_of, options, out), *compared(counts, published)]


_LIST = Table("a list of ChestX-Det")
RELEASE = Release("chestx-det", CHESTX_DET, read, summary,
                  {"annotations": (_LIST,), "test_annotations": (_LIST,)})
