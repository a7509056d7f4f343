"""What the stored values of a photometric interpretation mean (PS3.3 C.7.6.3.1.2).

The only module that decides which interpretations are read, how many samples a pixel has, how these become a
gray value, and whether the largest value is shown black. A further interpretation, such as RGB or PALETTE
COLOR, is an entry of :data:`PHOTOMETRICS`.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path

from numpy.typing import NDArray
from pydicom import Dataset

from vindr_det.exceptions import InputError
from vindr_det.imaging.dicom.source import whole_number


@dataclass(frozen=True)
class Photometric:
    """A photometric interpretation.

    Attributes:
        inverted: whether the largest value is shown black.
        samples: per pixel.
        to_gray: decoded values (rows, columns), or (rows, columns, samples), to (rows, columns) integers that
            fit into BitsStored; None where they are that already.
    """

    inverted: bool = False
    samples: int = 1
    to_gray: Callable[[NDArray, Dataset], NDArray] | None = None


PHOTOMETRICS: Mapping[str, Photometric] = {
    "MONOCHROME1": Photometric(inverted=True),
    "MONOCHROME2": Photometric(),
}


def photometric_of(path: str | Path, dataset: Dataset) -> Photometric:
    """The file's photometric interpretation.

    Raises:
        InputError: it is not read, or the header has another number of samples or frames.
    """
    name = str(dataset.get("PhotometricInterpretation", "") or "")
    if name not in PHOTOMETRICS:
        raise InputError(f"{path}: photometric interpretation {name!r}, expected {' or '.join(PHOTOMETRICS)}")
    photometric = PHOTOMETRICS[name]
    frames, samples = (whole_number(dataset, key, 1) for key in ("NumberOfFrames", "SamplesPerPixel"))
    if (frames, samples) != (1, photometric.samples):
        raise InputError(f"{path}: {frames} frames of {samples} samples per pixel, expected 1 of "
                         f"{photometric.samples}")
    return photometric


def decoded_shape(dataset: Dataset) -> tuple[int, ...]:
    """The shape of decoded pixels: (rows, columns), with an axis of samples where a pixel has several."""
    samples = whole_number(dataset, "SamplesPerPixel", 1)
    return (int(dataset.Rows), int(dataset.Columns), *([samples] if samples > 1 else []))


def one_sample(pixels: NDArray, dataset: Dataset) -> NDArray:
    """Decoded pixels as (rows, columns), one value per pixel."""
    to_gray = PHOTOMETRICS[dataset.PhotometricInterpretation].to_gray
    return pixels if to_gray is None else to_gray(pixels, dataset)


def is_inverted(dataset: Dataset) -> bool:
    """Whether the largest value is shown black.

    In MONOCHROME1 it is, and PresentationLUTShape INVERSE has the same meaning (C.11.6.1.2), so both together
    invert once. The inversion comes after the window, whose bounds are values before it.
    """
    return PHOTOMETRICS[dataset.PhotometricInterpretation].inverted or _shape_inverts(dataset)


def photometric_flags(dataset: Dataset) -> list[str]:
    """A presentation that contradicts the interpretation."""
    name = dataset.PhotometricInterpretation
    contradicts = _shape_inverts(dataset) and not PHOTOMETRICS[name].inverted
    return [f"{name} with PresentationLUTShape INVERSE"] if contradicts else []


def _shape_inverts(dataset: Dataset) -> bool:
    return str(dataset.get("PresentationLUTShape", "") or "") == "INVERSE"
