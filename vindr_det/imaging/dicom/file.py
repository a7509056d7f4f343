"""A DICOM file to an 8-bit gray image of the wanted size, bright where few rays passed.

Stored values are averaged first and mapped to grays last, by the table of
:mod:`vindr_det.imaging.dicom.grayscale`, so that the detector's measurements are what is averaged.
"""

import warnings
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.datadict import dictionary_has_tag, dictionary_VR
from pydicom.multival import MultiValue
from pydicom.tag import BaseTag

from vindr_det.exceptions import InputError, one_line
from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.dicom.grayscale import gray_table, percentile_range, value_range
from vindr_det.imaging.dicom.header import body_part_flags, modality_flags, pixel_spacing, spacing_flags
from vindr_det.imaging.dicom.photometric import photometric_flags, photometric_of
from vindr_det.imaging.dicom.pixels import Stored, compressed_frame, decode
from vindr_det.imaging.dicom.source import open_dataset, whole_number
from vindr_det.imaging.dicom.stream import StreamHeader
from vindr_det.imaging.resize import Target, resize_to
from vindr_det.limits import MAX_PIXELS, require_size

# The longest side of the picture that percentiles are taken from. It is the same whatever the
# image is decoded at, so that a reduced image gets the grays of the whole one.
_SAMPLE_SIDE = 256


def read_dicom(
    path: str | Path, target: Target | None = None, max_pixels: int = MAX_PIXELS,
    also: Sequence[Target] = (), content: bytes | None = None,
) -> DecodedImage:
    """Decode a single-frame grayscale DICOM file.

    Args:
        path: the file.
        target: the size to bring it to; None keeps every pixel. JPEG 2000 is decoded at the
            smallest resolution that is good for the target.
        max_pixels: larger images are refused before memory is taken for them.
        also: further sizes, each decoded as if it were the only size.
        content: the file's bytes, as of :func:`vindr_det.files.opened`.

    Raises:
        InputError: not a DICOM file, no or damaged pixel data, color, several frames, more than
            16 bits or ``max_pixels``, or pixels that contradict the header.
    """
    with warnings.catch_warnings():
        # Files in the wild break small rules (ages, UIDs); the pixels are what we came for.
        warnings.simplefilter("ignore")
        try:
            return _read_gray(path, target, max_pixels, also, content)
        except InputError:
            raise
        except Exception as error:  # values are parsed when they are asked for, so anywhere
            raise InputError(f"{path}: damaged DICOM file ({one_line(error)})") from error


def read_percentile_range(path: str | Path, max_pixels: int = MAX_PIXELS) -> tuple[float, float] | None:
    """The range that :func:`read_dicom` shows a file in; None where the file's own window or table is taken.

    Args:
        path: the file.
        max_pixels: as of :func:`read_dicom`.

    Returns:
        The values after the modality LUT that are shown black and white.

    Raises:
        InputError: as of :func:`read_dicom`.
    """
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        dataset = open_dataset(path, partial(_require_gray_frame, path, max_pixels))
        stored = decode(path, dataset, *compressed_frame(path, dataset), _sample_shape(dataset))
        padding = _padding(path, dataset, stored.values)
        return percentile_range(dataset, stored.at(_sample_shape(dataset)) if padding is None else
                                stored.values[~padding])


def _read_gray(
    path: str | Path, target: Target | None, max_pixels: int, also: Sequence[Target], content: bytes | None
) -> DecodedImage:
    dataset = open_dataset(path, partial(_require_gray_frame, path, max_pixels), content)
    stream, header = compressed_frame(path, dataset)
    flags = _flags(path, dataset, header)

    def read(target: Target | None) -> tuple[Stored, NDArray[np.uint8], str]:
        shape = target.shape(int(dataset.Rows), int(dataset.Columns)) if target is not None else None
        stored = decode(path, dataset, stream, header, shape)
        return stored, *_grays(path, dataset, stored, shape)

    stored, pixels, window = read(target)
    flags += _out_of_range(dataset, stored)
    return DecodedImage(
        pixels=pixels, height=int(dataset.Rows), width=int(dataset.Columns),
        syntax=str(dataset.file_meta.TransferSyntaxUID.name), bits=int(dataset.BitsStored),
        photometric=str(dataset.PhotometricInterpretation), window=window,
        orientation=_joined(dataset.get("PatientOrientation")),
        view=_joined(dataset.get("ViewPosition")), reduced=stored.reduced, flags=tuple(flags),
        spacing="/".join(f"{side:g}" for side in pixel_spacing(dataset) or ()),
        views={other: read(other)[1] for other in also if other != target},
    )


def _require_gray_frame(path: str | Path, max_pixels: int, dataset: Dataset) -> None:
    photometric_of(path, dataset)
    rows, columns, allocated, stored = (
        whole_number(dataset, key, 0) for key in ("Rows", "Columns", "BitsAllocated", "BitsStored"))
    if min(rows, columns) < 1:
        raise InputError(f"{path}: {rows} rows and {columns} columns, expected both above 0")
    require_size(path, rows, columns, max_pixels)
    if allocated not in (8, 16) or not 1 <= stored <= allocated:
        raise InputError(f"{path}: {stored} of {allocated} bits per pixel, expected 1 to 16 in 8 or 16")
    high = whole_number(dataset, "HighBit", stored - 1)
    if high != stored - 1:
        raise InputError(f"{path}: HighBit {high} with BitsStored {stored}, expected {stored - 1}")


def _joined(value: object) -> str:
    parts = value if isinstance(value, MultiValue) else [value] if value else []
    return "/".join(str(part) for part in parts)


def _flags(path: str | Path, dataset: Dataset, header: StreamHeader | None) -> list[str]:
    """Contradictions that leave the pixels usable.

    Raises:
        InputError: contradictions that do not.
    """
    flags = [*modality_flags(dataset), *body_part_flags(dataset), *photometric_flags(dataset),
             *spacing_flags(dataset)]
    flags += [f"element {tag} is a sequence written as UN" for tag in _unknown_sequences(dataset)]
    if header is None:
        return flags
    held = header.height, header.width, header.components
    expected = int(dataset.Rows), int(dataset.Columns), photometric_of(path, dataset).samples
    if held != expected:
        raise InputError(f"{path}: the stream holds {held[0]} rows, {held[1]} columns and {held[2]} "
                         f"channels, the header says {expected[0]}, {expected[1]} and {expected[2]}")
    signed = bool(dataset.get("PixelRepresentation", 0))
    if header.signed is not None and header.signed != signed:
        raise InputError(f"{path}: the stream's samples are {_sign(header.signed)}, the header says "
                         f"{_sign(signed)}, so the values cannot be trusted")
    return flags


def _out_of_range(dataset: Dataset, stored: Stored) -> list[str]:
    """Values beyond BitsStored; streams often have more bits, unused (VinBigData's 16 instead of 12)."""
    low, high = value_range(dataset)
    # The 5/3 low-pass overshoots an edge, in both directions; averages over its samples do so less.
    slack = (high - low) / 4 if stored.reduced else 0
    values = stored.at(_sample_shape(dataset)) if stored.reduced else stored.values
    share = np.count_nonzero((values < low - slack) | (values > high + slack)) / values.size
    return [f"{share:.1%} of the values do not fit into BitsStored {dataset.BitsStored}"] if share else []


def _sample_shape(dataset: Dataset) -> tuple[int, int]:
    return Target(_SAMPLE_SIDE, True).shape(int(dataset.Rows), int(dataset.Columns))


def _unknown_sequences(dataset: Dataset) -> list[BaseTag]:
    """Sequences whose type some archive lost; they are not read."""
    elements = (dataset.get_item(tag, keep_deferred=True)
                for tag in dataset.keys())  # noqa: SIM118 - keeps them raw
    unknown = [e.tag for e in elements if e is not None and e.VR == "UN" and not e.tag.is_private]
    return [tag for tag in unknown if dictionary_has_tag(tag) and dictionary_VR(tag) == "SQ"]


def _sign(signed: bool) -> str:
    return "signed" if signed else "unsigned"


def _grays(
    path: str | Path, dataset: Dataset, stored: Stored, shape: tuple[int, int] | None
) -> tuple[NDArray[np.uint8], str]:
    low, high = value_range(dataset)
    shape = shape or (int(dataset.Rows), int(dataset.Columns))
    padding = _padding(path, dataset, stored.values)
    sample = stored.at(_sample_shape(dataset)) if padding is None else stored.values[~padding]
    table, window = gray_table(dataset, sample)
    values = stored.at(shape) if padding is None else stored.values
    if values.dtype.kind == "f":
        values = np.rint(values).astype(np.int32)
    gray = table[np.clip(values, low, high).astype(np.int32) - low]
    if padding is not None:
        gray[padding] = 0
        gray = resize_to(gray, shape)
    return gray, window


def _padding(path: str | Path, dataset: Dataset, stored: NDArray) -> NDArray[np.bool_] | None:
    """Where nothing was measured (PS3.3 C.7.5.1.1.2), shown black; None where the file has none."""
    value = dataset.get("PixelPaddingValue")
    if value is None:
        return None
    limit = dataset.get("PixelPaddingRangeLimit")
    first, last = sorted((int(value), int(limit if limit is not None else value)))
    mask = (stored >= first) & (stored <= last)
    if mask.all():
        raise InputError(f"{path}: every pixel is padding ({first} to {last})")
    return mask if mask.any() else None
