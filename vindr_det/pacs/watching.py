"""Images into the queue: what lies in a folder."""

import logging
import os
import time
from collections.abc import Iterator
from pathlib import Path
from stat import S_ISREG

from vindr_det.exceptions import InputError
from vindr_det.imaging.dicom.identity import read_uids
from vindr_det.pacs.queue import Queue, key_of
from vindr_det.pacs.receiving import add_image

log = logging.getLogger(__name__)

#: Seconds without a change after which a file is taken to be whole.
_SETTLED = 3.0
#: Seconds until the next look after a failure of the disk.
_AFTER_FAILURE = 10.0
#: Size, time of change and number of a file: a name that has others is another file.
State = tuple[int, int, int]


class Watcher:
    """Takes the DICOM files that appear in a folder and those below; they stay as they are.

    Args:
        folder: to watch.
        queue: for the images.
        megabytes: per image; larger files are left out.

    Raises:
        InputError: no such folder.
    """

    def __init__(self, folder: str | Path, queue: Queue, megabytes: int) -> None:
        self._folder, self._queue, self._limit = Path(folder), queue, megabytes * 2**20
        if not self._folder.is_dir():
            raise InputError(f"{folder}: no such folder to watch")
        self._seen: dict[Path, State] = {}
        self._taken: dict[Path, State] = {}
        self._unread: set[Path] = set()
        self._next = 0.0

    def look(self) -> bool:
        """Take the files that have not changed for some seconds; returns whether there were some.

        Raises:
            InputError: the disk is full; what could not be kept is taken at a later look.
            OSError: the disk fails, likewise.
        """
        if time.monotonic() < self._next:
            return False
        self._next = time.monotonic() + _SETTLED
        files = dict(_files(self._folder))
        self._taken = {path: state for path, state in self._taken.items() if files.get(path) == state}
        new = {path: state for path, state in files.items() if path not in self._taken}
        still = [path for path, state in new.items() if self._seen.get(path) == state]
        self._seen = new
        for path in still:
            if self._is_settled(path):
                self._taken[path] = new[path]
        return any(path in self._taken for path in still)

    def _is_settled(self, path: Path) -> bool:
        """Take a file, or leave it out for good; the disk's failures are not the file's."""
        try:
            data = self._read(path)
        except (OSError, MemoryError) as error:
            if path not in self._unread:
                log.warning("a file of the watched folder cannot be read now: %s", type(error).__name__)
            self._unread.add(path)
            return False
        except Exception as error:  # files of any kind lie in a folder
            log.warning("a file of the watched folder is left out: %s", type(error).__name__)
            return True
        self._unread.discard(path)
        if data is not None:
            self._keep(data)
        return True

    def _read(self, path: Path) -> bytes | None:
        """A file's bytes; None where it is no image, a known one, or too large."""
        uid = read_uids(path)["SOPInstanceUID"]
        if not uid or self._queue.knows(key_of(uid)):
            return None
        if path.stat().st_size > self._limit:
            log.warning("%s: left out, more than %d MB", key_of(uid), self._limit >> 20)
            return None
        return path.read_bytes()

    def _keep(self, data: bytes) -> None:
        try:
            add_image(self._queue, data)
        except (InputError, OSError):
            self._next = time.monotonic() + _AFTER_FAILURE
            raise


def _files(folder: Path) -> Iterator[tuple[Path, State]]:
    """Each file and its state; hidden ones and those that are gone meanwhile are none."""
    for root, _, names in os.walk(folder):
        for name in names:
            path = Path(root, name)
            if not name.startswith(".") and (state := _state(path)) is not None:
                yield path, state


def _state(path: Path) -> State | None:
    try:
        stat = path.stat()
    except OSError:  # taken away meanwhile
        return None
    return (stat.st_size, stat.st_mtime_ns, stat.st_ino) if S_ISREG(stat.st_mode) else None
