"""Reading tables and writing files so that nothing is ever half-written."""

import codecs
import csv
import gzip
import io
import json
import logging
import os
import re
import shutil
import tempfile
import zipfile
import zlib
from collections import Counter
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from itertools import islice
from pathlib import Path, PurePath
from typing import Any

import numpy as np
import pandas as pd

from vindr_det.exceptions import PLACE_ERRORS, InputError

IMAGE_SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
#: Pictures that are not read; they get a row that says so.
OTHER_PICTURES = (".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".j2k", ".jpe", ".jfif", ".avif", ".heic")
GZIP_MAGIC = b"\x1f\x8b"
#: Columns of text, whatever it looks like: an image may be called NA, 0012 or 1e5.
TEXT_COLUMNS = ("image_id", "image", "Image Index", "patient", "patient_id", "Patient ID", "rad_id",
                "class_name", "Finding Label", "Finding Labels")
#: How everything begins that is not finished.
PARTIAL = ".partial-"
# What programs write for a number that is not there.
_MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "-nan", "NULL", "null", "None")
# What a spreadsheet leaves below a table.
_NO_VALUES = b"\r\n,;\t "

log = logging.getLogger(__name__)


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it into place on success.

    The temporary file keeps the suffix, since writers such as ``cv2.imwrite`` read the format
    off it. After an exception it is removed and ``path`` is left as it was.

    Raises:
        InputError: the folder cannot be made or written, the disk is full, the name is too long.
    """
    path = Path(path)
    make_folder(path.parent)
    temporary: Path | None = None
    try:
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=PARTIAL, suffix=path.suffix)
        os.close(handle)
        temporary = Path(name)
        yield temporary
        # mkstemp makes files private; the result should get what the user's umask grants.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    except OSError as error:
        if error.errno in PLACE_ERRORS:
            raise InputError(f"{path}: cannot be written ({error.strerror})") from error
        raise
    finally:
        if temporary is not None:
            temporary.unlink(missing_ok=True)


def make_folder(folder: str | Path) -> Path:
    """Make a folder and those above it.

    Raises:
        InputError: it is a file, or cannot be made.
    """
    folder = Path(folder)
    try:
        folder.mkdir(parents=True, exist_ok=True)
    except OSError as error:
        is_file = folder.exists() and not folder.is_dir()
        reason = "is a file" if is_file else f"cannot be made ({error.strerror})"
        raise InputError(f"{folder}: {reason}, expected a folder") from error
    return folder


def remove_partial(folder: str | Path) -> None:
    """Remove what a killed run was writing when it ended."""
    for path in Path(folder).glob(f"{PARTIAL}*"):
        if path.is_dir() and not path.is_symlink():
            shutil.rmtree(path)
        else:
            path.unlink(missing_ok=True)


def require_writable(path: str | Path) -> None:
    """Find out before the work, not after it, that ``path`` cannot be written.

    Raises:
        InputError: it is a folder or a device, or its folder cannot be made or written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file to write")
    if path.exists() and not path.is_file():  # a rename would put a file in the device's place
        raise InputError(f"{path}: is no regular file, expected a file to write")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{path}: cannot be written, since {above} is not a writable folder")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text whole or not at all, with ``\\n`` line ends on every system; gzipped as ``.gz``."""
    write_together({Path(path): text})


def write_together(texts: Mapping[Path, str | None]) -> None:
    """Write texts as :func:`write_text`, all of them or none; a file whose text is None is removed."""
    with ExitStack() as stack:
        for path, text in texts.items():
            if text is not None:
                data = text.encode("utf-8")
                temporary = stack.enter_context(atomic_path(path))
                temporary.write_bytes(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)
        for path, text in texts.items():
            if text is None:
                path.unlink(missing_ok=True)


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(data, indent=None, separators=(", ", ": ")) + "\n")


def read_json(path: str | Path) -> Any:
    """Read JSON (also gzipped).

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return json.loads(read_text(path))
    except InputError:
        raise
    except (ValueError, RecursionError) as error:  # also integers of thousands of digits, and endless nesting
        raise InputError(f"{path}: not valid JSON ({error})") from error


def read_text(path: str | Path) -> str:
    """UTF-8 text, also gzipped or zipped, without a byte order mark.

    Raises:
        InputError: the file is missing, or is a damaged archive.
        UnicodeDecodeError: it is not text.
    """
    return read_bytes(path).decode("utf-8-sig")


def holds_json(path: str | Path) -> bool:
    """Whether a file, whatever its name, begins as JSON does and no table.

    Raises:
        InputError: the file is missing, or is a damaged archive.
    """
    return read_bytes(path).removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[")


def read_bytes(path: str | Path) -> bytes:
    """A file's content, unpacked; archives are known by how they begin, whatever their name.

    Raises:
        InputError: the file is missing, or is a damaged archive.
    """
    data = existing_file(path).read_bytes()
    try:
        if data[:2] == GZIP_MAGIC:
            return gzip.decompress(data)
        return _unzipped(path, data) if data[:4] == b"PK\x03\x04" else data
    except (OSError, EOFError, zlib.error, zipfile.BadZipFile, RuntimeError) as error:
        raise InputError(f"{path}: damaged archive ({error})") from error


def _unzipped(path: str | Path, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise InputError(f"{path}: an archive of {len(names)} files, expected one")
        return archive.read(names[0])


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a table without its index, whole or not at all."""
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def existing_file(path: str | Path) -> Path:
    """Return ``path`` as a Path, or raise an InputError that says what is missing."""
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def read_csv(
    path: str | Path, columns: Sequence[str] = (), dtype: dict[str, Any] | type | None = None
) -> pd.DataFrame:
    """Read a table: CSV, also gzipped or zipped, with commas, semicolons or tabs between the values.

    A column that is known goes by its letters and digits: ``rad_ID`` and ``Rad ID`` are ``rad_id``. Those of
    :data:`TEXT_COLUMNS` are text without the spaces around it, NaN only where nothing stands; the
    others are numbers where all of their values are.

    Args:
        path: the file.
        columns: must be there; those that are text must be filled in on every row.
        dtype: of the columns that are not text, or of some of them.

    Raises:
        InputError: the file is missing, is not a table or has no row, or lacks a column or a text.
    """
    data = read_bytes(path)
    separator, given = _header(data)
    names = _column_names(path, given, columns)
    texts = [name for name in given if names[name] in TEXT_COLUMNS]
    numbers = [name for name in given if name not in texts]
    kinds = dtype if isinstance(dtype, dict) else dict.fromkeys(numbers, dtype) if dtype else {}
    frame = _parsed(path, data, sep=separator, dtype={**kinds, **dict.fromkeys(texts, str)},
                    keep_default_na=False, na_values=dict.fromkeys(numbers, _MISSING)).rename(columns=names)
    require_columns(path, frame, columns)
    if frame.empty:
        raise InputError(f"{path}: has a header and no row below it")
    for name in (names[name] for name in texts):
        text = frame[name].str.strip()
        frame[name] = text.mask(text == "")
    require_texts(path, frame, [name for name in columns if name in TEXT_COLUMNS])
    return frame


def _header(data: bytes) -> tuple[str, list[str]]:
    """What separates the values, and the columns' names."""
    line = re.split(rb"[\r\n]", data, maxsplit=1)[0].decode("utf-8-sig", "replace")
    separator = max(",;\t", key=line.count)
    return separator, next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _parsed(path: str | Path, data: bytes, **options: Any) -> pd.DataFrame:
    try:
        # A line without values keeps its place, so that rows are counted as an editor does.
        frame = pd.read_csv(io.BytesIO(data.rstrip(_NO_VALUES)), encoding="utf-8-sig", low_memory=False,
                            float_precision="round_trip", skip_blank_lines=False, skipinitialspace=True,
                            **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable CSV ({str(error).strip()})") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise InputError(f"{path}, row 2: has more values than the header has columns")
    return frame


def read_own_csv(path: str | Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table that a run of ours has left, all as the text that stands there.

    Raises:
        InputError: the file is missing, is no table, or lacks a column.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
        rows, names = list(reader), reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from error
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; it has {', '.join(names) or 'none'}")
    return rows


def _column_names(path: str | Path, given: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """The header's names to ours."""
    wanted = {letters_of(name): name for name in columns}
    alike = {letters_of(name): name for name in TEXT_COLUMNS} | {name: name for name in TEXT_COLUMNS}
    names = {name: wanted.get(letters_of(name)) or alike.get(name) or alike.get(letters_of(name), name)
             for name in given}
    for name, count in Counter(names[name] for name in given if name.strip()).items():
        if count > 1:
            raise InputError(f"{path}: column {name} is there {count} times, expected once")
    return names


def letters_of(name: str) -> str:
    """What a column goes by: its letters and digits, in lower case."""
    return re.sub(r"[\W_]", "", name).casefold()


def require_texts(path: str | Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise an InputError that names the first row on which one of the columns is empty, and the column."""
    empty = frame[list(columns)].isna()
    refuse_first(path, empty.any(axis=1), lambda i: f"{empty.columns[empty.iloc[i]][0]} is empty, expected a "
                 "value")


def require_columns(path: str | Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise an InputError that names the missing columns and those that are there."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: column {', '.join(missing)} is missing; it has {', '.join(map(str, frame))}"
        )


def refuse_first(
    path: str | Path, bad: Any, describe: Callable[[int], str], header: bool = True
) -> None:
    """Raise an InputError for the first flagged row.

    Args:
        path: the table.
        bad: (N,) flags.
        describe: position of a row -> what is wrong with it and what was expected.
        header: the table has one, which counts as a line.
    """
    if np.any(bad):
        first = int(np.flatnonzero(bad)[0])
        raise InputError(f"{path}, row {line_of(path, first) if header else first + 1}: {describe(first)}")


def without_repeats(path: str | Path, frame: pd.DataFrame) -> pd.DataFrame:
    """A table without rows that are there twice, which is said in the log.

    A box that is drawn twice says nothing more, but would count twice, and pull a mean of boxes.
    """
    repeated = frame.duplicated().to_numpy()
    if repeated.any():
        log.warning("%s: %d rows are there twice and count once; the first of them is row %d", path,
                    repeated.sum(), line_of(path, int(np.flatnonzero(repeated)[0])))
    return frame[~repeated].reset_index(drop=True)


def csv_row(position: int) -> int:
    """The line a person sees in an editor for the frame's row ``position`` (header = line 1)."""
    return int(position) + 2


def line_of(path: str | Path, position: int) -> int:
    """As :func:`csv_row`, also where values before it, in quotes, go over lines."""
    data = read_bytes(path)
    if b'"' not in data:
        return csv_row(position)
    text = io.StringIO(data.decode("utf-8-sig", "replace"), newline="")
    reader = csv.reader(text, delimiter=_header(data)[0], skipinitialspace=True)
    for _ in islice(reader, position + 1):
        pass
    return reader.line_num + 1


def as_numbers(values: pd.Series) -> pd.Series:
    """Floats; NaN for what is no number, infinite for what is too large for one."""
    # pandas keeps integers of hundreds of digits as objects, and fails to make floats of these.
    texts = values.astype(str) if values.dtype == object else values
    return pd.to_numeric(texts, errors="coerce").astype(float)


def image_id_of(file_name: str | PurePath) -> str:
    """The id of an image by its file's name: without folders, and without an image's suffix.

    The last number of a UID is no suffix. Tables do not keep spaces at the ends.
    """
    path = PurePath(file_name)
    known = path.suffix.lower() in (*IMAGE_SUFFIXES, *OTHER_PICTURES)
    return (path.stem if known else path.name).strip() or path.name


def is_dicom(path: Path) -> bool:
    """Whether a file begins as PS3.10 7.1 has it, or as old files do, with their first element."""
    with path.open("rb") as file:
        start = file.read(132)
    return start[128:] == b"DICM" or _is_first_element(start[:8])


def _is_first_element(start: bytes) -> bool:
    """Group 2 or 8, an element below 256, and a type (explicit) or a short length (implicit); PS3.5 7.1."""
    if len(start) < 8 or start[:2] not in (b"\x02\x00", b"\x08\x00") or start[3] != 0:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:], "little") < 256
