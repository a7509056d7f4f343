from dataclasses import replace

import numpy as np
import pytest

from vindr_det.imaging.frontal_check import mediastinum_over_lungs, warnings_of
from vindr_det.imaging.read import read_image


@pytest.fixture
def film(phantoms):
    return read_image(next((phantoms / "raw/test").iterdir()))


def test_a_film_as_it_should_be(film):
    assert warnings_of(replace(film, height=2000, width=1800)) == []


@pytest.mark.parametrize("change, expected", [
    ({"height": 120, "width": 100}, "only 100 x 120 pixels"),
    ({"height": 2000, "width": 900}, "2.2 times as long as wide"),
    ({"view": "LL"}, "view LL is lateral"),
    ({"view": "lateral"}, "is lateral"),
    ({"flags": ("color",)}, "color"),
    ({"flags": ("modality CT is not radiography",)}, "modality CT is not radiography"),
])
def test_what_looks_wrong(film, change, expected):
    warnings = warnings_of(replace(film, **({"height": 2000, "width": 1800} | change)))
    assert len(warnings) == 1 and expected in warnings[0]


def test_inverted_phantoms_are_seen(phantoms):
    for path in (phantoms / "raw/train").iterdir():
        film = replace(read_image(path), height=2000, width=1800)
        assert not warnings_of(film)
        assert "inverted" in warnings_of(replace(film, pixels=255 - film.pixels))[0]


def test_real_images(data):
    """Few as they should be are warned of, and almost all that were turned over."""
    for folder, right, turned in (("vinbig", 0, 0.98), ("nih", 0.005, 0.94)):
        values = np.array([mediastinum_over_lungs(read_image(path).pixels)
                           for path in (data / folder / "images_512").iterdir()])
        assert (values < -0.05).mean() <= right and (values > 0.05).mean() >= turned
