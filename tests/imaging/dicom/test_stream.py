import struct

import numpy as np
import pydicom
import pytest
from dicom_samples import write
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless

from vindr_det.imaging.dicom.stream import StreamHeader, read_header


def stream_of(path):
    return next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))


@pytest.mark.parametrize("bits, dtype", [(12, np.uint16), (16, np.uint16), (12, np.int16)])
def test_jpeg2000(tmp_path, bits, dtype):
    pixels = np.tile(np.arange(100, dtype=dtype), (70, 1))
    stream = stream_of(write(tmp_path / "a.dcm", pixels, bits=bits, syntax=JPEG2000Lossless))
    assert read_header(stream) == StreamHeader(70, 100, 1, bits, dtype == np.int16, 5)


@pytest.mark.parametrize("stream, expected", [
    (b"", None),
    (b"\xff\x4f\xff\x51", None),
    (b"\xff\xd8\xff\xda\x00\x02", None),
    (b"anything else", None),
    # SOI, an application segment, a lossless frame of 12 bits, 3 rows, 5 columns, 1 channel.
    (b"\xff\xd8\xff\xe0\x00\x04ab\xff\xc3\x00\x0b\x0c\x00\x03\x00\x05\x01\x01\x11\x00",
     StreamHeader(3, 5, 1, 12, predictive=True)),
])
def test_other_streams(stream, expected):
    assert read_header(stream) == expected


@pytest.mark.parametrize("name, expected", [
    ("ok/RG1_J2KI.dcm", StreamHeader(1955, 1841, 1, 15, False, 5, reversible=False)),
    ("ok/RG2_JLSN.dcm", StreamHeader(2140, 1760, 1, 10, predictive=True)),
    ("ok/RG2_JPLY_fixed.dcm", StreamHeader(2140, 1760, 1, 12)),
    ("ok/HTJ2K_08_RGB.dcm", StreamHeader(480, 640, 3, 8, False, 5, reversible=False)),
])
def test_real_streams(data, name, expected):
    assert read_header(stream_of(data / "dicom_cases" / name)) == expected


def box(kind: bytes, content: bytes, long: bool = False) -> bytes:
    size = len(content) + (16 if long else 8)
    head = struct.pack(">I4sQ", 1, kind, size) if long else struct.pack(">I4s", size, kind)
    return head + content


@pytest.mark.parametrize("long", [False, True])
def test_a_head_within_another_box_of_a_jp2_file_is_not_the_stream_s(tmp_path, long):
    """What a UUID box holds is anybody's (T.800 I.7.2); a small size there must not pass the limit."""
    stream = stream_of(write(tmp_path / "a.dcm", np.zeros((70, 100), np.uint16), syntax=JPEG2000Lossless))
    other = stream_of(write(tmp_path / "b.dcm", np.zeros((64, 64), np.uint16), syntax=JPEG2000Lossless))
    jp2 = box(b"jP  ", b"\r\n\x87\n") + box(b"uuid", bytes(16) + other) + box(b"jp2c", stream, long)
    assert read_header(jp2) == read_header(stream)
    assert read_header(jp2 + box(b"uuid", bytes(40))) == read_header(stream)
    assert read_header(box(b"jP  ", b"\r\n\x87\n") + box(b"uuid", other)) is None
