"""Records to YOLO's folders, and tables beside them with what YOLO's files cannot hold.

:mod:`vindr_det.data.yolo` reads all of it back, to the same numbers.
"""

import shutil
import tempfile
from collections.abc import Sequence
from pathlib import Path, PurePath

import numpy as np
import pandas as pd
import yaml
from numpy.typing import NDArray
from tqdm import tqdm

from vindr_det.data.release import TRAIN, Annotations
from vindr_det.data.yolo import META, PARTS, READERS, SEPARATOR, UNKNOWN, YAML
from vindr_det.exceptions import InputError
from vindr_det.files import PARTIAL, make_folder
from vindr_det.structures.boxes import to_unit
from vindr_det.structures.records import Record, label_set_of_records
from vindr_det.tables import write_csv

# The folders' name of each part that data sets have.
_VALIDATION = "val"


def write_yolo(
    out: str | Path, annotations: Annotations, fold_of: NDArray[np.int64], images: str | Path | None = None,
    copy: bool = False,
) -> str:
    """Write labels/<part>/<image_id>.txt, data.yaml, tables and, with a folder of images, images/.

    Published parts are kept; where there is no validation part, fold 0 of the training images is it.

    Args:
        out: folder to create; it must be empty if it is there.
        annotations: the images.
        fold_of: (N,) their folds.
        images: folder of the images' files, which are linked.
        copy: copy the files.

    Returns:
        What was written, in a line.

    Raises:
        InputError: the folder is not empty, or an image's id or class cannot be a name there.
    """
    folder, records = make_folder(out), list(annotations.records)
    if any(not path.name.startswith(PARTIAL) for path in folder.iterdir()):
        raise InputError(f"{out}: is not empty, expected a new folder for YOLO's files")
    parts = _parts(annotations, fold_of)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=PARTIAL))
    try:
        _write(temporary, records, parts)
        if images is not None:
            _place_images(temporary, records, parts, Path(images), copy)
        for path in sorted(temporary.iterdir()):
            path.replace(folder / path.name)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)
    counts = ", ".join(f"{parts.count(part)} {part}" for part in PARTS if part in parts)
    without = "" if images is not None else "; without images: no --images"
    return f"YOLO's folders in {out}: {counts}{without}"


def _parts(annotations: Annotations, fold_of: NDArray[np.int64]) -> list[str]:
    parts = np.full(len(fold_of), TRAIN, dtype=object) if annotations.parts is None else (
        annotations.parts.astype(object))
    if _VALIDATION not in parts:
        parts[fold_of == 0] = _VALIDATION
    return parts.tolist()


def _write(folder: Path, records: Sequence[Record], parts: Sequence[str]) -> None:
    label_set = label_set_of_records(records)
    for record, part in zip(tqdm(records, desc="labels", unit="image", disable=None), parts, strict=True):
        if PurePath(record.image_id).name != record.image_id:
            raise InputError(f"image {record.image_id!r}: YOLO names files after images, expected an id "
                             "without folders")
        path = folder / "labels" / part / f"{record.image_id}.txt"
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_text(_text(record), encoding="utf-8")
    # Without "path" other tools take the folder of data.yaml too.
    content = {**{part: f"images/{part}" for part in PARTS if part in parts}, "nc": len(label_set),
               "names": dict(enumerate(label_set.findings)), "label_set": label_set.name}
    (folder / YAML).write_text(yaml.safe_dump(content, sort_keys=False, allow_unicode=True), encoding="utf-8")
    _write_tables(folder, records)


def _text(record: Record) -> str:
    unit = to_unit(record.truth.boxes, record.height, record.width)
    center, size = (unit[:, :2] + unit[:, 2:]) / 2, unit[:, 2:] - unit[:, :2]
    rows = zip(record.truth.labels.tolist(), np.hstack([center, size]).tolist(), strict=True)
    return "".join(f"{label} {' '.join(f'{value:.12g}' for value in box)}\n" for label, box in rows)


def _write_tables(folder: Path, records: Sequence[Record]) -> None:
    meta = pd.DataFrame([(record.image_id, record.height, record.width, record.file_name, record.patient)
                         for record in records], columns=["image_id", "dim0", "dim1", "file_name", "patient"])
    write_csv(folder / META, meta if any(record.patient for record in records) else meta.drop(
        columns="patient"))
    unknown = [(record.image_id, record.label_set.classes[label]) for record in records
               for label in record.unknown]
    if unknown:
        write_csv(folder / UNKNOWN, pd.DataFrame(unknown, columns=["image_id", "class_name"]))
    readers = [row for record in records for row in _readers(record)]
    if readers:
        write_csv(folder / READERS,
                  pd.DataFrame(readers, columns=["image_id", "row", "agreement", "readers"]))


def _readers(record: Record) -> list[tuple[str, int, float, str]]:
    """Image, row in its text file, share of readers and their names, where any of this is known."""
    if not record.readers and (record.truth.scores == 1).all():
        return []
    names = record.readers or [()] * len(record.truth)
    return [(record.image_id, row, share, SEPARATOR.join(behind)) for row, (share, behind) in enumerate(
        zip(record.truth.scores.tolist(), names, strict=True), start=1)]


def _place_images(
    folder: Path, records: Sequence[Record], parts: Sequence[str], images: Path, copy: bool
) -> None:
    for record, part in zip(tqdm(records, desc="images", unit="image", disable=None), parts, strict=True):
        source = images / record.file_name
        if not source.is_file():
            raise InputError(f"{source}: no such image")
        target = folder / "images" / part / f"{record.image_id}{source.suffix}"
        target.parent.mkdir(parents=True, exist_ok=True)
        if copy:
            shutil.copyfile(source, target)
        else:
            target.symlink_to(source.resolve())
