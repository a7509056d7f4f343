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


def exported(format, folder):
    """What the tool exports where nobody changes a box."""
    if format == "label-studio":
        tasks = json.loads((folder / "tasks.json").read_text())
        for task in tasks:
            task["annotations"] = [{"was_cancelled": False, "result": task["predictions"][0]["result"]},
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
    records, own = read_corrected(format, exported(format, tmp_path / "out"), tmp_path / "out")
    write_json(tmp_path / "truth.json", to_coco(records, own))
    first, second = read_coco(tmp_path / "truth.json")
    assert (first.image_id, first.height, first.width) == ("first", 200, 300)
    np.testing.assert_allclose(first.truth.boxes, BOXES, atol=0.01)
    assert first.truth.labels.tolist() == [0, 2, 1] and first.label_set.findings == label_set.findings
    assert second.normal


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
