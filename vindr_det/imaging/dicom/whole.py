"""A check that a compressed frame holds the whole picture.

JPEG decoders fill in missing data and continue after data that they cannot read, most of them without a
warning. JPEG-LS is therefore decoded by CharLS, which refuses them, and JPEG of 8 bits is read a second time
by libjpeg-turbo with its warnings as errors (:mod:`vindr_det.imaging.jpeg`). For the other kinds of JPEG no
strict decoder can be had, so the decoder itself is tested: a whole picture does not depend on what
follows its data, and does depend on their last bytes.

A changed byte that leaves the stream valid, and damage before a restart marker, cannot be detected.
"""

from pathlib import Path

import libjpeg
import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.imaging.dicom.stream import StreamHeader, codestream, restart_interval, scan_start
from vindr_det.imaging.jpeg import require_whole_jpeg

_END = b"\xff\xd9"  # EOI of JPEG and JPEG-LS (T.81 B.1.1.3), EOC of JPEG 2000 (T.800 A.4.4)
_RESTART = 0xD0
_DNL = 0xDC
# Neither the zeros nor the ones that decoders make up where data end.
_OTHER = b"\x5a\xa5\x36\xc9"
# More than an encoder pads its data with.
_LAST_BYTES = 8


def require_end(path: str | Path, stream: bytes) -> None:
    """Refuse a frame without the marker that ends it; bytes that pad it may follow (PS3.5 A.4).

    Raises:
        InputError: there is none.
    """
    if not _unpadded(codestream(stream)).endswith(_END):
        raise InputError(f"{path}: the stream has no end-of-image marker, so a part of it is missing")


def require_whole(path: str | Path, stream: bytes, header: StreamHeader, stored: NDArray) -> None:
    """Refuse a JPEG frame of one channel whose data end before or after the picture does.

    Args:
        path: of the file.
        stream: the frame.
        header: of the stream.
        stored: what it was decoded to.

    Raises:
        InputError: markers out of sequence, data missing or left over.
    """
    if header.precision == 8 and not header.predictive:
        require_whole_jpeg(path, stream)
    else:
        _require_consumed(path, _unpadded(stream)[: -len(_END)], header, _unsigned(stored))


def _require_consumed(path: str | Path, data: bytes, header: StreamHeader, stored: NDArray) -> None:
    _require_restarts(path, data[scan_start(data):], _restarts(header, restart_interval(data)))
    longer = _decoded(data + _OTHER * 64 + _END)
    if not np.array_equal(longer, stored):  # which pydicom may have brought to another type
        stored = _decoded(data + _END)
    if not longer.size or not np.array_equal(longer, stored):
        raise InputError(f"{path}: the stream ends before the picture does: a part of it is missing")
    last = bytes(byte ^ 0x55 for byte in data[-_LAST_BYTES:]).replace(b"\xff", b"\xfe")
    if np.array_equal(_decoded(data[:-_LAST_BYTES] + last + _END), stored):
        raise InputError(f"{path}: the picture ends before the stream does: a part of it is damaged")


def _unsigned(stored: NDArray) -> NDArray:
    return stored.view(f"u{stored.itemsize}")


def _decoded(stream: bytes) -> NDArray:
    """Decoded values; empty where the decoder failed."""
    try:
        return libjpeg.decode(stream)
    except RuntimeError:
        return np.empty(0)


def _unpadded(stream: bytes) -> bytes:
    return stream.rstrip(b"\x00\xff")


def _restarts(header: StreamHeader, interval: int) -> int:
    """How many restart markers a scan of one channel has: its units are samples, or blocks of 8 x 8."""
    side = 1 if header.predictive else 8
    units = -(-header.height // side) * -(-header.width // side)
    return -(-units // interval) - 1 if interval else 0


def _require_restarts(path: str | Path, scan: bytes, expected: int) -> None:
    """Restart markers count from 0 to 7 and again (T.81 E.1.4); no others stand between the data."""
    values = np.frombuffer(scan, np.uint8)
    after = values[1:][values[:-1] == 0xFF]
    markers = after[(after != 0) & (after != 0xFF) & (after != _DNL)]
    if not np.array_equal(markers, _RESTART + np.arange(expected) % 8):
        raise InputError(f"{path}: {len(markers)} markers between the coded pixels, expected {expected} "
                         "restart markers in sequence: a part of the picture is missing or damaged")
