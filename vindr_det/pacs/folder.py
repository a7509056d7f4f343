"""The predictions of a run to DICOM objects in a folder."""

import csv
import io
import logging
import os
from collections.abc import Mapping, Sequence
from datetime import datetime
from pathlib import Path, PurePosixPath
from typing import Any

from tqdm import tqdm

from vindr_det.exceptions import InputError
from vindr_det.files import make_folder, write_text
from vindr_det.imaging.inputs import require_apart, require_there
from vindr_det.pacs.answer import Algorithm, Answer
from vindr_det.pacs.objects import KINDS, objects_of, write_object
from vindr_det.pacs.original import Original, read_original
from vindr_det.submission.image_report import read_reports

log = logging.getLogger(__name__)

#: What became of each image.
TABLE = "objects.csv"
_COLUMNS = ("image_id", "file", "status", "objects", "reason")
#: Bytes of a file's name.
_LONGEST_NAME = 255


def write_answers(
    predictions: str | Path, images: str | Path, out: str | Path, kinds: Sequence[str] = tuple(KINDS),
    score: float = 0.3, algorithm: Algorithm | None = None,
) -> int:
    """Write the objects of each image that has an answer, and the table of all.

    Args:
        predictions: ``S.predictions.json``; its time of change is the objects' date.
        images: the folder, or file, that was predicted.
        out: folder for the objects.
        kinds: of the objects.
        score: boxes with a lower score are left out.
        algorithm: what found the boxes; None takes this package.

    Returns:
        Number of images with an answer.

    Raises:
        InputError: bad input, or no image has an answer.
    """
    reports = read_reports(predictions)
    _require_different(predictions, reports)
    root, out = require_there(images), Path(out)
    root = root if root.is_dir() else root.parent
    require_apart([predictions, *(root / report["file"] for report in reports)], out / TABLE)
    created = datetime.fromtimestamp(int(Path(predictions).stat().st_mtime))
    make_folder(out)
    rows = [_row(report, root, out, kinds, score, algorithm or Algorithm(), created)
            for report in tqdm(reports, desc="answers", unit="image", disable=None)]
    write_text(out / TABLE, _table(rows))
    without = [row for row in rows if not row["objects"]]
    if len(without) == len(rows):
        reason = f"; the first: {without[0]['file']}: {without[0]['reason']}" if without else ""
        raise InputError(f"{predictions}: none of {len(rows)} images has an answer{reason}")
    if without:
        log.warning("%d of %d images have NO answer; see %s", len(without), len(rows), out / TABLE)
    return len(rows) - len(without)


def _require_different(predictions: str | Path, reports: Sequence[Mapping[str, Any]]) -> None:
    """An image's files would be written over by those of another with its id."""
    seen = set[str]()
    for number, report in enumerate(reports):
        if report["image_id"] in seen:
            raise InputError(f"{predictions}: images[{number}]: image_id {report['image_id']!r} is that of "
                             "an image before it, expected another")
        seen.add(report["image_id"])


def _row(
    report: Mapping[str, Any], root: Path, out: Path, kinds: Sequence[str], score: float,
    algorithm: Algorithm, created: datetime,
) -> dict[str, str]:
    """Write an image's objects, and tell of it."""
    row = {"image_id": report["image_id"], "file": report["file"], "status": report["status"],
           "objects": "", "reason": report["reason"]}
    try:
        answer = Answer(_original(report, root), report, score, algorithm, created)
        objects = objects_of(answer, kinds)
        names = {kind: _name(report["image_id"], kind) for kind in objects}
    except InputError as error:
        return row | {"reason": str(error).replace(f"{root}/", "")}
    for kind, dataset in objects.items():
        write_object(out / names[kind], dataset)
    reasons = [report["reason"], *answer.notes]
    return row | {"objects": " ".join(names.values()), "reason": "; ".join(filter(None, reasons))}


def _original(report: Mapping[str, Any], root: Path) -> Original:
    """The image of a report, if it is still the one that was predicted."""
    original = read_original(root / report["file"])
    if original.uid != report["SOPInstanceUID"]:
        raise InputError(f"{original.path}: has SOPInstanceUID {original.uid}, expected "
                         f"{report['SOPInstanceUID']!r}: another image was predicted")
    size = [original.header.get(key) for key in ("Rows", "Columns")]
    predicted = [report.get(key) or there for key, there in zip(("height", "width"), size, strict=True)]
    if predicted != size:
        raise InputError(f"{original.path}: has {size[0]} x {size[1]} pixels, expected {predicted[0]} x "
                         f"{predicted[1]}: another image was predicted")
    return original


def _name(image_id: str, kind: str) -> str:
    path = PurePosixPath(image_id)
    if path.is_absolute() or ".." in path.parts or "\0" in image_id:
        raise InputError(f"image_id {image_id!r}: expected a name below a folder")
    name = f"{image_id}.{kind}.dcm"
    try:
        longest = max(len(os.fsencode(part)) for part in PurePosixPath(name).parts)
    except UnicodeEncodeError as error:
        raise InputError(f"image_id {image_id!r}: expected a file's name") from error
    if longest > _LONGEST_NAME:
        raise InputError(f"image_id of {len(image_id)} characters: its files' names would be too long")
    return name


def _table(rows: Sequence[Mapping[str, str]]) -> str:
    text = io.StringIO()
    writer = csv.DictWriter(text, _COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows(rows)
    return text.getvalue().encode("utf-8", "backslashreplace").decode()
