"""Any image file to 8-bit gray, and the one resize that training and prediction share."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.dicom import DecodedImage, read_dicom
from vindr_det.errors import InputError
from vindr_det.files import IMAGE_SUFFIXES

_DICOM = (".dicom", ".dcm")


def read_image(path: str | Path) -> DecodedImage:
    """Decode a DICOM, PNG or JPEG file to (H, W) uint8 gray.

    Raises:
        InputError: the suffix is unknown or the file cannot be decoded.
    """
    path = Path(path)
    suffix = path.suffix.lower()
    if suffix not in IMAGE_SUFFIXES:
        raise InputError(f"{path}: unknown image format, expected one of {IMAGE_SUFFIXES}")
    if not path.is_file():
        raise InputError(f"{path}: no such image")
    return read_dicom(path) if suffix in _DICOM else _read_raster(path)


def _read_raster(path: Path) -> DecodedImage:
    data = np.fromfile(path, np.uint8)
    image = cv2.imdecode(data, cv2.IMREAD_UNCHANGED) if len(data) else None
    if image is None:
        raise InputError(f"{path}: cannot be decoded as {path.suffix[1:].upper()}")
    bits = image.dtype.itemsize * 8
    if image.ndim == 3:
        code = cv2.COLOR_BGRA2GRAY if image.shape[2] == 4 else cv2.COLOR_BGR2GRAY
        image = cv2.cvtColor(image, code)
    if image.dtype == np.uint16:
        # Half of the 16-bit PNGs about hold 12 bits; the percentiles find the range in use.
        low, high = np.percentile(image[::4, ::4], (0.5, 99.5))
        image = np.clip((image - low) * (255 / max(high - low, 1.0)), 0, 255).astype(np.uint8)
    if image.dtype != np.uint8:
        raise InputError(f"{path}: pixels are {image.dtype}, expected 8 or 16-bit unsigned")
    return DecodedImage(image, path.suffix[1:].upper(), bits, "MONOCHROME2", "none")


def resize(image: NDArray[np.uint8], size: int, keep_aspect: bool) -> NDArray[np.uint8]:
    """Bring an image to the prepared size.

    With ``keep_aspect`` the longest side becomes ``size``, and a smaller image is left alone;
    without it the result is square. Shrinking averages areas, which is what keeps fine
    structure from aliasing.

    Args:
        image: (H, W) uint8.
        size: pixels; 0 leaves every image alone.
        keep_aspect: keep the ratio of the sides.
    """
    height, width = image.shape[:2]
    if size <= 0:
        return image
    if keep_aspect:
        factor = min(1.0, size / max(height, width))
        target = (max(1, round(width * factor)), max(1, round(height * factor)))
    else:
        target = (size, size)
    if target == (width, height):
        return image
    shrinks = target[0] < width or target[1] < height
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, target, interpolation=method)
