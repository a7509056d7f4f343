"""Every image of a run, read in processes of their own and in order, with one status row each."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from os import cpu_count
from pathlib import Path

import numpy as np

from vindr_det.classification.checks import warnings_of
from vindr_det.decoded import DecodedImage
from vindr_det.dicom.identity import UIDS, read_uids
from vindr_det.errors import InputError
from vindr_det.files import read_own_csv
from vindr_det.images import read_image
from vindr_det.inputs import Input, list_inputs, printable
from vindr_det.limits import MAX_PIXELS
from vindr_det.parallel import Failure, guarded, in_order, run_alone
from vindr_det.resize import Target
from vindr_det.status import FAILED, FLAGGED, OK, Status

log = logging.getLogger(__name__)

#: More processes than that only wait for what is done with the images.
_MOST_WORKERS = 8


@dataclass(frozen=True)
class Prepared:
    """What ``qc.csv`` of a prepared folder knows of an image that its PNG does not.

    Attributes:
        status: of the preparation.
        reason: likewise.
        uids: of the DICOM file that the image was.
        size: height and width of that file's image; None where it does not say.
    """

    status: str
    reason: str
    uids: Mapping[str, str]
    size: tuple[int, int] | None = None


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
    sizes: Mapping[str, tuple[int, int]]
    prepared: Mapping[str, Prepared]
    max_pixels: int = MAX_PIXELS

    @property
    def readable(self) -> list[str]:
        """Ids of what is to be read."""
        return [one.image_id for one in self.inputs if not one.problem]

    def statuses_if_none_readable(self) -> list[Status]:
        """A failed row for each input, if there is nothing to read at all; else nothing."""
        return [] if self.readable else [_failed(self, one, one.problem, {}) for one in self.inputs]


@dataclass(frozen=True)
class Looked:
    """One image of a run.

    Attributes:
        status: its row.
        image: None if it could not be read.
    """

    status: Status
    image: DecodedImage | None = None


def find(images: str | Path, recursive: bool = False, max_pixels: int = MAX_PIXELS) -> ImageRun:
    """The inputs of a prediction run.

    Images that were prepared by prepare_images.py bring what its ``qc.csv`` says: a CT is a CT also as PNG,
    and a file that could not be prepared is an input that cannot be read.

    Raises:
        InputError: nothing there.
    """
    inputs, prepared = list_inputs(images, recursive), {}
    root = Path(images)
    table = (root if root.is_dir() else root.parent) / "qc.csv"
    if table.is_file():
        prepared = _read_qc(table)
    known = {one.image_id for one in inputs}
    lost = [Input(image_id, f"{image_id}.png", root / f"{image_id}.png", f"was not prepared: {one.reason}")
            for image_id, one in prepared.items() if one.status == FAILED and image_id not in known]
    return ImageRun([*inputs, *(lost if root.is_dir() else [])], {}, prepared, max_pixels)


def _read_qc(path: Path) -> dict[str, Prepared]:
    try:
        rows = read_own_csv(path, ["image_id", "status"])
    except InputError as error:
        log.warning("what preparation said of the images is not known: %s", error)
        return {}
    return {row["image_id"]: Prepared(row["status"], row.get("reason", ""),
                                      {name: row.get(name, "") for name in UIDS}, _size(row))
            for row in rows}


def _size(row: Mapping[str, str]) -> tuple[int, int] | None:
    sides = [row.get(name, "") for name in ("dim0", "dim1")]
    return (int(sides[0]), int(sides[1])) if all(one.isdecimal() and int(one) for one in sides) else None


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
    todo = [one for one in run.inputs if not one.problem]
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
    before = run.prepared.get(one.image_id)
    height, width = (run.sizes.get(one.image_id) or (before.size if before else None)
                     or (image.height, image.width))
    image = replace(image, height=height, width=width)
    reasons = warnings_of(image)
    if before is not None and before.status == FLAGGED:
        reasons = list(dict.fromkeys([*before.reason.split("; "), *reasons]))
    return Looked(Status(one.image_id, one.file, FLAGGED if reasons else OK, "; ".join(reasons),
                         _uids(run, one, uids), height, width), image)


def reason_without_path(reason: str, path: Path) -> str:
    """The reason stands beside the file's name and is the same wherever the folder lies."""
    return printable(reason.replace(f"{path}: ", "").replace(str(path), path.name))


def _failed(run: ImageRun, one: Input, reason: str, uids: Mapping[str, str]) -> Status:
    height, width = run.sizes.get(one.image_id, (None, None))
    return Status(one.image_id, one.file, FAILED, reason, _uids(run, one, uids), height, width)


def _uids(run: ImageRun, one: Input, uids: Mapping[str, str]) -> Mapping[str, str]:
    before = run.prepared.get(one.image_id)
    return uids if any(uids.values()) or before is None else before.uids
