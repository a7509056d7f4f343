"""Files read with an error that names them, and written so that nothing is ever half-written."""

import codecs
import errno
import gzip
import io
import json
import logging
import lzma
import os
import shutil
import tempfile
import zipfile
import zlib
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath
from typing import Any, BinaryIO

from numpy.typing import NDArray

from vindr_det.exceptions import PLACE_ERRORS, InputError
from vindr_det.json_text import loads

IMAGE_SUFFIXES = (".dicom", ".dcm", ".png", ".jpg", ".jpeg")
#: Pictures that are not read; they get a row with that reason.
OTHER_PICTURES = (".tif", ".tiff", ".bmp", ".webp", ".gif", ".jp2", ".j2k", ".jpe", ".jfif", ".avif", ".heic")
_PICTURES = frozenset((*IMAGE_SUFFIXES, *OTHER_PICTURES))
GZIP_MAGIC = b"\x1f\x8b"
#: What the packers' modules raise for damaged files; of a .zip file it may be packed by any of them.
ARCHIVE_ERRORS = (zipfile.BadZipFile, zlib.error, lzma.LZMAError, EOFError, OSError, RuntimeError)
#: The prefix of everything that is not finished.
PARTIAL = ".partial-"
#: Bytes that tell JSON from a table, unless all of them are blank.
_START = 1 << 10

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
        refused = temporary is None and error.errno == errno.ENOENT  # such as /proc
        if refused or error.errno in PLACE_ERRORS:
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


def expanded(path: Any) -> Any:
    """A path with the user's home folder for ``~``; anything else stays as it is, such as ``hf://user/repo``."""
    if not isinstance(path, str | Path) or not str(path).startswith("~"):
        return path
    try:
        return Path(path).expanduser()
    except RuntimeError:  # of no user
        return path


def require_path(path: object, expected: str) -> None:
    """Refuse an empty path, which would be the current folder or no option at all.

    Args:
        path: a path, or anything else, which passes.
        expected: what it should name.

    Raises:
        InputError: it is empty.
    """
    if isinstance(path, str) and not path:
        raise InputError(f"'': an empty path, expected {expected}")


def require_writable(path: str | Path) -> None:
    """Find out before the work, not after it, that ``path`` cannot be written.

    Raises:
        InputError: it is a folder or a device, or its folder cannot be made or written.
    """
    require_path(path, "a file to write")
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
    packer, data = packer_of(Path(path)), text.encode("utf-8")
    with atomic_path(path) as temporary:
        temporary.write_bytes(packer.compress(data) + packer.flush() if packer else data)


def packer_of(path: Path) -> Any:
    """A compressor for ``.gz``, gzip without the time; else None."""
    return zlib.compressobj(9, wbits=zlib.MAX_WBITS | 16) if str(path).endswith(".gz") else None


def write_json(path: str | Path, data: Any) -> None:
    """Write JSON whole or not at all."""
    write_text(path, json.dumps(data, indent=None, separators=(", ", ": ")) + "\n")


def write_png(path: str | Path, picture: NDArray) -> None:
    """Write a picture, (H, W) or (H, W, 3) BGR uint8, whole or not at all."""
    import cv2

    with atomic_path(path) as temporary:
        # OpenCV's own writing does not report a full disk.
        temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())


def read_json(path: str | Path) -> Any:
    """Read JSON (also gzipped).

    Raises:
        InputError: the file is missing or is not JSON.
    """
    try:
        return loads(read_bytes(path))
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
    with existing_file(path).open("rb") as file:
        start = file.read(_START)
    if start[:2] in (GZIP_MAGIC, b"PK") or not start.removeprefix(codecs.BOM_UTF8).lstrip():
        start = read_bytes(path)
    return start.removeprefix(codecs.BOM_UTF8).lstrip()[:1] in (b"{", b"[")


def read_bytes(path: str | Path) -> bytes:
    """A file's content, unpacked; archives are known by their first bytes, whatever their name.

    Raises:
        InputError: the file is missing, or is a damaged archive.
    """
    data = existing_file(path).read_bytes()
    try:
        if data[:2] == GZIP_MAGIC:
            return gzip.decompress(data)
        return _unzipped(path, data) if data[:4] == b"PK\x03\x04" else data
    except ARCHIVE_ERRORS as error:
        raise InputError(f"{path}: damaged archive ({error})") from error


def _unzipped(path: str | Path, data: bytes) -> bytes:
    with zipfile.ZipFile(io.BytesIO(data)) as archive:
        names = archive.namelist()
        if len(names) != 1:
            raise InputError(f"{path}: an archive of {len(names)} files, expected one")
        return archive.read(names[0])


def existing_file(path: str | Path) -> Path:
    """Return ``path`` as a Path.

    Raises:
        InputError: it is missing, or a folder.
    """
    require_path(path, "a file")
    path = Path(path)
    if path.is_dir():
        raise InputError(f"{path}: is a folder, expected a file")
    if not path.is_file():
        raise InputError(f"{path}: no such file")
    return path


def image_id_of(file_name: str | PurePath) -> str:
    """The id of an image by its file's name: without folders, and without an image's suffix.

    The last number of a UID is no suffix. Tables do not keep spaces at the ends.
    """
    # pathlib takes long, and most names have no folder.
    plain = type(file_name) is str and file_name != "." and not any(mark in file_name for mark in "/\\:")
    name = str(file_name) if plain else PurePath(file_name).name
    dot = name.rfind(".")
    stem = name[:dot] if dot > 0 and name[dot:].lower() in _PICTURES else name
    return stem.strip() or name


def image_id_in_table(entry: str) -> str:
    """The id that a table gives: :func:`image_id_of` of a file name; anything else, as ``N/A``, is an id."""
    return image_id_of(entry) if PurePath(entry).suffix.lower() in _PICTURES else entry.strip()


def opened(path: Path, content: bytes | None = None) -> BinaryIO:
    """A file to read: the bytes in memory, which ``path`` only names, or else the one at ``path``."""
    return path.open("rb") if content is None else io.BytesIO(content)


def is_dicom(path: Path, content: bytes | None = None) -> bool:
    """Whether a file begins as PS3.10 7.1 has it, or as old files do, with their first element.

    Args:
        path: the file.
        content: its bytes, as of :func:`opened`.
    """
    with opened(path, content) as file:
        start = file.read(132)
    return start[128:] == b"DICM" or is_first_element(start[:8])


def is_first_element(start: bytes) -> bool:
    """Whether bytes begin a DICOM file without preamble, as old files do.

    Group 2 or 8, an element below 256, and a type (explicit) or a short length (implicit); PS3.5 7.1.
    """
    if len(start) < 8 or start[:2] not in (b"\x02\x00", b"\x08\x00") or start[3] != 0:
        return False
    explicit = start[4:6].isalpha() and start[4:6].isupper()
    return explicit or int.from_bytes(start[4:], "little") < 256
