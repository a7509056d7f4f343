"""Stored values to 8-bit grays, as a table with one entry per value that a pixel can hold.

The steps are those of the grayscale pipeline (PS3.4 N.2): modality LUT, VOI LUT or window, presentation.
Each of them maps a pixel by its own value alone, so that a table is enough and nothing depends on the image's
maximum: the same exposure gives the same picture whatever it shows. Only where a file has no window,
percentiles of the image choose one. :mod:`vindr_det.imaging.dicom.photometric` decides whether the grays are
inverted.
"""

import math

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.multival import MultiValue

from vindr_det.imaging.dicom.photometric import is_inverted

#: Without a window the image is shown between these percentiles of its pixels.
PERCENTILES = (0.5, 99.5)

# White would be 16 of 255 grays.
_BITS_TOO_MANY = 4

Values = NDArray[np.float64]


def value_range(dataset: Dataset) -> tuple[int, int]:
    """Smallest and largest value that BitsStored and PixelRepresentation allow (PS3.3 C.7.6.3)."""
    bits = int(dataset.BitsStored)
    if int(dataset.get("PixelRepresentation", 0) or 0):
        return -(2 ** (bits - 1)), 2 ** (bits - 1) - 1
    return 0, 2**bits - 1


def gray_table(dataset: Dataset, sample: NDArray) -> tuple[NDArray[np.uint8], str]:
    """The gray of every value from the smallest of :func:`value_range` on, and the window that set it.

    Args:
        dataset: header of the image.
        sample: a small picture of the image in stored values, for the percentiles.

    Returns:
        (2 ** BitsStored,) uint8, larger is brighter, and the name of the window.
    """
    unit, window, _ = _unit(dataset, sample)
    gray = np.rint(np.clip(unit, 0, 1) * 255).astype(np.uint8)
    return (255 - gray if is_inverted(dataset) else gray), window


def percentile_range(dataset: Dataset, sample: NDArray) -> tuple[float, float] | None:
    """The values after the modality LUT that are shown black and white; None where the file chooses them.

    Args:
        dataset: as of :func:`gray_table`, like ``sample``.
        sample: likewise.
    """
    return _unit(dataset, sample)[2]


def _unit(dataset: Dataset, sample: NDArray) -> tuple[Values, str, tuple[float, float] | None]:
    """0 to 1 of every value, the name of the window, and its bounds where percentiles set it."""
    low, high = value_range(dataset)
    values = _modality_values(dataset, np.arange(low, high + 1, dtype=np.int32))
    seen = np.clip(np.rint(sample), low, high).astype(np.int64) - low
    unit, window = _shown(dataset, values)
    if unit is not None and not _shows_nothing(unit[seen]):
        return unit, window, None
    bottom, top = np.percentile(values[seen], PERCENTILES)
    return (values - bottom) / max(top - bottom, 1e-6), "percentile", (float(bottom), float(top))


def _modality_values(dataset: Dataset, stored: NDArray) -> Values:
    """C.11.1; an empty element counts as a missing one."""
    if holds_table(dataset, "ModalityLUTSequence"):
        return _look_up(dataset, dataset.ModalityLUTSequence[0], stored)
    slope, intercept = (_first(dataset.get(key)) for key in ("RescaleSlope", "RescaleIntercept"))
    return stored * (1.0 if slope is None else slope) + (intercept or 0.0)


def _shows_nothing(unit: Values) -> bool:
    """All black or all white: the window was meant for other values."""
    darkest, brightest = np.percentile(unit, (1, 99))
    return bool(brightest <= 0 or darkest >= 1)


def _shown(dataset: Dataset, values: Values) -> tuple[Values | None, str]:
    """Values to 0..1 by the file's own VOI LUT or window, None where it has none to use."""
    if holds_table(dataset, "VOILUTSequence"):
        return _voi_lut(dataset, values), "voi lut"
    window = first_window(dataset)
    if window is None:
        return None, "percentile"
    center, width = window
    function = str(dataset.get("VOILUTFunction", "") or "LINEAR").upper()
    if function == "SIGMOID":  # C.11.2.1.3.1
        unit = 1 / (1 + np.exp(np.clip(-4 * (values - center) / width, -500, 500)))
    elif function == "LINEAR_EXACT":  # C.11.2.1.3.2
        unit = (values - center) / width + 0.5
    else:  # C.11.2.1.2.1
        function = "LINEAR"
        unit = (values - (center - 0.5)) / max(width - 1, 1e-6) + 0.5
    return unit, f"{function.lower()} {center:g}/{width:g}"


def _voi_lut(dataset: Dataset, values: Values) -> Values:
    """C.11.2.1.1: the LUT's output spans the bits that its descriptor names, as DCMTK shows it."""
    item = dataset.VOILUTSequence[0]
    return _look_up(dataset, item, values) / (2.0**voi_table_bits(dataset, item) - 1)


def voi_table_bits(dataset: Dataset, item: Dataset) -> int:
    """Bits that the entries of a VOI LUT span.

    Where entries do not fit into the bits of the descriptor, or use so few of them that the picture would be
    black (a table of 12 bits that is described as one of 16), the number is taken from the entries.

    Args:
        dataset: header of the image.
        item: of its VOI LUT sequence.

    Raises:
        ValueError: as of :func:`table_entries`.
    """
    bits, top = table_descriptor(item)[2], int(table_entries(dataset, item).max())
    needed = math.log2(max(top, 1) + 1)
    if needed > bits or (needed.is_integer() and needed <= bits - _BITS_TOO_MANY):
        return math.ceil(needed)
    return bits


def holds_table(dataset: Dataset, key: str) -> bool:
    """Whether a sequence's first item has a table's descriptor and data."""
    items = dataset.get(key)
    return bool(items) and all(items[0].get(part) is not None for part in ("LUTDescriptor", "LUTData"))


def _look_up(dataset: Dataset, item: Dataset, values: NDArray) -> Values:
    """C.11.1.1: values before the first and after the last entry get that entry.

    pydicom's own functions index tables of 8 bits modulo 256 and know no Modality LUT of 12 bits.
    """
    entries, first = table_entries(dataset, item), table_descriptor(item)[1]
    index = np.clip(np.rint(values) - first, 0, len(entries) - 1).astype(np.int64)
    return entries[index].astype(np.float64)


def table_descriptor(item: Dataset) -> tuple[int, int, int]:
    """Number of entries, first value and bits per entry of a lookup table (PS3.3 C.11.1.1.1).

    Args:
        item: of its sequence.

    Raises:
        ValueError: the descriptor has other than three values.
    """
    value = item.LUTDescriptor
    if not isinstance(value, MultiValue | list | tuple) or len(value) != 3:
        raise ValueError(f"a lookup table with the descriptor {value}, expected three numbers")
    count, first, bits = map(int, value)
    return count or 2**16, first, bits


def table_entries(dataset: Dataset, item: Dataset) -> NDArray:
    """The (N,) entries of a lookup table.

    Args:
        dataset: header of the image, whose transfer syntax orders the bytes.
        item: of its sequence.

    Raises:
        ValueError: the table is cut, or has no whole descriptor.
    """
    count, _, bits = table_descriptor(item)
    data = item.LUTData
    if not isinstance(data, bytes):
        entries = np.atleast_1d(np.asarray(data, dtype=np.int64))
    elif bits <= 8 and len(data) < 2 * count:  # two entries per word (C.11.2.1.1)
        entries = np.frombuffer(data, np.uint8)
    else:
        order = "<" if dataset.file_meta.TransferSyntaxUID.is_little_endian else ">"
        entries = np.frombuffer(data, f"{order}u2")
    if len(entries) < count:
        raise ValueError(f"a lookup table of {len(entries)} entries, expected the {count} of its descriptor")
    return entries[:count]


def first_window(dataset: Dataset) -> tuple[float, float] | None:
    """The first of the file's windows (C.11.2.1.2: any may be chosen), None without a usable one."""
    center, width = (_first(dataset.get(key)) for key in ("WindowCenter", "WindowWidth"))
    if center is None or width is None or not math.isfinite(center + width):
        return None
    exact = str(dataset.get("VOILUTFunction", "") or "LINEAR").upper() != "LINEAR"
    return (center, width) if width >= 1 or (exact and width > 0) else None


def _first(value: object) -> float | None:
    value = (value[0] if len(value) else None) if isinstance(value, MultiValue) else value
    return None if value in (None, "") else float(value)  # type: ignore[arg-type]
