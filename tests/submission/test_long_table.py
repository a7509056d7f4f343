"""Prediction files of label sets other than VinBigData's: the table with a row per box, and COCO results."""

import json
from dataclasses import replace

import numpy as np
import pandas as pd
import pytest
from metric_cases import noisy_detector

from vindr_det.data.coco import to_coco
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.imaging.status import FAILED, Status
from vindr_det.structures.detections import Predictions, no_finding, with_no_finding
from vindr_det.structures.label_sets import NIH, NIH_BOXES, VINBIGDATA, VINDR_CXR, LabelSet
from vindr_det.structures.records import Record
from vindr_det.submission import (
    format_predictions,
    parse_submission,
    read_submission,
    read_submission_of_any_set,
    repair_submission,
    submission_text,
)
from vindr_det.submission.outputs import prediction_table, write_results

OWN = LabelSet("mine", ("Effusion", "Mass"))
HEADER = "image_id,label_set,class_name,score,x_min,y_min,x_max,y_max\n"
ROW = "a,NIH boxes,Mass,0.5,1,2,30,40\n"


def in_set(label_set, boxes):
    return {name: replace(of, label_set=label_set) for name, of in boxes.items()}


def saved(folder, name, predictions, unread=()):
    """As a prediction run writes it, with the status table."""
    statuses = [Status(image_id, f"{image_id}.png") for image_id in predictions]
    statuses += [Status(image_id, f"{image_id}.png", FAILED, "is damaged") for image_id in unread]
    ids = [status.image_id for status in statuses]
    text = submission_text(folder / name, predictions, ids, unread=unread)
    write_results(folder / name, predictions, statuses, text)
    return folder / name


def truth(folder, label_set, images=("a", "b", "c")):
    records = [Record(name, f"{name}.png", 500, 500, Predictions(label_set=label_set)) for name in images]
    write_json(folder / "g.json", to_coco(records))
    return folder / "g.json"


@pytest.mark.parametrize("name", ["s.csv", "s.json"])
@pytest.mark.parametrize("label_set", [NIH_BOXES, VINDR_CXR, VINBIGDATA], ids=lambda of: of.name)
def test_a_round_trip_keeps_every_number(tmp_path, label_set, name):
    _, boxes, _ = noisy_detector(np.random.default_rng(0), images=12)
    boxes = with_no_finding(in_set(label_set, boxes))
    boxes["i000"] = Predictions(label_set=label_set)
    path = saved(tmp_path, name, boxes, ["i099"])
    back = read_submission(path)
    assert sorted(back) == sorted(boxes)  # i099 was not read
    if label_set == VINBIGDATA and name == "s.csv":
        return  # the competition's form, as before
    for image_id, of in boxes.items():
        best = of.by_score() if len(of) or name == "s.csv" else no_finding(label_set=label_set)
        assert back[image_id].label_set == label_set
        assert back[image_id].labels.tolist() == best.labels.tolist()
        assert np.array_equal(back[image_id].scores, best.scores)
        assert back[image_id].boxes == pytest.approx(best.boxes, abs=1e-9)
    table = prediction_table(boxes, [Status(image_id, "") for image_id in boxes])
    assert set(table["class_name"]) <= {*label_set.findings, ""}
    assert table["image_id"][table["class_name"] == ""].tolist() == [
        image_id for image_id, of in boxes.items() if not len(of.findings())]


def test_read_but_empty_is_not_unread(tmp_path):
    """b was read and has no box, c was not read, d is in no table of the run."""
    box = Predictions([[1, 2, 30, 40]], [0.5], [4], NIH_BOXES)
    annotations = truth(tmp_path, NIH_BOXES, "abcd")
    path = saved(tmp_path, "s.csv", {"a": box, "b": Predictions(label_set=NIH_BOXES)}, ["c"])
    assert path.read_text() == HEADER + "a,NIH boxes,Mass,0.5,1.0,2.0,30.0,40.0\n"
    assert list(read_submission(path)) == list(read_submission(path, annotations=annotations)) == ["a", "b"]
    # The table beside it has the same boxes, of the same run.
    assert list(read_submission(tmp_path / "s.predictions.csv", annotations=annotations)) == ["a", "b"]
    (tmp_path / "s.status.csv").unlink()
    assert sorted(read_submission(path, annotations=annotations)) == ["a", "b", "c", "d"]
    nothing = saved(tmp_path, "n.csv", {"a": Predictions(label_set=NIH_BOXES)})
    assert nothing.read_text() == HEADER
    empty = read_submission(nothing, annotations=annotations)
    assert {name: len(of) for name, of in empty.items()} == {"a": 0}


@pytest.mark.parametrize("name", ["s.csv", "s.json"])
def test_a_set_of_ones_own_needs_its_annotations(tmp_path, name):
    path = saved(tmp_path, name, {"a": Predictions([[1, 2, 30, 40]], [0.5], [1], OWN)})
    with pytest.raises(InputError, match="label set 'mine' is none of VinBigData, .*, expected annotations"):
        read_submission(path)
    of = read_submission(path, annotations=truth(tmp_path, OWN))["a"]
    assert of.label_set == OWN and of.labels.tolist() == [1]


@pytest.mark.parametrize("name", ["s.csv", "s.json"])
def test_another_set_than_the_annotations_is_refused(tmp_path, name):
    path = saved(tmp_path, name, {"a": Predictions([[1, 2, 30, 40]], [0.5], [1], VINDR_CXR)})
    annotations = truth(tmp_path, NIH_BOXES)
    with pytest.raises(InputError, match="of the label set VinDr-CXR, expected NIH boxes as in .*g.json"):
        read_submission(path, annotations=annotations)
    assert read_submission_of_any_set(path, annotations)["a"].label_set == VINDR_CXR
    (tmp_path / "k.csv").write_text("image_id,PredictionString\na,14 1 0 0 1 1\n")
    with pytest.raises(InputError, match="of the label set VinBigData, expected NIH boxes"):
        read_submission(tmp_path / "k.csv", annotations=annotations)


def test_names_tell_the_set_where_no_column_does(tmp_path):
    header, path = HEADER.replace("label_set,", ""), tmp_path / "s.csv"
    path.write_text(header + "a,effusion,0.5,1,2,30,40\na,Mass,1e-1,1,2,3,4\n")
    with pytest.raises(InputError, match="s.csv: its classes are of NIH ChestX-ray14 and of NIH boxes and of "
                       "ChestX-Det and of ChestX-Det10, expected a column label_set"):
        read_submission(path)  # of sets with other numbers of classes, and other ids
    of = read_submission(path, annotations=truth(tmp_path, OWN))["a"]
    assert of.label_set == OWN and of.labels.tolist() == [0, 1] and of.scores.tolist() == [0.5, 0.1]
    path.write_text(header + "a,Pleural effusion,0.5,1,2,30,40\na,No finding,0.5,0,0,1,1\n")
    with pytest.raises(InputError, match="its classes are of VinBigData and of VinDr-CXR and of VinDr-PCXR"):
        read_submission(path)
    path.write_text(header + "a,Pleural effusion,0.5,1,2,30,40\na,ILD,0.5,1,2,30,40\na,Edema,0.5,1,2,3,4\n")
    assert read_submission(path)["a"].label_set == VINDR_CXR  # no other has all three


def test_the_boxes_of_a_run_keep_their_set(tmp_path):
    """S.predictions.csv of NIH's 14 labels, of which VinBigData has four by name."""
    names = ("Cardiomegaly", "Atelectasis", "Pneumothorax", "Infiltration")
    boxes = Predictions([[1, 2, 30, 40]] * 4, [0.5, 0.4, 0.3, 0.2], [NIH.id_of(name) for name in names], NIH)
    saved(tmp_path, "s.csv", {"a": boxes})
    path = tmp_path / "s.predictions.csv"
    assert read_submission(path)["a"].label_set == NIH
    assert read_submission(path)["a"].labels.tolist() == boxes.labels.tolist() == [1, 0, 7, 3]
    table = pd.read_csv(path)
    table.drop(columns="label_set").to_csv(path, index=False)  # by the ids
    with pytest.raises(InputError, match="classes are of NIH ChestX-ray14 and of NIH boxes, expected"):
        read_submission(path)
    table.assign(class_name=["Cardiomegaly", "Atelectasis", "Hernia", "Infiltration"],
                 class_id=[1, 0, 13, 3]).drop(columns="label_set").to_csv(path, index=False)
    assert read_submission(path)["a"].label_set == NIH
    table.assign(class_id=[1, 0, 8, 3]).to_csv(path, index=False)
    with pytest.raises(InputError, match="row 4: class_id 8 for 'Pneumothorax', expected 7 as in NIH ChestX"):
        read_submission(path)


@pytest.mark.parametrize(("text", "message"), [
    ("a,NIH boxes,Mas,0.5,1,2,30,40\n", "row 2: class_name 'Mas' is no class of NIH boxes, .* as 'Mass'"),
    (ROW + "a,VinDr-CXR,Edema,0.5,1,2,30,40\n", "row 3: label_set 'VinDr-CXR', expected 'NIH boxes'"),
    (ROW + "a,NIH boxes,,0.5,1,2,30,40\n", "row 3: class_name is empty"),
    (ROW.replace("0.5", "1.5"), "row 2: score 1.5, expected 0 to 1"),
    (ROW.replace("0.5", "high"), "row 2: score high, expected 0 to 1"),
    (ROW.replace(",30,", ",1,"), "row 2: box 1 2 1 40, expected four numbers with x_min < x_max"),
    (ROW.replace(",30,", ",,"), "row 2: box 1.0 2.0 nan 40.0, expected four numbers"),
    (ROW.replace(",1,2,", ",-9,2,"), "box -9 2 30 40 leaves image a, expected 0 or more"),
    (ROW.replace("NIH boxes", "theirs"), "label set 'theirs' is none of VinBigData"),
    ("a,,Wart,0.5,1,2,30,40\n", "its label set is not known, expected a column label_set"),
])
def test_faulty_tables_are_refused_in_a_line(tmp_path, text, message):
    (tmp_path / "s.csv").write_text(HEADER + text)
    with pytest.raises(InputError, match=message) as error:
        read_submission(tmp_path / "s.csv")
    assert "\n" not in str(error.value) and "s.csv" in str(error.value)


def test_the_competitions_form_is_of_its_set_alone(tmp_path):
    with pytest.raises(InputError, match="of the label set NIH boxes, expected VinBigData"):
        format_predictions(Predictions([[1, 2, 30, 40]], [0.5], [4], NIH_BOXES))
    (tmp_path / "s.csv").write_text(HEADER + ROW)
    for read in (parse_submission, repair_submission):
        with pytest.raises(InputError, match="s.csv: a table with a row per box, expected image_id,Predic"):
            read(tmp_path / "s.csv")
    sizes = pd.DataFrame({"height": [30], "width": [30]}, index=["a"])
    with pytest.raises(InputError, match="s.csv: box 1 2 30 40 leaves image a of width 30"):
        read_submission(tmp_path / "s.csv", sizes)
    outside = {"a": Predictions([[1, 2, 30, 40]], [0.5], [4], NIH_BOXES)}
    with pytest.raises(InputError, match="t.csv: not written; box 1 2 30 40 leaves image a"):
        submission_text(tmp_path / "t.csv", outside, sizes=sizes)


def test_results_of_another_tool_have_the_annotations_categories(tmp_path):
    """Ids from 1, and a category for images without findings, which the set does not have."""
    box, path = [0, 0, 10, 10], tmp_path / "s.json"
    write_json(tmp_path / "g.json", {
        "images": [{"id": at, "file_name": f"{at}.png", "height": 50, "width": 50} for at in (1, 2)],
        "annotations": [{"id": 1, "image_id": 1, "category_id": 2, "bbox": box}],
        "categories": [{"id": 1, "name": "Wart"}, {"id": 2, "name": "Mole"},
                       {"id": 3, "name": "No finding"}]})
    path.write_text(json.dumps([{"image_id": image, "category_id": category, "bbox": box, "score": 0.5}
                                for image, category in ((1, 2), (2, 3))]))
    of = read_submission(path, annotations=tmp_path / "g.json")
    assert of["1"].label_set.findings == ("Wart", "Mole")
    assert of["1"].labels.tolist() == [1] and len(of["2"]) == 0
    path.write_text(path.read_text().replace('"category_id": 2', '"category_id": 0'))
    with pytest.raises(InputError, match="category_id 0, expected one of the annotations' categories 1, 2"):
        read_submission(path, annotations=tmp_path / "g.json")


def test_entries_of_two_sets_are_refused(tmp_path):
    entry = {"image_id": "a", "category_id": 1, "bbox": [1, 2, 3, 4], "score": 0.5}
    (tmp_path / "s.json").write_text(json.dumps([entry, entry | {"label_set": "NIH boxes"}]))
    with pytest.raises(InputError, match="label sets '', 'NIH boxes', expected a single one"):
        read_submission(tmp_path / "s.json")
