"""A DICOM file's elements, with nothing large in memory before its header was checked.

Large elements stay in the file until they are asked for; a deflated file is inflated up to its
pixels, and then only as far as its header accounts for.
"""

import io
import warnings
import zlib
from collections.abc import Callable
from pathlib import Path
from typing import BinaryIO

import pydicom
from pydicom import Dataset
from pydicom.dataelem import RawDataElement
from pydicom.dataset import FileDataset, FileMetaDataset
from pydicom.errors import InvalidDicomError
from pydicom.filereader import read_dataset, read_preamble
from pydicom.tag import BaseTag
from pydicom.uid import (
    UID,
    DeflatedExplicitVRLittleEndian,
    ExplicitVRLittleEndian,
    ImplicitVRLittleEndian,
)

from vindr_det.exceptions import InputError
from vindr_det.files import is_first_element, opened
from vindr_det.limits import byte_limit, require_bytes

# Longer elements are left in the file until somebody asks for them.
_DEFERRED_BYTES = 2**16
# A deflated header is inflated up to here; what lies beyond it is not looked for.
_HEADER_BYTES = 2**24
_PIXELS = BaseTag(0x7FE00010)
_FLOAT_PIXELS = ("FloatPixelData", "DoubleFloatPixelData")
_UNDEFINED_LENGTH = 0xFFFFFFFF


def open_dataset(
    path: str | Path, check: Callable[[Dataset], None], content: bytes | None = None
) -> Dataset:
    """Read the elements of a file; its pixels wait in the file.

    Args:
        path: the file.
        check: refuses a header by an InputError before anything is done about its pixels.
        content: the file's bytes, as of :func:`vindr_det.files.opened`.

    Raises:
        InputError: not a DICOM file, no transfer syntax, no integer pixel data, or more of it than
            the header accounts for.
    """
    path = Path(path)
    with opened(path, content) as file:
        size = file.seek(0, io.SEEK_END)
        file.seek(0)
        try:
            dataset = _read(path, file, size, check)
        except InvalidDicomError as error:
            raise InputError(f"{path}: not a DICOM file") from error
        except UserWarning as error:
            raise InputError(f"{path}: the file is cut ({str(error).split(' in file ')[0]})") from error
    if "TransferSyntaxUID" not in dataset.file_meta:
        raise InputError(f"{path}: no TransferSyntaxUID, so its pixels cannot be decoded")
    check(dataset)
    _require_pixels(path, dataset, size)
    return dataset


def whole_number(dataset: Dataset, key: str, default: int) -> int:
    """An element's integer; ``default`` where it is missing, empty or 0."""
    return int(dataset.get(key, default) or default)


def _read(path: Path, file: BinaryIO, size: int, check: Callable[[Dataset], None]) -> FileDataset:
    meta = read_meta(file)
    if meta.get("TransferSyntaxUID") == DeflatedExplicitVRLittleEndian:
        inflated = _inflated(path, file.read(), check)
        elements = read_dataset(io.BytesIO(inflated), False, True)
        _require_uncut(path, elements, len(inflated))
        return FileDataset(io.BytesIO(), elements, file_meta=meta, is_implicit_VR=False)
    file.seek(0)
    with warnings.catch_warnings():
        # Where an element ends after its file, pydicom warns and gives none at all.
        warnings.filterwarnings("error", "(End of file reached|Unexpected end of file)", UserWarning)
        deferred = None if isinstance(file, io.BytesIO) else _DEFERRED_BYTES  # which is in memory already
        dataset = pydicom.dcmread(file, defer_size=deferred, force=_starts_without_preamble(file))
    _require_uncut(path, dataset, size)
    if not meta:
        dataset.file_meta.TransferSyntaxUID = _native(dataset)
    return dataset


def read_meta(file: BinaryIO) -> FileMetaDataset:
    """The elements of group 2, none where an old file has none; ``file`` is then positioned after them."""
    read_preamble(file, _starts_without_preamble(file))
    return FileMetaDataset(read_dataset(file, False, True, stop_when=_after_meta))


def deflated_header(file: BinaryIO) -> Dataset:
    """The elements before the pixels of a deflated file that is positioned after its group 2.

    Raises:
        zlib.error: damaged.
    """
    elements = zlib.decompressobj(-zlib.MAX_WBITS).decompress(file.read(_HEADER_BYTES), _HEADER_BYTES)
    return read_dataset(io.BytesIO(elements), False, True, stop_when=_at_pixels)


def _native(dataset: FileDataset) -> UID:
    """Without group 2 the default syntax (PS3.5 10.1), or the one with types where these are found."""
    implicit, _ = dataset.original_encoding
    return ImplicitVRLittleEndian if implicit else ExplicitVRLittleEndian


def _require_uncut(path: Path, dataset: Dataset, held: int) -> None:
    """No element up to the pixels ends after the ``held`` bytes; what follows these may be missing."""
    elements = (dataset.get_item(tag, keep_deferred=True)
                for tag in dataset.keys() if tag <= _PIXELS)  # noqa: SIM118 - keeps them raw
    ends = [e.value_tell + e.length for e in elements
            if isinstance(e, RawDataElement) and e.length != _UNDEFINED_LENGTH]
    if max(ends, default=0) > held:
        raise InputError(f"{path}: the file is cut (it ends at byte {held:,}, an element of it at "
                         f"{max(ends):,})")


def _starts_without_preamble(file: BinaryIO) -> bool:
    """Old files begin with their first element instead of the 128 bytes of PS3.10 7.1."""
    start = file.read(132)
    file.seek(0)
    return start[128:] != b"DICM" and is_first_element(start[:8])


def _after_meta(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group != 2


def _at_pixels(tag: BaseTag, vr: str | None, length: int) -> bool:
    return tag.group >= _PIXELS.group


def _inflated(path: Path, data: bytes, check: Callable[[Dataset], None]) -> bytes:
    """The elements of a deflated file (PS3.5 A.5), no more of them than its header accounts for."""
    inflater = zlib.decompressobj(-zlib.MAX_WBITS)
    elements = inflater.decompress(data, _HEADER_BYTES)
    header = read_dataset(io.BytesIO(elements), False, True, stop_when=_at_pixels)
    check(header)
    pixels = _decoded_bytes(header)
    elements += inflater.decompress(inflater.unconsumed_tail, byte_limit(pixels))
    if inflater.unconsumed_tail:
        require_bytes(path, len(elements), pixels)
    return elements


def _decoded_bytes(dataset: Dataset) -> int:
    rows, columns, bits = (
        whole_number(dataset, key, 0) for key in ("Rows", "Columns", "BitsAllocated"))
    return rows * columns * whole_number(dataset, "SamplesPerPixel", 1) * bits // 8


def _require_pixels(path: Path, dataset: Dataset, size: int) -> None:
    element = dataset.get_item(_PIXELS, keep_deferred=True)
    floats = [key for key in _FLOAT_PIXELS if key in dataset]
    if element is None and floats:
        raise InputError(f"{path}: its pixels are floating-point numbers ({floats[0]}), expected "
                         "integers (PixelData)")
    if not isinstance(element, RawDataElement) or not element.length:
        raise InputError(f"{path}: holds no pixel data")
    length = element.length
    if length == _UNDEFINED_LENGTH:
        length = len(element.value) if element.value else size - element.value_tell
    require_bytes(path, length, _decoded_bytes(dataset))
