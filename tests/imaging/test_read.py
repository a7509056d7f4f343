import zlib
from dataclasses import replace
from pathlib import Path

import cv2
import numpy as np
import pytest
from dicom_samples import write
from pydicom.uid import (
    DeflatedExplicitVRLittleEndian,
    ExplicitVRBigEndian,
    JPEG2000Lossless,
)

from vindr_det.exceptions import InputError
from vindr_det.imaging.dicom.identity import read_uids
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target


@pytest.mark.parametrize("name, content, message", [
    ("a.dicom", b"nothing", "not a DICOM file"),
    ("a.png", b"nothing", "cannot be decoded as PNG"),
    ("a.jpg", b"", "cannot be decoded as JPG"),
    ("a.tiff", b"x", "unknown image format"),
    ("a", b"", "unknown image format"),
])
def test_bad_files(tmp_path, name, content, message):
    (tmp_path / name).write_bytes(content)
    with pytest.raises(InputError, match=message):
        read_image(tmp_path / name)


def outcome(path: Path, **content: bytes):
    """Of reading a file: all values of the image, or the error."""
    try:
        image = read_image(path, Target(64, True), also=[Target(32, False)], **content)
    except InputError as error:
        return str(error)
    arrays = image.pixels, *image.views.values()
    return [array.tolist() for array in arrays], replace(image, pixels=image.pixels[:0], views={}).__repr__()


def test_a_file_in_memory_is_read_as_one_on_a_disk(tmp_path):
    gray = np.tile(np.arange(64, dtype=np.uint16) * 64, (48, 1))
    for place, syntax in enumerate((None, ExplicitVRBigEndian, DeflatedExplicitVRLittleEndian,
                                    JPEG2000Lossless)):
        write(tmp_path / f"{place}.dcm", gray, syntax=syntax)
    large = write(tmp_path / "large.dcm", np.tile(gray, (5, 8)))  # its pixels are left in the file
    (tmp_path / "cut.dcm").write_bytes(large.read_bytes()[:-9])
    for name in ("a.png", "a.jpg"):
        cv2.imwrite(str(tmp_path / name), (gray >> 4).astype(np.uint8))
        (tmp_path / f"cut_{name}").write_bytes((tmp_path / name).read_bytes()[:200])
    (tmp_path / "empty.dcm").write_bytes(b"")
    for path in tmp_path.iterdir():
        content = path.read_bytes()
        expected = outcome(path), read_uids(path)
        path.unlink()
        assert (outcome(path, content=content), read_uids(path, content)) == expected, path.name


def test_real_files_in_memory_are_read_as_on_a_disk(data):
    for path in (data / "dicom_cases").glob("*/*"):
        assert outcome(path, content=path.read_bytes()) == outcome(path), path.name


@pytest.mark.parametrize("channels", [1, 3, 4])
def test_png_of_any_channels_is_gray(tmp_path, channels):
    gray = np.tile(np.arange(64, dtype=np.uint8) * 4, (48, 1))
    image = gray if channels == 1 else cv2.cvtColor(
        gray, cv2.COLOR_GRAY2BGR if channels == 3 else cv2.COLOR_GRAY2BGRA)
    cv2.imwrite(str(tmp_path / "a.png"), image)
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, gray)


def test_16_bit_png_uses_the_range_in_use(tmp_path):
    ramp = np.tile(np.arange(1000, 3000, dtype=np.uint16), (40, 1))
    cv2.imwrite(str(tmp_path / "a.png"), ramp)
    image = read_image(tmp_path / "a.png", Target(500, True))
    assert image.bits == 16 and image.window == "percentile" and image.pixels.shape == (10, 500)
    assert (image.height, image.width) == (40, 2000)
    assert image.pixels[:, :4].max() <= 3 and image.pixels[:, -4:].min() >= 252
    assert np.all(np.diff(image.pixels[0].astype(int)) >= 0)


@pytest.mark.parametrize("name, color", [("a.png", True), ("a.jpg", True), ("a.png", False),
                                          ("a.jpg", False)])
def test_color_pictures_are_flagged(tmp_path, name, color):
    gray = np.tile(np.linspace(0, 255, 96).astype(np.uint8), (96, 1))
    image = cv2.cvtColor(gray, cv2.COLOR_GRAY2BGR)
    if color:
        image[20:60, 20:60] = (0, 0, 200)
    cv2.imwrite(str(tmp_path / name), image)
    assert read_image(tmp_path / name).flags == (("color",) if color else ())


def chunk(name: bytes, content: bytes, crc: bytes | None = None) -> bytes:
    code = zlib.crc32(name + content).to_bytes(4, "big") if crc is None else crc
    return len(content).to_bytes(4, "big") + name + content + code


@pytest.mark.parametrize("inserted", [
    chunk(b"zTXt", b"Comment\0\0" + zlib.compress(bytes(1_500_000))),
    chunk(b"iCCP", b"p\0\0" + zlib.compress(bytes(3_000_000))),
    chunk(b"tEXt", b"k\0hello", bytes(4)),
], ids=["zTXt", "iCCP", "CRC"])
def test_what_else_a_png_holds_does_not_matter(tmp_path, inserted):
    """Limits on texts and profiles are for those who read them."""
    gray = np.random.default_rng(0).integers(0, 255, (300, 200)).astype(np.uint8)
    png = cv2.imencode(".png", gray)[1].tobytes()
    (tmp_path / "a.png").write_bytes(png[:33] + inserted + png[33:])
    assert np.array_equal(read_image(tmp_path / "a.png").pixels, gray)


@pytest.mark.parametrize("kept", [8, 20, 33, 100, 0.5, 0.99])
@pytest.mark.parametrize("depth", [np.uint8, np.uint16])
def test_a_cut_png_is_refused(tmp_path, kept, depth):
    noise = np.random.default_rng(0).integers(0, 255, (300, 200)).astype(depth)
    png = cv2.imencode(".png", noise)[1].tobytes()
    (tmp_path / "a.png").write_bytes(png[: int(kept if kept > 1 else kept * len(png))])
    with pytest.raises(InputError):
        read_image(tmp_path / "a.png")


@pytest.mark.parametrize("name", ["a.dcm", "a.png"])
def test_one_reading_gives_every_size_as_its_own_reading_does(tmp_path, name):
    noise = np.random.default_rng(0).integers(0, 4096, (1500, 1200)).astype(np.uint16)
    if name == "a.png":
        cv2.imwrite(str(tmp_path / name), noise)
    else:
        write(tmp_path / name, noise, syntax=JPEG2000Lossless)
    targets = [Target(300, False), Target(600, True), Target(0, True)]
    image = read_image(tmp_path / name, targets[0], also=targets[1:])
    for target in targets:
        assert np.array_equal(image.at(target), read_image(tmp_path / name, target).pixels)
