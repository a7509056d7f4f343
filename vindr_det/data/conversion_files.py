"""The files of a conversion, which replace those of an earlier conversion as a whole.

A training file that an earlier conversion left beside new folds may hold their validation images.
"""

import logging
import shutil
import tempfile
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path, PurePath

from vindr_det.exceptions import InputError
from vindr_det.files import PARTIAL, make_folder, read_text, remove_partial, require_writable, write_text

#: Lists the files of the conversion in its folder.
LIST = "conversion.txt"
log = logging.getLogger(__name__)
_HEAD = "# Files of one conversion; the next one into this folder removes them."


@contextmanager
def replaced_files(folder: str | Path) -> Iterator[Path]:
    """Yield an empty folder to write to, whose files then replace those of the earlier conversion.

    A conversion that fails changes nothing. If it is killed at the end, files of the old or of the new
    conversion are left, never of both; they are listed, so that the next conversion removes them. Other files
    stay.

    Raises:
        InputError: the folder cannot be made, or a folder or device has the name of a new file.
    """
    folder = make_folder(folder)
    earlier = _listed(folder)
    remove_partial(folder)
    temporary = Path(tempfile.mkdtemp(dir=folder, prefix=PARTIAL))
    try:
        yield temporary
        _replace(folder, earlier, temporary)
    finally:
        shutil.rmtree(temporary, ignore_errors=True)


def _replace(folder: Path, earlier: list[str], temporary: Path) -> None:
    names = sorted(path.name for path in temporary.iterdir())
    both = sorted({*names, *earlier})
    for name in both:
        require_writable(folder / name)
    _write_list(folder, both)
    for name in both:
        (folder / name).unlink(missing_ok=True)
    for name in names:
        (temporary / name).replace(folder / name)
    _write_list(folder, names)
    others = sorted({path.name for path in folder.glob("instances_*.json")} - set(names))
    if others:
        log.warning("%s: %d files of annotations that are not of this conversion stay, the first is %s; "
                    "their folds may differ", folder, len(others), others[0])


def _listed(folder: Path) -> list[str]:
    path = folder / LIST
    if not path.exists():
        return []
    head, *names = read_text(path).splitlines() or [""]
    if head != _HEAD or any(PurePath(name).name != name for name in names):
        raise InputError(f"{path}: is no list of this tool's files, expected another folder to write to")
    return names


def _write_list(folder: Path, names: list[str]) -> None:
    write_text(folder / LIST, "\n".join([_HEAD, *names]) + "\n")
