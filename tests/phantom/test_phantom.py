import hashlib
from collections import Counter

import numpy as np
import pandas as pd
import pydicom
import pytest

from vindr_det.data.vinbigdata import read_annotations
from vindr_det.exceptions import InputError
from vindr_det.imaging.sizes import read_sizes
from vindr_det.phantom import make_dataset, render
from vindr_det.phantom.dicom_file import sample_header
from vindr_det.structures.label_sets import FINDINGS


def digest(folder):
    return {str(p.relative_to(folder)): hashlib.sha256(p.read_bytes()).hexdigest()
            for p in sorted(folder.rglob("*")) if p.is_file()}


def test_same_seed_same_bytes_whatever_the_workers(tmp_path):
    for name, seed, workers in (("a", 5, 1), ("b", 5, 2), ("c", 6, 2)):
        make_dataset(tmp_path / name, 5, 3, 128, seed, workers)
    a, b, c = (digest(tmp_path / name) for name in "abc")
    assert a == b
    assert a.keys() & c.keys() and a != c


def test_layout_and_readers_are_vinbigdatas(phantoms):
    raw = phantoms / "raw"
    sizes = read_sizes(raw / "train_meta.csv")
    frame = read_annotations(raw / "train.csv", sizes)  # checks every box against its image
    readers = frame.groupby("image_id")["rad_id"].nunique()
    assert (readers == 3).all() and len(readers) == 24
    normal = frame.groupby("image_id")["class_id"].agg(lambda ids: (ids == 14).all())
    mixed = frame.groupby("image_id")["class_id"].agg(lambda ids: ids.eq(14).nunique() > 1)
    assert normal.sum() == 16 and not mixed.any()
    truth = read_annotations(raw / "test_annotations.csv", read_sizes(raw / "test_meta.csv"))
    sample = pd.read_csv(raw / "sample_submission.csv")
    assert set(sample["image_id"]) == set(truth["image_id"])
    assert len(list((raw / "test").glob("*.dicom"))) == 6
    for path in (raw / "train").glob("*.dicom"):
        ds = pydicom.dcmread(path, stop_before_pixels=True)
        assert (ds.Rows, ds.Columns) == tuple(sizes.loc[path.stem])


@pytest.mark.parametrize("label", range(14), ids=FINDINGS)
def test_each_finding_changes_the_picture_inside_its_box(label):
    """The same person with and without the finding differs most within the box."""
    own = 0 if label in (0, 3) else 20  # these two are part of the build, not painted on
    film = render(np.random.default_rng(own), 256, 240, [label])
    assert len(film.findings) == 1 and film.findings[0].label == label
    x0, y0, x1, y1 = film.findings[0].box
    assert 0 <= x0 < x1 <= 240 and 0 <= y0 < y1 <= 256
    if label in (0, 3):
        return
    from vindr_det.phantom.anatomy import draw_anatomy, sample_anatomy
    from vindr_det.phantom.canvas import Canvas
    from vindr_det.phantom.findings import draw_findings

    # render's own drawing, before the exposure
    rng, canvas = np.random.default_rng(own), Canvas(256, 240)
    anatomy = sample_anatomy(rng, False, False)
    draw_anatomy(canvas, anatomy, rng)
    before = canvas.att.copy()
    box = draw_findings(canvas, anatomy, rng, [label])[0].box
    change = np.abs(canvas.att - before)
    x0, x1 = (round(v * 240) for v in (box[0] - 0.03, box[2] + 0.03))
    y0, y1 = (round(v * 256) for v in (box[1] - 0.03, box[3] + 0.03))
    assert change[max(y0, 0):y1, max(x0, 0):x1].sum() > 0.85 * change.sum() > 0


def test_headers_come_in_the_real_proportions():
    rng = np.random.default_rng(0)
    headers = [sample_header(rng) for _ in range(4000)]
    share = {k: v / 4000 for k, v in Counter(h.syntax for h in headers).items()}
    assert share["1.2.840.10008.1.2"] == pytest.approx(8965 / 15000, abs=0.03)
    assert share["1.2.840.10008.1.2.4.90"] == pytest.approx(5299 / 15000, abs=0.03)
    assert np.mean([h.inverted for h in headers]) == pytest.approx(2643 / 15000, abs=0.03)
    assert {h.bits for h in headers} == {10, 12, 14, 16}
    assert any(h.spacing is None for h in headers) and any(not h.window for h in headers)


@pytest.mark.parametrize("bits", [10, 12, 14, 16])
def test_pixels_fit_their_bits(bits):
    film = render(np.random.default_rng(1), 200, 180, [3], bits)
    assert film.pixels.shape == (200, 180)
    assert 2 ** (bits - 1) < film.pixels.max() < 2**bits


@pytest.mark.parametrize("train, test, size", [(0, 1, 256), (1, 0, 256), (1, 1, 10)])
def test_bad_numbers(tmp_path, train, test, size):
    with pytest.raises(InputError, match="expected"):
        make_dataset(tmp_path, train, test, size, 0)
