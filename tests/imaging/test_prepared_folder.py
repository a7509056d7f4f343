"""What a prepared folder tells of its images, and one that is not finished."""

import shutil
from pathlib import Path

import cv2
import numpy as np
import pytest

from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.imaging import image_run
from vindr_det.imaging.inputs import list_images

QC = "image_id,file,status,reason,dim0,dim1,StudyInstanceUID\n"


def png(path: Path, height: int = 120, width: int = 100) -> None:
    path.parent.mkdir(parents=True, exist_ok=True)
    noise = np.random.default_rng(0).integers(0, 255, (height, width), np.uint8)
    path.write_bytes(cv2.imencode(".png", noise)[1].tobytes())


@pytest.fixture(autouse=True)
def _without_processes(monkeypatch):
    """What is read here crashes nothing."""
    monkeypatch.setattr(image_run, "in_order", lambda work, items, *_: ((item, work(item)) for item in items))


def statuses(folder, **options):
    run = image_run.find(folder, **options)
    return {row.status.image_id: row.status for row in image_run.read_all(run, workers=1)}


@pytest.mark.parametrize("left", [
    {"prepare.json": "{}", "qc.partial.jsonl": ""},  # killed while it ran
    {"prepare.json": "{}", "qc.partial.jsonl": "", "qc.csv": QC + "a,a.dcm,ok,,1200,1000,\n"},  # at the end
    {"qc.partial.jsonl": ""},  # before its settings
    {"prepare.json": "{}", "meta.csv": "image_id,dim0,dim1\na,1200,1000\n"},
])
def test_a_folder_whose_preparation_was_cut_short_is_not_read(tmp_path, left):
    png(tmp_path / "data/a.png")
    for name, content in left.items():
        write_text(tmp_path / "data" / name, content)
    for read, options in ((image_run.find, {}), (list_images, {})):
        with pytest.raises(InputError, match="data: its preparation is not finished.*--resume"):
            read(tmp_path / "data", **options)
    for path, options in ((tmp_path / "data/a.png", {}), (tmp_path, {"recursive": True})):
        with pytest.raises(InputError, match="its preparation is not finished"):
            image_run.find(path, **options)
    (tmp_path / "data/a.png").unlink()
    with pytest.raises(InputError, match="its preparation is not finished"):
        image_run.find(tmp_path / "data")


def test_sizes_come_from_the_report_where_the_size_table_is_gone(tmp_path):
    png(tmp_path / "a.png")
    png(tmp_path / "b.png")
    write_text(tmp_path / "qc.csv", QC + "a,a.dcm,ok,,1200,1000,\nb,b.dcm,ok,,2400,2000,\n")
    for folder, options in ((tmp_path, {}), (tmp_path / "a.png", {})):
        assert (statuses(folder, **options)["a"].height, statuses(folder)["a"].width) == (1200, 1000)
    write_text(tmp_path / "meta.csv", "image_id,dim0,dim1\na,600,500\n")
    rows = statuses(tmp_path)
    assert (rows["a"].height, rows["b"].height) == (600, 2400)
    write_text(tmp_path / "m.csv", "image_id,dim0,dim1\na,1800,1500\nb,1800,1500\n")
    assert statuses(tmp_path, meta=tmp_path / "m.csv")["a"].height == 1800


def test_folders_below_bring_their_own_tables(tmp_path):
    for name, size in (("one", "1200,1000"), ("two", "2400,2000")):
        png(tmp_path / name / "a.png")
        rows = f"a,a.dcm,flagged,is a CT,{size},1.2\nb,b.dcm,failed,cut,,,\n"
        write_text(tmp_path / name / "qc.csv", QC + rows)
    rows = statuses(tmp_path, recursive=True)
    assert {name: (row.status, row.height) for name, row in rows.items()} == {
        "one_a": ("flagged", 1200), "two_a": ("flagged", 2400), "one_b": ("failed", None),
        "two_b": ("failed", None)}
    assert rows["one_a"].reason.startswith("is a CT") and rows["one_a"].uids["StudyInstanceUID"] == "1.2"


def test_an_image_that_failed_is_not_read_from_an_older_picture(tmp_path):
    png(tmp_path / "a.png")
    png(tmp_path / "b.png")
    write_text(tmp_path / "qc.csv", QC + "a,a.dcm,failed,holds no pixel data,,,1.2\nb,b.dcm,ok,,1200,1000,\n")
    run = image_run.find(tmp_path)
    assert run.readable == ["b"]
    rows = statuses(tmp_path)
    assert (rows["a"].status, rows["a"].reason) == ("failed", "was not prepared: holds no pixel data")
    assert rows["a"].uids["StudyInstanceUID"] == "1.2" and len(rows) == 2


@pytest.mark.parametrize("table, content", [
    ("meta.csv", "image_id,dim0,dim1\na,1200,1000\n"), ("qc.csv", QC + "a,a.dcm,ok,,1200,1000,\n"),
    ("m.csv", "image_id,dim0,dim1\na,1200,1000\n"),
])
def test_an_image_without_a_size_is_a_row(tmp_path, table, content):
    png(tmp_path / "a.png")
    png(tmp_path / "b.png")
    write_text(tmp_path / table, content)
    rows = statuses(tmp_path, meta=tmp_path / table if table == "m.csv" else None)
    assert rows["a"].height == 1200 and rows["a"].status != "failed"
    assert (rows["b"].status, rows["b"].reason) == ("failed", f"has no size in {table}")


def test_a_dicom_knows_its_own_size(phantoms, tmp_path):
    source = sorted((phantoms / "raw/test").iterdir())[0]
    shutil.copy(source, tmp_path / "a.dicom")
    shutil.copy(source, tmp_path / "b.dicom")
    own = statuses(tmp_path)["a"]
    write_text(tmp_path / "meta.csv", "image_id,dim0,dim1\na,7,9\n")
    rows = statuses(tmp_path)
    assert {(row.height, row.width, row.reason) for row in rows.values()} == {
        (own.height, own.width, own.reason)}


@pytest.mark.parametrize("file, original, other", [
    ((120, 100), (1200, 1000), False), ((120, 101), (1203, 1009), False), ((128, 104), (3072, 2500), False),
    ((120, 100), (1000, 1200), True), ((120, 100), (1200, 1100), True), ((100, 100), (1200, 1000), False),
])
def test_a_size_of_another_shape_is_flagged(tmp_path, file, original, other):
    png(tmp_path / "a.png", *file)
    write_text(tmp_path / "meta.csv", f"image_id,dim0,dim1\na,{original[0]},{original[1]}\n")
    reason = statuses(tmp_path)["a"].reason
    assert ("another shape" in reason) == other, reason


def test_a_preparation_that_failed_altogether_leaves_rows(tmp_path):
    write_text(tmp_path / "qc.csv", QC + "a,a.dcm,failed,cut,,,1.2\n")
    run = image_run.find(tmp_path)
    [row] = run.statuses_if_none_readable()
    assert (row.image_id, row.status, row.reason) == ("a", "failed", "was not prepared: cut")
    write_text(tmp_path / "qc.csv", QC)
    with pytest.raises(InputError, match="holds no image"):
        image_run.find(tmp_path)


@pytest.mark.parametrize("limit", [0, -1])
def test_a_limit_that_is_none(tmp_path, limit):
    png(tmp_path / "a.png")
    with pytest.raises(InputError, match=f"--max-pixels {limit}: expected at least 1"):
        image_run.find(tmp_path, max_pixels=limit)
