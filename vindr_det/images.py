"""Any image file to 8-bit gray."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.decoded import DecodedImage
from vindr_det.dicom import read_dicom
from vindr_det.errors import InputError
from vindr_det.files import IMAGE_SUFFIXES, is_dicom
from vindr_det.resize import Target, resize

_DICOM = (".dicom", ".dcm")


def read_image(path: str | Path, target: Target | None = None) -> DecodedImage:
    """Decode a DICOM, PNG or JPEG file to (H, W) uint8 gray, at the size of ``target``.

    Raises:
        InputError: the format is unknown or the file cannot be decoded.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if not path.is_file():
        raise InputError(f"{path}: no such image")
    if suffix in _DICOM or (suffix not in IMAGE_SUFFIXES and is_dicom(path)):
        return read_dicom(path, target)
    if suffix not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: unknown image format, expected DICOM or one of {IMAGE_SUFFIXES}")
    return _read_raster(path, target)


def _read_raster(path: Path, target: Target | None) -> DecodedImage:
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if image is None:
        raise InputError(f"{path}: cannot be decoded as {path.suffix[1:].upper()}")
    if image.dtype not in (np.uint8, np.uint16):
        raise InputError(f"{path}: pixels are {image.dtype}, expected 8 or 16-bit unsigned")
    height, width = image.shape[:2]
    gray, window = _to_8_bits(_to_one_channel(image))
    return DecodedImage(
        pixels=gray if target is None else resize(gray, target), height=height, width=width,
        syntax=path.suffix[1:].upper(), bits=image.dtype.itemsize * 8, photometric="MONOCHROME2",
        window=window, flags=("colour",) if _is_coloured(image) else (),
    )


def _to_one_channel(image: NDArray) -> NDArray:
    if image.ndim == 2:
        return image
    # Some radiographs are stored with an alpha channel (four of 1,000 NIH images); it says nothing.
    return cv2.cvtColor(np.ascontiguousarray(image[..., :3]), cv2.COLOR_BGR2GRAY)


def _is_coloured(image: NDArray) -> bool:
    """Channels that differ by more than JPEG's rounding over a part of the picture."""
    if image.ndim == 2:
        return False
    few = image[::8, ::8, :3].astype(np.int32)
    return bool((np.ptp(few, axis=2) > np.iinfo(image.dtype).max * 0.06).mean() > 0.01)


def _to_8_bits(image: NDArray) -> tuple[NDArray[np.uint8], str]:
    if image.dtype == np.uint8:
        return image, "none"
    # Half of the 16-bit PNGs about hold 12 bits; the percentiles find the range in use.
    low, high = np.percentile(image[::4, ::4], (0.5, 99.5))
    unit = (image.astype(np.float32) - low) / max(high - low, 1.0)
    return (np.clip(unit, 0, 1) * 255).round().astype(np.uint8), "percentile"
