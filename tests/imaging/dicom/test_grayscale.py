"""The grayscale pipeline against the standard's formulas, written out."""

import numpy as np
import pytest
from dicom_samples import RAMP, write
from pydicom import dcmread
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence
from pydicom.uid import ExplicitVRBigEndian

from vindr_det.exceptions import InputError
from vindr_det.imaging.dicom import read_dicom
from vindr_det.imaging.dicom.photometric import PHOTOMETRICS, Photometric
from vindr_det.imaging.resize import Target

X = RAMP.astype(float)


def linear(c, w):
    """PS3.3 C.11.2.1.2.1 with y from 0 to 255."""
    y = ((X - (c - 0.5)) / (w - 1) + 0.5) * 255
    y[c - 0.5 - (w - 1) / 2 >= X] = 0
    y[c - 0.5 + (w - 1) / 2 < X] = 255
    return y


def linear_exact(c, w):
    """C.11.2.1.3.2."""
    y = ((X - c) / w + 0.5) * 255
    y[c - w / 2 >= X] = 0
    y[c + w / 2 < X] = 255
    return y


def sigmoid(c, w):
    """C.11.2.1.3.1."""
    return 255 / (1 + np.exp(-4 * (X - c) / w))


@pytest.mark.parametrize("function, expected", [
    (None, linear), ("LINEAR", linear), ("LINEAR_EXACT", linear_exact), ("SIGMOID", sigmoid),
])
@pytest.mark.parametrize("window", [(2048, 4096), (2048, 1024), (1000.5, 333.3)])
def test_window_functions(tmp_path, function, expected, window):
    tags = {"WindowCenter": window[0], "WindowWidth": window[1]}
    tags |= {"VOILUTFunction": function} if function else {}
    image = read_dicom(write(tmp_path / "a.dcm", RAMP, **tags))
    assert np.abs(image.pixels - expected(*window)).max() <= 0.501
    assert image.window == f"{(function or 'LINEAR').lower()} {window[0]:g}/{window[1]:g}"


def test_several_windows_take_the_first(tmp_path):
    path = write(tmp_path / "a.dcm", RAMP, WindowCenter=[2048, 100], WindowWidth=[4096, 10])
    assert read_dicom(path).window == "linear 2048/4096"


@pytest.mark.parametrize("entries", [4095, 4000, 2048])
@pytest.mark.parametrize("key", ["ModalityLUTSequence", "VOILUTSequence"])
def test_a_short_table_of_words_is_not_one_of_bytes(tmp_path, key, entries):
    """Its bytes would suffice for entries of 8 bits, but the descriptor says 12."""
    item = lut(0, range(4096), 12)
    item.ModalityLUTType = "US"
    item.add_new("LUTData", "OW", np.arange(entries, dtype="<u2").tobytes())
    path = write(tmp_path / "a.dcm", RAMP, **{key: Sequence([item])})
    with pytest.raises(InputError, match=f"table of {entries} entries, expected the 4096 of its descriptor"):
        read_dicom(path)


@pytest.mark.parametrize("tags", [
    {}, {"WindowCenter": 2048}, {"WindowCenter": 2048, "WindowWidth": 0},
    {"WindowCenter": 2048, "WindowWidth": -5}, {"WindowCenter": 90000, "WindowWidth": 10},
])
def test_without_a_usable_window_the_percentiles_decide(tmp_path, tags):
    """Also with one that shows everything black."""
    image = read_dicom(write(tmp_path / "a.dcm", RAMP, **tags))
    assert image.window == "percentile"
    assert image.pixels.min() == 0 and image.pixels.max() == 255


def test_percentiles_ignore_a_hot_pixel(tmp_path):
    pixels = np.tile(np.linspace(500, 900, 64).astype(np.uint16), (64, 1))
    pixels[3, 3] = 4095
    image = read_dicom(write(tmp_path / "a.dcm", pixels))
    assert image.pixels[0, 0] <= 5 and image.pixels[0, -1] >= 250


def test_rescale_comes_before_the_window(tmp_path):
    tags = {"RescaleSlope": 2, "RescaleIntercept": -1000}
    image = read_dicom(write(tmp_path / "a.dcm", RAMP, WindowCenter=0, WindowWidth=2000, **tags))
    values = X * 2 - 1000
    expected = np.clip((values + 0.5) / 1999 + 0.5, 0, 1) * 255
    assert np.abs(image.pixels - expected).max() <= 0.501


def lut(first, data, bits):
    item = Dataset()
    item.add_new("LUTDescriptor", "US", [len(data), first, bits])
    item.add_new("LUTData", "US", [int(entry) for entry in data])
    return item


def test_modality_lut_sequence(tmp_path):
    item = lut(0, range(4095, -1, -1), 16)
    item.ModalityLUTType = "US"
    path = write(tmp_path / "a.dcm", RAMP, ModalityLUTSequence=Sequence([item]), WindowCenter=2048,
                 WindowWidth=4096)
    assert np.abs(read_dicom(path).pixels - linear(2048, 4096)[::-1, ::-1]).max() <= 0.501


@pytest.mark.parametrize("bits", [12, 16])
def test_voi_lut_spans_its_own_bits_and_not_the_images_range(tmp_path, bits):
    """Also where the descriptor claims 16 bits for a table of 12."""
    item = lut(1000, np.linspace(0, 4095, 1000).round().astype(int), bits)
    pixels = np.clip(RAMP, 1200, 1600)
    image = read_dicom(write(tmp_path / "a.dcm", pixels, VOILUTSequence=Sequence([item]),
                             WindowCenter=5, WindowWidth=10))
    expected = (pixels.astype(float) - 1000) / 999 * 255
    assert image.window == "voi lut" and np.abs(image.pixels - expected).max() <= 1
    assert image.pixels.min() > 40 and image.pixels.max() < 160


@pytest.mark.parametrize("top, bits, white", [
    (255, 8, 255), (1023, 10, 1023), (4095, 12, 4095), (4095, 16, 4095), (30000, 16, 65535),
    (3000, 12, 4095), (4095, 8, 4095), (32767, 16, 65535), (16383, 16, 65535), (8191, 16, 65535),
    (2047, 12, 4095), (127, 8, 255),
])
def test_white_is_what_the_voi_lut_s_bits_hold(tmp_path, top, bits, white):
    item = lut(0, np.linspace(0, top, 4096).round().astype(int), bits)
    image = read_dicom(write(tmp_path / "a.dcm", RAMP, VOILUTSequence=Sequence([item])))
    assert abs(int(image.pixels.max()) - 255 * top / white) <= 1


@pytest.mark.parametrize("syntax", [None, ExplicitVRBigEndian])
@pytest.mark.parametrize("bits, data", [
    (8, np.arange(4096) // 16), (12, np.arange(4096)[::-1]), (16, np.arange(4096) * 16 + 15)])
def test_tables_of_any_depth_and_byte_order(tmp_path, syntax, bits, data):
    """Modality and VOI LUT, as words in the file's byte order."""
    for key in ("ModalityLUTSequence", "VOILUTSequence"):
        item = lut(0, data, bits)
        item.ModalityLUTType = "US"
        item.add_new("LUTData", "OW", data.astype("<u2" if syntax is None else ">u2").tobytes())
        tags = {"WindowCenter": 2 ** (bits - 1), "WindowWidth": 2**bits, key: Sequence([item])}
        image = read_dicom(write(tmp_path / "a.dcm", RAMP, syntax=syntax, **tags))
        assert np.abs(image.pixels - data[RAMP] / (2**bits - 1) * 255).max() <= 0.51


def test_a_table_of_8_bits_may_have_two_entries_per_word(tmp_path):
    item = lut(0, range(256), 8)
    item.add_new("LUTData", "OW", bytes(range(256)))
    pixels = (RAMP // 16).astype(np.uint8)
    image = read_dicom(write(tmp_path / "a.dcm", pixels, bits=8, VOILUTSequence=Sequence([item])))
    assert np.array_equal(image.pixels, pixels)


def test_a_table_shorter_than_its_descriptor_is_damaged(tmp_path):
    item = lut(0, range(100), 12)
    item.LUTDescriptor = [4096, 0, 12]
    path = write(tmp_path / "a.dcm", RAMP, VOILUTSequence=Sequence([item]))
    with pytest.raises(InputError, match="a lookup table of 100 entries, expected the 4096"):
        read_dicom(path)


@pytest.mark.parametrize("key", ["VOILUTSequence", "ModalityLUTSequence"])
@pytest.mark.parametrize("descriptor", [[256], [256, 0]])
def test_a_descriptor_of_fewer_values_is_damaged(tmp_path, key, descriptor):
    item = lut(0, range(256), 8)
    item.LUTDescriptor = descriptor
    path = write(tmp_path / "a.dcm", RAMP, **{key: Sequence([item])})
    with pytest.raises(InputError, match="lookup table with the descriptor .*256.*, expected three numbers"):
        read_dicom(path)


@pytest.mark.parametrize("tags", [
    {"RescaleSlope": None, "RescaleIntercept": 0}, {"RescaleSlope": 1, "RescaleIntercept": None},
    {"RescaleSlope": None, "RescaleIntercept": None}, {"ModalityLUTSequence": Sequence([])},
    {"ModalityLUTSequence": Sequence([Dataset()])}, {"VOILUTSequence": Sequence([Dataset()])},
    {"VOILUTFunction": None}, {"PixelPaddingValue": None}, {"PresentationLUTShape": None},
    {"PixelAspectRatio": None}, {"NumberOfFrames": None}, {"Modality": None},
])
def test_an_empty_element_counts_as_a_missing_one(tmp_path, tags):
    path = write(tmp_path / "a.dcm", RAMP, WindowCenter=2048, WindowWidth=4096, **tags)
    image = read_dicom(path)
    assert np.abs(image.pixels - linear(2048, 4096)).max() <= 0.501
    assert image.window == "linear 2048/4096" and not image.flags


def test_signed_pixels(tmp_path):
    pixels = (RAMP.astype(np.int16) - 2048)
    path = write(tmp_path / "a.dcm", pixels, WindowCenter=0, WindowWidth=4096)
    assert np.abs(read_dicom(path).pixels - linear(2048, 4096)).max() <= 0.501


@pytest.mark.parametrize("photometric, shape, inverted", [
    ("MONOCHROME2", None, False), ("MONOCHROME2", "IDENTITY", False),
    ("MONOCHROME1", None, True), ("MONOCHROME1", "INVERSE", True), ("MONOCHROME2", "INVERSE", True),
])
def test_polarity(tmp_path, photometric, shape, inverted):
    tags = {"PresentationLUTShape": shape} if shape else {}
    tags |= {"WindowCenter": 2048, "WindowWidth": 4096}
    image = read_dicom(write(tmp_path / "a.dcm", RAMP, photometric, **tags))
    plain = np.rint(linear(2048, 4096))
    assert np.array_equal(image.pixels, 255 - plain if inverted else plain)
    assert bool(image.flags) == (photometric == "MONOCHROME2" and inverted)


def test_inversion_does_not_depend_on_the_images_maximum(tmp_path):
    """The same tissue looks the same with and without a bright letter beside it."""
    tissue = np.full((64, 64), 1000, np.uint16)
    letter = tissue.copy()
    letter[:8, :8] = 4095
    letter[:8, 8:16] = 0
    tags = {"WindowCenter": 2048, "WindowWidth": 4096}
    first, second = (read_dicom(write(tmp_path / "a.dcm", pixels, "MONOCHROME1", **tags)).pixels
                for pixels in (tissue, letter))
    assert first[40, 40] == second[40, 40]


@pytest.mark.parametrize("photometric", ["MONOCHROME1", "MONOCHROME2"])
@pytest.mark.parametrize("limit", [None, 20])
def test_padding_is_black_and_chooses_no_window(tmp_path, photometric, limit):
    pixels = np.tile(np.linspace(1000, 2000, 64).astype(np.uint16), (64, 1))
    bare = read_dicom(write(tmp_path / "a.dcm", pixels[10:-10], photometric)).pixels
    pixels[:10], pixels[-10:] = 0, 20 if limit else 0
    tags = {"PixelPaddingValue": 0} | ({"PixelPaddingRangeLimit": limit} if limit else {})
    image = read_dicom(write(tmp_path / "a.dcm", pixels, photometric, **tags)).pixels
    assert (image[:10] == 0).all() and (image[-10:] == 0).all()
    assert np.abs(image[10:-10].astype(int) - bare).max() <= 2


@pytest.mark.parametrize("target", [None, Target(16, False)], ids=["whole", "reduced"])
def test_gray_of_a_further_interpretation_may_have_any_integer_type(tmp_path, monkeypatch, target):
    """RGB as one entry of the table, whose weighted sum is numpy's default of 64 bits."""
    def mean(values, dataset):
        return values.sum(axis=2) // 3

    monkeypatch.setitem(PHOTOMETRICS, "RGB", Photometric(samples=3, to_gray=mean))
    gray = (RAMP // 16).astype(np.uint8)
    path = write(tmp_path / "gray.dcm", gray, bits=8)
    color = dcmread(path)
    color.PhotometricInterpretation, color.SamplesPerPixel, color.PlanarConfiguration = "RGB", 3, 0
    color.PixelData = np.repeat(gray[..., None], 3, axis=2).tobytes()
    color.save_as(tmp_path / "color.dcm")
    images = [read_dicom(tmp_path / name, target) for name in ("color.dcm", "gray.dcm")]
    assert np.array_equal(images[0].pixels, images[1].pixels)
