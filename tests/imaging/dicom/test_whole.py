"""Frames and files of which a part is missing or damaged: real ones, spoilt here."""

from pathlib import Path

import cv2
import numpy as np
import pydicom
import pytest
from pydicom.encaps import encapsulate, generate_frames

from vindr_det.exceptions import InputError
from vindr_det.imaging.dicom import read_dicom, whole
from vindr_det.imaging.dicom.stream import StreamHeader, restart_interval
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target

END = b"\xff\xd9"
BASELINE = "1.2.276.0.7230010.3.1.4.8323329.6904.1517875201.850819.dcm"
JPEG_LS, EXTENDED, LOSSLESS = "RG2_JLSN.dcm", "RG2_JPLY_fixed.dcm", "bad_sequence.dcm"
WAVELET = "RG1_J2KI.dcm"


def flipped(stream: bytes) -> bytes:
    middle = len(stream) // 2
    spoilt = bytes(byte ^ 0x5A for byte in stream[middle : middle + 200])
    return stream[:middle] + spoilt + stream[middle + 200 :]


SPOILT = {
    "cut": lambda stream: stream[: len(stream) * 6 // 10],
    "cut and ended": lambda stream: stream[: len(stream) * 6 // 10] + END,
    "last percent missing": lambda stream: stream[: len(stream) * 99 // 100] + END,
    "flipped": flipped,
    "zeroed": lambda stream: stream[: len(stream) // 2] + bytes(len(stream) - len(stream) // 2),
    "no end": lambda stream: stream.rstrip(b"\0\xff")[:-2],
}


def respoilt(source: Path, path: Path, spoil) -> Path:
    dataset = pydicom.dcmread(source)
    dataset.PixelData = encapsulate([spoil(next(generate_frames(dataset.PixelData, number_of_frames=1)))])
    dataset.save_as(path)
    return path


@pytest.mark.parametrize("name", [BASELINE, JPEG_LS, EXTENDED, LOSSLESS])
@pytest.mark.parametrize("spoilt", SPOILT)
def test_a_spoilt_frame_is_refused(data, tmp_path, name, spoilt):
    path = respoilt(data / "dicom_cases/ok" / name, tmp_path / "a.dcm", SPOILT[spoilt])
    with pytest.raises(InputError):
        read_dicom(path)


@pytest.mark.parametrize("target", [None, Target(256, True)])
@pytest.mark.parametrize("spoilt", ["cut", "cut and ended", "zeroed", "no end"])
def test_a_spoilt_jpeg_2000_is_refused(data, tmp_path, target, spoilt):
    """Flipped bytes stay within one block of its wavelet, and nothing in the stream tells."""
    path = respoilt(data / "dicom_cases/ok" / WAVELET, tmp_path / "a.dcm", SPOILT[spoilt])
    with pytest.raises(InputError):
        read_dicom(path, target)


@pytest.mark.parametrize("name", [BASELINE, JPEG_LS, EXTENDED, LOSSLESS, WAVELET])
def test_a_whole_frame_may_be_padded(data, tmp_path, name):
    source = data / "dicom_cases/ok" / name
    path = respoilt(source, tmp_path / "a.dcm", lambda stream: stream + bytes(100))
    assert np.array_equal(read_dicom(path).pixels, read_dicom(source).pixels)


@pytest.mark.parametrize("options", [
    [], [cv2.IMWRITE_JPEG_PROGRESSIVE, 1], [cv2.IMWRITE_JPEG_RST_INTERVAL, 5]])
@pytest.mark.parametrize("spoilt", [*SPOILT, "first third"])
def test_a_spoilt_jpeg_file_is_refused(data, tmp_path, options, spoilt):
    picture = read_dicom(data / "dicom_cases/ok" / BASELINE, Target(400, True)).pixels
    jpeg = cv2.imencode(".jpg", picture, options)[1].tobytes()
    spoil = SPOILT.get(spoilt, lambda stream: stream[: len(stream) * 3 // 10] + END)
    (tmp_path / "a.jpg").write_bytes(jpeg)
    assert np.abs(read_image(tmp_path / "a.jpg").pixels.astype(int) - picture).mean() < 3
    (tmp_path / "a.jpg").write_bytes(spoil(jpeg))
    with pytest.raises(InputError, match="a part of the picture is missing or damaged"):
        read_image(tmp_path / "a.jpg")


@pytest.mark.parametrize("markers, right", [
    ([0xD0, 0xD1, 0xD2], True), ([0xD0, 0xD1], False), ([0xD0, 0xD2, 0xD1], False), ([], False),
    ([0xD0, 0xD1, 0xD2, 0xD3], False), ([0xD0, 0xC4, 0xD1, 0xD2], False),
])
def test_restart_markers_are_counted(markers, right):
    """12 blocks of 8 x 8, or 10 samples, in intervals of three."""
    head = b"\xff\xd8\xff\xdd\x00\x04\x00\x03\xff\xda\x00\x02"
    scan = b"".join(b"ab\xff\x00" + bytes([0xFF, marker]) for marker in markers) + b"end"
    assert restart_interval(head + scan) == 3
    expected = whole._restarts(StreamHeader(20, 30, 1, 12), 3)
    assert expected == 3 == whole._restarts(StreamHeader(2, 5, 1, 12, predictive=True), 3)
    if right:
        whole._require_restarts("a.dcm", scan, expected)
    else:
        with pytest.raises(InputError, match="expected 3 restart markers"):
            whole._require_restarts("a.dcm", scan, expected)
