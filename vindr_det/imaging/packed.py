"""Resized images and their ids in a single memory-mapped file, for training that reads in random order.

The file is a numpy ``.npy`` of records ``(image_id, pixels)``. Reading an image costs a page fault or two
instead of opening and decoding a file, and processes share the pages.
"""

from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray
from tqdm import tqdm

from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, existing_file

FILE_NAME = "packed.npy"


def pack(images: str | Path, image_ids: list[str], out: str | Path) -> None:
    """Write ``<image_id>.png`` of a folder to one file, whole or not at all.

    Args:
        images: folder of 8-bit gray PNGs of one size.
        image_ids: which images, in this order.
        out: the ``.npy`` to write.

    Raises:
        InputError: no images, one that cannot be read, or one of another size than the first.
    """
    if not image_ids:
        raise InputError(f"{out}: there is no image to pack")
    shape = _read(Path(images) / f"{image_ids[0]}.png").shape

    def read(image_id: str) -> NDArray[np.uint8]:
        path = Path(images) / f"{image_id}.png"
        pixels = _read(path)
        if pixels.shape != shape:
            raise InputError(f"{path}: has shape {pixels.shape}, expected {shape} as the first has; packed "
                             "images share one size")
        return pixels

    write_packed(out, image_ids, map(read, image_ids), shape)


def write_packed(
    out: str | Path, image_ids: Sequence[str], images: Iterable[NDArray[np.uint8]], shape: tuple[int, int]
) -> None:
    """Write images to one file, whole or not at all.

    Args:
        out: the ``.npy`` to write.
        image_ids: of the images, in their order; at least one.
        images: (H, W) uint8 each.
        shape: (H, W) of them all.
    """
    longest = max(len(image_id.encode()) for image_id in image_ids)
    record = np.dtype([("image_id", f"S{longest}"), ("pixels", "u1", shape)])
    bar = tqdm(images, desc="pack", unit="image", total=len(image_ids), disable=None)
    with atomic_path(out) as temporary:
        packed = np.lib.format.open_memmap(temporary, "w+", record, (len(image_ids),))
        for row, (image_id, pixels) in enumerate(zip(image_ids, bar, strict=True)):
            packed[row] = (image_id.encode(), pixels)
        packed.flush()
        del packed


def _read(path: Path) -> NDArray[np.uint8]:
    data = np.fromfile(existing_file(path), np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_GRAYSCALE) if len(data) else None
    if image is None:
        raise InputError(f"{path}: cannot be read as PNG")
    return image


class PackedImages(Mapping[str, NDArray[np.uint8]]):
    """Mapping of image id -> (H, W) uint8, read-only, memory-mapped.

    Raises:
        InputError: the file is missing or is not such a file.
    """

    def __init__(self, path: str | Path) -> None:
        try:
            records = np.load(existing_file(path), mmap_mode="r")
        except (ValueError, OSError) as error:
            raise InputError(f"{path}: not a packed file ({error})") from error
        if records.dtype.names != ("image_id", "pixels"):
            raise InputError(f"{path}: not a packed file, expected records of image_id and pixels")
        self._pixels = records["pixels"]
        self._rows = {image_id.decode(): row for row, image_id in enumerate(records["image_id"])}

    def __getitem__(self, image_id: str) -> NDArray[np.uint8]:
        return self._pixels[self._rows[image_id]]

    def __iter__(self) -> Iterator[str]:
        return iter(self._rows)

    def __len__(self) -> int:
        return len(self._rows)
