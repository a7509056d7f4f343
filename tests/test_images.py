import cv2
import numpy as np
import pydicom
import pytest
from pydicom.dataset import Dataset, FileMetaDataset
from pydicom.uid import ExplicitVRLittleEndian

from vindr_det.errors import InputError
from vindr_det.images import read_image, resize


def dicom(tmp_path, pixels, photometric="MONOCHROME2", bits=12, **tags):
    ds = Dataset()
    ds.file_meta = FileMetaDataset()
    ds.file_meta.TransferSyntaxUID = ExplicitVRLittleEndian
    ds.file_meta.MediaStorageSOPClassUID = "1.2.840.10008.5.1.4.1.1.1.1"
    ds.file_meta.MediaStorageSOPInstanceUID = "1.2.3"
    ds.SamplesPerPixel, ds.PhotometricInterpretation = 1, photometric
    ds.Rows, ds.Columns = pixels.shape
    ds.BitsAllocated, ds.BitsStored, ds.HighBit, ds.PixelRepresentation = 16, bits, bits - 1, 0
    ds.PixelData = pixels.astype("<u2").tobytes()
    ds["PixelData"].VR = "OW"
    for key, value in tags.items():
        setattr(ds, key, value)
    path = tmp_path / "a.dicom"
    ds.save_as(path, enforce_file_format=True)
    return path


RAMP = np.arange(4096, dtype=np.uint16).reshape(64, 64)


def test_window_follows_the_standards_linear_function(tmp_path):
    image = read_image(dicom(tmp_path, RAMP, WindowCenter=2048, WindowWidth=1024))
    # PS3.3 C.11.2.1.2.1, written out for 0..255.
    x = RAMP.astype(float)
    expected = ((x - 2047.5) / 1023 + 0.5) * 255
    expected[x <= 2047.5 - 511.5] = 0
    expected[x > 2047.5 + 511.5] = 255
    assert np.abs(image.pixels - expected).max() <= 0.5
    assert image.window == "window 2048/1024"


def test_monochrome1_is_the_mirror_of_monochrome2(tmp_path):
    plain = read_image(dicom(tmp_path, RAMP, WindowCenter=2048, WindowWidth=4096)).pixels
    turned = read_image(dicom(tmp_path, RAMP, "MONOCHROME1", WindowCenter=2048, WindowWidth=4096))
    assert np.array_equal(turned.pixels, 255 - plain)


def test_inversion_does_not_depend_on_the_images_maximum(tmp_path):
    """The same tissue looks the same with and without a bright letter beside it."""
    tissue = np.full((64, 64), 1000, np.uint16)
    letter = tissue.copy()
    letter[:8, :8] = 4095
    tags = {"WindowCenter": 2048, "WindowWidth": 4096}
    one = read_image(dicom(tmp_path, tissue, "MONOCHROME1", **tags)).pixels
    two = read_image(dicom(tmp_path, letter, "MONOCHROME1", **tags)).pixels
    assert one[40, 40] == two[40, 40]


def test_without_window_percentiles_ignore_a_hot_pixel(tmp_path):
    pixels = np.tile(np.linspace(500, 900, 64).astype(np.uint16), (64, 1))
    pixels[3, 3] = 4095
    image = read_image(dicom(tmp_path, pixels))
    assert image.window == "percentile"
    assert image.pixels[0, 0] <= 5 and image.pixels[0, -1] >= 250


def test_several_windows_take_the_first(tmp_path):
    path = dicom(tmp_path, RAMP, WindowCenter=[2048, 100], WindowWidth=[4096, 10])
    assert read_image(path).window == "window 2048/4096"


@pytest.mark.parametrize("name, content, message", [
    ("a.dicom", b"nothing", "not a DICOM file"),
    ("a.png", b"nothing", "cannot be decoded as PNG"),
    ("a.jpg", b"", "cannot be decoded as JPG"),
    ("a.tiff", b"x", "unknown image format"),
])
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / name)


def test_truncated_pixels_are_refused(tmp_path):
    path = dicom(tmp_path, RAMP)
    ds = pydicom.dcmread(path)
    ds.PixelData = ds.PixelData[:1000]
    ds.save_as(path)
    with pytest.raises(InputError, match="cannot be decoded"):
        read_image(path)


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_any_channels_is_gray(tmp_path, channels):
    gray = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    image = gray if channels == 1 else cv2.cvtColor(
        gray, cv2.COLOR_GRAY2BGR if channels == 3 else cv2.COLOR_GRAY2BGRA)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, gray)


@pytest.mark.parametrize("shape, size, keep, expected", [
    ((300, 200), 150, True, (150, 100)),
    ((300, 200), 150, False, (150, 150)),
    ((300, 200), 600, True, (300, 200)),
    ((300, 200), 0, False, (300, 200)),
])
def test_resize(shape, size, keep, expected):
    assert resize(np.zeros(shape, np.uint8), size, keep).shape == expected


def test_shrinking_averages_areas():
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.ptp(resize(checks, 32, True)) <= 1


def test_three_real_dicoms(data):
    for path in sorted((data / "vinbig/dicom").glob("*.dicom")):
        image = read_image(path)
        assert image.photometric == "MONOCHROME1" and image.bits == 12
        # Bright spine, dark air beside the neck: the polarity is right.
        height, width = image.pixels.shape
        spine = image.pixels[height // 2:, width // 2 - 50:width // 2 + 50].mean()
        assert spine > 1.5 * image.pixels[: height // 12, : width // 12].mean()
