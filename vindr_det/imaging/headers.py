"""Sizes of images by the headers of their files; no pixel is decoded."""

import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any, BinaryIO

import pydicom
from pydicom.uid import DeflatedExplicitVRLittleEndian
from tqdm import tqdm

from vindr_det.exceptions import InputError
from vindr_det.files import is_dicom
from vindr_det.imaging.dicom.source import deflated_header, read_meta
from vindr_det.imaging.read import raster_size
from vindr_det.parallel import Failure, guarded, local_runner

_KEYS = ("Rows", "Columns")
# Processes take longer to start than so few headers to read.
_FEW = 500
_BAR: dict[str, Any] = {"desc": "sizes", "unit": "image", "disable": None, "leave": False}


def read_size(path: Path) -> tuple[int, int]:
    """Height and width of a DICOM, PNG or JPEG file.

    Raises:
        InputError: it is none of these, or has no size.
    """
    if not is_dicom(path):
        with path.open("rb") as file:
            width, height = raster_size(path, file, "PNG or JPEG")
        return height, width
    with warnings.catch_warnings(), path.open("rb") as file:
        warnings.simplefilter("ignore")  # values that break the rules are kept as they are
        elements = _elements(path, file)
    height, width = (int(elements.get(key, 0) or 0) for key in _KEYS)
    if min(height, width) < 1:
        raise InputError(f"{path}: has {height} Rows and {width} Columns, expected positive numbers")
    return height, width


def _elements(path: Path, file: BinaryIO) -> pydicom.Dataset:
    if read_meta(file).get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        return deflated_header(file)
    return pydicom.dcmread(path, stop_before_pixels=True, specific_tags=list(_KEYS), force=True)


def header_sizes(paths: Sequence[Path], workers: int | None = None) -> dict[Path, tuple[int, int] | Failure]:
    """Height and width of each file, or why its header cannot be read.

    Args:
        paths: the files.
        workers: processes; None takes one per core.
    """
    if len(paths) <= _FEW or workers == 1:
        return {path: guarded(read_size, path) for path in tqdm(paths, **_BAR)}
    with local_runner(workers, len(paths)) as run:
        return dict(tqdm(run(read_size, paths), total=len(paths), **_BAR))
