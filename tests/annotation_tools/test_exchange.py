"""Boxes to annotation tools and back: the same boxes, and one line for a file that is not theirs."""

import json

import numpy as np
import pytest

from vindr_det.annotation_tools import FORMATS, read_corrected, write_tasks
from vindr_det.data.coco import read_coco, to_coco
from vindr_det.exceptions import InputError
from vindr_det.files import write_json, write_png
from vindr_det.imaging import image_run
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH_BOXES, VINBIGDATA, LabelSet

EXPORTS = {"label-studio": "export.json", "cvat": "annotations.xml", "fiftyone": "labels.json"}
BOXES = np.array([[0, 0, 12.5, 8.25], [3.333333, 7.77, 299.99, 199.12345], [250.001, 100, 300, 200]])
OWN = LabelSet("own", ('a <b> & "c"', "plain", "x/y"))


@pytest.fixture(params=["", "smaller"])
def run(request, tmp_path):
    """Two readable images of originals of 300 x 200 pixels, and a damaged one."""
    folder = tmp_path / "images"
    folder.mkdir()
    factor = 4 if request.param else 1
    for name in ("first", "second"):
        pixels = np.random.default_rng(0).integers(0, 255, (200 // factor, 300 // factor), dtype=np.uint8)
        write_png(folder / f"{name}.png", pixels)
    (folder / "damaged.png").write_bytes(b"no picture")
    meta = tmp_path / "meta.csv"
    meta.write_text("image_id,dim0,dim1\nfirst,200,300\nsecond,200,300\ndamaged,200,300\n")
    return image_run.find(folder, meta=meta)


def exported(format, folder, **submitted):
    """What the tool exports where nobody changes a box; ``submitted`` is how Label Studio got annotations."""
    if format == "label-studio":
        tasks = json.loads((folder / "tasks.json").read_text())
        for task in tasks:
            task["annotations"] = [{"was_cancelled": False, "result": task["predictions"][0]["result"],
                                    **submitted},
                                   {"was_cancelled": True, "result": []}]
        write_json(folder / "export.json", tasks)
    return folder / EXPORTS[format]


@pytest.mark.parametrize("label_set", [VINBIGDATA, NIH_BOXES, OWN], ids=lambda label_set: label_set.name)
@pytest.mark.parametrize("format", FORMATS)
def test_boxes_come_back_the_same(format, label_set, run, tmp_path):
    boxes = Predictions(BOXES, np.array([0.9, 0.5, 0.1]), np.array([0, 2, 1]), label_set)
    given = {"first": boxes, "second": Predictions(label_set=label_set), "damaged": boxes}
    tasks, statuses = write_tasks(format, tmp_path / "out", run, given, workers=1)
    assert [task.image_id for task in tasks] == ["first", "second"]
    assert {row.image_id: row.status for row in statuses}["damaged"] == "failed"
    assert "first" not in "".join(path.name for path in (tmp_path / "out").rglob("*"))
    records, own = read_corrected(format, exported(format, tmp_path / "out"), tmp_path / "out",
                                  accept_untouched=True)
    write_json(tmp_path / "truth.json", to_coco(records, own))
    first, second = read_coco(tmp_path / "truth.json")
    assert (first.image_id, first.height, first.width) == ("first", 200, 300)
    np.testing.assert_allclose(first.truth.boxes, BOXES, atol=0.01)
    assert first.truth.labels.tolist() == [0, 2, 1] and first.label_set.findings == label_set.findings
    assert second.normal


def moved(format, path):
    """A tool's export in which the first box of the picture is a pixel wider."""
    text = path.read_text()
    if format == "cvat":
        path.write_text(text.replace('xbr="12.500000"', 'xbr="13.50"', 1))
    elif format == "fiftyone":
        data = json.loads(text)
        data["annotations"][0]["bbox"][2] += 1
        write_json(path, data)
    else:
        tasks = json.loads(text)
        tasks[0]["annotations"][0]["result"][0]["value"]["width"] += 100 / 300
        write_json(path, tasks)


def marked(format, path):
    """A tool's export in which the second picture is marked as reviewed, as far as the tool can tell."""
    if format == "cvat":
        head, last, rest = path.read_text().rpartition("</image>")
        path.write_text(f'{head}<tag label="reviewed" source="manual"></tag>{last}{rest}')
    elif format == "label-studio":
        tasks = json.loads(path.read_text())
        tasks[1]["annotations"][0]["lead_time"] = 4.2
        write_json(path, tasks)


@pytest.mark.parametrize("format, reviewed", [("label-studio", True), ("cvat", True), ("fiftyone", False)])
def test_boxes_that_nobody_looked_at_are_no_truth(format, reviewed, tmp_path, caplog):
    folder = tmp_path / "images"
    for name in ("first", "second", "third"):
        write_png(folder / f"{name}.png", np.arange(60000, dtype=np.uint8).reshape(200, 300))
    boxes = Predictions(BOXES, np.array([0.9, 0.5, 0.1]), np.array([0, 2, 1]))
    given = {"first": boxes, "second": Predictions(), "third": boxes}
    write_tasks(format, tmp_path / "out", image_run.find(folder), given, workers=1)
    path = exported(format, tmp_path / "out", parent_prediction=7, lead_time=None)
    with pytest.raises(InputError, match="no image is annotated; 3 have the boxes that the tool was given"):
        read_corrected(format, path, tmp_path / "out")
    records, _ = read_corrected(format, path, tmp_path / "out", accept_untouched=True)
    assert [record.image_id for record in records] == ["first", "second", "third"]
    moved(format, path)
    (only,), _ = read_corrected(format, path, tmp_path / "out")
    assert only.image_id == "first" and only.truth.boxes[0, 2] == pytest.approx(13.5)
    assert "left out: 2 of 3 images have the boxes" in caplog.text
    marked(format, path)
    names = [record.image_id for record in read_corrected(format, path, tmp_path / "out")[0]]
    assert names == ["first", *["third" if format == "cvat" else "second"] * reviewed]


@pytest.mark.parametrize("format, change", [
    ("cvat", ('source="auto"', 'source="auto" rotation="360.0"')),
    ("cvat", ("</image>", '<tag label="blurred"></tag></image>')),
    ("label-studio", ('"rotation": 0', '"rotation": 360')),
    ("label-studio", ('"image_rotation": 0', '"image_rotation": 360.0')),
    ("label-studio", ('"result": [{"id": "box0"',
                      '"result": [{"type": "choices", "value": {"choices": ["good"]}}, {"id": "box0"'))])
def test_whole_turns_and_what_marks_no_place_change_nothing(format, change, tmp_path, caplog):
    write_png(tmp_path / "first.png", np.arange(60000, dtype=np.uint8).reshape(200, 300))
    boxes = Predictions(BOXES, np.array([0.9, 0.5, 0.1]), np.array([0, 2, 1]))
    write_tasks(format, tmp_path / "out", image_run.find(tmp_path / "first.png"), {"first": boxes}, workers=1)
    path = exported(format, tmp_path / "out")
    text = path.read_text()
    path.write_text(text.replace(*change))
    assert path.read_text() != text
    (record,), _ = read_corrected(format, path, tmp_path / "out", accept_untouched=True)
    np.testing.assert_allclose(record.truth.boxes, BOXES, atol=0.01)
    assert ("what marks no place is ignored: 1 " in caplog.text) == ("rotation" not in change[1])


def label_studio(**changes):
    value = {"x": 1, "y": 1, "width": 5, "height": 5, "rectanglelabels": ["Atelectasis"]}
    region = {"type": "rectanglelabels", "value": value | changes}
    return json.dumps([{"data": {"image": "/d/00001.png"}, "annotations": [{"result": [region]}]}])


def cvat(box, name="00001.png"):
    return f'<annotations><image name="{name}">{box}</image></annotations>'


def coco(name="00001.png", category=0, box=(1, 1, 5, 5)):
    return json.dumps({"images": [{"id": 1, "file_name": name}], "categories": [{"id": 0, "name": "Edema"}],
                       "annotations": [{"image_id": 1, "category_id": category, "bbox": box}]})


BOX = '<box label="Atelectasis" xtl="1" ytl="1" xbr="5" ybr="{}" {}/>'


@pytest.mark.parametrize("format, text, message", [
    ("label-studio", "[]", "no image is annotated"), ("label-studio", "{}", "Label Studio's JSON export"),
    ("label-studio", label_studio(x="a"), "the coordinate 'a'"),
    ("label-studio", label_studio(rotation=3), "rotated"), ("label-studio", label_studio(width=0), "x_min <"),
    ("label-studio", label_studio(x=float("nan")), "x_min <"),
    ("label-studio", label_studio(rectanglelabels=["Atelectasia"]), "such as Atelectasis"),
    ("label-studio", label_studio(rectanglelabels=["No finding"]), "expected a finding"),
    ("label-studio", label_studio().replace("rectanglelabels", "polygonlabels"), "of type 'polygonlabels'"),
    ("label-studio", label_studio().replace("00001", "7"), "7.png is not among the 1 "),
    ("label-studio", json.dumps(json.loads(label_studio()) * 2), "several annotations"),
    ("cvat", "", "is no XML"), ("cvat", "<a/>", "holds <a>"), ("cvat", "<annotations/>", "no image is"),
    ("cvat", "<!DOCTYPE a [<!ENTITY b 'c'>]><annotations/>", "DOCTYPE"),
    ("cvat", cvat("<polygon/>"), "<polygon>, expected"), ("cvat", cvat(BOX.format("0", "")), "x_min <"),
    ("cvat", cvat(BOX.format("5", 'rotation="9"')), "rotated"),
    ("cvat", cvat(BOX.format("z", "")), "'z'"),
    ("cvat", cvat("", "x.png"), "x.png is not among"), ("fiftyone", "[]", "COCODetectionDataset"),
    ("fiftyone", coco(category=4), "COCODetectionDataset"),
    ("fiftyone", coco(), "'Edema', expected a finding"),
    ("fiftyone", coco(box=(1, 2, 3)), "COCODetectionDataset"), ("fiftyone", coco("x.png"), "not among")])
def test_files_of_another_form_are_refused(format, text, message, tmp_path):
    write_png(tmp_path / "first.png", np.arange(10000, dtype=np.uint8).reshape(100, 100))
    write_tasks(format, tmp_path / "out", image_run.find(tmp_path / "first.png"), {"first": Predictions()},
                workers=1)
    path = tmp_path / EXPORTS[format]
    path.write_text(text)
    with pytest.raises(InputError, match=message) as raised:
        read_corrected(format, path, tmp_path / "out")
    assert path.name in str(raised.value) and "\n" not in str(raised.value)


def test_a_folder_with_files_is_left_alone(tmp_path):
    write_png(tmp_path / "first.png", np.arange(10000, dtype=np.uint8).reshape(100, 100))
    run = image_run.find(tmp_path / "first.png")
    with pytest.raises(InputError, match="is not empty"):
        write_tasks("cvat", tmp_path, run, {"first": Predictions()})
    with pytest.raises(InputError, match="none of the 1 images has an entry"):
        write_tasks("cvat", tmp_path / "out", run, {"other": Predictions()})
    with pytest.raises(InputError, match="no such file"):
        read_corrected("cvat", tmp_path / "x.xml", tmp_path / "out")
    assert [path.name for path in tmp_path.iterdir()] == ["first.png"]
