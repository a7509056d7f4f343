"""Status tables of runs, and of files that are made of others."""

import csv
import json

import numpy as np
import pytest

from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.imaging.status import (
    FAILED,
    FLAGGED,
    OK,
    Status,
    read_failed,
    read_statuses,
    status_path,
    status_path_of,
    write_status,
)
from vindr_det.structures.detections import Predictions
from vindr_det.submission import write_submission
from vindr_det.submission.outputs import inherited, predictions_path, write_results

UIDS = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.4"}
NORMAL = Predictions(np.array([[0.0, 0, 1, 1]]), np.array([1.0]), np.array([14]))
CT = Status("ct", "a/ct.dcm", "flagged", "modality CT is not radiography", UIDS, 1200, 1000)
GOOD = Status("good", "good.dcm", OK, "", UIDS, 900, 800)
LOST = Status("lost", "lost.dcm", FAILED, "cut", UIDS)


def test_a_table_comes_back_whole(tmp_path):
    write_status(status_path(tmp_path / "s.csv"), [CT, GOOD, LOST])
    assert list(read_statuses(tmp_path / "s.csv").values()) == [CT, GOOD, LOST]
    assert read_statuses(tmp_path / "t.csv") == {}


@pytest.mark.parametrize("rows, message", [
    ("a,maybe,\n", "s.status.csv, row 2: status 'maybe' of image a, expected ok, flagged or failed"),
    ("a,,\n", "row 2: status '' of image a"),
    ("a,ok,\nb,failed,cut\na,failed,cut\n", "row 4: image a is failed, but ok above, expected a row"),
])
def test_a_damaged_table_is_refused(tmp_path, rows, message):
    write_text(tmp_path / "s.status.csv", f"image_id,status,reason\n{rows}")
    with pytest.raises(InputError, match=message):
        read_statuses(tmp_path / "s.csv")
    write_text(tmp_path / "s.status.csv", "image_id,status,reason\na,ok,\na,ok,\n")
    assert list(read_statuses(tmp_path / "s.csv")) == ["a"]


def parts(*groups):
    return [{row.image_id: row for row in group} for group in groups]


@pytest.mark.parametrize("inputs, ids, rows", [
    ([[]], [], []),
    ([[CT, GOOD, LOST]], ["ct", "good"], [CT, GOOD, LOST]),
    ([[], [CT]], ["ct", "x"], [CT, Status("x", "")]),  # the first file came without a table
    ([[CT], [Status("ct", "ct.png")]], ["ct"], [CT]),
    ([[Status("ct", "ct.png", "flagged", "lateral")], [CT]], ["ct"],
     [Status("ct", "ct.png", "flagged", f"lateral; {CT.reason}", UIDS, 1200, 1000)]),
    ([[GOOD], [Status("good", "good.png", FAILED, "cut")]], ["good"],
     [Status("good", "good.dcm", "flagged", "was not read for 1 of the 2 files", UIDS, 900, 800)]),
    ([[Status("lost", "", FAILED, "gone")], [LOST]], [],
     [Status("lost", "lost.dcm", FAILED, "gone; cut", UIDS)]),
])
def test_what_a_file_inherits(inputs, ids, rows):
    assert inherited(ids, parts(*inputs)) == rows


def results(out):
    return {path.name for path in out.parent.iterdir()}


def test_results_are_of_one_run(tmp_path):
    """All are written or none, and what this run does not write is not left of an earlier one."""
    out = tmp_path / "s.csv"
    write_results(out, {"good": NORMAL}, [GOOD], "first\n")
    assert results(out) == {"s.csv", "s.predictions.csv", "s.predictions.json", "s.status.csv"}
    status_path(out).unlink()
    status_path(out).mkdir()  # cannot be written over
    with pytest.raises(InputError, match="s.status.csv"):
        write_results(out, {"ct": NORMAL}, [CT], "second\n")
    assert out.read_text() == "first\n" and "ct" not in predictions_path(out).read_text()
    status_path(out).rmdir()
    write_results(out, {}, [LOST], None)
    assert results(out) == {"s.predictions.csv", "s.predictions.json", "s.status.csv"}


def test_what_fuse_gate_and_fix_pass_on(tool, tmp_path):
    box = "3 0.8 1 2 30 40 14 0.2 0 0 1 1"
    submission = f"image_id,PredictionString\nct,{box}\ngood,{box}\nlost,14 1 0 0 1 1\n"
    for name in ("a", "b"):
        write_text(tmp_path / f"{name}.csv", submission)
        write_status(tmp_path / f"{name}.status.csv", [CT, GOOD, LOST])
    write_text(tmp_path / "m.csv", "image_id,dim0,dim1\nct,1200,1000\ngood,900,800\n")
    write_text(tmp_path / "f.predictions.csv", "of an earlier run\n")
    run = tool("fuse.py", "--predictions", tmp_path / "a.csv", tmp_path / "b.csv",
               "--meta", tmp_path / "m.csv", "--out", tmp_path / "f.csv")
    assert run.returncode == 0, run.stderr
    run = tool("check_submission.py", tmp_path / "f.csv", "--fix", tmp_path / "c.csv")
    assert run.returncode == 0, run.stderr
    for name in ("f", "c"):
        rows = read_statuses(tmp_path / f"{name}.csv")
        assert rows == {"ct": CT, "good": GOOD, "lost": rows["lost"]} and "cut" in rows["lost"].reason
    rows = list(csv.DictReader((tmp_path / "f.predictions.csv").read_text().splitlines()))
    assert [(row["image_id"], row["class_name"], row["status"]) for row in rows] == [
        ("ct", "Cardiomegaly", FLAGGED), ("good", "Cardiomegaly", OK), ("lost", "", FAILED)]
    assert {row["SOPInstanceUID"] for row in rows} == {"1.2.3.4"} and "cut" in rows[2]["reason"]
    images = json.loads((tmp_path / "f.predictions.json").read_text())["images"]
    assert [(image["status"], image["boxes"] and len(image["boxes"])) for image in images] == [
        (FLAGGED, 1), (OK, 1), (FAILED, None)]


def test_the_boxes_table_is_of_the_same_run_as_its_submission(tool, tmp_path):
    """An image that was not read stays so where S.predictions.csv is fused: it is not one without boxes."""
    box = Predictions(np.array([[1.0, 2, 30, 40]]), np.array([0.8]), np.array([3]))
    write_results(tmp_path / "s.csv", {"good": box}, [GOOD, LOST], "submission\n")
    assert read_failed(tmp_path / "s.predictions.csv").keys() == {"lost"}
    assert status_path_of(tmp_path / "s.predictions.csv") == tmp_path / "s.status.csv"
    write_text(tmp_path / "m.csv", "image_id,dim0,dim1\ngood,900,800\nlost,900,800\n")
    run = tool("fuse.py", "--predictions", tmp_path / "s.predictions.csv", "--meta",
               tmp_path / "m.csv", "--out", tmp_path / "f.csv")
    assert run.returncode == 0, run.stderr
    assert {name: row.status for name, row in read_statuses(tmp_path / "f.csv").items()} == {
        "good": OK, "lost": FAILED}


def test_a_submission_that_cannot_be_written_leaves_the_old_one(tmp_path):
    write_text(tmp_path / "s.csv", "old\n")
    with pytest.raises(InputError, match="no prediction"):
        write_submission(tmp_path / "s.csv", {}, ["a"])
    assert (tmp_path / "s.csv").read_text() == "old\n"
