"""Where sizes of originals come from if nobody names a table."""

import logging
import shutil
from collections import Counter

import cv2
import numpy as np
import pandas as pd
import pytest

from vindr_det.exceptions import InputError
from vindr_det.imaging import original_sizes
from vindr_det.imaging.image_run import find, find_files
from vindr_det.imaging.inputs import printable
from vindr_det.imaging.sizes import read_sizes

QC = "image_id,file,status,reason,dim0,dim1,StudyInstanceUID\n"
OWN, OTHER = "image_id,dim0,dim1\na,1200,1000\nb,1200,1000\n", "image_id,dim0,dim1\na,600,500\nb,600,500\n"


def png(path, height=120, width=100):
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)
    path.write_bytes(cv2.imencode(".png", noise)[1].tobytes())


def folder(tmp_path, tables):
    for name in "ab":
        png(tmp_path / f"kaggle/test/{name}.png", 64, 64)
    for name, content in tables.items():
        (tmp_path / "kaggle" / name).write_text(content)
    return tmp_path / "kaggle/test"


@pytest.mark.parametrize("tables, height", [
    ({}, None),
    ({"test_meta.csv": OWN}, 1200),
    ({"meta.csv": OWN}, 1200),
    ({"test/test_meta.csv": OWN}, 1200),
    ({"train_meta.csv": OWN}, None),  # of another folder
    # A prepared folder's own tables win, in this order.
    ({"test/meta.csv": OWN, "test/qc.csv": QC, "test/test_meta.csv": OTHER, "test_meta.csv": OTHER}, 1200),
    ({"test/qc.csv": QC + "a,a,ok,,1200,1000,\nb,b,ok,,1200,1000,\n", "test_meta.csv": OTHER}, 1200),
    ({"test/test_meta.csv": OWN, "test_meta.csv": OTHER, "meta.csv": OTHER}, 1200),
    ({"test_meta.csv": OWN, "meta.csv": OTHER}, 1200),
    # A table of other images is not taken, nor a meta.csv of something else.
    ({"test_meta.csv": "image_id,dim0,dim1\nz,9,9\n", "meta.csv": OWN}, 1200),
    ({"meta.csv": "image_id,dim0,dim1\nz,9,9\n"}, None),
    ({"meta.csv": "camera,price\nx,1\n"}, None),
])
def test_tables_in_the_folder_and_beside_it(tmp_path, tables, height):
    images = folder(tmp_path, tables)
    for place, ids in ((images, ["a", "b"]), (images / "a.png", ["a"])):
        run = find(place)
        assert {size[0] for size in run.sizes.values()} == ({height} if height else set())
        assert run.of_unknown_size == ([] if height else ids) and run.readable == ids


@pytest.mark.parametrize("tables, height", [
    ({}, None), ({"links/set_meta.csv": OWN}, 1200), ({"links/meta.csv": OWN}, 1200),
    ({"kaggle/test_meta.csv": OWN}, 1200), ({"kaggle/test/test_meta.csv": OWN}, 1200),
    ({"links/set_meta.csv": OWN, "kaggle/test_meta.csv": OTHER}, 1200),
    ({"links/meta.csv": OTHER, "kaggle/test_meta.csv": OWN}, 1200),  # a named table is more certain
    ({"links/test_meta.csv": OTHER}, None),
])
def test_tables_beside_a_link_and_beside_its_folder(tmp_path, monkeypatch, tables, height):
    images, link = folder(tmp_path, {}), tmp_path / "links/set"
    link.parent.mkdir()
    link.symlink_to(images)
    for name, content in tables.items():
        (tmp_path / name).write_text(content)
    monkeypatch.chdir(link.parent)
    for place in (link, "set", "./set/", "set/a.png"):
        assert {size[0] for size in find(place).sizes.values()} == ({height} if height else set())


def test_a_table_is_named_once_if_it_does_not_fit(tmp_path, caplog):
    images = folder(tmp_path, {"meta.csv": "image_id,dim0,dim1\nz,9,9\n"})
    (tmp_path / "way").symlink_to(tmp_path / "kaggle")
    assert not find(tmp_path / "way" / images.name).sizes
    assert sum("has none of the images" in message for message in caplog.messages) == 1


def test_an_image_that_such_a_table_lacks_is_not_guessed(tmp_path):
    run = find(folder(tmp_path, {"test_meta.csv": "image_id,dim0,dim1\na,1200,1000\n"}))
    assert run.readable == ["a"] and run.inputs[1].problem == "has no size in test_meta.csv"


def test_a_damaged_table_of_the_folder_is_an_error(tmp_path):
    with pytest.raises(InputError, match=r"test_meta.csv, row 2: image a has size .-5, 1000"):
        find(folder(tmp_path, {"test_meta.csv": "image_id,dim0,dim1\na,-5,1000\n"}))


def test_subfolders_have_tables_of_their_own(tmp_path):
    folder(tmp_path, {"test_meta.csv": OWN})
    png(tmp_path / "kaggle/train/c.png", 64, 64)
    (tmp_path / "kaggle/train_meta.csv").write_text("image_id,dim0,dim1\nc,300,200\n")
    run = find(tmp_path / "kaggle", recursive=True)
    assert run.sizes == {"a": (1200, 1000), "b": (1200, 1000), "c": (300, 200)}


def test_real_squares_and_the_table_beside_them(data, tmp_path):
    """The sizes are those of the headers of the DICOM files that the squares were made of."""
    headers = pd.read_csv(data / "vinbig/train_dicom_headers.csv.gz", dtype={"File Name": str})
    rows = headers.assign(image_id=headers["File Name"].str.removesuffix(".dicom")).set_index("image_id")
    (tmp_path / "train").mkdir()
    for path in sorted((data / "vinbig/images_512").glob("*.jpg"))[:5]:
        shutil.copy(path, tmp_path / "train")
    shutil.copy(data / "vinbig/train_meta.csv", tmp_path)
    run = find(tmp_path / "train")
    assert len(run.sizes) == 5 and not run.of_unknown_size
    for image_id, size in run.sizes.items():
        assert size == (rows.loc[image_id, "Rows"], rows.loc[image_id, "Columns"])


def test_questions_are_one_per_folder_and_place(tmp_path, questions):
    for number in range(60):
        png(tmp_path / f"set/p/{number}/image{number}.png", 8, 8)
    (tmp_path / "set/p/meta.csv").write_text("image_id,dim0,dim1\n" + "".join(
        f"image{number},30,20\n" for number in range(60)))
    questions.clear()
    assert len(find(tmp_path / "set", recursive=True).sizes) == 60
    # Of a folder: what it is, whether it is a link, its own table, two places beside it; of a file one.
    assert questions.total() < 60 * 6 + 16 * (8 + 2 * len(tmp_path.parts))


def test_folders_of_one_image_share_what_is_beside_them(tmp_path, monkeypatch, caplog):
    """A table is read once, and named once; time grows with the images, not with images times folders."""
    for number in range(40):
        png(tmp_path / f"set/p/{number}/image{number}.png", 8, 8)
    (tmp_path / "set/p/meta.csv").write_text("image_id,dim0,dim1\n" + "".join(
        f"image{number},30,20\n" for number in range(1, 40)))
    read, stems = [], Counter()
    monkeypatch.setattr(original_sizes, "read_sizes", lambda path: read.append(path) or read_sizes(path))
    monkeypatch.setattr(original_sizes, "printable", lambda text: stems.update([text]) or printable(text))
    with caplog.at_level(logging.INFO):
        run = find(tmp_path / "set", recursive=True)
    assert len(run.sizes) == 39 and run.of_unknown_size == ["image0"]
    folders, table = tmp_path / "set/p", tmp_path / "set/p/meta.csv"
    assert read == [table] and max(stems.values()) <= 2
    assert [message for message in caplog.messages if "meta.csv" in message and "ignored" not in message] == [
        f"{folders / '1'} and 38 more folders: sizes of the originals from {table}",
        f"{table}: has none of the images of {folders / '0'} and is not taken for their sizes"]


def test_files_of_several_folders_have_the_tables_of_their_folders(tmp_path):
    for name in ("p/a", "p/b", "q/a", "r/ c"):
        png(tmp_path / f"{name}.png", 8, 8)
    for name in "pr":
        (tmp_path / name / "meta.csv").write_text("image_id,dim0,dim1\na,30,20\nc,50,40\n")
    runs = find_files([tmp_path / f"{name}.png" for name in ("q/a", "p/a", "p/b", "p/a", "r/ c")])
    assert [run.sizes for run in runs] == [{}, {"a": (30, 20)}, {}, {"a": (30, 20)}, {"c": (50, 40)}]
    assert [run.inputs[0].problem for run in runs] == ["", "", "has no size in meta.csv", "", ""]
