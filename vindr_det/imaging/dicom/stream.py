"""The header of a compressed pixel stream, read from its first markers.

The DICOM header and the stream are written by different programs. Where they disagree, the DICOM header does
not describe the values, so both are compared.
"""

import struct
from collections.abc import Iterator
from dataclasses import dataclass

# JPEG and JPEG-LS: start-of-frame markers (ITU-T T.81 table B.1, T.87 annex C).
_FRAMES = frozenset({*range(0xC0, 0xD0), 0xF7} - {0xC4, 0xC8, 0xCC})
_SIZ, _COD, _SOT, _SOS, _DRI = 0x51, 0x52, 0x90, 0xDA, 0xDD
# Lossless JPEG and JPEG-LS add differences to neighbors, modulo the range (T.81 H.1.2.1, T.87 A.4.5).
_PREDICTIVE = (0xC3, 0xF7)
_CODESTREAM = b"\xff\x4f\xff\x51"


@dataclass(frozen=True)
class StreamHeader:
    """The head of a JPEG, JPEG-LS or JPEG 2000 stream.

    Attributes:
        height: rows.
        width: columns.
        components: color channels.
        precision: bits per sample.
        signed: JPEG 2000 only; None where the format has no such field.
        levels: wavelet decompositions of a JPEG 2000 stream, so that ``levels + 1`` resolutions
            are in it; 0 for every other.
        reversible: whether a JPEG 2000 stream's wavelet is the 5/3 of integers (T.800 annex F).
        tiles: of a JPEG 2000 stream, 1 for every other.
        predictive: values are sums of coded differences, which overflow after a wrong one.
    """

    height: int
    width: int
    components: int
    precision: int
    signed: bool | None = None
    levels: int = 0
    reversible: bool = True
    tiles: int = 1
    predictive: bool = False


def read_header(stream: bytes) -> StreamHeader | None:
    """The header of a stream, or None where the stream is of another kind or damaged."""
    try:
        stream = codestream(stream)
        if stream[:4] == _CODESTREAM:
            return _jpeg2000(stream)
        return _jpeg(stream) if stream[:2] == b"\xff\xd8" else None
    except (struct.error, IndexError, ValueError, ZeroDivisionError):
        return None


def held_tiles(stream: bytes) -> int:
    """How many of its tiles a JPEG 2000 stream holds; decoders leave the others blank (T.800 A.4.2)."""
    stream = codestream(stream)
    position = next((at for marker, at, _ in _segments(stream) if marker == _SOT), len(stream))
    tiles = set()
    while stream[position : position + 2] == b"\xff\x90" and position + 12 <= len(stream):
        tile, length = struct.unpack_from(">HI", stream, position + 4)
        tiles.add(tile)
        position = position + max(length, 12) if length else len(stream)  # 0: to the end
    return len(tiles)


def codestream(stream: bytes) -> bytes:
    """Without the boxes of a JP2 file (T.800 annex I), which some archives put in place of its stream.

    Raises:
        ValueError: a JP2 file that holds no stream.
    """
    if stream[4:8] != b"jP  ":
        return stream
    position = 0
    while position + 8 <= len(stream):
        length, kind = struct.unpack_from(">I4s", stream, position)
        head = 16 if length == 1 else 8
        if length == 1:
            (length,) = struct.unpack_from(">Q", stream, position + 8)
        end = position + length if length else len(stream)
        if kind == b"jp2c":
            return stream[position + head : end]
        position = max(end, position + head)
    raise ValueError("no codestream")


def scan_start(stream: bytes) -> int:
    """Where the coded pixels of a JPEG stream begin: behind the header of its first scan."""
    at, body = next((at, body) for marker, at, body in _segments(stream) if marker == _SOS)
    return at + 4 + len(body)


def restart_interval(stream: bytes) -> int:
    """Units between two restart markers of a JPEG stream (T.81 B.2.4.4); 0 where it has none."""
    intervals = [struct.unpack_from(">H", body)[0] for marker, _, body in _segments(stream) if marker == _DRI]
    return intervals[-1] if intervals else 0


def _segments(stream: bytes) -> Iterator[tuple[int, int, bytes]]:
    """Marker, position and content of the segments before the pixels."""
    position = 2
    while position + 4 <= len(stream) and stream[position] == 0xFF:
        marker = stream[position + 1]
        if marker == 0xFF:  # fill byte
            position += 1
            continue
        (length,) = struct.unpack_from(">H", stream, position + 2)
        yield marker, position, stream[position + 4 : position + 2 + length]
        if marker in (_SOT, _SOS):
            return
        position += 2 + max(length, 2)


def _jpeg(stream: bytes) -> StreamHeader | None:
    for marker, _, body in _segments(stream):
        if marker in _FRAMES:
            precision, height, width, components = struct.unpack_from(">BHHB", body)
            return StreamHeader(height, width, components, precision, predictive=marker in _PREDICTIVE)
    return None


def _jpeg2000(stream: bytes) -> StreamHeader | None:
    """ITU-T T.800 annex A.5.1 (SIZ) and A.6.1 (COD)."""
    segments = {marker: body for marker, _, body in _segments(stream)}
    if _SIZ not in segments or _COD not in segments:
        return None
    _, x1, y1, x0, y0, tile_width, tile_height, tile_x0, tile_y0 = struct.unpack_from(
        ">HIIIIIIII", segments[_SIZ])
    components, depth = struct.unpack_from(">HB", segments[_SIZ], 34)
    # A stream that does not begin at the grid's origin has its low-pass samples elsewhere.
    levels = segments[_COD][5] if x0 == y0 == 0 else 0
    return StreamHeader(
        height=y1 - y0, width=x1 - x0, components=components, precision=(depth & 0x7F) + 1,
        signed=bool(depth & 0x80), levels=levels, reversible=segments[_COD][9] == 1,
        tiles=-(-(x1 - tile_x0) // tile_width) * -(-(y1 - tile_y0) // tile_height))
