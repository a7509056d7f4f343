"""The files of a bundle, in a folder, a .zip file or a hub: found, compared with their hashes, written."""

import difflib
import errno
import hashlib
import json
import re
import tempfile
import zipfile
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

from vindr_det.bundle import hub
from vindr_det.exceptions import PLACE_ERRORS, InputError
from vindr_det.files import ARCHIVE_ERRORS, PARTIAL, atomic_path, make_folder, require_path, require_writable
from vindr_det.shipped import BUNDLES

#: Version of the layout.
FORMAT = 1
MANIFEST, CARD = "bundle.json", "README.md"
_ARCHIVES = (".gz", ".tgz", ".tar", ".bz2", ".xz", ".7z", ".rar")
_NAME = re.compile(r"[A-Za-z0-9][\w.-]*")
#: Of members of a .zip file: the same bytes each time.
_NO_TIME = (1980, 1, 1, 0, 0, 0)


class BundleFiles:
    """The files of a bundle, each compared with the manifest when it is read.

    Args:
        source: names the bundle in errors.
        read: a name's bytes; KeyError where there is no such file.
        remedy: of a file that is not as it was written, for errors.

    Attributes:
        source: as given.
        manifest: the content of ``bundle.json``.
        digest: SHA-256 of ``bundle.json``, which has those of all other files.

    Raises:
        InputError: not a bundle, or one of a newer version.
    """

    def __init__(self, source: str, read: Callable[[str], bytes], remedy: str = "") -> None:
        self.source, self._read, self._remedy = source, read, remedy
        try:
            data = read(MANIFEST)
        except KeyError:
            raise InputError(f"{source}: holds no {MANIFEST}, expected a bundle of "
                             "vindr-det bundle") from None
        self.manifest, self.digest = _checked(source, data), hashlib.sha256(data).hexdigest()

    @property
    def names(self) -> list[str]:
        """All files but the manifest, by the manifest."""
        return [*self.manifest["files"], CARD]

    def read(self, name: str) -> bytes:
        """A file's bytes.

        Raises:
            InputError: it is missing, cut short, or changed since the bundle was written, or the manifest has
                no hash of it; of the card alone it need not have any.
        """
        if name != CARD and (not isinstance(name, str) or name not in self.manifest["files"]):
            raise InputError(f"{self.source}: its {MANIFEST} names {name!r}, of which its files have no hash")
        try:
            data = self._read(name)
        except KeyError:
            what = "its model card" if name == CARD else f"which its {MANIFEST} lists"
            raise InputError(f"{self.source}: holds no {name}, {what}") from None
        expected = self.manifest["files"].get(name)  # the card may be edited
        if expected and len(data) != expected["bytes"]:
            raise InputError(f"{self.source}: {name} has {len(data)} bytes, expected {expected['bytes']}: "
                             f"cut short, or not this bundle's{self._remedy}")
        if expected and (digest := hashlib.sha256(data).hexdigest()) != expected["sha256"]:
            raise InputError(f"{self.source}: {name} was changed: its SHA-256 is {digest[:12]}..., expected "
                             f"{expected['sha256'][:12]}... as in {MANIFEST}{self._remedy}")
        return data

    def json(self, name: str) -> Any:
        """A JSON file's content.

        Raises:
            InputError: as of :meth:`read`.
        """
        try:
            return json.loads(self.text(name))
        except InputError:
            raise
        except (ValueError, RecursionError) as error:
            raise InputError(f"{self.source}: {name} is not valid JSON ({error})") from error

    def text(self, name: str) -> str:
        """A file's UTF-8 text.

        Raises:
            InputError: as of :meth:`read`, or it is no text.
        """
        try:
            return self.read(name).decode()
        except UnicodeDecodeError as error:
            raise InputError(f"{self.source}: {name} is not UTF-8 text") from error

    def all(self) -> dict[str, bytes]:
        """Name -> bytes of all files, all compared.

        Raises:
            InputError: as of :meth:`read`.
        """
        return {MANIFEST: self._read(MANIFEST)} | {name: self.read(name) for name in self.names}


def _checked(source: str, data: bytes) -> dict[str, Any]:
    """The manifest, whose values are of the expected types."""
    try:
        manifest = json.loads(data)
        version, files = manifest["format"], manifest["files"]
        plain = all(_NAME.fullmatch(name) and isinstance(file["bytes"], int)
                    and isinstance(file["sha256"], str) for name, file in files.items())
    except (ValueError, KeyError, TypeError, AttributeError, RecursionError) as error:
        raise InputError(f"{source}: its {MANIFEST} is damaged ({error})") from error
    if type(version) is not int or version < 1:
        raise InputError(f"{source}: its {MANIFEST} is damaged (format {version!r}, expected {FORMAT})")
    if version > FORMAT:
        raise InputError(f"{source}: is of format {version}, expected {FORMAT} or less: written by "
                         f"vindr_det {manifest.get('vindr_det')}; update vindr_det")
    if not plain:
        raise InputError(f"{source}: its {MANIFEST} is damaged (files: expected plain names)")
    return manifest


def find(place: str | Path) -> BundleFiles:
    """The files of a bundle.

    Args:
        place: a folder, a .zip file, ``hf://user/repo`` with an optional ``@revision``, or the name of a
            shipped bundle, such as ``phantom``.

    Raises:
        InputError: there is no such bundle, or it cannot be read.
    """
    if hub.is_hub(place):
        folder = hub.pull(str(place))  # <cache>/models--user--repo/snapshots/<commit>
        return in_folder(folder, str(place), f"; remove {folder.parents[1]} to fetch it again")
    require_path(place, "a bundle")
    path = Path(place)
    if not path.exists() and (BUNDLES / path / MANIFEST).is_file() and _NAME.fullmatch(str(place)):
        path = BUNDLES / path
    if path.is_dir():
        _refuse_training(path)
        return in_folder(path, str(place))
    if not path.is_file():
        near = difflib.get_close_matches(str(place), shipped(), 1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{place}: no such bundle{hint}, expected a folder or .zip file of vindr-det "
                         f"bundle, hf://user/repo, or {' or '.join(shipped()) or 'none'}, which ships with "
                         "vindr_det")
    return _in_zip(path)


def _refuse_training(folder: Path) -> None:
    best = folder / "model_best.pth"
    if best.is_file() and not (folder / MANIFEST).is_file():
        raise InputError(f"{folder}: is the folder of a training, expected its checkpoint, {best}, "
                         "or a bundle")


def shipped() -> list[str]:
    """The names of the bundles that ship with the package."""
    return sorted(path.parent.name for path in BUNDLES.glob(f"*/{MANIFEST}"))


def in_folder(path: Path, source: str, remedy: str = "") -> BundleFiles:
    """The files of a bundle in a folder.

    Args:
        path: the folder.
        source: names it in errors.
        remedy: of a file that is not as it was written.

    Raises:
        InputError: it holds no bundle.
    """
    def read(name: str) -> bytes:
        file = path / name
        if not file.is_file():
            raise KeyError(name)
        return file.read_bytes()

    return BundleFiles(source, read, remedy)


def _in_zip(path: Path) -> BundleFiles:
    def read(name: str) -> bytes:
        try:
            with zipfile.ZipFile(path) as archive:
                return archive.read(_top_folder(archive.namelist()) + name)
        except (*ARCHIVE_ERRORS, ValueError) as error:
            raise InputError(f"{path}: not a bundle, or cut short ({error})") from error

    return BundleFiles(str(path), read)


def _top_folder(names: Sequence[str]) -> str:
    """``name/`` where all of an archive lies in a single folder, as some programs pack it; else empty."""
    tops = {name.partition("/")[0] for name in names}
    top = f"{next(iter(tops))}/" if len(tops) == 1 else ""
    return top if top + MANIFEST in names else ""


def in_memory(files: Mapping[str, bytes], source: str) -> BundleFiles:
    """The files of a bundle that is not written yet.

    Args:
        files: name -> bytes.
        source: names it in errors.
    """
    return BundleFiles(source, files.__getitem__)


def json_bytes(data: Any) -> bytes:
    """JSON as a bundle holds it: a key per line, to be read by people too."""
    return (json.dumps(data, indent=1) + "\n").encode()


def with_manifest(manifest: Mapping[str, Any], files: Mapping[str, bytes]) -> dict[str, bytes]:
    """All files of a new bundle but its card.

    Args:
        manifest: without ``format`` and ``files``.
        files: name -> bytes.
    """
    sums = {name: {"bytes": len(data), "sha256": hashlib.sha256(data).hexdigest()}
            for name, data in files.items()}
    return {MANIFEST: json_bytes({"format": FORMAT, **manifest, "files": sums}), **files}


def require_target(out: str | Path) -> None:
    """Find out before the work whether a bundle can be written.

    Args:
        out: a folder to make or a bundle's to replace, a .zip file, or ``hf://user/repo``.

    Raises:
        InputError: it is a folder of something else, a file whose name does not end in .zip, or not writable.
    """
    if hub.is_hub(out):
        hub.require_repository(str(out))
        return
    require_path(out, "a folder to make, or a .zip file to write")
    path = Path(out)
    if path.suffix.lower() in _ARCHIVES or not path.name.strip():
        raise InputError(f"{str(out)!r}: expected a folder, or a .zip file to write")
    if not _is_zip(path) and path.is_file():
        raise InputError(f"{out}: is a file, expected a folder, or a .zip file to write")
    if not _is_zip(path) and path.is_dir() and any(path.iterdir()) and not (path / MANIFEST).is_file():
        raise InputError(f"{out}: is a folder of other files, expected a new folder or one of a bundle")
    require_writable(path if _is_zip(path) else path / MANIFEST)


def _is_zip(path: Path) -> bool:
    return path.suffix.lower() == ".zip"


def write(out: str | Path, files: Mapping[str, bytes], public: bool = False) -> None:
    """Write a bundle whole or not at all.

    Args:
        out: as of :func:`require_target`.
        files: name -> bytes.
        public: whether a new repository of a hub can be read by all.

    Raises:
        InputError: it cannot be written.
    """
    require_target(out)
    if hub.is_hub(out):
        with tempfile.TemporaryDirectory() as folder:
            _write_all(Path(folder), files)
            hub.push(Path(folder), str(out), public)
    elif _is_zip(Path(out)):
        with atomic_path(out) as temporary:
            _write_zip(temporary, files)
    else:
        _write_folder(Path(out), files)


def _write_zip(path: Path, files: Mapping[str, bytes]) -> None:
    with zipfile.ZipFile(path, "w") as archive:
        for name, data in files.items():
            archive.writestr(zipfile.ZipInfo(name, _NO_TIME), data)


def _write_folder(out: Path, files: Mapping[str, bytes]) -> None:
    """In a folder beside it, which then takes its place."""
    make_folder(out.parent)
    try:
        with tempfile.TemporaryDirectory(dir=out.parent, prefix=PARTIAL) as temporary:
            new = make_folder(Path(temporary) / "new")
            _write_all(new, files)
            if out.exists():
                out.rename(Path(temporary) / "old")
            new.rename(out)
    except OSError as error:
        if error.errno in (*PLACE_ERRORS, errno.ENOENT):  # such as /proc
            raise InputError(f"{out}: cannot be written ({error.strerror})") from error
        raise


def _write_all(folder: Path, files: Mapping[str, bytes]) -> None:
    for name, data in files.items():
        (folder / name).write_bytes(data)
