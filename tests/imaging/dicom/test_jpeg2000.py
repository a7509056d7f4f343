"""Reduced decoding against the whole one and against known answers."""

import cv2
import numpy as np
import pydicom
import pytest
from dicom_samples import write
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless

from vindr_det.imaging.dicom import file, jpeg2000, pixels, read_dicom
from vindr_det.imaging.dicom.stream import StreamHeader, read_header
from vindr_det.imaging.resize import Target, resize, resize_to
from vindr_det.phantom.dicom_file import Header, write_dicom
from vindr_det.phantom.radiograph import render


def stream_of(path):
    return next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1024, 1200), (1023, 1201), (1019, 1197)])
@pytest.mark.parametrize("ratio", [1, 1.3, 5])
def test_a_ramp_stays_where_it_is(tmp_path, times, shape, ratio):
    """The average of a plane over a cell is its height at the cell's middle, also where the
    sides are no multiples of the block's."""
    y, x = np.indices(shape)
    path = write(tmp_path / "a.dcm", (20 * y + 13 * x).astype(np.uint16), bits=16,
                 syntax=JPEG2000Lossless)
    stream = stream_of(path)
    header = read_header(stream)
    rows, columns = (round(side / 2**times / ratio) for side in shape)
    got = jpeg2000.cell_averages(jpeg2000.low_pass(stream, header, times), header, times, (rows, columns))
    assert got.shape == (rows, columns) and got.flags.c_contiguous
    middle = 20 * ((np.arange(rows)[:, None] + 0.5) * shape[0] / rows - 0.5)
    middle = middle + 13 * ((np.arange(columns) + 0.5) * shape[1] / columns - 0.5)
    # The wavelet mirrors the image at its borders, which bends the ramp there.
    assert np.abs(got - middle)[2:-3, 2:-3].max() < 4
    assert np.abs(got - middle).max() < 33 * 2**times / 2


def test_cell_averages_are_those_of_the_curve_integrated_numerically():
    """scipy's Keys cubic has slope -.5; ours is compared with its definition, summed finely."""
    samples = np.random.default_rng(0).normal(size=(40, 30)).astype(np.float32)
    header = StreamHeader(80, 60, 1, 12, False, 5)
    got = jpeg2000.cell_averages(samples, header, 1, (33, 25))
    fine = 400

    def curve(pixels, cells, count):
        at = ((np.arange(cells * fine) + 0.5) / fine * pixels / cells - 0.5) / 2
        d = np.abs(at[:, None] - np.arange(-4, count + 4))
        a = jpeg2000._SLOPE
        near = (a + 2) * d**3 - (a + 3) * d**2 + 1
        far = a * (d**3 - 5 * d**2 + 8 * d - 4)
        kernel = np.where(d <= 1, near, np.where(d < 2, far, 0))
        kernel[:, 4] += kernel[:, :4].sum(1)
        kernel[:, -5] += kernel[:, -4:].sum(1)
        return kernel[:, 4:-4].reshape(cells, fine, count).mean(1)

    assert np.abs(got - curve(80, 33, 40) @ samples @ curve(60, 25, 30).T).max() < 1e-4


@pytest.mark.parametrize("levels, shape, expected", [
    (5, (1357, 1142), 1), (5, (1358, 1142), 0), (5, (512, 431), 2), (5, (529, 440), 1), (5, (256, 216), 3),
    (5, (600, 505), 1), (0, (256, 216), 0), (1, (256, 216), 1), (5, (64, 64), 3),
])
def test_the_smallest_resolution_that_is_good_for_the_target(levels, shape, expected):
    stream = StreamHeader(2850, 2400, 1, 12, False, levels)
    assert jpeg2000.choose_reduction(stream, shape) == expected


@pytest.mark.parametrize("stream", [
    StreamHeader(2850, 2400, 3, 8, False, 5), StreamHeader(2850, 2400, 1, 12, True, 5),
    StreamHeader(2850, 2400, 1, 12, None, 0), StreamHeader(900, 900, 1, 12, False, 5),
    StreamHeader(2850, 2400, 1, 12, False, 5, reversible=False),
])
def test_what_is_never_reduced(stream):
    assert jpeg2000.choose_reduction(stream, (100, 100)) == 0


@pytest.fixture(scope="module")
def films(tmp_path_factory):
    """Phantoms whose sides are no multiples of 8, at several depths, with and without window."""
    folder = tmp_path_factory.mktemp("films")
    shapes = [(1501, 1203), (1150, 1397)]
    for number, (shape, bits) in enumerate(zip(shapes, (12, 16), strict=True)):
        film = render(np.random.default_rng(number), *shape, [3, 8], bits)
        header = Header(JPEG2000Lossless, bits, bool(number), bool(number), 0.14, "050Y", True)
        write_dicom(folder / f"{number}.dicom", str(number), film, header)
    return sorted(folder.iterdir())


@pytest.mark.parametrize("target", [
    Target(160, True), Target(256, True), Target(512, True), Target(650, True), Target(300, False)])
def test_reduced_equals_whole_on_phantoms(films, target, monkeypatch):
    for path in films:
        _compare(path, target, monkeypatch)


@pytest.mark.parametrize("size", [256, 512])
def test_reduced_equals_whole_on_real_images(data, size, monkeypatch):
    for path in (data / "vinbig/dicom").glob("*.dicom"):
        _compare(path, Target(size, True), monkeypatch)


def _compare(path, target, monkeypatch):
    """At most 2 grays in the mean and 12 at the 99.9th percentile, averaged before or after the
    window."""
    reduced = read_dicom(path, target)
    stored = pixels.Stored(pydicom.dcmread(path).pixel_array)
    with monkeypatch.context() as patch:
        patch.setattr(file, "decode", lambda *_: stored)
        whole = read_dicom(path, target)
        after = resize(read_dicom(path).pixels, target)
    assert whole.reduced == 0 and reduced.pixels.shape == whole.pixels.shape
    assert reduced.reduced > 0 or target.size >= 940
    for reference in (whole.pixels, after):
        difference = np.abs(reduced.pixels.astype(int) - reference)
        assert difference.mean() <= 2 and np.percentile(difference, 99.9) <= 12


def details(image):
    return cv2.Laplacian(image.pixels, cv2.CV_32F)[2:-2, 2:-2].std()


def sharpness(path, sizes, monkeypatch):
    """Per size: how often halved, the ratio of the Laplacian's standard deviation to that of the
    image decoded whole, and the mean difference in grays."""
    ours = [read_dicom(path, Target(size, True)) for size in sizes]
    stored = pixels.Stored(pydicom.dcmread(path).pixel_array)
    with monkeypatch.context() as patch:
        patch.setattr(file, "decode", lambda *_: stored)
        whole = [read_dicom(path, Target(size, True)) for size in sizes]
    for our, other in zip(ours, whole, strict=True):
        difference = np.abs(our.pixels.astype(int) - other.pixels).mean()
        yield our.reduced, details(our) / details(other), difference


@pytest.mark.parametrize("number", [0, *(pytest.param(n, marks=pytest.mark.slow) for n in (1, 2))])
def test_as_sharp_as_a_whole_decode_at_every_size(data, monkeypatch, number):
    """From just below an eighth of the original to just below half of it, across each change."""
    path = sorted((data / "vinbig/dicom").glob("*.dicom"))[number]
    small = read_dicom(path, Target(16, True))
    expected = {0.06: 3, 0.08: 3, 0.092: 3, 0.094: 2, 0.1: 2, 0.125: 2, 0.15: 2, 0.184: 2, 0.187: 1, 0.2: 1,
                0.25: 1, 0.3: 1, 0.35: 1, 0.4: 1, 0.45: 1, 0.475: 1, 0.48: 0, 0.6: 0}
    sizes = [round(share * max(small.height, small.width)) for share in expected]
    results = list(sharpness(path, sizes, monkeypatch))
    assert [reduced for reduced, *_ in results] == list(expected.values())
    for reduced, ratio, difference in results:
        assert 0.9 < ratio < 1.1 and difference < 0.85 and (reduced or ratio == 1), results


def test_as_sharp_on_phantoms(films, monkeypatch):
    for path in films:
        for _, ratio, difference in sharpness(path, [178, 256, 300, 357, 400, 512, 600, 650], monkeypatch):
            assert 0.9 < ratio < 1.1 and difference < 0.4, (path.name, ratio, difference)


def test_samples_taken_for_pixels_would_not_pass(films, monkeypatch):
    """Resized as they are, the low-pass samples lie half a block off."""
    (_, _, ours), = sharpness(films[0], [512], monkeypatch)
    monkeypatch.setattr(jpeg2000, "cell_averages",
                        lambda samples, header, times, shape: resize_to(samples, shape))
    (_, _, plain), = sharpness(films[0], [512], monkeypatch)
    assert plain > 1.5 * ours


def test_the_decoder_agrees_with_pydicom_at_full_size(films):
    for path in films:
        ds = pydicom.dcmread(path)
        stream = stream_of(path)
        assert np.array_equal(jpeg2000.low_pass(stream, read_header(stream), 0), ds.pixel_array)


def test_a_stream_with_fewer_levels_than_its_header_is_decoded_whole(films, monkeypatch):
    def fail(*_):
        raise OSError("broken data stream")

    monkeypatch.setattr(jpeg2000, "low_pass", fail)
    assert read_dicom(films[0], Target(256, True)).reduced == 0
