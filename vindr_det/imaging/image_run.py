"""A run over images: all of them read in worker processes, in order, with a status row each."""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import cpu_count
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.imaging.choice import Choice
from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.dicom.identity import read_uids
from vindr_det.imaging.frontal_check import warnings_of
from vindr_det.imaging.inputs import OWN_TABLES, Input, printable, scan, scan_files, unused
from vindr_det.imaging.original_sizes import RASTER_SUFFIXES, Size, SizeTables, original_sizes, size_tables
from vindr_det.imaging.prepared_folder import Prepared, PreparedFolder
from vindr_det.imaging.read import read_array, read_image, require_pixels
from vindr_det.imaging.resize import Target
from vindr_det.imaging.sizes import read_sizes, shapes_of
from vindr_det.imaging.status import FAILED, FLAGGED, OK, Status
from vindr_det.limits import MAX_PIXELS, require_limit
from vindr_det.parallel import SECONDS_PER_ITEM, Failure, guarded, in_order, run_alone

#: More processes only wait for the models that the images go to.
_MOST_WORKERS = 8


@dataclass(frozen=True)
class ImageRun:
    """The inputs of a run and what is known of them before they are read.

    Attributes:
        inputs: in order.
        sizes: image id -> (height, width) of the original, for files that were made smaller.
        prepared: image id -> its row in the report of its preparation.
        max_pixels: larger images are refused before memory is taken for them.
    """

    inputs: Sequence[Input]
    sizes: Mapping[str, Size]
    prepared: Mapping[str, Prepared]
    max_pixels: int = MAX_PIXELS

    @property
    def sources(self) -> list[Path]:
        """All files that a run reads and must not overwrite: the images and the tables beside them."""
        folders = sorted({source.path.parent for source in self.inputs})
        tables = [folder / name for folder in folders for name in OWN_TABLES]
        return [*(source.path for source in self.inputs), *tables]

    @property
    def of_unknown_size(self) -> list[str]:
        """Ids of PNG and JPEG files whose original's size no table has: each is taken for an original."""
        return [source.image_id for source in self.inputs if not source.problem
                and source.path.suffix.lower() in RASTER_SUFFIXES and source.image_id not in self.sizes]

    def first(self, count: int) -> "ImageRun":
        """The run of the first ``count`` inputs; 0 keeps all."""
        return replace(self, inputs=self.inputs[:count]) if count else self

    def of(self, inputs: Sequence[Input]) -> "ImageRun":
        """The run of some of the inputs, with what is known of them alone."""
        ids = {source.image_id for source in inputs}
        return replace(self, inputs=inputs, sizes={key: self.sizes[key] for key in ids & self.sizes.keys()},
                       prepared={key: self.prepared[key] for key in ids & self.prepared.keys()})

    @property
    def readable(self) -> list[str]:
        """Ids of the inputs that can be read, as far as their names and kinds tell."""
        return [source.image_id for source in self.inputs if not source.problem]

    def statuses_if_none_readable(self) -> list[Status]:
        """A failed row per input if none of them can be read, else no row."""
        return [] if self.readable else [_failed(self, source, source.problem, {}) for source in self.inputs]


@dataclass(frozen=True)
class ImageResult:
    """An input after reading.

    Attributes:
        status: its row in the status table.
        image: None if it could not be read.
    """

    status: Status
    image: DecodedImage | None = None


def find(
    images: str | Path, recursive: bool = False, max_pixels: int = MAX_PIXELS,
    meta: str | Path | None = None, choice: Choice | None = None,
) -> ImageRun:
    """The inputs of a run and the sizes of their originals; only tables are read yet.

    Images from vindr-det prepare keep the flags of its ``qc.csv`` (a CT is a CT also as PNG), and a file that
    could not be prepared is an input that cannot be read.

    Args:
        images: folder of DICOM, PNG or JPEG files, or one such file.
        recursive: include subfolders.
        max_pixels: larger images are refused before memory is taken for them.
        meta: original sizes of PNG and JPEG files; None takes those of ``choice``, or else the tables of
            :func:`vindr_det.imaging.original_sizes.size_tables`. Where there is none, each file is an
            original. DICOM files always are.
        choice: the images to take; None takes all.

    Raises:
        InputError: nothing there, the preparation of the images is not finished, a damaged table, or an image
            of ``choice`` is missing.
    """
    require_limit(max_pixels)
    inputs, tables = scan(images, recursive or (choice is not None and choice.recursive))
    if choice is not None:
        inputs = choice.of(inputs, images)
    root = Path(images) if Path(images).is_dir() else Path(images).parent
    sizes_of = _given_sizes(meta, choice) or size_tables(inputs, tables, root)
    return _known(inputs, tables, sizes_of, max_pixels)


def find_files(
    paths: Sequence[Path], max_pixels: int = MAX_PIXELS, meta: str | Path | None = None
) -> list[ImageRun]:
    """:func:`find` of each file, by tables that are read once for all files of a folder.

    Args:
        paths: the files.
        max_pixels: as there, like ``meta``.
        meta: likewise.

    Raises:
        InputError: likewise.
    """
    require_limit(max_pixels)
    given = _given_sizes(meta, None)
    inputs, tables = scan_files(list(dict.fromkeys(paths)))
    sizes_of = given or size_tables(inputs, tables, None)
    runs = {source.path: _known([source], tables, sizes_of, max_pixels) for source in inputs}
    return [runs[path] for path in paths]


def _known(
    inputs: Sequence[Input], tables: Mapping[Path, PreparedFolder], sizes_of: SizeTables, max_pixels: int
) -> ImageRun:
    """The run of inputs, with what the tables know of them."""
    prepared = {source.image_id: known for source in inputs
                if (known := tables.get(source.path.parent, {}).get(source.path.name)) is not None}
    sizes, lost = original_sizes(inputs, sizes_of)
    inputs = [replace(source, problem=lost.get(source.image_id, source.problem)) for source in inputs]
    return ImageRun(inputs, sizes, prepared, max_pixels)


def of_array(image: NDArray, name: str = "array", max_pixels: int = MAX_PIXELS) -> ImageRun:
    """The run of an image in memory.

    Args:
        image: (H, W) gray or (H, W, 3) RGB, uint8 or uint16.
        name: its id.
        max_pixels: larger images are refused.

    Raises:
        InputError: the array is no such image.
    """
    require_limit(max_pixels)
    require_pixels(name, image, max_pixels)
    return ImageRun([Input(name, name, Path(name), pixels=image)], {}, {}, max_pixels)


def joined(runs: Sequence[ImageRun]) -> ImageRun:
    """Several runs as one; an id that two of them have gets a number in the second.

    Args:
        runs: with the same limit of pixels.
    """
    used: set[str] = set()
    inputs: list[Input] = []
    sizes: dict[str, Size] = {}
    prepared: dict[str, Prepared] = {}
    for run in runs:
        for source in run.inputs:
            old, new = source.image_id, unused(source.image_id, used)
            inputs.append(replace(source, image_id=new))
            sizes |= {new: run.sizes[old]} if old in run.sizes else {}
            prepared |= {new: run.prepared[old]} if old in run.prepared else {}
    return ImageRun(inputs, sizes, prepared, runs[0].max_pixels if runs else MAX_PIXELS)


def _given_sizes(meta: str | Path | None, choice: Choice | None) -> SizeTables | None:
    """The sizes of --meta, or of the data set that the images are; None for neither."""
    if meta is not None:
        name, given = Path(meta).name, shapes_of(read_sizes(meta))
    elif choice is not None and choice.sizes:
        name, given = choice.source, dict(choice.sizes)
    else:
        return None
    return lambda source: [(name, given.get(source.image_id))]


def read_all(
    run: ImageRun, target: Target | None = None, workers: int | None = None, ahead: int = 1,
    also: Sequence[Target] = (), seconds: float = SECONDS_PER_ITEM,
) -> Iterator[ImageResult]:
    """Read every input, in order.

    Args:
        run: the inputs.
        target: the size to bring the images to.
        workers: processes; None takes one per core, 0 reads in this one.
        ahead: images that are taken at once, so that as many are read meanwhile.
        also: further sizes, for ``views`` of the images.
        seconds: after which a process that reads an image is ended.

    Yields:
        A result per input, also of those that failed.
    """
    workers = min(cpu_count() or 1, _MOST_WORKERS) if workers is None else workers
    todo = [source for source in run.inputs if not source.problem]
    work = partial(read_input, target=target, max_pixels=run.max_pixels, also=also)
    results = in_order(work, todo, workers, max(workers, ahead) + ahead, seconds)
    for source in run.inputs:
        if source.problem:
            yield ImageResult(_failed(run, source, source.problem, {}))
            continue
        _, result = next(results)
        if isinstance(result, Failure):  # its process ended
            result = (result, _or_empty(run_alone(_uids_of, source, seconds)))
        yield _result(run, source, *result)


def read_input(
    source: Input, target: Target | None, max_pixels: int, also: Sequence[Target] = ()
) -> tuple[DecodedImage | Failure, Mapping[str, str]]:
    """An image, or why it failed; and its UIDs, which a file can have even if its pixels are damaged."""
    image = guarded(partial(_decode, target=target, max_pixels=max_pixels, also=also), source)
    return image, _or_empty(guarded(_uids_of, source)) if source.pixels is None else {}


def _uids_of(source: Input) -> Mapping[str, str]:
    return read_uids(source.path, source.content)


def _or_empty(uids: Mapping[str, str] | Failure) -> Mapping[str, str]:
    return {} if isinstance(uids, Failure) else uids


def _decode(
    source: Input, target: Target | None, max_pixels: int, also: Sequence[Target]
) -> DecodedImage:
    """:func:`read_image` or :func:`read_array`, of a picture that shows something.

    Raises:
        InputError: as there, or all pixels have one value.
    """
    image = (read_image(source.path, target, max_pixels, also, source.content) if source.pixels is None else
             read_array(source.pixels, target, also))
    if not np.ptp(image.pixels):
        raise InputError(f"every pixel has the value {image.pixels.flat[0]}: it shows nothing")
    return image


def _result(
    run: ImageRun, source: Input, image: DecodedImage | Failure, uids: Mapping[str, str]
) -> ImageResult:
    if isinstance(image, Failure):
        return ImageResult(_failed(run, source, reason_without_path(image.reason, source.path), uids))
    file = image.height, image.width
    height, width = run.sizes.get(source.image_id, file)
    image = replace(image, height=height, width=width)
    reasons = warnings_of(image)
    if is_of_another_shape(file, (height, width)):
        reasons.append(f"the file's {file[1]} x {file[0]} pixels are of another shape than the {width} x "
                       f"{height} that the original is said to have")
    before = run.prepared.get(source.image_id)
    if before is None and file[0] > height and file[1] > width:  # a preparation may enlarge to a square
        reasons.append(f"the file's {file[1]} x {file[0]} pixels are more than the {width} x {height} that "
                       "the original is said to have")
    if before is not None and before.status == FLAGGED:
        reasons = list(dict.fromkeys([*before.reason.split("; "), *reasons]))
    return ImageResult(Status(source.image_id, source.file, FLAGGED if reasons else OK, "; ".join(reasons),
                         _uids(run, source, uids), height, width), image)


def is_of_another_shape(file: Size, original: Size) -> bool:
    """Whether a size cannot be the original's; a square file may have lost its aspect ratio."""
    factor = max(file) / max(original)
    return file[0] != file[1] and any(abs(side * factor - own) > 1
                                      for side, own in zip(original, file, strict=True))


def reason_without_path(reason: str, path: Path) -> str:
    """A reason without the file's folder, so that it is the same wherever the folder lies."""
    return printable(reason.replace(f"{path}: ", "").replace(str(path), path.name))


def _failed(run: ImageRun, source: Input, reason: str, uids: Mapping[str, str]) -> Status:
    height, width = run.sizes.get(source.image_id, (None, None))
    return Status(source.image_id, source.file, FAILED, reason, _uids(run, source, uids), height, width)


def _uids(run: ImageRun, source: Input, uids: Mapping[str, str]) -> Mapping[str, str]:
    before = run.prepared.get(source.image_id)
    return uids if any(uids.values()) or before is None else before.uids
