"""Pictures are written whole or not at all."""

import cv2
import numpy as np
import pytest
from metric_cases import P, T

from vindr_det.data.coco import to_coco
from vindr_det.exceptions import InputError
from vindr_det.files import write_json, write_png
from vindr_det.structures.records import Record
from vindr_det.submission import write_submission

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


def test_images_may_be_one_file(tmp_path, tool):
    """Only this image is drawn, although its folder and the annotations have two."""
    for name in ("a", "b"):
        write_png(tmp_path / f"images/{name}.png", PICTURE[..., 0])
    records = [Record(name, f"{name}.png", 90, 80, T((3, 10, 10, 60, 60))) for name in ("a", "b")]
    write_json(tmp_path / "truth.json", to_coco(records))
    write_submission(tmp_path / "s.csv", {"a": P((5, 0.9, 20, 20, 70, 80), (6, 0.1, 0, 0, 10, 10))})
    run = tool("visualize.py", "--images", tmp_path / "images/a.png", "--annotations",
               tmp_path / "truth.json", "--predictions", tmp_path / "s.csv", "--out", tmp_path / "out")
    assert run.returncode == 0 and "1 pictures" in run.stdout, run.stderr
    assert [path.name for path in (tmp_path / "out").iterdir()] == ["a.png"]
