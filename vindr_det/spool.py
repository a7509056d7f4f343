"""Files that grow while a run goes on, written together so that nothing is ever half-written."""

import os
import shutil
import tempfile
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, closing, contextmanager, suppress
from pathlib import Path
from typing import IO

from vindr_det.exceptions import PLACE_ERRORS, InputError
from vindr_det.files import atomic_path, make_folder, packer_of

#: Bytes that are copied at once.
_PIECE = 1 << 20


class Spool:
    """Text that grows in a nameless file, which the end of the process removes, until it is written.

    Args:
        path: that it is for; the file lies in its folder, gzipped for ``.gz``.

    Raises:
        InputError: the folder cannot be made or written.
    """

    def __init__(self, path: Path) -> None:
        self._path, self._packer = path, packer_of(path)
        with _named(path):
            self._file = _nameless_file(make_folder(path.parent))

    def add(self, text: str) -> None:
        """Append text.

        Raises:
            InputError: the disk is full.
        """
        data = text.encode("utf-8")
        with _named(self._path):
            self._file.write(self._packer.compress(data) if self._packer else data)

    def put(self, path: Path) -> None:
        """End the text and give it a name, in place of what is there.

        Without a copy where the system can name such a file; else the copy takes the place of what it has.
        """
        self._file.write(self._packer.flush() if self._packer else b"")
        self._file.flush()
        path.unlink(missing_ok=True)
        number = self._file.fileno()
        try:
            os.link(f"/proc/self/fd/{number}", path, src_dir_fd=number)  # which makes it follow the link
        except (OSError, NotImplementedError):
            self._file.seek(0)
            with path.open("wb") as file:
                shutil.copyfileobj(self._file, file, _PIECE)
            self._file.truncate(0)

    def close(self) -> None:
        """Remove the file, unless it has a name."""
        self._file.close()


def _nameless_file(folder: Path) -> IO[bytes]:
    if hasattr(os, "O_TMPFILE"):
        with suppress(OSError):  # not on a network; tempfile's own may never get a name
            return os.fdopen(os.open(folder, os.O_TMPFILE | os.O_RDWR, 0o600), "w+b")
    return tempfile.TemporaryFile(dir=folder)


@contextmanager
def _named(path: Path) -> Iterator[None]:
    """Errors of the place that a file is written to, as an InputError."""
    try:
        yield
    except OSError as error:
        if error.errno not in PLACE_ERRORS:
            raise
        raise InputError(f"{path}: cannot be written ({error.strerror})") from error


def write_together(texts: Mapping[Path, str | Spool | None]) -> None:
    """As :func:`vindr_det.files.write_text`, all of them or none; a file whose text is None is removed."""
    with ExitStack() as stack:
        for path, text in texts.items():
            if text is not None:
                spool = text if isinstance(text, Spool) else stack.enter_context(closing(Spool(path)))
                spool.add(text if isinstance(text, str) else "")
                spool.put(stack.enter_context(atomic_path(path)))
        for path, text in texts.items():
            if text is None:
                path.unlink(missing_ok=True)
