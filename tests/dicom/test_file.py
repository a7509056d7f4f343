import re

import numpy as np
import pydicom
import pytest
from dicom_samples import RAMP, write
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import JPEG2000Lossless

from vindr_det.dicom import read_dicom
from vindr_det.errors import InputError
from vindr_det.prepare import FAILED, FLAGGED, prepare_folder
from vindr_det.resize import Target, resize

SMOOTH = np.tile(np.linspace(0, 4000, 128).astype(np.uint16), (96, 1))


def test_everything_that_was_decided_is_told(tmp_path):
    path = write(tmp_path / "a.dcm", SMOOTH, "MONOCHROME1", 12, JPEG2000Lossless, WindowCenter=2048,
                 WindowWidth=4096, PatientOrientation=["L", "F"], ViewPosition="PA", Modality="DX")
    image = read_dicom(path, Target(32, True))
    assert image.pixels.shape == (24, 32) and (image.height, image.width) == (96, 128)
    assert (image.bits, image.photometric, image.window) == (12, "MONOCHROME1", "linear 2048/4096")
    assert (image.orientation, image.view, image.flags) == ("L/F", "PA", ())
    assert "JPEG 2000" in image.syntax


def test_averaging_comes_before_the_window(tmp_path):
    """A checkerboard of black and white is gray, although the window would clip both."""
    checks = (np.indices((64, 64)).sum(0) % 2 * 1000 + 1500).astype(np.uint16)
    path = write(tmp_path / "a.dcm", checks, WindowCenter=2000, WindowWidth=500)
    assert np.ptp(read_dicom(path, Target(32, True)).pixels) == 0
    assert abs(int(read_dicom(path, Target(32, True)).pixels[0, 0]) - 127) <= 1


@pytest.mark.parametrize("target", [Target(24, True), Target(40, False), Target(0, True)])
def test_the_target_sets_the_size(tmp_path, target):
    image = read_dicom(write(tmp_path / "a.dcm", SMOOTH, WindowCenter=2048, WindowWidth=4096), target)
    whole = read_dicom(tmp_path / "a.dcm").pixels
    assert image.pixels.shape == target.shape(96, 128)
    assert np.abs(image.pixels.astype(int) - resize(whole, target)).max() <= 1


@pytest.mark.parametrize("tags, message", [
    ({"PhotometricInterpretation": "RGB"}, "photometric interpretation 'RGB'"),
    ({"SamplesPerPixel": 3}, "1 frames of 3 samples"),
    ({"NumberOfFrames": 2}, "2 frames of 1 samples"),
    ({"BitsAllocated": 32, "BitsStored": 32, "HighBit": 31}, "32 of 32 bits"),
    ({"BitsStored": 12, "HighBit": 15}, "HighBit 15 with BitsStored 12, expected 11"),
    ({"Rows": 0}, "0 rows and 64 columns"),
    ({"PixelData": b"\0" * 1000}, "cannot be decoded"),
    ({"PixelData": b""}, "holds no pixel data"),
    ({"PixelPaddingValue": 0, "PixelPaddingRangeLimit": 4095}, "every pixel is padding"),
])
def test_refused_with_a_reason(tmp_path, tags, message):
    with pytest.raises(InputError, match=re.escape(message)):
        read_dicom(write(tmp_path / "a.dcm", RAMP, **tags))


@pytest.mark.parametrize("tag", ["NumberOfFrames", "WindowCenter", "RescaleSlope"])
def test_a_number_that_is_none_is_a_damaged_file(tmp_path, tag):
    """pydicom parses a value when it is asked for, long after the file was read."""
    path = write(tmp_path / "a.dcm", RAMP, **{"WindowWidth": "5", "RescaleIntercept": "0", tag: "77"})
    content = path.read_bytes()
    assert content.count(b"\x02\x0077") == 1  # length and text
    path.write_bytes(content.replace(b"\x02\x0077", b"\x02\x00xx"))
    with pytest.raises(InputError, match=re.escape(f"{path}: damaged DICOM file")):
        read_dicom(path)


@pytest.mark.parametrize("tags, message", [
    ({"PixelRepresentation": 1}, "samples are unsigned, the header says signed"),
    ({"Rows": 48}, "stream holds 96 rows, 128 columns and 1 channels, the header says 48, 128"),
])
def test_a_stream_that_contradicts_its_header_is_refused(tmp_path, tags, message):
    path = write(tmp_path / "a.dcm", SMOOTH, "MONOCHROME2", 12, JPEG2000Lossless, **tags)
    with pytest.raises(InputError, match=message):
        read_dicom(path)


@pytest.mark.parametrize("tags, message", [
    ({"BitsStored": 10, "HighBit": 9}, "74.2% of the values do not fit into BitsStored 10"),
    ({"Modality": "CT"}, "modality CT is not radiography"),
    ({"PresentationLUTShape": "INVERSE"}, "MONOCHROME2 with PresentationLUTShape INVERSE"),
])
def test_what_may_be_right_is_flagged(tmp_path, tags, message):
    path = write(tmp_path / "a.dcm", SMOOTH, "MONOCHROME2", 12, JPEG2000Lossless, **tags)
    assert read_dicom(path).flags == (message,)


def test_a_sequence_of_lost_type_is_flagged(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, RequestAttributesSequence=Sequence([Dataset()]))
    content = path.read_bytes()
    at = content.index(b"\x40\x00\x75\x02SQ")
    path.write_bytes(content[: at + 4] + b"UN" + content[at + 6 :])
    assert read_dicom(path).flags == ("element (0040,0275) is a sequence written as UN",)


def test_values_that_run_over_are_refused(tmp_path):
    ramps = np.tile((np.arange(512) * 997 % 65536).astype(np.uint16), (64, 1))
    smooth = np.tile(np.linspace(0, 65535, 512).astype(np.uint16), (64, 1))
    assert read_dicom(write(tmp_path / "a.dcm", smooth, bits=16)).pixels.any()
    stripes = np.where(np.arange(512) % 8 < 4, ramps, 65535 - ramps).astype(np.uint16)
    with pytest.raises(InputError, match="its values have run over"):
        read_dicom(write(tmp_path / "b.dcm", stripes, bits=16))


def test_a_file_without_preamble_is_read(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=4096)
    whole = read_dicom(path).pixels
    path.write_bytes(path.read_bytes()[132:])
    assert np.array_equal(read_dicom(path).pixels, whole)


@pytest.mark.parametrize("cut", [0, 3, 131, 140, 400, 700])
def test_a_cut_file_is_refused(tmp_path, cut):
    path = write(tmp_path / "a.dcm", SMOOTH, "MONOCHROME2", 12, JPEG2000Lossless)
    path.write_bytes(path.read_bytes()[:cut])
    with pytest.raises(InputError):
        read_dicom(path)


def test_bits_above_those_stored_are_no_brightness(tmp_path):
    """Old files keep overlays there (PS3.5 8.1.1)."""
    path = write(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=4096)
    plain = read_dicom(path).pixels
    ds = pydicom.dcmread(path)
    ds.PixelData = (RAMP | np.uint16(0x8000)).tobytes()
    ds.save_as(path)
    assert np.array_equal(read_dicom(path).pixels, plain)


def test_three_real_dicoms(data):
    for path in sorted((data / "vinbig/dicom").glob("*.dicom")):
        assert not any(read_dicom(path, Target(size, True)).flags for size in (200, 256, 512))
        image = read_dicom(path)
        assert image.photometric == "MONOCHROME1" and image.bits == 12 and not image.flags
        # Bright spine, dark air beside the neck: the polarity is right.
        height, width = image.pixels.shape
        spine = image.pixels[height // 2:, width // 2 - 50:width // 2 + 50].mean()
        assert spine > 1.5 * image.pixels[: height // 12, : width // 12].mean()


def test_every_odd_file_gets_a_row(data, tmp_path):
    """Files beyond chest X-rays: each is decoded or refused with a reason, none half right."""
    folder = tmp_path / "in"
    folder.mkdir()
    for path in (data / "dicom_cases").glob("*/*"):
        (folder / path.name).write_bytes(path.read_bytes())
    table = prepare_folder(folder, tmp_path / "out", Target(256, True), 2).set_index("file")
    assert len(table) == len(list(folder.iterdir())) == len(list((data / "dicom_cases").glob("*/*")))
    written = {path.stem for path in (tmp_path / "out").glob("*.png")}
    assert written == set(table.loc[table["status"] != FAILED, "image_id"])
    assert (table.loc[table["status"] != "ok", "reason"] != "").all()
    corrupt = [path.name for path in (data / "dicom_cases/corrupt").iterdir()]
    assert (table.loc[corrupt, "status"] == FAILED).all()
    assert "unsigned, the header says signed" in table.loc["J2K_pixelrep_mismatch.dcm", "reason"]
    assert "run over" in table.loc["JPEGLossless_1s_1f_i_16_16_bad.dcm", "reason"]
    assert table.loc["bad_sequence.dcm", "status"] == FLAGGED
    assert "(0018,9346) is a sequence written as UN" in table.loc["bad_sequence.dcm", "reason"]
    radiographs = ["RG1_J2KI.dcm", "RG2_JLSN.dcm", "RG2_JPLY_fixed.dcm", "Fake_MONOHR1.dcm"]
    assert (table.loc[radiographs, "status"] == "ok").all()
    assert table.loc["SC_rgb_expb.dcm", "reason"].startswith("photometric interpretation 'RGB'")
