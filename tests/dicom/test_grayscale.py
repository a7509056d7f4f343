"""The grayscale pipeline against the standard's formulas, written out."""

import numpy as np
import pytest
from dicom_samples import RAMP, write
from pydicom.dataset import Dataset
from pydicom.sequence import Sequence

from vindr_det.dicom import read_dicom

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
    item.add_new("LUTData", "US", list(data))
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
    one, two = (read_dicom(write(tmp_path / "a.dcm", pixels, "MONOCHROME1", **tags)).pixels
                for pixels in (tissue, letter))
    assert one[40, 40] == two[40, 40]


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
