"""Files that claim more than they hold are refused from their headers, at once and in little memory."""

import json
import struct
import subprocess
import sys
import zlib

import numpy as np
import pydicom
import pytest
from conftest import ROOT
from dicom_samples import RAMP, write
from pydicom.encaps import encapsulate
from pydicom.uid import DeflatedExplicitVRLittleEndian, JPEG2000Lossless, JPEGBaseline8Bit, RLELossless

from vindr_det.exceptions import InputError
from vindr_det.imaging.read import read_image
from vindr_det.limits import MAX_PIXELS

_SIZ = b"\xff\x4f\xff\x51\x00\x29\x00\x00"


def j2k(side, tile):
    """The main header of a JPEG 2000 stream of one channel of 12 bits, and one empty tile."""
    size = struct.pack(">8IH3B", side, side, 0, 0, tile, tile, 0, 0, 1, 11, 1, 1)
    coding = b"\xff\x52\x00\x0c\x00\x00\x00\x01\x00\x05\x04\x04\x00\x01"
    steps = b"\xff\x5c\x00\x13\x40" + bytes(16)
    return _SIZ + size + coding + steps + b"\xff\x90\x00\x0a\x00\x00\x00\x00\x00\x0e\x00\x01\xff\x93\xff\xd9"


def jpeg(side):
    frame = b"\xff\xc0\x00\x0b\x08" + struct.pack(">HH", side, side) + b"\x01\x01\x11\x00"
    return b"\xff\xd8" + frame + b"\xff\xda\x00\x08\x01\x01\x00\x00\x3f\x00\xff\xd9"


def zeros(count, wbits):
    """A deflated stream of at least so many zeros, made of one block over and over."""
    packer, size = zlib.compressobj(9, zlib.DEFLATED, wbits), 2**24
    head = packer.flush(zlib.Z_FULL_FLUSH)
    block = packer.compress(bytes(size)) + packer.flush(zlib.Z_FULL_FLUSH)
    return head + block * -(-count // size) + b"\x03\x00"


def png(path, side, channels, pixels):
    """A PNG of 16 bits; ``pixels`` is its deflated content."""
    def chunk(name, data):
        return struct.pack(">I", len(data)) + name + data + struct.pack(">I", zlib.crc32(name + data))

    head = chunk(b"IHDR", struct.pack(">IIBBBBB", side, side, 16, 2 if channels == 3 else 0, 0, 0, 0))
    path.write_bytes(b"\x89PNG\r\n\x1a\n" + head + chunk(b"IDAT", pixels) + chunk(b"IEND", b""))
    return path


def small_png(folder):
    return png(folder / "a.png", 64, 1, zlib.compress(bytes(129 * 64)))


def claimed(path, syntax, stream, side):
    """A stream in a file whose header says ``side`` x ``side``."""
    ds = pydicom.dcmread(write(path, RAMP, Rows=side, Columns=side))
    ds.file_meta.TransferSyntaxUID = syntax
    ds.PixelData = encapsulate([stream])
    ds["PixelData"].VR, ds["PixelData"].is_undefined_length = "OB", True
    ds.save_as(path)


def deflated(path, side):
    """3 GiB of zeros behind a header that says ``side`` x ``side``."""
    write(path, RAMP, syntax=DeflatedExplicitVRLittleEndian, Rows=side, Columns=side)
    data = path.read_bytes()
    start = 144 + int.from_bytes(data[140:144], "little")
    header = zlib.decompress(data[start:], -zlib.MAX_WBITS)[: -RAMP.nbytes - 4]
    packer = zlib.compressobj(9, zlib.DEFLATED, -zlib.MAX_WBITS)
    head = packer.compress(header + struct.pack("<I", 3 * 2**30)) + packer.flush(zlib.Z_FULL_FLUSH)
    path.write_bytes(data[:start] + head + zeros(3 * 2**30, -zlib.MAX_WBITS))


@pytest.fixture(scope="module")
def bombs(tmp_path_factory):
    folder = tmp_path_factory.mktemp("bombs")
    png(folder / "rgb16.png", 30_000, 3, zeros(180_001 * 30_000, zlib.MAX_WBITS))
    png(folder / "opencv_raises.png", 40_000, 1, zlib.compress(b""))
    (folder / "large.jpg").write_bytes(jpeg(65_500))
    deflated(folder / "declared.dcm", 40_000)
    deflated(folder / "hidden.dcm", 64)
    claimed(folder / "rle.dcm", RLELossless, bytes(64), 65_535)
    claimed(folder / "one_tile.dcm", JPEG2000Lossless, j2k(65_535, 65_535), 65_535)
    claimed(folder / "header_and_stream.dcm", JPEG2000Lossless, j2k(65_535, 65_535), 64)
    claimed(folder / "tiles.dcm", JPEG2000Lossless, j2k(9_000, 2), 9_000)
    claimed(folder / "no_stream.dcm", JPEG2000Lossless, b"\0" * 64, 64)
    claimed(folder / "jpeg.dcm", JPEGBaseline8Bit, jpeg(65_500), 64)
    write(folder / "rows.dcm", RAMP, Rows=65_535, Columns=65_535)
    with (write(folder / "long.dcm", RAMP)).open("r+b") as file:  # 3 GiB, of which nothing is on disk
        file.seek(-RAMP.nbytes - 4, 2)
        file.write(struct.pack("<I", 3 * 2**30))
        file.truncate(file.tell() + 3 * 2**30)
    return folder


_MEASURE = """
import json, resource, sys, time
from pathlib import Path
from vindr_det.exceptions import InputError
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target

resource.setrlimit(resource.RLIMIT_AS, (8 * 2**30, 8 * 2**30))
for path in sys.argv[2:]:  # what is imported late is none of the file's memory
    read_image(path)
peak = lambda: resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
for path in sorted(Path(sys.argv[1]).iterdir()):
    before, began, reason = peak(), time.perf_counter(), None
    try:
        read_image(path, Target(256, True))
    except InputError as error:
        reason = str(error)
    print(json.dumps([path.name, reason, peak() - before, time.perf_counter() - began]))
"""


def test_refused_in_under_a_second_and_200_mb(bombs, tmp_path):
    small = write(tmp_path / "small.dcm", RAMP, syntax=JPEG2000Lossless)
    run = subprocess.run([sys.executable, "-c", _MEASURE, bombs, small], capture_output=True, text=True,
                         cwd=ROOT, timeout=280, check=True)
    rows = [json.loads(line) for line in run.stdout.splitlines()]
    assert [row[0] for row in rows] == sorted(path.name for path in bombs.iterdir())
    for name, reason, kilobytes, seconds in rows:
        assert reason and kilobytes < 200 * 1024 and seconds < 1, (name, reason, kilobytes, seconds)
    reasons = {name: reason for name, reason, _, _ in rows}
    for name in ("rgb16.png", "opencv_raises.png", "large.jpg", "declared.dcm", "rle.dcm", "one_tile.dcm",
                 "rows.dcm"):
        assert "expected at most 100,000,000 (--max-pixels raises it)" in reasons[name]
    for name in ("hidden.dcm", "long.dcm"):
        assert "bytes of pixel data, expected about 8,192" in reasons[name]
    for name in ("header_and_stream.dcm", "jpeg.dcm"):
        assert "the header says 64, 64 and 1" in reasons[name]
    assert "20250000 tiles, expected at most 4096" in reasons["tiles.dcm"]
    assert "no header of JPEG 2000" in reasons["no_stream.dcm"]


def test_every_radiograph_of_vinbigdata_is_within_the_limit(data):
    import pandas as pd

    headers = pd.read_csv(data / "vinbig/train_dicom_headers.csv.gz")
    assert (headers["Rows"] * headers["Columns"]).max() * 8 < MAX_PIXELS


@pytest.mark.parametrize("make", [
    lambda folder: write(folder / "a.dcm", RAMP),
    lambda folder: write(folder / "a.dcm", RAMP, syntax=DeflatedExplicitVRLittleEndian),
    small_png,
])
def test_the_limit_is_what_is_asked_for(tmp_path, make):
    path = make(tmp_path)
    assert read_image(path, max_pixels=4096).pixels.shape == (64, 64)
    with pytest.raises(InputError, match="64 rows and 64 columns are 4,096 pixels, expected at most 4,095"):
        read_image(path, max_pixels=4095)


@pytest.mark.parametrize("error", [MemoryError("no room"), OSError("gone"), RuntimeError("odd")])
def test_nothing_but_an_input_error_leaves(tmp_path, monkeypatch, error):
    def fail(*_):
        raise error

    small_png(tmp_path)
    monkeypatch.setattr("cv2.imdecode", fail)
    with pytest.raises(InputError, match=f"a.png: cannot be read .{error}"):
        read_image(tmp_path / "a.png")


def test_a_file_that_may_not_be_read_and_a_name_that_is_too_long(tmp_path):
    (tmp_path / "folder.png").mkdir()
    for path in (tmp_path / "folder.png", tmp_path / ("n" * 300 + ".png"), tmp_path / "a\0b.png"):
        with pytest.raises(InputError):
            read_image(path)


def test_a_tiff_by_the_name_of_png_is_refused(tmp_path):
    import cv2

    cv2.imwrite(str(tmp_path / "a.tiff"), np.zeros((64, 64), np.uint8))
    (tmp_path / "a.tiff").rename(tmp_path / "a.png")
    with pytest.raises(InputError, match="cannot be decoded as PNG"):
        read_image(tmp_path / "a.png")
