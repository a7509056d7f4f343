"""Pictures are written whole or not at all."""

import cv2
import numpy as np
import pytest

from vindr_det.exceptions import InputError
from vindr_det.files import write_png

PICTURE = np.random.default_rng(0).integers(0, 255, (90, 80, 3), np.uint8)


def test_a_picture_comes_back(tmp_path):
    write_png(tmp_path / "new/a.png", PICTURE)
    assert np.array_equal(cv2.imread(str(tmp_path / "new/a.png")), PICTURE)


def test_a_disk_that_takes_no_more_is_one_line(tmp_path):
    """A limit on the size of files stands for the full disk."""
    resource = pytest.importorskip("resource")
    limits = resource.getrlimit(resource.RLIMIT_FSIZE)
    resource.setrlimit(resource.RLIMIT_FSIZE, (1000, limits[1]))
    try:
        with pytest.raises(InputError, match=r"a.png: cannot be written \(File too large\)"):
            write_png(tmp_path / "a.png", PICTURE)
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, limits)
    assert not list(tmp_path.iterdir())
