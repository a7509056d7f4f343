"""Some of a folder's images, and the ids that they get."""

import gzip

import cv2
import numpy as np
import pytest

from vindr_det.exceptions import InputError
from vindr_det.imaging.choice import Choice, choice_of_ids
from vindr_det.imaging.image_run import find


def png(path, height=120, width=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)
    path.write_bytes(cv2.imencode(".png", noise)[1].tobytes())


@pytest.mark.parametrize("content, expected", [
    ("b\na\n", ["b", "a"]), ("\ufeffb.png\r\n\r\n  a \r\nb\r\n", ["b", "a"]), ("image_id\nc\n", ["c"]),
    ('"image_id"\n"c"\n"a"\n', ["c", "a"]), ('"image_id"\nb\n', ["b"]), ('"fold","image_id"\n0,"b"\n', ["b"]),
    ("image_id,fold\nc,0\na,1\n", ["c", "a"]), ("fold;Image_ID\n0;b\n", ["b"]),
])
def test_a_list_of_ids(tmp_path, content, expected):
    for name in "abc":
        png(tmp_path / f"images/{name}.png")
    (tmp_path / "ids.txt").write_text(content, encoding="utf-8")
    run = find(tmp_path / "images", choice=choice_of_ids(tmp_path / "ids.txt"))
    assert run.readable == expected


@pytest.mark.parametrize("content, message", [
    (b"", "holds no image id, expected one per line"), (b"image_id\n", "holds no image id"),
    (b"id,fold\na,0\n", "image_id"), (b"a\nx\ny\n", "ids.txt: image x is not in .*images .2 of 3 are not"),
    (gzip.compress(b"a", mtime=0), "not UTF-8"), (None, "No such file"),
])
def test_a_list_that_cannot_be_used(tmp_path, content, message):
    png(tmp_path / "images/a.png")
    if content is not None:
        (tmp_path / "ids.txt").write_bytes(content)
    with pytest.raises(InputError, match=message):
        find(tmp_path / "images", choice=choice_of_ids(tmp_path / "ids.txt"))


def test_a_data_set_names_files_ids_and_sizes(tmp_path):
    for name in ("one/a", "two/a", "c"):
        png(tmp_path / f"{name}.png")
    (tmp_path / "meta.csv").write_text("image_id,dim0,dim1\nc,7,7\n")
    sizes = {"first": (1200, 1000), "second": (240, 200)}
    choice = Choice("fold0.json", {"two/a.png": "first", "one/a.png": "second"}, sizes)
    run = find(tmp_path, choice=choice)
    assert [(source.image_id, source.file) for source in run.inputs] == [
        ("first", "two/a.png"), ("second", "one/a.png")]
    assert run.sizes == sizes and run.of_unknown_size == [] and run.first(1).readable == ["first"]
