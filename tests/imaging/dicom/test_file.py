import io
import re

import numpy as np
import pydicom
import pytest
from dicom_samples import RAMP, write
from pydicom.dataset import Dataset
from pydicom.encaps import encapsulate, generate_frames
from pydicom.filebase import DicomIO
from pydicom.filewriter import write_dataset
from pydicom.sequence import Sequence
from pydicom.uid import (
    ComputedRadiographyImageStorage,
    CTImageStorage,
    DeflatedExplicitVRLittleEndian,
    DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
    SecondaryCaptureImageStorage,
)

from vindr_det.exceptions import InputError
from vindr_det.imaging.dicom import pixels, read_dicom
from vindr_det.imaging.dicom.identity import read_uids
from vindr_det.imaging.prepare import FAILED, FLAGGED, prepare_folder
from vindr_det.imaging.resize import Target, resize

SMOOTH = np.tile(np.linspace(0, 4000, 128).astype(np.uint16), (96, 1))


def test_every_decision_is_recorded(tmp_path):
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
    ({"PixelData": b"\0" * 2**25}, "33,554,432 bytes of pixel data, expected about 8,192"),
    ({"Rows": 65535, "Columns": 65535}, "4,294,836,225 pixels, expected at most 100,000,000"),
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
    ({"SOPClassUID": CTImageStorage}, "SOP class CT Image Storage is not radiography"),
    ({"SOPClassUID": CTImageStorage, "Modality": "DX"}, "SOP class CT Image Storage is not radiography"),
    ({"BodyPartExamined": "HIP"}, "body part HIP is not the chest"),
    ({"PresentationLUTShape": "INVERSE"}, "MONOCHROME2 with PresentationLUTShape INVERSE"),
    ({"PixelSpacing": [0.2, 0.1]}, "pixels are not square: PixelSpacing 0.2/0.1"),
    ({"ImagerPixelSpacing": [0.1, 0.2]}, "pixels are not square: ImagerPixelSpacing 0.1/0.2"),
    ({"PixelAspectRatio": [2, 1]}, "pixels are not square: PixelAspectRatio 2/1"),
])
def test_what_may_be_right_is_flagged(tmp_path, tags, message):
    path = write(tmp_path / "a.dcm", SMOOTH, "MONOCHROME2", 12, JPEG2000Lossless, **tags)
    assert read_dicom(path).flags == (message,)


@pytest.mark.parametrize("part", ["", "CHEST", "Chest PA", "CHESTABDOMEN", "THORAX", "TORAX"])
def test_parts_that_cover_the_chest_are_not_flagged(tmp_path, part):
    assert not read_dicom(write(tmp_path / "a.dcm", RAMP, BodyPartExamined=part)).flags


@pytest.mark.parametrize("uid", [
    ComputedRadiographyImageStorage, DigitalXRayImageStorageForPresentation,
    DigitalXRayImageStorageForProcessing, SecondaryCaptureImageStorage, "", "1.2.3.4",
])
def test_classes_of_radiographs_and_unknown_ones_are_not_flagged(tmp_path, uid):
    assert not read_dicom(write(tmp_path / "a.dcm", RAMP, SOPClassUID=uid)).flags


def test_a_sequence_of_lost_type_is_flagged(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, RequestAttributesSequence=Sequence([Dataset()]))
    content = path.read_bytes()
    at = content.index(b"\x40\x00\x75\x02SQ")
    path.write_bytes(content[: at + 4] + b"UN" + content[at + 6 :])
    assert read_dicom(path).flags == ("element (0040,0275) is a sequence written as UN",)


@pytest.mark.parametrize("syntax", [None, JPEG2000Lossless])
def test_a_test_pattern_has_not_run_over(tmp_path, syntax):
    """Nothing is added up where nothing is predicted, so no jump is too large."""
    stripes = np.tile(np.where(np.arange(64) % 4 < 2, 0, 4095).astype(np.uint16), (64, 1))
    path = write(tmp_path / "a.dcm", stripes, syntax=syntax, WindowCenter=2048, WindowWidth=4096)
    assert np.array_equal(read_dicom(path).pixels, stripes // 4095 * 255)


def test_values_that_overflow_are_refused():
    """As a decoder leaves them that takes another predictor than the encoder."""
    ramps = np.tile((np.arange(512) * 997 % 65536).astype(np.uint16), (64, 1))
    stripes = np.where(np.arange(512) % 8 < 4, ramps, 65535 - ramps).astype(np.uint16)
    smooth = np.tile(np.linspace(0, 65535, 512).astype(np.uint16), (64, 1))
    pixels._refuse_overflow("a.dcm", smooth, 16)
    with pytest.raises(InputError, match="its values have overflowed"):
        pixels._refuse_overflow("a.dcm", stripes, 16)


def test_a_file_without_preamble_is_read(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=4096)
    whole = read_dicom(path).pixels
    path.write_bytes(path.read_bytes()[132:])
    assert np.array_equal(read_dicom(path).pixels, whole)


@pytest.mark.parametrize("implicit", [False, True])
def test_a_file_without_preamble_and_transfer_syntax_is_read(tmp_path, implicit):
    """As ACR-NEMA and early DICOM files were: group 8 first, little endian, with types or without."""
    path = write(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=4096, StudyInstanceUID="1.2.4")
    whole = read_dicom(path).pixels
    dataset = pydicom.dcmread(path)
    content = io.BytesIO()
    write_dataset(as_little_endian(content, implicit), dataset)
    assert content.getvalue()[:2] == b"\x08\x00"
    path.write_bytes(content.getvalue())
    assert np.array_equal(read_dicom(path).pixels, whole)
    assert read_uids(path)["StudyInstanceUID"] == "1.2.4"


def as_little_endian(content: io.BytesIO, implicit: bool) -> DicomIO:
    file = DicomIO(content)
    file.is_little_endian, file.is_implicit_VR = True, implicit
    return file


def test_uids_of_a_deflated_file(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, syntax=DeflatedExplicitVRLittleEndian, StudyInstanceUID="1.2.4",
                 SeriesInstanceUID="1.2.5")
    assert read_uids(path) == {"StudyInstanceUID": "1.2.4", "SeriesInstanceUID": "1.2.5",
                               "SOPInstanceUID": "1.2.3"}


@pytest.mark.parametrize("name, share", [
    ("RG2_JLSN.dcm", 0.6), ("RG2_JPLY_fixed.dcm", 0.6), ("RG1_J2KI.dcm", 0.6), ("MR_small_RLE.dcm", 0.9),
    ("RG2_JLSN.dcm", 0.005), ("693_UNCR.dcm", 0.6), ("693_UNCR.dcm", 0.002),
])
def test_a_cut_file_is_refused_as_such(data, tmp_path, name, share):
    content = (data / "dicom_cases/ok" / name).read_bytes()
    (tmp_path / "a.dcm").write_bytes(content[: int(len(content) * share)])
    with pytest.raises(InputError, match="the file is cut"):
        read_dicom(tmp_path / "a.dcm")


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


@pytest.mark.parametrize("dtype, bits", [
    (np.uint16, 12), (np.uint16, 16), (np.int16, 12), (np.uint8, 8), (np.int8, 8)])
@pytest.mark.parametrize("target", [None, Target(32, True)])
def test_byte_order_and_sign_leave_the_picture_alone(tmp_path, dtype, bits, target):
    """As little endian, and as the window's formula on what pydicom decodes."""
    low = -(2 ** (bits - 1)) if np.dtype(dtype).kind == "i" else 0
    values = np.linspace(low, low + 2**bits - 1, 64 * 64).round().astype(dtype).reshape(64, 64)
    window = {"WindowCenter": low + 2 ** (bits - 1), "WindowWidth": 2**bits}
    paths = [write(tmp_path / f"{number}.dcm", values, bits=bits, syntax=syntax, **window)
             for number, syntax in enumerate(
                 (None, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian))]
    little, big, deflated = (read_dicom(path, target).pixels for path in paths)
    assert np.array_equal(little, big) and np.array_equal(little, deflated)
    if target is None:
        decoded = pydicom.dcmread(paths[1]).pixel_array.astype(float)
        assert np.abs(big - (decoded - low) / (2**bits - 1) * 255).max() <= 0.51


@pytest.mark.parametrize("tags, spacing", [
    ({}, ""), ({"PixelSpacing": [0.2, 0.2]}, "0.2/0.2"), ({"PixelSpacing": None}, ""),
    ({"ImagerPixelSpacing": [0.1, 0.1]}, "0.1/0.1"), ({"PixelSpacing": [0, 0]}, ""),
    ({"PixelSpacing": [0.2, 0.2], "ImagerPixelSpacing": [0.3, 0.3]}, "0.2/0.2"),
    ({"PixelAspectRatio": [1, 1]}, ""),
])
def test_spacing_is_recorded(tmp_path, tags, spacing):
    image = read_dicom(write(tmp_path / "a.dcm", RAMP, **tags))
    assert image.spacing == spacing and not image.flags


@pytest.mark.parametrize("key", ["FloatPixelData", "DoubleFloatPixelData"])
def test_float_pixels_are_refused_as_such(tmp_path, key):
    path = write(tmp_path / "a.dcm", RAMP)
    ds = pydicom.dcmread(path)
    del ds.PixelData
    setattr(ds, key, RAMP.astype("<f8" if "Double" in key else "<f4").tobytes())
    ds.save_as(path)
    with pytest.raises(InputError, match=re.escape(f"floating-point numbers ({key})")):
        read_dicom(path)


@pytest.mark.parametrize("target", [None, Target(256, True)])
def test_tiles_that_are_not_there_are_no_white_picture(tmp_path, target):
    """A decoder fills them silently."""
    path = write(tmp_path / "a.dcm", np.tile(RAMP, (4, 4)), "MONOCHROME1", 12, JPEG2000Lossless)
    ds = pydicom.dcmread(path)
    stream = bytearray(next(generate_frames(ds.PixelData, number_of_frames=1)))
    stream[8:16] = (2000).to_bytes(4, "big") * 2  # the grid's size, where one tile was all of it
    ds.Rows = ds.Columns = 2000
    ds.PixelData = encapsulate([bytes(stream)])
    ds.save_as(path)
    with pytest.raises(InputError, match="the stream holds 1 of its 64 tiles"):
        read_dicom(path, target)


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
    assert "overflowed" in table.loc["JPEGLossless_1s_1f_i_16_16_bad.dcm", "reason"]
    assert table.loc["bad_sequence.dcm", "status"] == FLAGGED
    assert "(0018,9346) is a sequence written as UN" in table.loc["bad_sequence.dcm", "reason"]
    assert table.loc["RG1_J2KI.dcm", "status"] == "ok"
    hips = table.loc[["RG2_JLSN.dcm", "RG2_JPLY_fixed.dcm"]]
    assert (hips["status"] == FLAGGED).all() and (hips["reason"] == "body part HIP is not the chest").all()
    assert table.loc["Fake_MONOHR1.dcm", "status"] == FLAGGED  # "looks inverted"
    assert table.loc["SC_rgb_expb.dcm", "reason"].startswith("photometric interpretation 'RGB'")
