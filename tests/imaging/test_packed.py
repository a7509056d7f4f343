"""Packed files: their pixels are the files', whatever the images' sizes, and no row reads another's."""

import os
import pickle

import numpy as np
import pytest

from vindr_det.exceptions import InputError
from vindr_det.files import write_png
from vindr_det.imaging.packed import IdRows, PackedImages, pack, warn_if_newer


def write(folder, shapes):
    rng = np.random.default_rng(0)
    folder.mkdir()
    images = {name: rng.integers(0, 256, shape).astype(np.uint8) for name, shape in shapes.items()}
    for name, image in images.items():
        write_png(folder / f"{name}.png", image)
    return images


@pytest.mark.parametrize("shapes", [
    {"only": (1, 1)},
    {"b": (8, 6), "a": (8, 6)},
    {"b": (8, 6), "a": (6, 8)},  # as many pixels
    {"b": (9, 4), "lungs-é": (64, 50), "a": (1, 7), "aa": (64, 64)},
])
def test_packed_are_the_files(shapes, tmp_path):
    images = write(tmp_path / "png", shapes)
    pack(tmp_path / "png", list(images), tmp_path / "packed.npy")
    packed = PackedImages(tmp_path / "packed.npy")
    for mapping in (packed, pickle.loads(pickle.dumps(packed))):
        assert list(mapping) == list(images)
        assert all(np.array_equal(mapping[name], image) for name, image in images.items())
    assert "zz" not in packed and "" not in packed and not packed["".join(list(images)[:1])].flags.writeable
    assert len(pickle.dumps(packed)) < 1000  # the path, not the pixels
    records = np.load(tmp_path / "packed.npy", mmap_mode="r")
    one_size = len(set(shapes.values())) == 1
    assert records.dtype.names == (("image_id", "pixels") if one_size else
                                   ("image_id", "height", "width", "pixels"))


@pytest.mark.parametrize("ids, message", [
    ([], "there is no image to pack"), (["a", "b"], "b.png: no such file"),
    (["a", "c"], "c.png: cannot be decoded as PNG"), (["a", "a"], "packed.npy: has 2 images a"),
])
def test_what_cannot_be_packed(ids, message, tmp_path):
    write(tmp_path / "png", {"a": (8, 6)})
    (tmp_path / "png/c.png").write_bytes(b"nothing")
    with pytest.raises(InputError, match=message):
        pack(tmp_path / "png", ids, tmp_path / "packed.npy")
    assert not (tmp_path / "packed.npy").exists()


def records(dtype, *rows):
    return np.array(list(rows), np.dtype([("image_id", "S1"), *dtype]))


SIZED = [("height", "u4"), ("width", "u4"), ("pixels", "u1", (4,))]


@pytest.mark.parametrize("content, message", [
    (b"", "not a packed file"),
    (np.zeros(3), "expected records of image_id and pixels"),
    (records([("pixels", "u1", (8, 8, 3))], (b"a", 0)), "expected records of image_id and pixels"),
    (records([("pixels", "f4", (8, 8))], (b"a", 0)), "expected records of image_id and pixels"),
    (records([("pixels", "u1", (0, 8))], (b"a", np.zeros((0, 8)))), "its images have no pixels"),
    (records([("pixels", "u1", (2, 2))], (b"a", 0))[0], "expected records of image_id and pixels"),
    (records(SIZED, (b"a", 2, 2, 0), (b"b", 5000, 2, 0)), "record 1 has height 5000 and width 2, expected 1"),
    (records(SIZED, (b"a", 0, 2, 0)), "record 0 has height 0 and width 2"),
    (records(SIZED, (b"a", 2**31, 2**31, 0)), "record 0 has height 2147483648"),
    (records(SIZED, (b"a", 2, 2, 0), (b"b", 2, 1, 0), (b"a", 1, 1, 0)), "has 2 images a, expected one"),
])
def test_files_that_hold_no_images(content, message, tmp_path):
    path = tmp_path / "p.npy"
    path.write_bytes(content) if isinstance(content, bytes) else np.save(path, content)
    with pytest.raises(InputError, match=f"p.npy: .*{message}"):
        PackedImages(path)


@pytest.mark.parametrize("newer, expected", [([], 0), (["a"], 1), (["a", "b"], 2)])
def test_images_that_are_newer_than_the_file(newer, expected, tmp_path, caplog):
    write(tmp_path / "png", {"a": (8, 6), "b": (8, 6)})
    pack(tmp_path / "png", ["a", "b"], tmp_path / "packed.npy")
    for name in newer:
        os.utime(tmp_path / f"png/{name}.png", (2**32, 2**32))
    warn_if_newer(tmp_path / "packed.npy", [tmp_path / f"png/{name}.png" for name in "abc"])
    assert f"older than {expected} of its images" in caplog.text if expected else not caplog.text


@pytest.mark.parametrize("ids", [[], ["b", "a", "ab"], [f"{i:x}" for i in range(300)]])
def test_rows_of_ids(ids):
    rows = IdRows(ids)
    assert [rows[image_id] for image_id in ids] == list(range(len(ids)))
    with pytest.raises(KeyError):
        rows["none"]
