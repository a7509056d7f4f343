"""YOLO's folders as a release: a text file per image, a row per box, coordinates as shares of the image.

``data.yaml`` names the classes and the folders of images of each part; labels/ stands in the place of
images/. Without it the classes are in ``classes.txt``. An image without a text file, or with an empty one,
has no box. Boxes count in the pixels of the image files, or of the originals where ``meta.csv`` beside
``data.yaml``, or --meta, has their sizes; it may name patients too. What else YOLO's files cannot hold is in
:data:`UNKNOWN` and :data:`READERS` where :mod:`vindr_det.data.yolo_files` wrote the folders.
"""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray

from vindr_det.data.box_rows import EDGES, class_ids, row_of, to_records, with_empty_images
from vindr_det.data.coco_categories import label_set_of_categories
from vindr_det.data.folds import label_matrix
from vindr_det.data.image_frames import ImageFrames, frames_of_files, image_frames, read_patients
from vindr_det.data.release import (
    Annotations,
    Conversion,
    Release,
    Table,
    boxes_in_labels,
    own_patients,
    summary_of_boxes,
)
from vindr_det.exceptions import InputError
from vindr_det.files import IMAGE_SUFFIXES, image_id_of, read_text
from vindr_det.structures.boxes import from_unit
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record
from vindr_det.tables import as_numbers, read_csv, refuse_first

YAML, CLASSES = "data.yaml", ("classes.txt", "obj.names")
#: Tables beside data.yaml: original sizes, names and patients; unknown findings; who drew a box.
META, UNKNOWN, READERS = "meta.csv", "unknown.csv", "readers.csv"
PARTS = ("train", "val", "test")
#: Joins the readers of a box.
SEPARATOR = "|"
# Shares may exceed the image by what rounding to six digits does.
_ROUNDING = 1e-5


@dataclass(frozen=True)
class _Labels:
    """The images of YOLO's folders.

    Attributes:
        root: the folder of data.yaml.
        names: of the classes.
        label_set: name of the set that data.yaml states; empty where it states none.
        files: image id -> its file and text file; that may be missing.
        parts: image id -> train, val or test; empty where there are no parts.
    """

    root: Path
    names: tuple[str, ...]
    label_set: str
    files: Mapping[str, tuple[Path, Path]]
    parts: Mapping[str, str]


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
        patients: table of image_id and patient_id; None takes the column patient of that meta.csv.

    Raises:
        InputError: a row is faulty, a class has no name, an image is missing, or a text file has no image.
    """
    labels = _find(Path(annotations), images)
    own = labels.root / META
    tables = meta or ([own] if own.is_file() else None)
    frames = _frames(labels, tables, options)
    label_set = label_set_of_categories(labels.root.resolve().name, {
        "categories": [{"id": i, "name": name} for i, name in enumerate(labels.names)],
        "info": {"label_set": labels.label_set}})
    rows, places = _rows(labels, frames)
    ids = _class_ids(labels, label_set)
    rows["class_id"] = [-1 if number < 0 else ids[int(number)] for number in rows["class_id"]]
    records = to_records(lambda i: places[i], rows, frames, label_set)
    unknown = _unknown(labels.root / UNKNOWN, label_set, records, labels.files)
    records = [replace(record, unknown=unknown.get(record.image_id, ()))
               for record in _with_readers(labels.root / READERS, records, labels.files)]
    names = [record.image_id for record in records]
    owners = _own_patients(own, records) if patients is None else read_patients(patients, names)
    parts = np.array([labels.parts[name] for name in names]) if labels.parts else None
    return Annotations(boxes_in_labels(records, owners), label_matrix(records), owners, records, parts=parts)


def _find(path: Path, images: str | Path | None) -> _Labels:
    given = path if path.suffix in (".yaml", ".yml") else path / YAML
    if given.is_file():
        return _of_yaml(given)
    root = path
    if not root.is_dir():
        raise InputError(f"{path}: no such folder, expected {YAML} or a folder with {YAML} or {CLASSES[0]}")
    lists = [place / name for place in (root, root / "labels") for name in CLASSES]
    lists = [file for file in lists if file.is_file()]
    if not lists:
        raise InputError(f"{root}: has no {YAML} and no {CLASSES[0]}, expected the names of the classes")
    names = [line.strip() for line in read_text(lists[0]).splitlines() if line.strip()]
    folder = Path(images) if images is not None else root / "images"
    texts = root / "labels" if (root / "labels").is_dir() else root
    files = _pairs(folder, folder, texts)
    parts = {name: file.relative_to(folder).parts[0] for name, (file, _) in files.items()}
    whole = all(part in PARTS for part in parts.values())
    return _Labels(root, _checked_names(lists[0], names), "", files, parts if whole else {})


def _of_yaml(path: Path) -> _Labels:
    try:
        data = yaml.safe_load(read_text(path))
    except (yaml.YAMLError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    if not isinstance(data, dict) or not isinstance(data.get("names"), list | dict):
        raise InputError(f"{path}: has no names, expected those of the classes, and folders train, val, test")
    names = data["names"]
    if isinstance(names, dict):
        if sorted(names, key=str) != sorted(range(len(names)), key=str):
            raise InputError(f"{path}: names has the keys {list(names)}, expected 0 to {len(names) - 1}")
        names = [names[number] for number in range(len(names))]
    root = path.parent / str(data.get("path") or "")
    root = root if root.is_dir() else path.parent  # a path of another machine
    files: dict[str, tuple[Path, Path]] = {}
    parts: dict[str, str] = {}
    for part in PARTS:
        for folder in _folders(data.get(part), root, path):
            pairs = _pairs(folder, *_roots(folder))
            both = next((name for name in pairs if name in files), None)
            if both is not None:
                raise InputError(f"{path}: image {both} is in {part} and in {parts[both]}")
            files |= pairs
            parts |= dict.fromkeys(pairs, part)
    if not files:
        raise InputError(f"{path}: names no folder of images as train, val or test")
    return _Labels(path.parent, _checked_names(path, names), str(data.get("label_set") or ""), files,
                   parts if len(set(parts.values())) > 1 else {})


def _folders(value: Any, root: Path, path: Path) -> list[Path]:
    """The folders of a part; paths such as ``../train/images`` are below the folder of data.yaml too."""
    folders = []
    for name in [value] if isinstance(value, str) else value or []:
        places = [root / name, path.parent / name.removeprefix("../")]
        folder = next((place for place in places if place.is_dir()), None)
        if folder is None:
            raise InputError(f"{path}: {places[0]} is no folder of images")
        folders.append(folder)
    return folders


def _roots(folder: Path) -> tuple[Path, Path]:
    """A folder of images, and the folder of its text files: labels in the place of the last images."""
    parts = list(folder.parts)
    if "images" in parts:
        parts[len(parts) - 1 - parts[::-1].index("images")] = "labels"
    return folder, Path(*parts)


def _pairs(folder: Path, root: Path, texts: Path) -> dict[str, tuple[Path, Path]]:
    """Image id -> its file and its text file."""
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    pairs: dict[str, tuple[Path, Path]] = {}
    for file in sorted(folder.rglob("*")):
        if file.suffix.lower() not in IMAGE_SUFFIXES:
            continue
        name = image_id_of(file)
        if name in pairs:
            raise InputError(f"{file}: image {name} is there twice, the other is {pairs[name][0]}")
        pairs[name] = file, (texts / file.relative_to(root)).with_name(f"{name}.txt")
    if not pairs:
        raise InputError(f"{folder}: holds no image, expected some ending in {IMAGE_SUFFIXES}")
    known = {text for _, text in pairs.values()}
    others = (text for text in sorted(texts.rglob("*.txt")) if text.name not in CLASSES)
    lone = next((text for text in others if text not in known), None)
    if lone is not None:
        raise InputError(f"{lone}: has no image in {folder}")
    return pairs


def _checked_names(path: Path, names: Sequence[Any]) -> tuple[str, ...]:
    texts = [str(name).strip() for name in names]
    repeated = [name for name, count in Counter(name.casefold() for name in texts).items() if count > 1]
    if repeated or "" in texts or not texts:
        raise InputError(f"{path}: class names {texts}, expected each filled in and there once")
    return tuple(texts)


def _class_ids(labels: _Labels, label_set: LabelSet) -> list[int]:
    """Class id of the label set for each class; a class "no finding" has none."""
    ids = [label_set.id_of(name) for name in labels.names]
    unknown = [name for name, label in zip(labels.names, ids, strict=True) if label is None]
    if unknown:
        raise InputError(f"{labels.root}: class {unknown[0]!r} is not one of the {len(label_set)} findings "
                         f"of {label_set.name}")
    return [-1 if label is None or label >= len(label_set) else label for label in ids]


def _frames(labels: _Labels, tables: Sequence[str | Path] | None, options: Conversion) -> ImageFrames:
    """Sizes by the tables or the files, and the names of the files below the folder of data.yaml."""
    frames = (image_frames(list(labels.files), None, tables) if tables else
              frames_of_files({name: file for name, (file, _) in labels.files.items()}, options.workers))
    named = {name: _below(file, labels.root) for name, (file, _) in labels.files.items()}
    if tables and (labels.root / META) in [Path(table) for table in tables]:
        table = read_csv(labels.root / META, ["image_id"])
        if "file_name" in table:
            named |= dict(zip(table["image_id"], table["file_name"].astype(str), strict=True))
    return replace(frames, names=named)


def _own_patients(path: Path, records: Sequence[Record]) -> NDArray | None:
    """(N,) of the column patient of meta.csv; None where there is none."""
    table = read_csv(path, ["image_id"]) if path.is_file() else None
    if table is None or "patient" not in table:
        return None
    known = table.dropna(subset="patient").drop_duplicates("image_id").set_index("image_id")["patient"]
    return own_patients([path] * len(records), [
        replace(record, patient=known.get(record.image_id)) for record in records])


def _below(file: Path, root: Path) -> str:
    return file.relative_to(root).as_posix() if file.is_relative_to(root) else file.name


def _rows(labels: _Labels, frames: ImageFrames) -> tuple[pd.DataFrame, list[str]]:
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


def _refuse_other_images(path: Path, table: pd.DataFrame, known: Collection[str]) -> None:
    refuse_first(path, ~table["image_id"].isin(known), lambda i:
                 f"image {table['image_id'].iloc[i]} is none of the {len(known)} images of the folders")


def _unknown(
    path: Path, label_set: LabelSet, records: Sequence[Record], known: Collection[str]
) -> dict[str, tuple[int, ...]]:
    """Image id -> findings without a box that may be there."""
    if not path.is_file():
        return {}
    table = read_csv(path, ["image_id", "class_name"])
    _refuse_other_images(path, table, known)
    table["class_id"] = class_ids(row_of(path), table["class_name"], label_set)
    drawn = {(record.image_id, label) for record in records for label in record.truth.labels.tolist()}
    both = [pair in drawn for pair in zip(table["image_id"], table["class_id"], strict=True)]
    refuse_first(path, both, lambda i: f"image {table['image_id'].iloc[i]} has a box of "
                 f"{table['class_name'].iloc[i]}, expected either")
    return {name: tuple(sorted(rows.tolist())) for name, rows in table.groupby("image_id")["class_id"]}


def _with_readers(path: Path, records: Sequence[Record], known: Collection[str]) -> list[Record]:
    """The records with the readers of their boxes, and the share of readers who agree."""
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
    readers = tuple(tuple(str(text).split(SEPARATOR)) if pd.notna(text) else () for text in rows["readers"])
    truth = replace(record.truth, scores=rows["agreement"].to_numpy(float))
    return replace(record, truth=truth, readers=readers if any(readers) else ())


RELEASE = Release("yolo", None, read, summary_of_boxes, {"annotations": (Table("YOLO's data.yaml"),)})
