"""Resized images and their ids in a single memory-mapped file, for training that reads in random order.

The file is a numpy ``.npy`` of records ``(image_id, pixels)``; where images differ in size, of records
``(image_id, height, width, pixels)`` with room for the largest, and the pixels of an image row by row at the
start of its own. Reading an image costs a page fault or two instead of opening and decoding a file, and
processes share the pages.
"""

import logging
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, existing_file
from vindr_det.imaging.read import raster_size
from vindr_det.parallel import in_threads

log = logging.getLogger(__name__)

FILE_NAME = "packed.npy"
_SIZED = ("image_id", "height", "width", "pixels")


def pack(images: str | Path, image_ids: list[str], out: str | Path) -> None:
    """Write ``<image_id>.png`` of a folder to one file, whole or not at all.

    Args:
        images: folder of 8-bit gray PNGs.
        image_ids: which images, in this order.
        out: the ``.npy`` to write.

    Raises:
        InputError: no images, one that cannot be read, or one that is named twice.
    """
    if not image_ids:
        raise InputError(f"{out}: there is no image to pack")
    paths = [Path(images) / f"{image_id}.png" for image_id in image_ids]
    write_packed(out, image_ids, map(_read, paths), [_shape(path) for path in paths])


def write_packed(
    out: str | Path, image_ids: Sequence[str], images: Iterable[NDArray[np.uint8]],
    shapes: Sequence[tuple[int, int]],
) -> None:
    """Write images to one file, whole or not at all.

    Args:
        out: the ``.npy`` to write.
        image_ids: of the images, in their order; at least one.
        images: (H, W) uint8 each.
        shapes: (H, W) of each, known before the first is read.

    Raises:
        InputError: two have one id.
    """
    _require_unlike(out, np.array([image_id.encode() for image_id in image_ids]))
    bar = tqdm(images, desc="pack", unit="image", total=len(image_ids), disable=None)
    with atomic_path(out) as temporary:
        packed = np.lib.format.open_memmap(temporary, "w+", _record(image_ids, shapes), (len(image_ids),))
        for row, (image_id, pixels) in enumerate(zip(image_ids, bar, strict=True)):
            packed["image_id"][row] = image_id.encode()
            if packed.dtype.names == _SIZED:
                packed["height"][row], packed["width"][row] = pixels.shape
                # What is left of the room is never written, and takes no space on most file systems.
                packed["pixels"][row, :pixels.size] = pixels.ravel()
            else:
                packed["pixels"][row] = pixels
        packed.flush()
        del packed


def _record(image_ids: Sequence[str], shapes: Sequence[tuple[int, int]]) -> np.dtype:
    name = ("image_id", f"S{max(len(image_id.encode()) for image_id in image_ids)}")
    if len(set(shapes)) == 1:
        return np.dtype([name, ("pixels", "u1", shapes[0])])
    most = max(height * width for height, width in shapes)
    return np.dtype([name, ("height", "u4"), ("width", "u4"), ("pixels", "u1", (most,))])


def _shape(path: Path) -> tuple[int, int]:
    with existing_file(path).open("rb") as file:
        width, height = raster_size(path, file, "PNG")
    return height, width


def _read(path: Path) -> NDArray[np.uint8]:
    data = np.fromfile(existing_file(path), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if len(data) else None
    if image is None:
        raise InputError(f"{path}: cannot be read as PNG")
    return image


class IdRows:
    """Row of each image id, found by bisection in arrays, which stay shared where processes fork.

    Args:
        ids: one per row.
    """

    def __init__(self, ids: Sequence[str] | NDArray[np.bytes_]) -> None:
        names = ids if isinstance(ids, np.ndarray) else [image_id.encode() for image_id in ids]
        self.ids = np.array(names, "S")
        self._order = np.argsort(self.ids, kind="stable")

    def __getitem__(self, image_id: str) -> int:
        name = np.bytes_(image_id.encode())
        place = np.searchsorted(self.ids, name, sorter=self._order)
        if place == len(self.ids) or self.ids[self._order[place]] != name:
            raise KeyError(image_id)
        return int(self._order[place])


def _require_records(path: str | Path, records: Any) -> None:
    """Refuse what does not hold gray images."""
    kind = records.dtype
    pixels = kind["pixels"] if kind.names in (("image_id", "pixels"), _SIZED) else None
    sides = 1 if kind.names == _SIZED else 2
    if (pixels is None or records.ndim != 1 or pixels.base != np.uint8 or pixels.ndim != sides
            or kind["image_id"].kind != "S"):
        raise InputError(f"{path}: not a packed file, expected records of image_id and pixels (H, W), uint8")
    if not pixels.itemsize:
        raise InputError(f"{path}: its images have no pixels")
    if sides == 1:
        sizes = np.stack([records["height"], records["width"]], axis=1)
        areas = sizes.prod(axis=1, dtype=float)
        for row in np.flatnonzero((areas < 1) | (areas > pixels.itemsize))[:1]:
            raise InputError(f"{path}: record {row} has height {sizes[row][0]} and width {sizes[row][1]}, "
                             f"expected 1 to {pixels.itemsize} pixels in all")


def _require_unlike(path: str | Path, ids: NDArray[np.bytes_]) -> None:
    names, counts = np.unique(ids, return_counts=True)
    if (counts > 1).any():
        twice = names[counts.argmax()].decode(errors="replace")
        raise InputError(f"{path}: has {counts.max()} images {twice}, expected one of each id")


def warn_if_newer(packed: str | Path, images: Sequence[Path]) -> None:
    """Warn of images whose own files have changed since they were packed.

    Args:
        packed: the packed file, which is there.
        images: their own files, which need not be there.
    """
    made = Path(packed).stat().st_mtime_ns
    changed = in_threads(_changed, images)
    newer = [path for path, last in zip(images, changed, strict=True) if last > made]
    if newer:
        log.warning("%s: is older than %d of its images, such as %s, and may hold other pixels than these; "
                    "pack again", packed, len(newer), newer[0])


def _changed(path: Path) -> int:
    try:
        return path.stat().st_mtime_ns
    except OSError:
        return 0


class PackedImages(Mapping[str, NDArray[np.uint8]]):
    """Mapping of image id -> (H, W) uint8, read-only, memory-mapped.

    Raises:
        InputError: the file is missing or is not such a file, or an id or a size in it cannot be.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            records = np.load(existing_file(path), mmap_mode="r")
        except (ValueError, OSError, EOFError) as error:
            raise InputError(f"{path}: not a packed file ({error})") from error
        _require_records(path, records)
        self.path, self._records = path, records
        self._rows = IdRows(records["image_id"])
        _require_unlike(path, self._rows.ids)

    def __reduce__(self) -> tuple[type["PackedImages"], tuple[str | Path]]:
        return PackedImages, (self.path,)  # to a process that maps the file itself

    def __getitem__(self, image_id: str) -> NDArray[np.uint8]:
        record = self._records[self._rows[image_id]]
        pixels: NDArray[np.uint8] = np.asarray(record["pixels"])
        if pixels.ndim == 2:
            return pixels
        height, width = int(record["height"]), int(record["width"])
        return pixels[:height * width].reshape(height, width)

    def __iter__(self) -> Iterator[str]:
        return (image_id.decode() for image_id in self._rows.ids)

    def __len__(self) -> int:
        return len(self._rows.ids)
