"""Reduced decoding against the whole one and against known answers."""

import numpy as np
import pydicom
import pytest
from dicom_samples import write
from pydicom.encaps import generate_frames
from pydicom.uid import JPEG2000Lossless

from vindr_det.dicom import jpeg2000, read_dicom
from vindr_det.dicom.stream import StreamHeader, read_header
from vindr_det.phantom.dicom_file import Header, write_dicom
from vindr_det.phantom.radiograph import render
from vindr_det.resize import Target, resize


def stream_of(path):
    return next(generate_frames(pydicom.dcmread(path).PixelData, number_of_frames=1))


@pytest.mark.parametrize("times", [1, 2, 3])
@pytest.mark.parametrize("shape", [(1024, 1200), (1023, 1201), (1019, 1197)])
def test_a_ramp_comes_out_where_it_was(tmp_path, times, shape):
    """The average of a plane over a cell is its height at the cell's middle, also where the
    sides are no multiples of the block's."""
    y, x = np.indices(shape)
    path = write(tmp_path / "a.dcm", (20 * y + 13 * x).astype(np.uint16), bits=16,
                 syntax=JPEG2000Lossless)
    stream = stream_of(path)
    got = jpeg2000.decode_reduced(stream, read_header(stream), times)
    rows, columns = (-(-side // 2**times) for side in shape)
    assert got.shape == (rows, columns)
    middle = 20 * ((np.arange(rows)[:, None] + 0.5) * shape[0] / rows - 0.5)
    middle = middle + 13 * ((np.arange(columns) + 0.5) * shape[1] / columns - 0.5)
    # The wavelet mirrors the image at its borders, which bends the ramp there.
    assert np.abs(got - middle)[2:-3, 2:-3].max() < 4
    assert np.abs(got - middle).max() < 33 * 2**times / 2


@pytest.mark.parametrize("levels, shape, expected", [
    (5, (1425, 1200), 1), (5, (1426, 1200), 0), (5, (512, 431), 2), (5, (529, 440), 1), (5, (256, 216), 3),
    (5, (600, 505), 1), (0, (256, 216), 0), (1, (256, 216), 1), (5, (64, 64), 3),
])
def test_the_smallest_resolution_that_is_good_for_the_target(levels, shape, expected):
    stream = StreamHeader(2850, 2400, 1, 12, False, levels)
    assert jpeg2000.choose_reduction(stream, shape) == expected


@pytest.mark.parametrize("stream", [
    StreamHeader(2850, 2400, 3, 8, False, 5), StreamHeader(2850, 2400, 1, 12, True, 5),
    StreamHeader(2850, 2400, 1, 12, None, 0), StreamHeader(900, 900, 1, 12, False, 5),
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
    Target(160, True), Target(256, True), Target(512, True), Target(690, True), Target(300, False)])
def test_reduced_equals_whole_on_phantoms(films, target, monkeypatch):
    for path in films:
        _compare(path, target, monkeypatch)


@pytest.mark.parametrize("size", [256, 512, 1000])
def test_reduced_equals_whole_on_real_images(data, size, monkeypatch):
    for path in (data / "vinbig/dicom").glob("*.dicom"):
        _compare(path, Target(size, True), monkeypatch)


def _compare(path, target, monkeypatch):
    """At most 2 grays in the mean and 12 at the 99.9th percentile, averaged before or after the
    window."""
    reduced = read_dicom(path, target)
    with monkeypatch.context() as patch:
        patch.setattr(jpeg2000, "choose_reduction", lambda *_: 0)
        whole = read_dicom(path, target)
        after = resize(read_dicom(path).pixels, target)
    assert whole.reduced == 0 and reduced.pixels.shape == whole.pixels.shape
    assert reduced.reduced > 0 or target.size >= 1000
    for reference in (whole.pixels, after):
        difference = np.abs(reduced.pixels.astype(int) - reference)
        assert difference.mean() <= 2 and np.percentile(difference, 99.9) <= 12


def test_without_the_shift_it_would_not_pass(films, monkeypatch):
    """The low-pass samples as they are differ by more than the averages read off them."""
    target = Target(512, True)
    with monkeypatch.context() as patch:
        patch.setattr(jpeg2000, "choose_reduction", lambda *_: 0)
        whole = read_dicom(films[0], target).pixels.astype(int)
    ours = np.abs(read_dicom(films[0], target).pixels - whole).mean()
    monkeypatch.setattr(jpeg2000, "_cell_averages", lambda samples, *_: samples)
    bare = np.abs(read_dicom(films[0], target).pixels - whole).mean()
    assert bare > 1.5 * ours


def test_the_decoder_agrees_with_pydicom_at_full_size(films):
    for path in films:
        ds = pydicom.dcmread(path)
        stream = stream_of(path)
        assert np.array_equal(jpeg2000.low_pass(stream, read_header(stream), 0), ds.pixel_array)


def test_a_stream_with_fewer_levels_than_it_says_is_decoded_whole(films, monkeypatch):
    def fail(*_):
        raise OSError("broken data stream")

    monkeypatch.setattr(jpeg2000, "decode_reduced", fail)
    assert read_dicom(films[0], Target(256, True)).reduced == 0
