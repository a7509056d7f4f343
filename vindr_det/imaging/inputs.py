"""The inputs of a run: every file that could be an image, with an id and, if it cannot be read, the reason.

docs/inputs.md lists every case.
"""

import errno
import logging
import os
import stat
from collections import Counter
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from pathlib import Path, PurePath

from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.files import IMAGE_SUFFIXES, OTHER_PICTURES, image_id_of, is_dicom, require_path
from vindr_det.imaging.prepared_folder import (
    LOG,
    REPORT,
    SETTINGS,
    SIZES,
    PreparedFolder,
    failed_in,
    read_prepared,
    require_finished,
)
from vindr_det.imaging.real_paths import RealPaths
from vindr_det.parallel import in_threads

log = logging.getLogger(__name__)

#: What vindr-det prepare writes beside its pictures.
OWN_TABLES = (SIZES, REPORT, SETTINGS, "packed.npy")
_SPECIAL = {stat.S_IFIFO: "a FIFO", stat.S_IFSOCK: "a socket", stat.S_IFCHR: "a device",
            stat.S_IFBLK: "a device"}


@dataclass(frozen=True)
class Input:
    """A file that a run is given, or an image in memory.

    Attributes:
        image_id: the file's stem, or more of its name where two would share it; printable.
        file: its name below the folder, printable.
        path: the file; of an image in memory only its name.
        problem: why it cannot be read, as far as its name and kind show; empty if it is to be read.
        pixels: of an image in memory, of :func:`vindr_det.imaging.read.require_pixels`; None for a file.
        content: the bytes of a file that is in memory alone, which ``path`` only names.
    """

    image_id: str
    file: str
    path: Path
    problem: str = ""
    pixels: NDArray | None = field(default=None, compare=False, repr=False)
    content: bytes | None = field(default=None, compare=False, repr=False)


def list_inputs(images: str | Path, recursive: bool = False) -> list[Input]:
    """The inputs of :func:`scan` alone."""
    return scan(images, recursive)[0]


def require_there(images: str | Path) -> Path:
    """A path of an image or a folder.

    Raises:
        InputError: there is none, or the path is empty.
    """
    require_path(images, "a folder of images, or an image")
    if not os.path.lexists(images):
        raise InputError(f"{printable(str(images))}: no such folder of images, nor an image")
    return Path(images)


def scan(
    images: str | Path, recursive: bool = False
) -> tuple[list[Input], dict[Path, PreparedFolder]]:
    """Everything in a folder that may be an image, sorted by name, or the single file that is given.

    An image that could not be prepared is an input too. Nothing but reports and the first bytes of regular
    files is read, so that a FIFO cannot block.

    Args:
        images: a folder, or one file.
        recursive: include subfolders.

    Returns:
        The inputs, and the report of each prepared folder among their folders.

    Raises:
        InputError: no such folder or file, it holds nothing that may be an image, or a preparation that wrote
            into it is not finished.
    """
    root = require_there(images)
    if not root.is_dir():
        return scan_files([root])
    walked = sorted(_walk(root, recursive))
    for folder in sorted({path.parent for path, _ in walked if path.name in (LOG, SETTINGS)}):
        require_finished(folder)
    tables = read_prepared(path.parent for path, _ in walked if path.name == REPORT)
    problems = dict(sorted((_candidates(root, walked) | failed_in(tables)).items()))
    if not problems:
        raise InputError(f"{printable(str(root))}: holds no image; expected DICOM files, or files ending in "
                         f"{IMAGE_SUFFIXES}{'' if recursive else ', or --recursive'}")
    ids = _unique_ids(root, problems)
    return [Input(ids[path], printable(str(path.relative_to(root))), path, problem)
            for path, problem in problems.items()], tables


def scan_files(paths: Sequence[Path]) -> tuple[list[Input], dict[Path, PreparedFolder]]:
    """As :func:`scan` of each file, with the stem as its id; the report of a folder is read once.

    Raises:
        InputError: there is no such file, or a preparation that wrote into its folder is not finished.
    """
    in_threads(require_there, paths)
    folders = list(dict.fromkeys(path.parent for path in paths))
    in_threads(require_finished, folders)
    tables = read_prepared(folders)
    failed = failed_in(tables)
    problems = in_threads(lambda path: failed.get(path) or _problem(path) or "", paths)
    return [Input(printable(image_id_of(path)), printable(path.name), path, problem)
            for path, problem in zip(paths, problems, strict=True)], tables


def list_images(folder: str | Path, recursive: bool = False) -> dict[str, Path]:
    """Image id -> path of the inputs that can be read.

    Raises:
        InputError: no such folder, or no image in it.
    """
    paths = {source.image_id: source.path for source in list_inputs(folder, recursive) if not source.problem}
    if not paths:
        raise InputError(f"{folder}: holds no image that can be read")
    return paths


def require_apart(read: Sequence[str | Path], *written: str | Path) -> None:
    """Refuse to overwrite what is read, also by way of links.

    Args:
        read: files.
        written: files, and folders for files of any name.

    Raises:
        InputError: an output is an input, or the folder of one.
    """
    real = RealPaths()
    outputs = {real(Path(out)): out for out in written}
    for out, original in filter(None, in_threads(partial(_at_output, real, outputs), list(map(Path, read)))):
        raise InputError(f"{out}: --out is among the originals (see {printable(str(original))}), expected "
                         "another place")


def _at_output(
    real: RealPaths, outputs: Mapping[Path, str | Path], path: Path
) -> tuple[str | Path, Path] | None:
    """The output that a file is, or that is a folder of it or of the link that it is; and which of these."""
    own = real(path)
    places = (own, path), (own.parent, path), (real.folder(path.parent), path.parent)
    return next(((outputs[place], original) for place, original in places if place in outputs), None)


def printable(text: str) -> str:
    """The text with escapes for all that a table or a terminal cannot hold.

    Python gives names that are not UTF-8 lone surrogates, which no UTF-8 file can hold.
    """
    return text if text.isprintable() else "".join(
        c if c.isprintable() else c.encode("unicode_escape").decode() for c in text)


def _candidates(root: Path, walked: Iterable[tuple[Path, str]]) -> dict[Path, str]:
    """Path -> its problem; files that are no images are counted in the log and left out."""
    problems, others = {}, Counter[str]()
    walked = list(walked)
    for (path, _), problem in zip(walked, in_threads(lambda entry: entry[1] or _problem(entry[0]), walked),
                                  strict=True):
        if problem is None:
            others[path.name if path.name in OWN_TABLES else path.suffix.lower() or path.name] += 1
        else:
            problems[path] = problem
    for name in OWN_TABLES:
        others.pop(name, None)
    if others:
        kinds = ", ".join(f"{count} {printable(kind)}" for kind, count in others.most_common(5))
        log.info("%s: %d other files are ignored (%s)", printable(str(root)), others.total(), kinds)
    return problems


def _walk(root: Path, recursive: bool) -> Iterator[tuple[Path, str]]:
    """Paths that are not hidden, each with the reason if it cannot be listed or is a folder."""
    seen, level = set[tuple[int, int]](), [root]
    while level:
        folders, level = level, []
        for here, listed in zip(folders, in_threads(_listed, folders), strict=True):
            if isinstance(listed, OSError):
                yield here, f"folder cannot be listed ({listed.strerror})"
                continue
            identity, inside, names = listed
            if identity in seen:  # a link that leads back up
                continue
            seen.add(identity)
            yield from ((here / name, "") for name in names)
            level += [here / name for name in inside if recursive]
            yield from ((here / name, "is a folder, expected a file; --recursive looks into it")
                        for name in inside if not recursive and Path(name).suffix.lower() in IMAGE_SUFFIXES)


def _listed(folder: Path) -> tuple[tuple[int, int], list[str], list[str]] | OSError:
    """What tells a folder from others, the folders in it and the other names, without hidden ones."""
    names: tuple[list[str], list[str]] = [], []
    try:
        status = folder.stat()
        with os.scandir(folder) as entries:
            for entry in entries:
                if not entry.name.startswith("."):
                    names[not _is_folder(entry)].append(entry.name)
    except OSError as error:
        return error
    return (status.st_dev, status.st_ino), sorted(names[0]), sorted(names[1])


def _is_folder(entry: os.DirEntry[str]) -> bool:
    try:
        return entry.is_dir()
    except OSError:  # a link in a circle
        return False


def _problem(path: Path) -> str | None:
    """Why a file cannot be read; "" if it is to be read, None if it is no image at all."""
    suffix = path.suffix.lower()
    known = suffix in IMAGE_SUFFIXES
    try:
        kind = stat.S_IFMT(path.stat().st_mode)
        if kind in _SPECIAL:
            return f"is {_SPECIAL[kind]}, expected a file"
        if known:
            return ""
        if suffix in OTHER_PICTURES:
            return f"{suffix[1:].upper()} is not read, expected DICOM, PNG or JPEG"
        return _kind_by_content(path)
    except OSError as error:
        if not known and not _without_suffix(path):
            return None
        link = error.errno in (errno.ENOENT, errno.ELOOP) and path.is_symlink()  # raises in a shut folder
        return "is a link to nothing" if link else f"cannot be read ({error.strerror})"


def _kind_by_content(path: Path) -> str | None:
    """As :func:`_problem`, of a file whose suffix is no image's."""
    if path.name == "DICOMDIR":
        return None  # an archive's index
    if is_dicom(path):
        return ""
    if not _without_suffix(path):
        return None
    with path.open("rb") as file:
        start = file.read(512)
    if not start:
        return "is empty"
    return None if _is_text(start) else "has no suffix and does not begin as a DICOM file does"


def _without_suffix(path: Path) -> bool:
    """Archives name files ``IM0001`` or by a UID, whose last number is no suffix."""
    return not path.suffix or path.suffix[1:].isdigit()


def _is_text(start: bytes) -> bool:
    """Whether bytes are text, such as a README's; the last character may be cut."""
    try:
        text = start[:-3].decode("utf-8") if len(start) == 512 else start.decode("utf-8")
    except UnicodeDecodeError as error:
        return error.start > 500
    return all(c.isprintable() or c.isspace() for c in text)


def _unique_ids(root: Path, problems: dict[Path, str]) -> dict[Path, str]:
    """An id for each path; images that are to be read have the first choice."""
    ids: dict[Path, str] = {}
    for part in ([path for path, problem in problems.items() if not problem],
                 [path for path, problem in problems.items() if problem]):
        ids |= _ids(root, part, set(ids.values()))
    longer = [path for path, image_id in ids.items() if image_id != printable(image_id_of(path))]
    if longer:
        log.warning("%s: %d images share their name with another and get longer ids; the first, %s, is %s",
                    printable(str(root)), len(longer), printable(str(longer[0].relative_to(root))),
                    ids[longer[0]])
    return ids


def _ids(root: Path, paths: Sequence[Path], taken: set[str]) -> dict[Path, str]:
    """Stems; where files share one, paths below the folder, then with their suffixes, then numbers."""
    ids = {path: printable(image_id_of(path)) for path in paths}
    longer: list[Callable[[PurePath], str]] = [
        lambda name: "_".join([*name.parts[:-1], image_id_of(name)]), lambda name: "_".join(name.parts)]
    for choice in longer:
        counts = Counter([*ids.values(), *taken])
        shared = [path for path in paths if counts[ids[path]] > 1]
        if not shared:
            return ids
        ids |= {path: printable(choice(path.relative_to(root))) for path in shared}
    return _numbered(ids, taken)


def _numbered(ids: dict[Path, str], taken: set[str]) -> dict[Path, str]:
    used = set(taken)
    return {path: unused(image_id, used) for path, image_id in ids.items()}


def unused(image_id: str, used: set[str]) -> str:
    """The id, with a number where it is among those that are ``used``, to which it is added."""
    name, number = image_id, 1
    while name in used:
        number += 1
        name = f"{image_id}~{number}"
    used.add(name)
    return name
