"""A folder of DICOM, PNG or JPEG files to 8-bit gray PNG, in parallel and resumable.

What a run leaves in its folder::

    <image_id>.png   the images
    meta.csv         image_id,dim0,dim1: height and width of the originals
    qc.csv           a row per input: status, reason, and what was decided while decoding
    prepare.json     the settings, so that a resumed run cannot mix sizes

While it runs, finished rows go to ``qc.partial.jsonl``; an image counts as done only when its row
is there and its PNG, renamed into place when whole, exists.
"""

import json
import logging
from collections.abc import Iterable
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
from tqdm import tqdm

from vindr_det.errors import InputError
from vindr_det.files import atomic_path, list_images, read_json, write_csv, write_json
from vindr_det.images import read_image, resize
from vindr_det.parallel import process_pool

log = logging.getLogger(__name__)

QC_COLUMNS = ("image_id", "file", "status", "reason", "syntax", "bits", "photometric", "window",
              "dim0", "dim1")
_JOURNAL = "qc.partial.jsonl"
SETTINGS = "prepare.json"


@dataclass(frozen=True)
class Settings:
    """How images are brought to size; see :func:`vindr_det.images.resize`."""

    size: int
    keep_aspect: bool


def prepare_folder(
    images: str | Path, out: str | Path, settings: Settings, workers: int | None = None,
    resume: bool = False,
) -> pd.DataFrame:
    """Prepare every image of a folder; returns the QC table, one row per input.

    A file that cannot be decoded gets a row with ``status`` "failed" and its reason; it never
    stops the others.

    Args:
        images: folder of DICOM, PNG or JPEG files.
        out: folder to create.
        settings: the size to bring the images to.
        workers: processes; None takes one a core.
        resume: keep what an earlier run with the same settings finished.

    Raises:
        InputError: no images, a bad size, or ``out`` was prepared with other settings.
    """
    if settings.size < 16:
        raise InputError(f"--size {settings.size}: expected at least 16 pixels")
    paths, out = list_images(images), Path(out)
    if out.resolve() == Path(images).resolve():
        raise InputError(f"{out}: --out is the folder of the originals, expected another one")
    out.mkdir(parents=True, exist_ok=True)
    done = _load_done(out, settings) if resume else {}
    _start(out, settings, done.values())
    todo = [path for path in paths if path.stem not in done]
    if done:
        log.info("%d of %d images were done already", len(paths) - len(todo), len(paths))
    for row in _run(todo, out, settings, workers):
        done[row["image_id"]] = row
    return _finish(out, [done[path.stem] for path in paths])


def prepare_one(path: Path, out: Path, settings: Settings) -> dict[str, Any]:
    """Prepare one file; returns its QC row."""
    row: dict[str, Any] = dict.fromkeys(QC_COLUMNS, None)
    row |= {"image_id": path.stem, "file": path.name, "status": "ok", "reason": ""}
    try:
        decoded = read_image(path)
        small = resize(decoded.pixels, settings.size, settings.keep_aspect)
        with atomic_path(out / f"{path.stem}.png") as temporary:
            if not cv2.imwrite(str(temporary), small):
                raise InputError(f"{out / path.stem}.png: cannot be written")
    except InputError as error:
        return row | {"status": "failed", "reason": " ".join(str(error).split())}
    height, width = decoded.pixels.shape
    return row | {
        "syntax": decoded.syntax, "bits": decoded.bits, "photometric": decoded.photometric,
        "window": decoded.window, "dim0": height, "dim1": width,
    }


def _run(
    paths: list[Path], out: Path, settings: Settings, workers: int | None
) -> Iterable[dict[str, Any]]:
    if not paths:
        return
    work = partial(prepare_one, out=out, settings=settings)
    progress = tqdm(total=len(paths), desc="prepare", unit="image", disable=None)
    journal = (out / _JOURNAL).open("a", encoding="utf-8")
    with process_pool(workers, len(paths)) as pool, progress, journal:
        for row in pool.map(work, paths, chunksize=4):
            journal.write(json.dumps(row) + "\n")
            journal.flush()
            progress.update()
            yield row


def _start(out: Path, settings: Settings, rows: Iterable[dict[str, Any]]) -> None:
    # Only rows that still count go into the journal that this run starts with.
    with atomic_path(out / _JOURNAL) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_json(out / SETTINGS, vars(settings))


def _load_done(out: Path, settings: Settings) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run whose image is there."""
    if (out / SETTINGS).exists() and read_json(out / SETTINGS) != vars(settings):
        raise InputError(f"{out / SETTINGS}: made with {read_json(out / SETTINGS)}, expected "
                         f"{vars(settings)}; choose another --out or leave --resume away")
    rows = _journal_rows(out / _JOURNAL)
    if (out / "qc.csv").exists():
        table = pd.read_csv(out / "qc.csv", dtype={"image_id": str}, keep_default_na=False)
        rows += table.to_dict("records")
    return {
        row["image_id"]: row for row in rows
        if row["status"] == "ok" and (out / f"{row['image_id']}.png").is_file()
    }


def _journal_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_text(encoding="utf-8").splitlines() if path.exists() else []:
        try:
            rows.append(json.loads(line))
        except json.JSONDecodeError:  # the line that was being written when the run was killed
            continue
    return rows


def _finish(out: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(QC_COLUMNS))
    whole = ["bits", "dim0", "dim1"]
    table[whole] = table[whole].apply(pd.to_numeric).astype("Int64")
    write_csv(out / "qc.csv", table)
    good = table[table["status"] == "ok"]
    write_csv(out / "meta.csv", good[["image_id", "dim0", "dim1"]])
    (out / _JOURNAL).unlink(missing_ok=True)
    return table
