"""One DICOM file to an 8-bit gray image, bright where little passed, and what was decided on the way.

The order of the steps is that of the grayscale pipeline (PS3.4 N.2): modality LUT, VOI LUT or
window, presentation. Nothing depends on the image's own maximum, so the same exposure gives the
same picture whatever is in it.
"""

import warnings
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pydicom
from numpy.typing import NDArray
from pydicom.errors import InvalidDicomError
from pydicom.multival import MultiValue
from pydicom.pixels import apply_modality_lut, apply_voi_lut

from vindr_det.errors import InputError

#: Without a window the image is shown between these percentiles of its pixels.
PERCENTILES = (0.5, 99.5)


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        pixels: (H, W) uint8, MONOCHROME2 sense: larger is brighter.
        syntax: name of the transfer syntax, or of the file format.
        bits: bits stored a pixel.
        photometric: PhotometricInterpretation as it stands in the file.
        window: what set the grays: ``window 2048/4096``, ``voi lut``, ``percentile`` or ``none``.
    """

    pixels: NDArray[np.uint8]
    syntax: str
    bits: int
    photometric: str
    window: str


def read_dicom(path: str | Path) -> DecodedImage:
    """Decode one single-frame grayscale DICOM file.

    Raises:
        InputError: not a DICOM file, no or damaged pixel data, colour, or several frames.
    """
    with warnings.catch_warnings():
        # Files in the wild break small rules (ages, UIDs); the pixels are what we came for.
        warnings.simplefilter("ignore")
        dataset = _read(path)
        _require_gray_frame(path, dataset)
        try:
            stored = dataset.pixel_array
        except Exception as error:  # decoders raise whatever their C library reports
            reason = " ".join(str(error).split())
            raise InputError(f"{path}: pixel data cannot be decoded ({reason})") from error
        pixels, window = _to_gray(dataset, stored)
    return DecodedImage(
        pixels=pixels,
        syntax=str(dataset.file_meta.TransferSyntaxUID.name),
        bits=int(dataset.BitsStored),
        photometric=str(dataset.PhotometricInterpretation),
        window=window,
    )


def _read(path: str | Path) -> pydicom.Dataset:
    try:
        dataset = pydicom.dcmread(path)
    except InvalidDicomError as error:
        raise InputError(f"{path}: not a DICOM file") from error
    except (OSError, EOFError, ValueError, KeyError, AttributeError, NotImplementedError) as error:
        raise InputError(f"{path}: damaged DICOM file ({error})") from error
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise InputError(f"{path}: no TransferSyntaxUID, so its pixels cannot be decoded")
    if "PixelData" not in dataset:
        raise InputError(f"{path}: holds no pixel data")
    return dataset


def _require_gray_frame(path: str | Path, dataset: pydicom.Dataset) -> None:
    photometric = str(dataset.get("PhotometricInterpretation", ""))
    if photometric not in ("MONOCHROME1", "MONOCHROME2"):
        raise InputError(f"{path}: photometric interpretation {photometric!r}, expected "
                         "MONOCHROME1 or MONOCHROME2")
    frames = int(dataset.get("NumberOfFrames", 1) or 1)
    if frames != 1:
        raise InputError(f"{path}: {frames} frames, expected one")


def _to_gray(dataset: pydicom.Dataset, stored: NDArray) -> tuple[NDArray[np.uint8], str]:
    values = apply_modality_lut(stored, dataset)
    if "VOILUTSequence" in dataset and len(dataset.VOILUTSequence):
        shown = apply_voi_lut(values, dataset).astype(np.float32)
        gray, how = _stretch(shown, float(shown.min()), float(shown.max())), "voi lut"
    elif (window := _window(dataset)) is not None:
        centre, width = window
        # PS3.3 C.11.2.1.2.1: the LINEAR function runs from c - 0.5 - (w-1)/2 to c - 0.5 + (w-1)/2.
        middle, half = centre - 0.5, max((width - 1) / 2, 0.5)
        gray = _stretch(values, middle - half, middle + half)
        how = f"window {centre:g}/{width:g}"
    else:
        low, high = np.percentile(values[::4, ::4], PERCENTILES)
        gray, how = _stretch(values, float(low), float(high)), "percentile"
    # PS3.3 C.7.6.3.1.2: in MONOCHROME1 the smallest value is shown white. The inversion comes
    # after the window, whose bounds are given in stored values.
    inverse = str(dataset.get("PresentationLUTShape", "")) == "INVERSE"
    if dataset.PhotometricInterpretation == "MONOCHROME1" or inverse:
        gray = 255 - gray
    return gray, how


def _window(dataset: pydicom.Dataset) -> tuple[float, float] | None:
    """The first window of the file, or None where it has none that can be used."""
    centre, width = dataset.get("WindowCenter"), dataset.get("WindowWidth")
    centre = centre[0] if isinstance(centre, MultiValue) and len(centre) else centre
    width = width[0] if isinstance(width, MultiValue) and len(width) else width
    if centre in (None, "") or width in (None, "") or float(width) < 1:
        return None
    return float(centre), float(width)


def _stretch(values: NDArray, low: float, high: float) -> NDArray[np.uint8]:
    """Map low..high to 0..255 and clip."""
    span = max(high - low, 1e-6)
    if values.dtype == np.uint16:  # a table of 65,536 entries beats arithmetic on every pixel
        table = np.arange(2**16, dtype=np.float32)
        return _scaled(table, low, span)[values]
    return _scaled(values.astype(np.float32), low, span)


def _scaled(values: NDArray[np.float32], low: float, span: float) -> NDArray[np.uint8]:
    scaled = (values - np.float32(low)) * np.float32(255 / span)
    return np.clip(np.rint(scaled), 0, 255).astype(np.uint8)
