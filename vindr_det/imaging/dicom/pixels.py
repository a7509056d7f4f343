"""The pixels of a DICOM file as stored values, decoded at the resolution that the target needs."""

from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray
from pydicom import Dataset
from pydicom.encaps import generate_frames
from pydicom.uid import (
    JPEG2000TransferSyntaxes,
    JPEGLSTransferSyntaxes,
    JPEGTransferSyntaxes,
    RLELossless,
)

from vindr_det.exceptions import InputError, one_line
from vindr_det.imaging.dicom import jpeg2000
from vindr_det.imaging.dicom.photometric import decoded_shape, one_sample
from vindr_det.imaging.dicom.stream import StreamHeader, held_tiles, read_header
from vindr_det.imaging.dicom.whole import require_end, require_whole
from vindr_det.imaging.resize import resize_to

# The decoder takes 6 KB for each tile of a JPEG 2000 stream, whatever the tile holds.
_MOST_TILES = 4096
#: BitsStored is at most 16.
_OPENCV_INTEGERS = (np.uint8, np.uint16, np.int16)


@dataclass(frozen=True)
class Stored:
    """Decoded values.

    Attributes:
        values: (H, W) stored values, or the wavelet's low-pass samples where ``reduced``.
        header: of the stream; None where it has none.
        reduced: how often the sides were halved.
    """

    values: NDArray
    header: StreamHeader | None = None
    reduced: int = 0

    def at(self, shape: tuple[int, int]) -> NDArray:
        """Averages over ``shape`` (rows, columns) equal cells of the original."""
        if self.header is None or not self.reduced:
            return resize_to(self.values, shape)
        return jpeg2000.cell_averages(self.values, self.header, self.reduced, shape)


def compressed_frame(path: str | Path, dataset: Dataset) -> tuple[bytes, StreamHeader | None]:
    """The compressed frame and its own header; no header where the syntax has none.

    Raises:
        InputError: a header that cannot be read, so that the decoder's memory could not be bounded.
    """
    syntax = dataset.file_meta.TransferSyntaxUID
    if not syntax.is_encapsulated:
        return b"", None
    try:
        stream = next(generate_frames(dataset.PixelData, number_of_frames=1))
    except Exception as error:  # pydicom raises what it happens to meet
        raise InputError(f"{path}: pixel data cannot be decoded ({one_line(error)})") from error
    header = read_header(stream)
    if header is None and syntax != RLELossless:
        raise InputError(f"{path}: pixel data cannot be decoded (no header of {syntax.name})")
    if header is not None and header.tiles > _MOST_TILES:
        raise InputError(f"{path}: {header.tiles} tiles, expected at most {_MOST_TILES}")
    if header is not None:
        require_end(path, stream)
    if header is not None and header.tiles > 1 and (held := held_tiles(stream)) < header.tiles:
        raise InputError(f"{path}: the stream holds {held} of its {header.tiles} tiles")
    return stream, header


def decode(
    path: str | Path, dataset: Dataset, stream: bytes, header: StreamHeader | None,
    shape: tuple[int, int] | None,
) -> Stored:
    """Decode at the smallest resolution that is good for ``shape``; None takes every pixel.

    Raises:
        InputError: damaged, or its values overflow.
    """
    times = (jpeg2000.choose_reduction(header, shape)
             if shape is not None and header is not None and _can_be_reduced(dataset) else 0)
    if header is not None and times:
        try:
            return Stored(jpeg2000.low_pass(stream, header, times), header, times)
        except (OSError, ValueError, SyntaxError):
            pass  # fewer levels in some tile, or damage: decoding the whole stream shows which
    if dataset.file_meta.TransferSyntaxUID in JPEGLSTransferSyntaxes:
        dataset.pixel_array_options(decoding_plugin="pyjpegls")  # the others fill what is missing
    try:
        stored = dataset.pixel_array
    except Exception as error:  # decoders raise whatever their C library reports
        raise InputError(f"{path}: pixel data cannot be decoded ({one_line(error)})") from error
    if stored.shape != decoded_shape(dataset):
        raise InputError(f"{path}: pixels have shape {stored.shape}, expected {decoded_shape(dataset)}")
    if header is not None and header.predictive:
        _refuse_overflow(path, stored, int(dataset.BitsStored))
    if header is not None and dataset.file_meta.TransferSyntaxUID in JPEGTransferSyntaxes:
        require_whole(path, stream, header, stored)
    return Stored(_for_opencv(one_sample(stored, dataset)))


def _for_opencv(stored: NDArray) -> NDArray:
    """OpenCV takes every array for native byte order, and resizes integers of these types alone."""
    dtype = stored.dtype.newbyteorder("=")
    if dtype.kind in "iu" and dtype not in _OPENCV_INTEGERS:  # int8, or numpy's default of 64 bits
        is_large = stored.max(initial=0) > np.iinfo(np.int16).max
        dtype = np.dtype(np.uint16 if is_large else np.int16)
    return stored.astype(dtype, copy=False)


def _can_be_reduced(dataset: Dataset) -> bool:
    # Padding must be found before anything is averaged with it.
    return (dataset.file_meta.TransferSyntaxUID in JPEG2000TransferSyntaxes
            and "PixelPaddingValue" not in dataset)


def _refuse_overflow(path: str | Path, stored: NDArray, bits: int) -> None:
    """A decoder that disagrees with the encoder leaves stripes, where sums of differences overflow.

    Radiographs jump by a quarter of their range beside letters and shutters, at .02 to .11 % of
    their pixels in the files measured; an overflowing stream did at 17 %.
    """
    rows = stored[:: max(1, stored.shape[0] // 64)].astype(np.int32)
    jumps = np.abs(np.diff(rows, axis=1)) > 2**bits / 4
    if jumps.size and jumps.mean() > 0.05:
        raise InputError(f"{path}: neighboring pixels jump by over a quarter of the range at "
                         f"{jumps.mean():.0%} of the image: its values have overflowed")
