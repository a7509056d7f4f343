"""Distances between pixels, where a file has them."""

import math

from pydicom import Dataset
from pydicom.multival import MultiValue

# On the patient, on the detector, on the film (PS3.3 10.7, C.8.11.3, C.8.6.1).
_SPACINGS = ("PixelSpacing", "ImagerPixelSpacing", "NominalScannedPixelSpacing")
# Sides that differ by less are rounding.
_TOLERANCE = 0.01


def pixel_spacing(dataset: Dataset) -> tuple[float, float] | None:
    """Millimeters between rows and between columns, None where the file has neither."""
    pairs = (_pair(dataset, key) for key in _SPACINGS)
    return next((pair for pair in pairs if pair is not None), None)


def spacing_flags(dataset: Dataset) -> list[str]:
    """A flag per element by which pixels are not square; the picture is never stretched to correct it."""
    pairs = ((key, _pair(dataset, key)) for key in (*_SPACINGS, "PixelAspectRatio"))
    return [f"pixels are not square: {key} {pair[0]:g}/{pair[1]:g}" for key, pair in pairs
            if pair is not None and abs(pair[0] / pair[1] - 1) > _TOLERANCE]


def _pair(dataset: Dataset, key: str) -> tuple[float, float] | None:
    """Vertical and horizontal, where both are numbers above 0."""
    value = dataset.get(key)
    if not isinstance(value, MultiValue) or len(value) != 2:
        return None
    try:
        vertical, horizontal = float(value[0]), float(value[1])
    except (TypeError, ValueError):
        return None
    usable = min(vertical, horizontal) > 0 and math.isfinite(vertical + horizontal)
    return (vertical, horizontal) if usable else None
