"""The pictures of a page: read in processes, JPEG within a number of bytes, and maps over them."""

import base64
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.imaging import image_run
from vindr_det.imaging.image_run import ImageResult, ImageRun, is_of_another_shape
from vindr_det.imaging.resize import Target, resize
from vindr_det.imaging.status import Status
from vindr_det.imaging.subject_check import mismatch
from vindr_det.report.request import ReportRequest

#: Quality of JPEG, tried in turn before the picture is made smaller.
_QUALITIES = (88, 80, 70, 60)
_SMALLER, _SMALLEST = 0.8, 160
#: Longest side of a map; maps are smooth.
_MAP_SIDE, _MAP_QUALITY = 192, 60


def find_images(request: ReportRequest) -> ImageRun | None:
    """The images of ``--images``; None without.

    Raises:
        InputError: nothing is there, or a damaged table.
    """
    if request.images is None:
        return None
    return image_run.find(request.images, request.recursive, request.max_pixels, meta=request.meta)


def read_chosen(run: ImageRun, ids: Sequence[str], request: ReportRequest) -> Iterator[ImageResult]:
    """The images of these ids, in their order, no larger than the page shows them.

    Args:
        run: of :func:`find_images`.
        ids: among its images.
        request: of the report.
    """
    by_id = {source.image_id: source for source in run.inputs}
    part = replace(run, inputs=[by_id[image_id] for image_id in ids])
    return image_run.read_all(part, Target(request.side, keep_aspect=True), request.workers)


def other_image(
    run: ImageRun, result: ImageResult, size: tuple[int, int] | None, row: Status | None
) -> tuple[str, bool]:
    """What tells a file that was read from the image of the boxes, and whether it may be that all the same.

    It may be where nothing but the boxes' frame, which is a square, has another shape, as in some data sets.

    Args:
        run: that the file was found by.
        result: of :func:`read_chosen`, with an image.
        size: (height, width) of the image that the boxes are of; None where no table has it.
        row: of the image in the status table beside the predictions; None without.
    """
    name, image = result.status.image_id, result.image
    if image is None:
        return "", True
    path = next(source.path for source in run.inputs if source.image_id == name)
    # Where a table has the size, the image has that instead of the file's own, but the pixels have its shape.
    file = image.pixels.shape if name in run.sizes else (image.height, image.width)
    told = mismatch(path, file, row) if row else ""
    if told or not size or not is_of_another_shape(file, size):
        return told, not told
    sizes = f"the file has {file[1]} x {file[0]} pixels, the image of the boxes {size[1]} x {size[0]}"
    return sizes, size[0] == size[1]


@dataclass(frozen=True)
class Budget:
    """Bytes that each picture of a page may take, as base64.

    Attributes:
        each: of a picture.
    """

    each: int

    def encode(self, pixels: NDArray[np.uint8]) -> str:
        """A picture, (H, W), as base64 of a JPEG: of lower quality, and then smaller, until it fits."""
        data = b""
        while True:
            for quality in _QUALITIES:
                data = jpeg(pixels, quality)
                if len(data) * 4 // 3 <= self.each:
                    return base64.b64encode(data).decode("ascii")
            longest = max(pixels.shape)
            if longest <= _SMALLEST:
                return base64.b64encode(data).decode("ascii")
            pixels = resize(pixels, Target(max(_SMALLEST, int(longest * _SMALLER)), keep_aspect=True))


def jpeg(pixels: NDArray[np.uint8], quality: int) -> bytes:
    """A gray picture, (H, W), as JPEG."""
    return cv2.imencode(".jpg", pixels, [cv2.IMWRITE_JPEG_QUALITY, quality, cv2.IMWRITE_JPEG_OPTIMIZE, 1])[
        1
    ].tobytes()


def find_maps(folder: str | None, ids: Sequence[str]) -> dict[str, dict[str, Path]]:
    """Image id -> label -> its map: gray PNG files ``<image_id>.<label>.png`` over the whole image.

    Args:
        folder: of the maps; None for none.
        ids: of the images.
    """
    maps: dict[str, dict[str, Path]] = {}
    longest_first = sorted(ids, key=len, reverse=True)
    for path in sorted(Path(folder).glob("*.png")) if folder else ():
        image_id = next((name for name in longest_first if path.stem.startswith(f"{name}.")), None)
        if image_id is not None:
            maps.setdefault(image_id, {})[path.stem.removeprefix(f"{image_id}.")] = path
    return maps


def encode_map(pixels: NDArray[np.uint8]) -> str:
    """A map, (H, W), as base64 of a small JPEG."""
    data = jpeg(resize(pixels, Target(_MAP_SIDE, keep_aspect=True)), _MAP_QUALITY)
    return base64.b64encode(data).decode("ascii")

