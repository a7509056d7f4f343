"""Every image of a run, read in processes of their own and in order, with one status row each."""

import os
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import cpu_count
from pathlib import Path

import numpy as np

from vindr_det.exceptions import InputError
from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.dicom.identity import read_uids
from vindr_det.imaging.frontal_check import warnings_of
from vindr_det.imaging.inputs import OWN_TABLES, Input, printable, scan
from vindr_det.imaging.prepared import REPORT, SIZES, Prepared, PreparedFolder
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target
from vindr_det.imaging.sizes import read_sizes, shapes_of
from vindr_det.imaging.status import FAILED, FLAGGED, OK, Status
from vindr_det.limits import MAX_PIXELS, require_limit
from vindr_det.parallel import Failure, guarded, in_order, run_alone

#: More processes than that only wait for what is done with the images.
_MOST_WORKERS = 8
#: What may have been made smaller.
RASTER_SUFFIXES = (".png", ".jpg", ".jpeg")
#: (height, width), pixels.
Size = tuple[int, int]


@dataclass(frozen=True)
class ImageRun:
    """What to read and what is known of it already.

    Attributes:
        inputs: in order.
        sizes: image id -> (height, width) of the original, for files that were made smaller.
        prepared: image id -> what preparation said of it.
        max_pixels: larger images are refused before memory is taken for them.
    """

    inputs: Sequence[Input]
    sizes: Mapping[str, Size]
    prepared: Mapping[str, Prepared]
    max_pixels: int = MAX_PIXELS

    @property
    def sources(self) -> list[Path]:
        """All files that a run reads and may not write over: the images and the tables beside them."""
        folders = sorted({source.path.parent for source in self.inputs})
        tables = [folder / name for folder in folders for name in OWN_TABLES]
        return [*(one.path for one in self.inputs), *tables]

    @property
    def readable(self) -> list[str]:
        """Ids of what is to be read."""
        return [source.image_id for source in self.inputs if not source.problem]

    def statuses_if_none_readable(self) -> list[Status]:
        """A failed row for each input, if there is nothing to read at all; else nothing."""
        return [] if self.readable else [_failed(self, source, source.problem, {}) for source in self.inputs]


@dataclass(frozen=True)
class Looked:
    """One image of a run.

    Attributes:
        status: its row.
        image: None if it could not be read.
    """

    status: Status
    image: DecodedImage | None = None


def find(
    images: str | Path, recursive: bool = False, max_pixels: int = MAX_PIXELS, meta: str | Path | None = None
) -> ImageRun:
    """The inputs of a prediction run, and the sizes of their originals; nothing is read yet but tables.

    Images that were prepared by prepare_images.py bring what its ``qc.csv`` says: a CT is a CT also as PNG,
    and a file that could not be prepared is an input that cannot be read.

    Args:
        images: folder of DICOM, PNG or JPEG files, or one such file.
        recursive: look in the folder's folders too.
        max_pixels: larger images are refused before memory is taken for them.
        meta: sizes of the originals of PNG and JPEG files; None takes the ``meta.csv`` of their folder, then
            its ``qc.csv``. Where there is none, each file is an original. DICOM files always are.

    Raises:
        InputError: nothing there, the preparation of the images is not finished, or a damaged table.
    """
    require_limit(max_pixels)
    inputs, tables = scan(images, recursive)
    prepared = {source.image_id: known for source in inputs
                if (known := tables.get(source.path.parent, {}).get(source.path.name)) is not None}
    sizes, lost = _original_sizes(inputs, _size_tables(inputs, tables, Path(images), meta))
    inputs = [replace(one, problem=lost[one.image_id]) if one.image_id in lost else one for one in inputs]
    return ImageRun(inputs, sizes, prepared, max_pixels)


def _size_tables(
    inputs: Sequence[Input], reports: Mapping[Path, PreparedFolder], images: Path, meta: str | Path | None
) -> Callable[[Input], list[tuple[str, Size | None]]]:
    """What tells, of an input, each table that should know its original's size, and what it says."""
    if meta:
        given = shapes_of(read_sizes(meta))
        return lambda one: [(Path(meta).name, given.get(one.image_id))]
    root = images if images.is_dir() else images.parent
    beside = {folder: shapes_of(read_sizes(folder / SIZES))
              for folder in {root, *(source.path.parent for source in inputs)} if os.path.lexists(folder / SIZES)}
    sized = {folder: {name: row.size for name, row in rows.items() if row.size}
             for folder, rows in reports.items()}

    def ask(one: Input) -> list[tuple[str, Size | None]]:
        folder = one.path.parent
        found = [(SIZES, beside[folder].get(printable(one.path.stem)))] if folder in beside else []
        found += [(SIZES, beside[root].get(one.image_id))] if root in beside else []
        return found + ([(REPORT, sized[folder].get(one.path.name))] if sized.get(folder) else [])

    return ask


def _original_sizes(
    inputs: Sequence[Input], ask: Callable[[Input], list[tuple[str, Size | None]]]
) -> tuple[dict[str, Size], dict[str, str]]:
    """Image id -> size, of PNG and JPEG files; image id -> problem, of those that no table knows."""
    sizes, lost = {}, {}
    for source in inputs:
        if source.problem or source.path.suffix.lower() not in RASTER_SUFFIXES:
            continue  # a DICOM file is an original
        told = ask(source)
        size = next((size for _, size in told if size), None)
        if size:
            sizes[source.image_id] = size
        elif told:
            lost[source.image_id] = f"has no size in {told[0][0]}"
    return sizes, lost


def read_all(
    run: ImageRun, target: Target | None = None, workers: int | None = None, ahead: int = 1,
    also: Sequence[Target] = (),
) -> Iterator[Looked]:
    """Read every input, in order.

    Args:
        run: the inputs.
        target: the size to bring the images to.
        workers: processes; None takes one per core.
        ahead: images that are taken at once, so that as many are read meanwhile.
        also: further sizes, for ``views`` of the images.

    Yields:
        One for each input, whatever became of it.
    """
    workers = workers or min(cpu_count() or 1, _MOST_WORKERS)
    todo = [source for source in run.inputs if not source.problem]
    work = partial(read_one, target=target, max_pixels=run.max_pixels, also=also)
    results = in_order(work, todo, workers, max(workers, ahead) + ahead)
    for one in run.inputs:
        if one.problem:
            yield Looked(_failed(run, one, one.problem, {}))
            continue
        _, result = next(results)
        if isinstance(result, Failure):  # its process ended
            result = (result, _or_empty(run_alone(read_uids, one.path)))
        yield _looked(run, one, *result)


def read_one(
    one: Input, target: Target | None, max_pixels: int, also: Sequence[Target] = ()
) -> tuple[DecodedImage | Failure, Mapping[str, str]]:
    """An image, or why there is none; and its UIDs, which a file can tell whose pixels are damaged."""
    image = guarded(partial(_decode, target=target, max_pixels=max_pixels, also=also), one.path)
    return image, _or_empty(guarded(read_uids, one.path))


def _or_empty(uids: Mapping[str, str] | Failure) -> Mapping[str, str]:
    return {} if isinstance(uids, Failure) else uids


def _decode(
    path: Path, target: Target | None, max_pixels: int, also: Sequence[Target]
) -> DecodedImage:
    """:func:`read_image`, of a picture that shows something.

    Raises:
        InputError: as there, or all pixels have one value.
    """
    image = read_image(path, target, max_pixels, also)
    if not np.ptp(image.pixels):
        raise InputError(f"every pixel has the value {image.pixels.flat[0]}: it shows nothing")
    return image


def _looked(
    run: ImageRun, one: Input, image: DecodedImage | Failure, uids: Mapping[str, str]
) -> Looked:
    if isinstance(image, Failure):
        return Looked(_failed(run, one, reason_without_path(image.reason, one.path), uids))
    file = image.height, image.width
    height, width = run.sizes.get(one.image_id, file)
    image = replace(image, height=height, width=width)
    reasons = warnings_of(image)
    if _is_of_another_shape(file, (height, width)):
        reasons.append(f"the file's {file[1]} x {file[0]} pixels are of another shape than the {width} x "
                       f"{height} that the original is said to have")
    before = run.prepared.get(one.image_id)
    if before is not None and before.status == FLAGGED:
        reasons = list(dict.fromkeys([*before.reason.split("; "), *reasons]))
    return Looked(Status(one.image_id, one.file, FLAGGED if reasons else OK, "; ".join(reasons),
                         _uids(run, one, uids), height, width), image)


def _is_of_another_shape(file: Size, original: Size) -> bool:
    """Whether a size is another image's, or its sides are swapped; a square may have been squeezed."""
    factor = max(file) / max(original)
    return file[0] != file[1] and any(abs(side * factor - own) > 1
                                      for side, own in zip(original, file, strict=True))


def reason_without_path(reason: str, path: Path) -> str:
    """The reason stands beside the file's name and is the same wherever the folder lies."""
    return printable(reason.replace(f"{path}: ", "").replace(str(path), path.name))


def _failed(run: ImageRun, one: Input, reason: str, uids: Mapping[str, str]) -> Status:
    height, width = run.sizes.get(one.image_id, (None, None))
    return Status(one.image_id, one.file, FAILED, reason, _uids(run, one, uids), height, width)


def _uids(run: ImageRun, one: Input, uids: Mapping[str, str]) -> Mapping[str, str]:
    before = run.prepared.get(one.image_id)
    return uids if any(uids.values()) or before is None else before.uids
