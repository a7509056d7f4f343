"""Reading tables and writing files so that nothing is ever half-written."""

import gzip
import json
import os
import tempfile
import zlib
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vindr_det.errors import PLACE_ERRORS, InputError

IMAGE_SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
#: Columns whose text is a name, also where it is "NA", "null" or "nan"; only an empty field is missing.
NAME_COLUMNS = ("image_id", "image", "patient", "patient_id", "rad_id")
_PARTIAL = ".partial-"


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
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_PARTIAL, suffix=path.suffix)
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
    for path in Path(folder).glob(f"{_PARTIAL}*"):
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
    """Write UTF-8 text whole or not at all, with ``\\n`` line ends on every system."""
    with atomic_path(path) as temporary:
        temporary.write_text(text, encoding="utf-8", newline="\n")


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
    except (json.JSONDecodeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid JSON ({error})") from error


def read_text(path: str | Path) -> str:
    """UTF-8 text, also gzipped, without a byte order mark.

    Raises:
        InputError: the file is missing, or is a damaged archive.
        UnicodeDecodeError: it is not text.
    """
    data = existing_file(path).read_bytes()
    if data[:2] == b"\x1f\x8b":
        try:
            data = gzip.decompress(data)
        except (OSError, EOFError, zlib.error) as error:
            raise InputError(f"{path}: damaged gzip file ({error})") from error
    return data.decode("utf-8-sig")


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
    """Read a CSV (also gzipped) and check that it has the named columns.

    The text of :data:`NAME_COLUMNS` is taken as it stands: pandas by itself takes an image called "NA" for a
    missing value.

    Raises:
        InputError: the file is missing, is not a table, lacks a column, or has a row without its image_id.
    """
    existing_file(path)
    try:
        frame = pd.read_csv(path, dtype=dtype)
        names = [name for name in NAME_COLUMNS if name in frame]
        if names:
            exact = pd.read_csv(path, dtype=str, usecols=names, keep_default_na=False, na_values=[""])
            frame[names] = exact[names]
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    require_columns(path, frame, columns)
    _require_ids(path, frame)
    return frame


def _require_ids(path: str | Path, frame: pd.DataFrame) -> None:
    for column in {"image_id", "image"}.intersection(frame.columns):
        empty = np.flatnonzero(frame[column].isna())
        if len(empty):
            raise InputError(f"{path}, row {csv_row(int(empty[0]))}: {column} is empty")


def require_columns(path: str | Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise an InputError that names the missing columns and those that are there."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: column {', '.join(missing)} is missing; it has {', '.join(map(str, frame))}"
        )


def csv_row(position: int) -> int:
    """The line a person sees in an editor for the frame's row ``position`` (header = line 1)."""
    return int(position) + 2


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
