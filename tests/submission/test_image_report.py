"""What a run leaves for others than Kaggle: UIDs, status and reason of every input in both files."""

import csv
import json

import numpy as np
import pytest
from metric_cases import P

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.imaging.status import FAILED, FLAGGED, OK, Status
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH_BOXES
from vindr_det.submission import read_submission
from vindr_det.submission.image_report import report_text
from vindr_det.submission.outputs import predictions_path, report_path, write_results

UIDS = {"StudyInstanceUID": "1.2", "SeriesInstanceUID": "1.2.3", "SOPInstanceUID": "1.2.3.4"}
STATUSES = [Status("ct", "a/ct.dcm", FLAGGED, "modality CT", UIDS, 1200, 1000), Status("lost", "l.dcm", FAILED, "cut, off", UIDS),
            Status("clear", "clear.png", OK, "", {}, 500, 400), Status("nh", "nh.png", FLAGGED, "lateral", {}, 50, 40)]
BOXES = {"ct": P((3, 0.123456789, 1.006, 2, 30, 40), (8, 0.8, 5, 5, 9.999, 9), (14, 0.2, 0, 0, 1, 1)),
         "clear": P((14, 0.97, 0, 0, 1, 1)), "nh": P()}
PROBABILITIES = {"ct": {"p_abnormal": 0.75}, "clear": {"p_abnormal": 0.03}}


@pytest.fixture
def written(tmp_path):
    write_results(tmp_path / "s.csv", BOXES, STATUSES, "submission\n", PROBABILITIES)
    rows = list(csv.DictReader(predictions_path(tmp_path / "s.csv").read_text().splitlines()))
    return rows, json.loads(report_path(tmp_path / "s.csv").read_text()), tmp_path


def test_a_run_without_inputs():
    assert json.loads(report_text({}, []))["images"] == []


def test_each_input_is_in_the_report(written):
    _, report, _ = written
    assert report["label_set"] == "VinBigData" and report["version"] == 1
    images = {image["image_id"]: image for image in report["images"]}
    assert list(images) == ["ct", "lost", "clear", "nh"]
    for status in STATUSES:
        image = images[status.image_id]
        assert [image[name] for name in ("file", "status", "reason", "height", "width")] == [
            status.file, status.status, status.reason, status.height, status.width]
        assert [image[name] for name in UIDS] == [status.uids.get(name, "") for name in UIDS]
    assert [box["class_name"] for box in images["ct"]["boxes"]] == ["Nodule/Mass", "Cardiomegaly"]
    assert images["ct"]["boxes"][1] == {"class_id": 3, "class_name": "Cardiomegaly", "score": 0.123457,
                                        "x_min": 1.01, "y_min": 2.0, "x_max": 30.0, "y_max": 40.0}
    assert (images["ct"]["probabilities"], images["ct"]["no_finding"]) == ({"p_abnormal": 0.75}, 0.2)
    assert (images["clear"]["boxes"], images["clear"]["no_finding"]) == ([], 0.97)
    assert (images["nh"]["boxes"], images["nh"]["probabilities"], images["nh"]["no_finding"]) == ([], {}, None)


def test_an_image_that_failed_is_never_an_empty_list(written):
    rows, report, _ = written
    lost = next(image for image in report["images"] if image["image_id"] == "lost")
    assert lost["reason"] == "cut, off"
    assert [lost[name] for name in ("boxes", "probabilities", "no_finding")] == [None, None, None]
    row, = (row for row in rows if row["image_id"] == "lost")
    assert (row["status"], row["reason"], row["SOPInstanceUID"], row["class_id"], row["score"]) == (
        FAILED, "cut, off", "1.2.3.4", "", "")


def test_both_files_say_the_same(written):
    rows, report, _ = written
    assert [row["image_id"] for row in rows] == ["ct", "ct", "lost", "clear", "nh"]
    for image in report["images"]:
        own = [row for row in rows if row["image_id"] == image["image_id"]]
        assert {tuple(row[name] for name in (*UIDS, "status", "reason")) for row in own} == {
            tuple(image[name] for name in (*UIDS, "status", "reason"))}
        assert [float(row["score"]) for row in own if row["score"]] == [box["score"] for box in image["boxes"] or ()]
        assert [float(row["x_max"]) for row in own if row["x_max"]] == [box["x_max"] for box in image["boxes"] or ()]


@pytest.mark.parametrize("alone", [False, True])
def test_the_table_is_read_back_alone_too(written, alone):
    """Without the status table beside it: the image that failed is not one without boxes."""
    *_, folder = written
    if alone:
        (folder / "s.status.csv").unlink()
    back = read_submission(folder / "s.predictions.csv")
    assert {name: len(boxes) for name, boxes in back.items()} == {"ct": 2, "clear": 0, "nh": 0}
    assert np.allclose(back["ct"].boxes, [[5, 5, 10, 9], [1.01, 2, 30, 40]])


@pytest.mark.parametrize("row, message", [
    ("a,,,,,,,ok,", None), ("a,,0.5,1,2,3,4,ok,", "row 2: class_name is empty"),
    ("a,Mass,,,,,,ok,", "row 2: score nan, expected 0 to 1"), ("a,Mass,0.5,,,,,ok,", "row 2: box nan nan nan nan")])
def test_a_row_has_all_of_a_box_or_nothing(tmp_path, row, message):
    header = "image_id,class_name,score,x_min,y_min,x_max,y_max,status,reason\n"
    write_text(tmp_path / "s.predictions.csv", f"{header}{row}\nb,Nodule,0.5,1,2,3,4,ok,\n")
    if message is None:
        back = read_submission(tmp_path / "s.predictions.csv", label_set=NIH_BOXES)
        assert {name: len(boxes) for name, boxes in back.items()} == {"a": 0, "b": 1}
        return
    with pytest.raises(InputError, match=message):
        read_submission(tmp_path / "s.predictions.csv", label_set=NIH_BOXES)


def test_the_report_is_no_submission(written):
    with pytest.raises(InputError, match="s.predictions.json: "):
        read_submission(written[2] / "s.predictions.json")


@pytest.mark.parametrize("output, named", [
    (ClassifierOutput(0.5), {"p_abnormal": 0.5}),
    (ClassifierOutput(0.5, np.arange(8) / 10, NIH_BOXES), {"p_abnormal": 0.5, "p_mass": 0.4}),
    (ClassifierOutput(0.5, columns={"p_abnormal": 0.5, "p_edema": 0.1}), {"p_abnormal": 0.5, "p_edema": 0.1})])
def test_probabilities_have_the_names_of_the_classifiers_table(output, named):
    assert named.items() <= output.named.items()
    assert len(output.named) == (9 if output.findings is not None else len(named))


def test_other_label_sets(tmp_path):
    box = Predictions(np.array([[1.0, 2, 30, 40]]), np.array([0.5]), np.array([4]), NIH_BOXES)
    report = json.loads(report_text({"a": box}, [Status("a", "a.png")]))
    assert (report["label_set"], report["images"][0]["boxes"][0]["class_name"]) == ("NIH boxes", "Mass")
    assert report["images"][0]["no_finding"] is None
