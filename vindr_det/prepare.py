"""A folder of DICOM, PNG or JPEG files to 8-bit gray PNG, in parallel and resumable.

What a run leaves in its folder::

    <image_id>.png   the images
    meta.csv         image_id,dim0,dim1: height and width of the originals
    qc.csv           a row per input: status, reason, and what was decided while decoding
    prepare.json     the settings, so that a resumed run cannot mix sizes

While it runs, finished rows go to ``qc.partial.jsonl``; an image counts as done only when its row
is there and its PNG, renamed into place when whole, is too.
"""

import json
import logging
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from functools import partial
from pathlib import Path
from typing import Any

import cv2
import pandas as pd
from tqdm import tqdm

from vindr_det.errors import InputError
from vindr_det.files import (
    atomic_path,
    list_images,
    read_json,
    remove_partial,
    write_csv,
    write_json,
)
from vindr_det.images import read_image
from vindr_det.limits import MAX_PIXELS
from vindr_det.parallel import Runner, local_runner
from vindr_det.resize import Target

log = logging.getLogger(__name__)

QC_COLUMNS = ("image_id", "file", "status", "reason", "syntax", "bits", "photometric", "window",
              "orientation", "view", "spacing", "reduced", "dim0", "dim1")
#: ``flagged`` images were written, but something in their file contradicts itself.
OK, FLAGGED, FAILED = "ok", "flagged", "failed"
_JOURNAL = "qc.partial.jsonl"
_PNG_END = b"IEND\xaeB`\x82"
SETTINGS = "prepare.json"


def prepare_folder(
    images: str | Path, out: str | Path, target: Target, workers: int | None = None,
    resume: bool = False, runner: AbstractContextManager[Runner] | None = None,
    recursive: bool = False, max_pixels: int = MAX_PIXELS,
) -> pd.DataFrame:
    """Prepare every image of a folder; returns the QC table, one row per input.

    A file that cannot be decoded gets a row with ``status`` "failed" and its reason; it never
    stops the others, not even one that crashes its decoder.

    Args:
        images: folder of DICOM, PNG or JPEG files.
        out: folder to create.
        target: the size to bring the images to.
        workers: processes; None takes one a core.
        resume: keep what an earlier run with the same settings finished.
        runner: what runs the work instead of processes here; see :mod:`vindr_det.parallel`.
        recursive: look in the folder's folders too; all images are written to ``out`` itself.
        max_pixels: larger originals are refused before memory is taken for them.

    Raises:
        InputError: no images, a bad size, or ``out`` was prepared with other settings.
    """
    if target.size < 16:
        raise InputError(f"--size {target.size}: expected at least 16 pixels")
    images, out = Path(images), Path(out)
    paths = list_images(images, recursive)
    if out.resolve() == images.resolve() or (recursive and images.resolve() in out.resolve().parents):
        raise InputError(f"{out}: --out is among the originals, expected another folder")
    out.mkdir(parents=True, exist_ok=True)
    done = _load_done(out, target) if resume else {}
    remove_partial(out)
    _start(out, target, done.values())
    todo = [(image_id, str(path.relative_to(images))) for image_id, path in paths.items()
            if image_id not in done]
    if done:
        log.info("%d of %d images were done already", len(paths) - len(todo), len(paths))
    work = partial(prepare_one, images=images, out=out, target=target, max_pixels=max_pixels)
    for row in _run(work, todo, out, runner or local_runner(workers, len(todo))):
        done[row["image_id"]] = row
    return _finish(out, [done[image_id] for image_id in paths])


def prepare_one(
    item: tuple[str, str], images: Path, out: Path, target: Target, max_pixels: int = MAX_PIXELS
) -> dict[str, Any]:
    """Prepare one file, given by image id and name below ``images``; returns its QC row."""
    row, path = _row(item, OK, ""), images / item[1]
    try:
        decoded = read_image(path, target, max_pixels)
        with atomic_path(out / f"{item[0]}.png") as temporary:
            if not cv2.imwrite(str(temporary), decoded.pixels):
                raise InputError(f"{out / item[0]}.png: cannot be written")
    except InputError as error:
        # The reason stands beside the file's name and is the same wherever the folder lies.
        return _row(item, FAILED, str(error).removeprefix(f"{path}: "))
    if decoded.flags:
        row |= {"status": FLAGGED, "reason": "; ".join(decoded.flags)}
    facts = ("syntax", "bits", "photometric", "window", "orientation", "view", "spacing",
             "reduced")
    return row | {name: getattr(decoded, name) for name in facts} | {
        "dim0": decoded.height, "dim1": decoded.width}


def summary(table: pd.DataFrame) -> str:
    """The QC table in a few lines: how many, what they were, and what went wrong."""
    counts = table["status"].value_counts()
    lines = [", ".join(f"{counts.get(status, 0)} {status}" for status in (OK, FLAGGED, FAILED))]
    for column in ("syntax", "photometric", "bits"):
        kinds = table.loc[table["status"] != FAILED, column].value_counts()
        if len(kinds):
            lines.append(f"{column}: " + ", ".join(f"{kind} {n}" for kind, n in kinds.items()))
    odd = table[table["status"] != OK]
    lines += [f"{row.status}: {row.file}: {row.reason}" for row in odd.head(20).itertuples()]
    if len(odd) > 20:
        lines.append(f"... and {len(odd) - 20} more in qc.csv")
    return "\n".join(lines)


def _row(item: tuple[str, str], status: str, reason: str) -> dict[str, Any]:
    return dict.fromkeys(QC_COLUMNS) | {
        "image_id": item[0], "file": item[1], "status": status, "reason": " ".join(reason.split())}


def _run(
    work: Callable[[tuple[str, str]], dict[str, Any]], items: list[tuple[str, str]], out: Path,
    runner: AbstractContextManager[Runner],
) -> Iterable[dict[str, Any]]:
    if not items:
        return
    progress = tqdm(total=len(items), desc="prepare", unit="image", disable=None)
    with runner as run, progress, (out / _JOURNAL).open("a", encoding="utf-8") as journal:
        for item, row in run(work, items):
            row = row or _row(item, FAILED, "its decoder crashed or did not end")
            journal.write(json.dumps(row) + "\n")
            journal.flush()
            progress.update()
            yield row


def _start(out: Path, target: Target, rows: Iterable[dict[str, Any]]) -> None:
    # Only rows that still count go into the journal that this run starts with.
    with atomic_path(out / _JOURNAL) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in rows), encoding="utf-8")
    write_json(out / SETTINGS, vars(target))


def _load_done(out: Path, target: Target) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run whose image is there."""
    if (out / SETTINGS).exists() and read_json(out / SETTINGS) != vars(target):
        raise InputError(f"{out / SETTINGS}: made with {read_json(out / SETTINGS)}, expected "
                         f"{vars(target)}; choose another --out or leave --resume away")
    rows = _journal_rows(out / _JOURNAL)
    if (out / "qc.csv").exists():
        table = pd.read_csv(out / "qc.csv", dtype=str, keep_default_na=False)
        rows += table.to_dict("records")
    return {
        row["image_id"]: row for row in rows
        if row["status"] != FAILED and _is_whole(out / f"{row['image_id']}.png")
    }


def _is_whole(png: Path) -> bool:
    """Whether a PNG is there with its end; a machine that lost power can leave one without."""
    if not png.is_file() or png.stat().st_size < len(_PNG_END):
        return False
    with png.open("rb") as file:
        file.seek(-len(_PNG_END), 2)
        return file.read() == _PNG_END


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
    whole = ["bits", "reduced", "dim0", "dim1"]
    table[whole] = table[whole].apply(pd.to_numeric).astype("Int64")
    write_csv(out / "qc.csv", table)
    good = table[table["status"] != FAILED]
    write_csv(out / "meta.csv", good[["image_id", "dim0", "dim1"]])
    (out / _JOURNAL).unlink(missing_ok=True)
    return table
