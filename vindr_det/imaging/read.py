"""Any image file to 8-bit gray."""

import io
from collections.abc import Sequence
from pathlib import Path
from typing import BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray
from PIL.Image import Image
from PIL.JpegImagePlugin import JpegImageFile

from vindr_det.exceptions import InputError, one_line
from vindr_det.files import IMAGE_SUFFIXES, is_dicom, opened
from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.dicom import read_dicom
from vindr_det.imaging.jpeg import require_whole_jpeg
from vindr_det.imaging.resize import Target, resize
from vindr_det.limits import MAX_PIXELS, require_bytes, require_size

_DICOM = (".dicom", ".dcm")
_JPEG = b"\xff\xd8\xff"
_PNG = b"\x89PNG\r\n\x1a\n\0\0\0\x0dIHDR"
# Red, green, blue and alpha of 16 bits.
_MOST_BYTES = 8


def read_image(
    path: str | Path, target: Target | None = None, max_pixels: int = MAX_PIXELS,
    also: Sequence[Target] = (), content: bytes | None = None,
) -> DecodedImage:
    """Decode a DICOM, PNG or JPEG file to (H, W) uint8 gray, at the size of ``target``.

    Args:
        path: the file.
        target: the size to bring it to; None keeps every pixel.
        max_pixels: larger images are refused before memory is taken for them.
        also: further sizes for ``views`` of the result, each as if it were the only size.
        content: the file's bytes, as of :func:`vindr_det.files.opened`.

    Raises:
        InputError: the format is unknown, the image is too large, or the file cannot be decoded.
    """
    path = Path(path)
    try:
        return _read(path, target, max_pixels, also, content)
    except InputError:
        raise
    except Exception as error:  # OSError of the system; OpenCV and Pillow raise their own
        raise InputError(f"{path}: cannot be read ({one_line(error)})") from error


def _read(
    path: Path, target: Target | None, max_pixels: int, also: Sequence[Target], content: bytes | None
) -> DecodedImage:
    suffix = path.suffix.lower()
    if content is None and not path.is_file():
        raise InputError(f"{path}: no such image")
    if suffix in _DICOM or (suffix not in IMAGE_SUFFIXES and is_dicom(path, content)):
        return read_dicom(path, target, max_pixels, also, content)
    if suffix not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: unknown image format, expected DICOM or one of {IMAGE_SUFFIXES}")
    with opened(path, content) as file:
        return _read_raster(path, file, target, max_pixels, also)


def read_encoded(source: str, data: bytes, max_pixels: int = MAX_PIXELS) -> NDArray[np.uint8]:
    """Decode the bytes of a PNG or JPEG file to (H, W) uint8 gray.

    Args:
        source: names them in errors.
        data: the bytes.
        max_pixels: larger images are refused before memory is taken for them.

    Raises:
        InputError: they are neither, the image is too large, or it cannot be decoded.
    """
    try:
        width, height = raster_size(source, io.BytesIO(data), "PNG or JPEG")
        require_size(source, height, width, max_pixels)
        return _to_8_bits(_to_one_channel(_pixels(source, data, (height, width), "PNG or JPEG")))[0]
    except InputError:
        raise
    except Exception as error:  # OpenCV and Pillow raise their own
        raise InputError(f"{source}: cannot be read ({one_line(error)})") from error


def require_pixels(name: str, image: NDArray, max_pixels: int = MAX_PIXELS) -> None:
    """Check that an array is an image.

    Args:
        name: of the image, for errors.
        image: (H, W) gray or (H, W, 3) RGB, uint8 or uint16 of any byte order.
        max_pixels: larger images are refused.

    Raises:
        InputError: it has another shape or type, no pixel, masked ones, or too many.
    """
    if isinstance(image, np.ma.MaskedArray):
        raise InputError(f"{name}: is a masked array, expected pixels that are all known, such as its "
                         "filled(0)")
    colored = image.ndim == 3 and image.shape[2] == 3
    if not image.size:
        raise InputError(f"{name}: has shape {image.shape} and no pixel")
    if not (image.ndim == 2 or colored):
        raise InputError(f"{name}: has shape {image.shape}, expected (height, width), or (height, width, 3) "
                         "of RGB")
    if image.dtype.newbyteorder("=") not in (np.uint8, np.uint16):
        raise InputError(f"{name}: pixels are {image.dtype}, expected uint8 or uint16")
    require_size(name, image.shape[0], image.shape[1], max_pixels)


def as_array(image: Image) -> NDArray:
    """The pixels of an image of Pillow, as a PNG file that holds them is read: without alpha.

    Args:
        image: of any mode; EXIF's orientation is not applied, as to no file.

    Returns:
        (H, W) gray or (H, W, 3) RGB; of the modes F and I float or int32, which is no PNG.
    """
    if image.mode.startswith(("I", "F")):
        return np.asarray(image)
    gray = image.mode in ("1", "L", "LA", "La")
    return np.asarray(image.convert("L" if gray else "RGB"))


def read_array(
    image: NDArray, target: Target | None = None, also: Sequence[Target] = ()
) -> DecodedImage:
    """An image in memory as :func:`read_image` gives the PNG file that holds it.

    Args:
        image: of :func:`require_pixels`.
        target: as there, like ``also``.
        also: likewise.
    """
    bgr = image if image.ndim == 2 else image[..., ::-1]
    native = image.dtype.newbyteorder("=")  # OpenCV takes no other
    return _decoded(np.ascontiguousarray(bgr, dtype=native), "array", target, also)


def _read_raster(
    path: Path, file: BinaryIO, target: Target | None, max_pixels: int, also: Sequence[Target]
) -> DecodedImage:
    kind = path.suffix[1:].upper()
    width, height = raster_size(path, file, kind)
    require_size(path, height, width, max_pixels)
    require_bytes(path, file.seek(0, io.SEEK_END), height * width * _MOST_BYTES)
    file.seek(0)
    return _decoded(_pixels(path, file.read(), (height, width), kind), kind, target, also)


def _decoded(image: NDArray, kind: str, target: Target | None, also: Sequence[Target]) -> DecodedImage:
    """Gray, or color in OpenCV's order, at the sizes wanted."""
    gray, window = _to_8_bits(_to_one_channel(image))
    return DecodedImage(
        pixels=gray if target is None else resize(gray, target), height=gray.shape[0], width=gray.shape[1],
        syntax=kind, bits=image.dtype.itemsize * 8, photometric="MONOCHROME2",
        window=window, flags=("color",) if _is_colored(image) else (),
        views={other: resize(gray, other) for other in also if other != target},
    )


def _pixels(path: str | Path, data: bytes, shape: tuple[int, int], kind: str) -> NDArray:
    """(H, W) or (H, W, C) uint8 or uint16 of a file's bytes, checked against its header's ``shape``."""
    if data.startswith(_JPEG):
        require_whole_jpeg(path, data)
    image = cv2.imdecode(np.frombuffer(data, np.uint8), cv2.IMREAD_UNCHANGED)
    if image is None:
        raise InputError(f"{path}: cannot be decoded as {kind}")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: pixels are {image.dtype}, expected 8 or 16-bit unsigned")
    if image.shape[:2] != shape:
        raise InputError(f"{path}: decodes to {image.shape[0]} rows and {image.shape[1]} columns, its "
                         f"header says {shape[0]} and {shape[1]}")
    return image


def raster_size(path: str | Path, file: BinaryIO, kind: str) -> tuple[int, int]:
    """Width and height from the file's first bytes; nothing is decoded.

    Of PNGs they are read here, since Pillow refuses some for their texts, profiles and checksums. OpenCV goes
    by the content and not by the suffix, so that a TIFF named .png must be refused here.
    """
    start = file.read(24)
    file.seek(0)
    if start.startswith(_PNG) and len(start) == 24:
        return int.from_bytes(start[16:20], "big"), int.from_bytes(start[20:], "big")
    if not start.startswith(_JPEG):
        raise InputError(f"{path}: cannot be decoded as {kind}")
    with JpegImageFile(file) as image:
        return image.size


def _to_one_channel(image: NDArray) -> NDArray:
    if image.ndim == 2:
        return image
    # Some radiographs are stored with an alpha channel (four of 1,000 NIH images); it is not used.
    return cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY)


def _is_colored(image: NDArray) -> bool:
    """Whether the channels differ by more than JPEG's rounding on over 1 % of the pixels."""
    if image.ndim == 2:
        return False
    few = image[::8, ::8, :3].astype(np.int32)
    return bool((np.ptp(few, axis=2) > np.iinfo(image.dtype).max * 0.06).mean() > 0.01)


def _to_8_bits(image: NDArray) -> tuple[NDArray[np.uint8], str]:
    if image.dtype == np.uint8:
        return image, "none"
    # About half of the 16-bit PNGs hold 12 bits; percentiles find the range in use.
    low, high = np.percentile(image[::4, ::4], (0.5, 99.5))
    unit = (image.astype(np.float32) - low) / max(high - low, 1.0)
    return (np.clip(unit, 0, 1) * 255).round().astype(np.uint8), "percentile"
