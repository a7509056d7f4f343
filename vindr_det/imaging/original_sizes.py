"""Where the sizes of the originals of PNG and JPEG files are looked for."""

import logging
import os
from collections import defaultdict
from collections.abc import Callable, Mapping, Sequence
from functools import cache, partial
from pathlib import Path

from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of
from vindr_det.imaging.inputs import Input, printable
from vindr_det.imaging.prepared_folder import REPORT, SIZES, PreparedFolder
from vindr_det.imaging.real_paths import RealPaths
from vindr_det.imaging.sizes import Shapes, read_sizes, shapes_of
from vindr_det.parallel import in_threads

log = logging.getLogger(__name__)

#: Files of these kinds may be smaller than their original.
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg")
#: (height, width), pixels.
Size = tuple[int, int]
#: From an input to the tables that should have its original's size: their names and that size.
SizeTables = Callable[[Input], list[tuple[str, Size | None]]]


def size_tables(
    inputs: Sequence[Input], reports: Mapping[Path, PreparedFolder], root: Path | None
) -> SizeTables:
    """The tables of the inputs' folders; the first that is there counts for a folder.

    They are the ``meta.csv`` and the ``qc.csv`` that vindr-det prepare leaves; else ``<folder>_meta.csv`` in
    the folder, or ``<folder>_meta.csv`` or ``meta.csv`` beside it, as in a download; beside a link to the
    folder, by the link's name, before the folder itself. Only the first is certainly of these images: another
    is taken if it has at least one of them.

    Args:
        inputs: of the run.
        reports: folder -> its ``qc.csv``.
        root: the folder that the run is given; None for files.
    """
    names: dict[Path, list[str]] = {}
    for source in inputs:
        names.setdefault(source.path.parent, []).append(_name(source))
    folders = {source.path.parent for source in inputs if source.path.suffix.lower() in RASTER_SUFFIXES}
    own = _own_tables([*folders, *([root] if root and root not in folders else [])])
    sized = {folder: {name: row.size for name, row in rows.items() if row.size}
             for folder, rows in reports.items()}
    near = {} if root in own else _near({folder: names[folder] for folder in sorted(folders)
                                         if not (folder in own or sized.get(folder))})

    def sizes_of(source: Input) -> list[tuple[str, Size | None]]:
        folder, name = source.path.parent, _name(source)
        entries = [(SIZES, own[folder].get(name))] if folder in own else []
        entries += [(SIZES, own[root].get(source.image_id))] if root in own else []
        entries += [(REPORT, sized[folder].get(source.path.name))] if sized.get(folder) else []
        return entries + ([(near[folder][0], near[folder][1].get(name))] if folder in near else [])

    return sizes_of


def _name(source: Input) -> str:
    return printable(image_id_of(source.path))


def _own_tables(folders: Sequence[Path]) -> dict[Path | None, Shapes]:
    """The ``meta.csv`` of each folder that has one."""
    there = in_threads(lambda folder: os.path.lexists(folder / SIZES), folders)
    return {folder: shapes_of(read_sizes(folder / SIZES))
            for folder, is_there in zip(folders, there, strict=True) if is_there}


def _near(names: Mapping[Path, Sequence[str]]) -> dict[Path, tuple[str, Shapes]]:
    """Folder -> the name and the sizes of a table beside it, of folders that have none of their own.

    Args:
        names: folder -> those of its images.
    """
    file_at, shapes = cache(_file_at), cache(_shapes)
    near: dict[Path, tuple[str, Shapes]] = {}
    taken, refused = defaultdict[Path, list[Path]](list), defaultdict[Path, list[Path]](list)
    places = in_threads(partial(_tables_near, RealPaths(), file_at), list(names))
    for folder, tables in zip(names, places, strict=True):
        for table in tables:
            if sizes := shapes(table):
                fits = any(name in sizes for name in names[folder])
                (taken if fits else refused)[table].append(folder)
                if fits:
                    near[folder] = table.name, sizes
                    break
    for table, folders in taken.items():
        log.info("%s: sizes of the originals from %s", _first_of(folders), table)
    for table, folders in refused.items():
        log.warning("%s: has none of the images of %s and is not taken for their sizes", table,
                    _first_of(folders))
    return near


def _first_of(folders: Sequence[Path]) -> str:
    more = f" and {len(folders) - 1} more folders" if len(folders) > 1 else ""
    return f"{folders[0]}{more}"


def _tables_near(real: RealPaths, file_at: Callable[[Path], Path | None], folder: Path) -> list[Path]:
    """The tables that may be of a folder; of a linked one also beside the link, by the link's name, first."""
    target = real(folder)
    linked = target if folder.name in ("", "..") else real.folder(folder.parent) / folder.name
    places = dict.fromkeys([linked, target])
    named = [path for place in places for name in [f"{place.name}_{SIZES}"]
             for path in (place / name, place.parent / name)]
    different: dict[Path, Path] = {}
    for path in [*named, *(place.parent / SIZES for place in places)]:
        if (file := file_at(path)) is not None:
            different.setdefault(file, path)
    return list(different.values())


def _file_at(path: Path) -> Path | None:
    """The file that a path leads to, without links."""
    return path.resolve() if path.is_file() else None


def _shapes(path: Path) -> Shapes:
    """The sizes of a table; a ``meta.csv`` beside a folder may be a table of anything."""
    try:
        return shapes_of(read_sizes(path))
    except InputError as error:
        if path.name != SIZES:
            raise
        log.warning("it is not taken for a table of original sizes: %s", error)
        return {}


def original_sizes(
    inputs: Sequence[Input], sizes_of: SizeTables
) -> tuple[dict[str, Size], dict[str, str]]:
    """Image id -> size of PNG and JPEG files; image id -> problem of those that are in no table."""
    sizes, lost = {}, {}
    for source in inputs:
        if source.problem or source.path.suffix.lower() not in RASTER_SUFFIXES:
            continue  # a DICOM file is an original
        entries = sizes_of(source)
        size = next((size for _, size in entries if size), None)
        if size:
            sizes[source.image_id] = size
        elif entries:
            lost[source.image_id] = f"has no size in {entries[0][0]}"
    return sizes, lost
