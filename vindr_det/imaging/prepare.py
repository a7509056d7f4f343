"""A preparation run: DICOM, PNG or JPEG files to a folder of 8-bit gray PNGs, in parallel and resumable.

The folder then holds::

    <image_id>.png   the images
    meta.csv         image_id,dim0,dim1: height and width of the originals
    qc.csv           one row per input: status, reason, and what was decided while decoding
    prepare.json     the settings and the source, so that a run cannot mix sizes or folders

While it runs, finished rows go to ``qc.partial.jsonl``. An image counts as done only if its row and its whole
PNG are there and its file has the size and the time of that row. A picture of an earlier run that this run
neither makes nor keeps is removed. :mod:`vindr_det.imaging.prepared_folder` reads what is left here.
"""

import json
import logging
import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from dataclasses import replace
from functools import partial
from itertools import chain
from pathlib import Path
from typing import IO, Any

import pandas as pd
from PIL.PngImagePlugin import PngImageFile
from tqdm import tqdm

from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, make_folder, read_json, remove_partial, write_json, write_png
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.imaging.frontal_check import warnings_of
from vindr_det.imaging.image_run import read_input, reason_without_path
from vindr_det.imaging.inputs import Input, list_inputs, printable, require_apart
from vindr_det.imaging.prepared_folder import LOG, REPORT, SETTINGS, SIZES
from vindr_det.imaging.resize import Target
from vindr_det.imaging.status import FAILED, FLAGGED, OK
from vindr_det.limits import MAX_PIXELS, require_limit
from vindr_det.parallel import Failure, Runner, in_threads, local_runner
from vindr_det.tables import read_own_csv, write_csv

log = logging.getLogger(__name__)

QC_COLUMNS = ("image_id", "file", "status", "reason", "syntax", "bits", "photometric", "window",
              "orientation", "view", "spacing", "reduced", "dim0", "dim1", *UIDS, "bytes", "modified")
_PNG_END = b"IEND\xaeB`\x82"


def prepare_folder(
    images: str | Path, out: str | Path, target: Target, workers: int | None = None,
    resume: bool = False, runner: AbstractContextManager[Runner] | None = None,
    recursive: bool = False, max_pixels: int = MAX_PIXELS,
) -> pd.DataFrame:
    """Prepare every image of a folder; returns the QC table, one row per input.

    A file that cannot be decoded gets a row with ``status`` "failed" and its reason. It never stops the
    others, not even if it crashes its decoder.

    Args:
        images: folder of DICOM, PNG or JPEG files, or one such file.
        out: folder to create.
        target: the size to bring the images to.
        workers: processes; None takes one per core.
        resume: keep what an earlier run with the same settings finished.
        runner: runs the work elsewhere, as on Dask; None starts processes here (:mod:`vindr_det.parallel`).
        recursive: include subfolders; all images are written to ``out`` itself.
        max_pixels: larger originals are refused before memory is taken for them.

    Raises:
        InputError: no images, a bad size, or ``out`` was prepared from another folder or, with
            ``resume``, with other settings.
    """
    if target.size < 16:
        raise InputError(f"--size {target.size}: expected at least 16 pixels")
    require_limit(max_pixels)
    images, out = Path(images), Path(out)
    inputs = list_inputs(images, recursive)
    require_apart([source.path for source in inputs], out)
    if recursive and images.resolve() in out.resolve().parents:
        raise InputError(f"{out}: --out is among the originals, expected another folder")
    make_folder(out)
    settings = vars(target) | {"images": printable(str(images.resolve()))}
    _check_settings(out, settings, resume)
    earlier = _earlier_rows(out)
    done = _done(out, inputs, earlier) if resume else {}
    # Workers of other machines stand in other folders.
    todo = [replace(source, path=source.path.absolute()) for source in inputs if source.image_id not in done]
    if done:
        log.info("%d of %d images were done already", len(inputs) - len(todo), len(inputs))
    work = partial(prepare_input, out=out.absolute(), target=target, max_pixels=max_pixels)
    with runner or local_runner(workers, len(todo)) as run:
        _start(out, settings, done, earlier)
        for row in _run(run, work, todo, out):
            done[row["image_id"]] = row
    return _finish(out, [done[source.image_id] for source in inputs])


def prepare_input(
    source: Input, out: Path, target: Target, max_pixels: int = MAX_PIXELS
) -> dict[str, Any]:
    """Prepare a file; returns its QC row.

    Raises:
        Exception: of a decoder or the system; the runner makes a failed row of it.
    """
    decoded, uids = read_input(source, target, max_pixels)
    if isinstance(decoded, Failure):
        return {**_failed(source, decoded.reason), **uids}
    write_png(out / f"{source.image_id}.png", decoded.pixels)
    warnings = warnings_of(decoded)
    row = _row(source, FLAGGED if warnings else OK, "; ".join(warnings))
    facts = ("syntax", "bits", "photometric", "window", "orientation", "view", "spacing", "reduced")
    return row | {name: getattr(decoded, name) for name in facts} | {
        "dim0": decoded.height, "dim1": decoded.width, **uids}


def summary(table: pd.DataFrame) -> str:
    """The QC table in a few lines: counts per status and kind, and the reasons of files that are not ok."""
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


def _row(source: Input, status: str, reason: str) -> dict[str, Any]:
    return dict.fromkeys(QC_COLUMNS) | {
        "image_id": source.image_id, "file": source.file, "status": status, "reason": reason,
        **_fingerprint(source.path)}


def _failed(source: Input, reason: str) -> dict[str, Any]:
    return _row(source, FAILED, reason_without_path(reason, source.path))


def _fingerprint(path: Path) -> dict[str, int | None]:
    """Size in bytes and time of the last change in nanoseconds."""
    try:
        status = path.stat()
    except OSError:
        return {"bytes": None, "modified": None}
    return {"bytes": status.st_size, "modified": status.st_mtime_ns}


def _run(
    run: Runner, work: Callable[[Input], dict[str, Any]], items: list[Input], out: Path
) -> Iterable[dict[str, Any]]:
    progress = tqdm(total=len(items), desc="prepare", unit="image", disable=None)
    with progress, (out / LOG).open("ab", buffering=0) as rows:
        for source, row in chain(_refused(items), run(work, [item for item in items if not item.problem])):
            if isinstance(row, Failure):
                row = _failed(source, row.reason.replace(f"{out.absolute()}{os.sep}", ""))
            _append(rows, out / LOG, row)
            if row["status"] != FAILED and not (out / f"{source.image_id}.png").is_file():
                raise InputError(f"{out}: has no {source.image_id}.png, which a worker wrote: it writes into "
                                 "another folder of this name; expected one that all machines share")
            progress.update()
            yield row


def _append(file: IO[bytes], path: Path, row: Mapping[str, Any]) -> None:
    try:
        file.write(json.dumps(row).encode() + b"\n")
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror}); --resume continues") from error


def _refused(items: Iterable[Input]) -> Iterable[tuple[Input, Failure]]:
    return ((item, Failure(item.problem)) for item in items if item.problem)


def _start(
    out: Path, settings: dict[str, Any], kept: Mapping[str, dict[str, Any]],
    earlier: Iterable[dict[str, Any]],
) -> None:
    remove_partial(out)
    # The log of this run starts with the rows that it keeps.
    with atomic_path(out / LOG) as temporary:
        temporary.write_text("".join(json.dumps(row) + "\n" for row in kept.values()), encoding="utf-8")
    for row in earlier:
        if row["image_id"] not in kept and row["status"] != FAILED and _is_name(row["image_id"]):
            (out / f"{row['image_id']}.png").unlink(missing_ok=True)
    for name in (REPORT, SIZES):  # until the end of this run they would be another run's
        (out / name).unlink(missing_ok=True)
    write_json(out / SETTINGS, settings)


def _check_settings(out: Path, settings: dict[str, Any], resume: bool) -> None:
    if not (out / SETTINGS).exists():
        return
    try:
        made = read_json(out / SETTINGS)
        folder = made["images"]
    except (InputError, TypeError, KeyError) as error:
        if resume:
            raise InputError(f"{out / SETTINGS}: is damaged; choose another --out or leave --resume away"
                             ) from error
        log.warning("%s: is damaged; all images are prepared again", out / SETTINGS)
        return
    if (resume and made != settings) or folder != settings["images"]:
        raise InputError(f"{out / SETTINGS}: made with {made}, expected {settings}; choose another --out"
                         f"{' or leave --resume away' if folder == settings['images'] else ''}")


def _earlier_rows(out: Path) -> list[dict[str, Any]]:
    """The rows of an earlier run, finished or not."""
    rows = _log_rows(out / LOG)
    if (out / REPORT).exists():
        try:
            rows += read_own_csv(out / REPORT, ["image_id", "status"])
        except InputError as error:
            log.warning("the images of an earlier run are prepared again: %s", error)
    return rows


def _done(
    out: Path, inputs: Sequence[Input], rows: Iterable[dict[str, Any]]
) -> dict[str, dict[str, Any]]:
    """Rows of an earlier run whose image is whole and whose file has not changed since."""
    by_id = {source.image_id: source for source in inputs}
    rows = [row for row in rows if row["status"] != FAILED and row["image_id"] in by_id]
    kept = in_threads(lambda row: _is_of(row, by_id[row["image_id"]])
                      and _is_whole(out / f"{row['image_id']}.png"), rows)
    return {row["image_id"]: row for row, keep in zip(rows, kept, strict=True) if keep}


def _is_of(row: Mapping[str, Any], source: Input) -> bool:
    now = {"file": source.file, **_fingerprint(source.path)}
    return all(str(row.get(name)) == str(value) for name, value in now.items())


def _is_whole(png: Path) -> bool:
    """Whether a PNG is there, whole and with right checksums; after a loss of power it may not be."""
    try:
        with png.open("rb") as file:
            file.seek(-len(_PNG_END), 2)
            ends = file.read() == _PNG_END
            file.seek(0)
            with PngImageFile(file) as image:
                image.verify()
    except (OSError, SyntaxError, ValueError):  # Pillow's errors for a damaged file
        return False
    return ends


def _is_name(image_id: Any) -> bool:
    """Whether an id is a plain file name, with no folder in it."""
    return isinstance(image_id, str) and printable(image_id) == image_id == Path(image_id).name


def _log_rows(path: Path) -> list[dict[str, Any]]:
    rows = []
    for line in path.read_bytes().splitlines() if path.exists() else []:
        try:
            row = json.loads(line)
        except (ValueError, RecursionError):  # cut off when the run was killed, or damaged
            continue
        if isinstance(row, dict) and {"image_id", "status"} <= row.keys() and _is_name(row["image_id"]):
            rows.append(row)
    return rows


def _finish(out: Path, rows: list[dict[str, Any]]) -> pd.DataFrame:
    table = pd.DataFrame(rows, columns=list(QC_COLUMNS))
    whole = ["bits", "reduced", "dim0", "dim1", "bytes", "modified"]
    table[whole] = table[whole].apply(pd.to_numeric).astype("Int64")
    write_csv(out / REPORT, table)
    good = table[table["status"] != FAILED]
    write_csv(out / SIZES, good[["image_id", "dim0", "dim1"]])
    (out / LOG).unlink(missing_ok=True)
    return table
