"""What a compressed pixel stream says of itself, read from its first markers.

The header of the DICOM file and the stream inside it are written by different programs. Where
they disagree the values mean something else than the header says, so both are compared.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

# JPEG and JPEG-LS: start-of-frame markers (ITU-T T.81 table B.1, T.87 annex C).
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_SIZ, _COD, _SOT, _SOS = 0x51, 0x52, 0x90, 0xDA


@dataclass(frozen=True)
class StreamHeader:
    """The head of a JPEG, JPEG-LS or JPEG 2000 stream.

    Attributes:
        height: rows.
        width: columns.
        components: colour channels.
        precision: bits a sample.
        signed: JPEG 2000 only; None where the format cannot say.
        levels: wavelet decompositions of a JPEG 2000 stream, so that ``levels + 1`` resolutions
            are in it; 0 for every other.
    """

    height: int
    width: int
    components: int
    precision: int
    signed: bool | None = None
    levels: int = 0


def read_header(stream: bytes) -> StreamHeader | None:
    """The header of a stream, or None where the stream is of another kind or damaged."""
    try:
        if stream[:4] == b"\xff\x4f\xff\x51":
            return _jpeg2000(stream)
        return _jpeg(stream) if stream[:2] == b"\xff\xd8" else None
    except (struct.error, IndexError):
        return None


def _segments(stream: bytes) -> Iterator[tuple[int, bytes]]:
    """Marker and content of the segments before the pixels."""
    position = 2
    while position + 4 <= len(stream) and stream[position] == 0xFF:
        marker = stream[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack_from(">H", stream, position + 2)
        yield marker, stream[position + 4 : position + 2 + length]
        if marker in (_SOT, _SOS):
            return
        position += 2 + max(length, 2)


def _jpeg(stream: bytes) -> StreamHeader | None:
    for marker, body in _segments(stream):
        if marker in _FRAMES:
            precision, height, width, components = struct.unpack_from(">BHHB", body)
            return StreamHeader(height, width, components, precision)
    return None


def _jpeg2000(stream: bytes) -> StreamHeader | None:
    """ITU-T T.800 annex A.5.1 (SIZ) and A.6.1 (COD)."""
    segments = dict(_segments(stream))
    if _SIZ not in segments or _COD not in segments:
        return None
    _, x1, y1, x0, y0 = struct.unpack_from(">HIIII", segments[_SIZ])
    components, depth = struct.unpack_from(">HB", segments[_SIZ], 34)
    # A stream that does not begin at the grid's origin has its low-pass samples elsewhere.
    levels = segments[_COD][5] if x0 == y0 == 0 else 0
    return StreamHeader(
        height=y1 - y0, width=x1 - x0, components=components, precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80), levels=levels)
