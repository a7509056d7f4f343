"""Where the sizes of the originals of PNG and JPEG files are looked for."""

import logging
import os
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import Input, printable
from vindr_det.imaging.prepared_folder import REPORT, SIZES, PreparedFolder
from vindr_det.imaging.sizes import Shapes, read_sizes, shapes_of

log = logging.getLogger(__name__)

#: Files of these kinds may be smaller than their original.
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg")
#: (height, width), pixels.
Size = tuple[int, int]
#: From an input to the tables that should have its original's size: their names and that size.
SizeTables = Callable[[Input], list[tuple[str, Size | None]]]


def size_tables(inputs: Sequence[Input], reports: Mapping[Path, PreparedFolder], root: Path) -> SizeTables:
    """The tables of the inputs' folders; the first that is there counts for a folder.

    They are the ``meta.csv`` and the ``qc.csv`` that vindr-det prepare leaves; else ``<folder>_meta.csv`` in
    the folder, or ``<folder>_meta.csv`` or ``meta.csv`` beside it, as in a download; beside a link to the
    folder, by the link's name, before the folder itself. Only the first is certainly of these images: another
    is taken if it has at least one of them.

    Args:
        inputs: of the run.
        reports: folder -> its ``qc.csv``.
        root: the folder that the run is given.
    """
    folders = {source.path.parent for source in inputs if source.path.suffix.lower() in RASTER_SUFFIXES}
    own = {folder: shapes_of(read_sizes(folder / SIZES)) for folder in {root, *folders}
           if os.path.lexists(folder / SIZES)}
    sized = {folder: {name: row.size for name, row in rows.items() if row.size}
             for folder, rows in reports.items()}
    bare = [folder for folder in folders if not (folder in own or root in own or sized.get(folder))]
    near = {folder: table for folder in sorted(bare) if (table := _near(folder, inputs)) is not None}

    def sizes_of(source: Input) -> list[tuple[str, Size | None]]:
        folder, name = source.path.parent, printable(source.path.stem)
        entries = [(SIZES, own[folder].get(name))] if folder in own else []
        entries += [(SIZES, own[root].get(source.image_id))] if root in own else []
        entries += [(REPORT, sized[folder].get(source.path.name))] if sized.get(folder) else []
        return entries + ([(near[folder][0], near[folder][1].get(name))] if folder in near else [])

    return sizes_of


def _near(folder: Path, inputs: Sequence[Input]) -> tuple[str, Shapes] | None:
    """The name and the sizes of a table beside a folder of images that has none of its own."""
    stems = [printable(source.path.stem) for source in inputs if source.path.parent == folder]
    for path in _places(folder):
        sizes = _shapes(path, required=path.name != SIZES) if path.is_file() else {}
        if any(stem in sizes for stem in stems):
            log.info("%s: sizes of the originals from %s", folder, path)
            return path.name, sizes
        if sizes:
            log.warning("%s: has none of the images of %s and is not taken for their sizes", path, folder)
    return None


def _places(folder: Path) -> list[Path]:
    """Where such a table may be; of a linked folder also beside the link, under the link's name, first."""
    target = folder.resolve()
    places = target if folder.name in ("", "..") else folder.parent.resolve() / folder.name, target
    named = [path for place in places for name in [f"{place.name}_{SIZES}"]
             for path in (place / name, place.parent / name)]
    paths = [*named, *(place.parent / SIZES for place in places)]
    different: dict[Path, Path] = {}
    for path in paths:
        different.setdefault(path.resolve(), path)
    return list(different.values())


def _shapes(path: Path, required: bool) -> Shapes:
    """The sizes of a table; a ``meta.csv`` beside a folder may be a table of anything."""
    try:
        return shapes_of(read_sizes(path))
    except InputError as error:
        if required:
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
