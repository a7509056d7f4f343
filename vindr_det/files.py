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

import pandas as pd

from vindr_det.errors import InputError

IMAGE_SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
GZIP_MAGIC = b"\x1f\x8b"
_PARTIAL = ".partial-"


@contextmanager
def atomic_path(path: str | Path) -> Iterator[Path]:
    """Yield a temporary path beside ``path`` and rename it into place on success.

    The temporary file keeps the suffix, since writers such as ``cv2.imwrite`` read the format
    off it. After an exception it is removed and ``path`` is left as it was.

    Raises:
        InputError: the folder cannot be made or written.
    """
    path = Path(path)
    try:
        path.parent.mkdir(parents=True, exist_ok=True)
        handle, name = tempfile.mkstemp(dir=path.parent, prefix=_PARTIAL, suffix=path.suffix)
    except OSError as error:
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error
    os.close(handle)
    temporary = Path(name)
    try:
        yield temporary
        # mkstemp makes files private; the result should get what the user's umask grants.
        umask = os.umask(0)
        os.umask(umask)
        temporary.chmod(0o666 & ~umask)
        temporary.replace(path)
    finally:
        temporary.unlink(missing_ok=True)


def remove_partial(folder: str | Path) -> None:
    """Remove what a killed run was writing when it ended."""
    for path in Path(folder).glob(f"{_PARTIAL}*"):
        path.unlink(missing_ok=True)


def require_writable(path: str | Path) -> None:
    """Find out before the work, not after it, that ``path`` cannot be written.

    Raises:
        InputError: it is a folder, or its folder cannot be made or written.
    """
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file to write")
    above = next(parent for parent in path.absolute().parents if parent.exists())
    if not above.is_dir() or not os.access(above, os.W_OK):
        raise InputError(f"{path}: cannot be written, since {above} is not a writable folder")


def write_text(path: str | Path, text: str) -> None:
    """Write UTF-8 text whole or not at all, with ``\\n`` line ends on every system; gzipped as ``.gz``."""
    data = text.encode("utf-8")
    with atomic_path(path) as temporary:
        temporary.write_bytes(gzip.compress(data, mtime=0) if str(path).endswith(".gz") else data)


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
    except (ValueError, RecursionError) as error:  # also integers of thousands of digits, and endless nesting
        raise InputError(f"{path}: not valid JSON ({error})") from error


def read_text(path: str | Path) -> str:
    """UTF-8 text, also gzipped, without a byte order mark.

    Raises:
        InputError: the file is missing, or is a damaged archive.
        UnicodeDecodeError: it is not text.
    """
    return read_bytes(path).decode("utf-8-sig")


def read_bytes(path: str | Path) -> bytes:
    """A file's content, unpacked where it is gzipped.

    Raises:
        InputError: the file is missing, or is a damaged archive.
    """
    data = existing_file(path).read_bytes()
    if data[:2] != GZIP_MAGIC:
        return data
    try:
        return gzip.decompress(data)
    except (OSError, EOFError, zlib.error) as error:
        raise InputError(f"{path}: damaged gzip file ({error})") from error


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

    Raises:
        InputError: the file is missing, is not a table, or lacks a column.
    """
    existing_file(path)
    try:
        frame = pd.read_csv(path, dtype=dtype)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    require_columns(path, frame, columns)
    return frame


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


def list_images(folder: str | Path, recursive: bool = False) -> dict[str, Path]:
    """The image files in a folder, sorted by name: image id -> path.

    The id is the file's stem. DICOM files from an archive often have no suffix, or a UID with dots
    for a name; they are known by their first bytes, and their id is the whole name.

    Args:
        folder: where to look.
        recursive: look in its folders too.

    Raises:
        InputError: no such folder, no image in it, or two files with the same id.
    """
    folder = Path(folder)
    if not folder.is_dir():
        raise InputError(f"{folder}: no such folder of images")
    found: dict[str, Path] = {}
    for path in sorted(folder.rglob("*") if recursive else folder.iterdir()):
        known = path.suffix.lower() in IMAGE_SUFFIXES
        if path.name.startswith(".") or not path.is_file() or not (known or is_dicom(path)):
            continue
        image_id = path.stem if known else path.name
        if image_id in found:
            first, second = (p.relative_to(folder) for p in (found[image_id], path))
            raise InputError(f"{folder}: {first} and {second} share the image id {image_id}")
        found[image_id] = path
    if not found:
        raise InputError(f"{folder}: holds no image; expected DICOM files, or files ending in "
                         f"{IMAGE_SUFFIXES}")
    return found


def is_dicom(path: Path) -> bool:
    """Whether a file begins as PS3.10 7.1 has it; an archive's index (DICOMDIR) is no image."""
    with path.open("rb") as file:
        return file.read(132)[128:] == b"DICM" and path.name != "DICOMDIR"
