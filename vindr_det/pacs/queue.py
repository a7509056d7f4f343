"""The work of the service, on disk: it may be ended at any moment without losing an image or an answer.

Every step is a rename, which a disk does whole or not at all:

- ``received/KEY.dcm``: an image; its sender is told of success after this.
- ``answers/KEY/``: the objects of its answer, and a file for each destination and object that are settled.
- ``done/KEY``: every destination has what it takes of the answer, the rest is named in this file; image and
  objects are removed then.
- ``tried/KEY``: a byte for each time that an answer to an image was begun; it is removed with the answer.
- ``refused/KEY.dcm``: an image that no answer can be made for, with the reason in ``KEY.txt``.

A key is made of the image's SOP Instance UID, so that an image that is received again is answered once.
"""

import hashlib
import logging
import os
from collections.abc import Mapping
from pathlib import Path

from filelock import FileLock, Timeout
from pydicom import Dataset

from vindr_det.exceptions import InputError
from vindr_det.files import PARTIAL, atomic_path, make_folder, remove_partial, write_text
from vindr_det.pacs.objects import write_object

log = logging.getLogger(__name__)

#: An image at which the service has ended so often, such as by taking all memory, is put aside.
MOST_TRIES = 5
#: The kinds as they are sent.
_ORDER = ("sr", "sc", "pr")
_SENT = "sent-"


def key_of(uid: str) -> str:
    """What stands for an image in names and in the log: a hash of its SOP Instance UID."""
    return hashlib.sha256(uid.encode()).hexdigest()[:20]


class Queue:
    """Images that wait for an answer, and answers that wait to be sent.

    Args:
        folder: where all of it lies; of one service at a time.

    Raises:
        InputError: another service uses the folder, or it cannot be written.
    """

    def __init__(self, folder: str | Path) -> None:
        self.folder = make_folder(folder)
        self.received, self.answers, self.done, self.refused, self.tried = (
            make_folder(self.folder / name) for name in ("received", "answers", "done", "refused", "tried"))
        self._lock = FileLock(self.folder / ".lock")
        try:
            self._lock.acquire(timeout=0)
        except Timeout as error:
            raise InputError(f"{folder}: another service uses this folder, expected an own one") from error
        self._recover()

    def close(self) -> None:
        """Let another service use the folder."""
        self._lock.release()

    def add(self, uid: str, data: bytes) -> str:
        """Keep an image, safe on the disk when this returns; one that is known already is left as it is.

        Args:
            uid: its SOP instance UID.
            data: the file.

        Returns:
            Its key; empty if it was known.

        Raises:
            InputError: the disk is full.
        """
        key = key_of(uid)
        if self.knows(key):
            return ""
        path = self.image(key)
        with atomic_path(path) as temporary:
            temporary.write_bytes(data)
            _flush(temporary)
        _flush(path.parent)
        return key

    def knows(self, key: str) -> bool:
        """Whether an image was received before."""
        return any(path.exists() for path in (self.image(key), self.done / key, self.refused / f"{key}.dcm"))

    def image(self, key: str) -> Path:
        """The file of an image."""
        return self.received / f"{key}.dcm"

    def unanswered(self) -> list[str]:
        """Keys of the images that wait for an answer: the least tried first, of these the oldest."""
        # In this order: an answer that is sent meanwhile is noted as done before it is removed.
        keys = [key for key in _keys(self.received)
                if not (self.answers / key).exists() and not (self.done / key).exists()]
        return sorted(keys, key=self.tries)

    def tries(self, key: str) -> int:
        """How often an answer to an image was begun."""
        path = self.tried / key
        return path.stat().st_size if path.exists() else 0

    def begin(self, key: str) -> None:
        """Note that an answer is begun, which may end the service."""
        with (self.tried / key).open("ab") as file:
            file.write(b".")

    def end(self, key: str) -> None:
        """Forget the tries: the image has an answer, or they ended for another reason."""
        (self.tried / key).unlink(missing_ok=True)

    def unsent(self) -> list[str]:
        """Keys of the answers that wait to be sent, the oldest first."""
        return _keys(self.answers)

    def keep_answer(self, key: str, objects: Mapping[str, Dataset]) -> None:
        """Keep the objects of an answer, all or none.

        Args:
            key: of the image.
            objects: kind -> object.
        """
        folder = make_folder(self.answers / f"{PARTIAL}{key}")
        for kind, dataset in objects.items():
            write_object(folder / f"{kind}.dcm", dataset)
            _flush(folder / f"{kind}.dcm")
        folder.rename(self.answers / key)
        _flush(self.answers)
        self.end(key)

    def objects(self, key: str) -> list[Path]:
        """The files of an answer, the report first: it alone tells of images that were not read."""
        return sorted((self.answers / key).glob("*.dcm"), key=lambda path: _ORDER.index(path.stem))

    def objects_for(self, key: str, destination: str) -> list[Path]:
        """Those that are not settled with a destination."""
        if (self.answers / key / f"{_SENT}{key_of(destination)}").exists():  # an earlier version: all of them
            return []
        return [path for path in self.objects(key) if not _mark(path, destination).exists()]

    def has_some(self, key: str, destination: str) -> bool:
        """Whether a destination has taken any object of an answer."""
        marks = (_mark(path, destination) for path in self.objects(key))
        return any(mark.exists() and not mark.read_text("utf-8") for mark in marks)

    def settle(self, path: Path, destination: str, refusal: str = "") -> None:
        """Remember that a destination has an object, or will never take it.

        Args:
            path: of :meth:`objects`.
            destination: its name.
            refusal: why it will not take it; empty where it has it.
        """
        if refusal:
            write_text(_mark(path, destination), f"{path.stem} not taken by {destination}: {refusal}\n")
        else:
            _mark(path, destination).touch()

    def finish(self, key: str) -> None:
        """Every destination has what it takes of the answer: remember that, and what was not taken, alone."""
        marks = (self.answers / key).glob(f"{_SENT}*")
        write_text(self.done / key, "".join(sorted(mark.read_text("utf-8") for mark in marks)))
        _flush(self.done)
        self._remove(key)

    def refuse(self, key: str, reason: str) -> None:
        """Put an image aside that no answer can be made for."""
        write_text(self.refused / f"{key}.txt", f"{reason}\n")
        self.image(key).replace(self.refused / f"{key}.dcm")
        self.end(key)

    def _remove(self, key: str) -> None:
        """The image first: an answer without it is known to be done."""
        self.image(key).unlink(missing_ok=True)
        folder = self.answers / key
        if folder.exists():
            gone = folder.rename(self.answers / f"{PARTIAL}{key}")
            for path in gone.iterdir():
                path.unlink()
            gone.rmdir()

    def _recover(self) -> None:
        """Remove what was not finished when a service ended, and finish what was."""
        for folder in (self.received, self.answers, self.done, self.refused):
            remove_partial(folder)
        for folder in self.answers.iterdir():
            remove_partial(folder)
        for key in {*_keys(self.received), *_keys(self.answers)}:
            if (self.done / key).exists():
                self._remove(key)
        for path in self.tried.iterdir():
            if path.name not in self.unanswered():
                path.unlink()
        counts = len(self.unanswered()), len(self.unsent())
        if any(counts):
            log.info("%d images wait for an answer, %d answers to be sent", *counts)


def _mark(path: Path, destination: str) -> Path:
    """The file beside an object that says that a destination has settled it."""
    return path.with_name(f"{_SENT}{key_of(destination)}-{path.stem}")


def _keys(folder: Path) -> list[str]:
    entries = [entry for entry in os.scandir(folder) if not entry.name.startswith(PARTIAL)]
    return [entry.name.removesuffix(".dcm") for entry in sorted(entries, key=_age)]


def _age(entry: os.DirEntry[str]) -> tuple[float, str]:
    try:
        return entry.stat().st_mtime, entry.name
    except FileNotFoundError:  # finished meanwhile
        return 0.0, entry.name


def _flush(path: Path) -> None:
    """Have the system write a file, or a folder's names, to the disk."""
    if path.is_dir() and os.name == "nt":
        return  # Windows opens no folders
    handle = os.open(path, os.O_RDONLY if path.is_dir() else os.O_RDWR)
    try:
        os.fsync(handle)
    finally:
        os.close(handle)


