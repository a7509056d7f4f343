import json

import numpy as np
import pytest

from vindr_det.data.coco import load_coco, part, to_coco
from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import FINDINGS
from vindr_det.structures.records import Record


def records():
    truth = Predictions(np.array([[1.5, 2, 30, 40], [5, 5, 9, 9]]), np.array([1 / 3, 1]),
                        np.array([0, 13]))
    readers = (("R8",), ("R10", "R8", "R9"))
    return [Record("a", "a.png", 100, 50, truth, readers), Record("b", "b.png", 80, 60)]


def test_round_trip(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(to_coco(records())))
    back, repaired = load_coco(tmp_path / "c.json")
    assert not repaired
    assert [(r.image_id, r.height, r.width) for r in back] == [("a", 100, 50), ("b", 80, 60)]
    assert np.allclose(back[0].truth.boxes, records()[0].truth.boxes)
    assert back[0].truth.labels.tolist() == [0, 13]
    assert np.allclose(back[0].truth.scores, [1 / 3, 1], atol=1e-4)
    assert back[0].readers == (("R8",), ("R10", "R8", "R9")) and back[1].readers == ()
    assert back[1].normal


def test_ids_suit_pycocotools():
    coco = to_coco(records())
    assert [i["id"] for i in coco["images"]] == [1, 2]
    assert [a["id"] for a in coco["annotations"]] == [1, 2]
    assert [c["name"] for c in coco["categories"]] == list(FINDINGS)


def test_a_part_keeps_all_ids():
    truth = Predictions(np.array([[1, 1, 2, 2]]), np.ones(1), np.array([3]))
    whole = to_coco([*records(), Record("c", "c.png", 9, 9, truth, (("R1",),))])
    late = part(whole, [False, True, True])
    assert [i["id"] for i in late["images"]] == [2, 3]
    assert [(a["id"], a["image_id"]) for a in late["annotations"]] == [(3, 3)]
    assert [a["id"] for a in part(whole, [True] * 3, min_readers=2)["annotations"]] == [2]
    assert part(whole, [True] * 3) == whole and part(whole, [False] * 3)["images"] == []


@pytest.mark.parametrize("image_id, name", [("1.2.840.5", "1.2.840.5"), ("a_x", "a/x.png"), ("x", "x.png")])
def test_an_id_that_is_no_stem_survives(tmp_path, image_id, name):
    coco = to_coco([Record(image_id, name, 9, 9)])
    (tmp_path / "c.json").write_text(json.dumps(coco))
    assert [(r.image_id, r.file_name) for r in load_coco(tmp_path / "c.json")[0]] == [(image_id, name)]
    assert ("text_id" in coco["images"][0]) == (image_id != "x")


@pytest.mark.parametrize("change, message", [
    (lambda d: d.pop("images"), "not a COCO file"),
    (lambda d: d["categories"].append({"id": 15, "name": "Fracture"}), "'Fracture'"),
    (lambda d: d["annotations"][0].update(category_id=99), "category_id 99"),
    (lambda d: d["annotations"][0].pop("bbox"), "key 'bbox' is missing"),
    (lambda d: d["annotations"][0].update(bbox=[1, 1, 5]), "c.json.*"),
    (lambda d: d["annotations"][0].update(bbox="x"), "c.json.*"),
    (lambda d: d["annotations"][0].update(bbox=[1, 1, float("nan"), 5]), "a.png has a box that is"),
    (lambda d: d["annotations"].append(7), "wrong form"),
    (lambda d: d["images"][1].update(id=1), "1 images share their id"),
    (lambda d: d["images"][1].update(file_name="x/a.jpg"), "image a is listed twice"),
    (lambda d: d["images"][1].update(height="tall"), "wrong form"),
    (lambda d: d["images"][1].update(height=0), "b.png has height 0 and width 60, expected two positive"),
    (lambda d: d["images"][1].update(height=-9), "height -9"),
    (lambda d: d["images"][1].update(width=10.5), "width 10.5"),
    (lambda d: d["images"][1].update(width=float("inf")), "width inf"),
    (lambda d: d["categories"][1].update(id=0), "two categories have the id 0"),
    (lambda d: [annotation.update(image_id=str(annotation["image_id"])) for annotation in d["annotations"]],
     "none of its 2 annotations is of an image in the file; the first has image_id '1', expected .* as 1"),
])
def test_bad_files(tmp_path, change, message):
    coco = json.loads(json.dumps(to_coco(records())))
    change(coco)
    (tmp_path / "c.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match=message):
        load_coco(tmp_path / "c.json")


def extra(coco, **fields):
    coco["annotations"].append(coco["annotations"][0] | {"id": 77} | fields)


def renumber(coco):
    for entry in coco["categories"]:
        entry["id"] += 1
    for entry in coco["annotations"]:
        entry["category_id"] += 1


def string_ids(coco):
    for entry in coco["images"]:
        entry["id"] = f"image {entry['id']}"
    for entry in coco["annotations"]:
        entry["image_id"] = f"image {entry['image_id']}"


def class_14(coco):
    coco["categories"].append({"id": 14, "name": "No finding"})
    extra(coco, category_id=14, bbox=[0, 0, 1, 1])


@pytest.mark.parametrize("change, notes", [
    (lambda d: None, []),
    (string_ids, []),
    (renumber, ["category ids differ from VinBigData's class ids for 14 categories, matched by name"]),
    (class_14, ["1 annotations of the category No finding left out"]),
    (lambda d: extra(d, image_id=9), ["1 annotations of images that are not in the file left out"]),
    (lambda d: extra(d, bbox=[1, 1, 0, 5]), ["1 boxes without area left out"]),
    (lambda d: d["annotations"][0].update(bbox=[1.5, 2, 28.5, 98.4]), []),
])
def test_files_from_other_tools_are_repaired(tmp_path, change, notes):
    coco = json.loads(json.dumps(to_coco(records())))
    change(coco)
    (tmp_path / "c.json").write_text(json.dumps(coco))
    back, repaired = load_coco(tmp_path / "c.json")
    assert repaired == notes
    assert back[0].truth.labels.tolist() == [0, 13] and len(back) == 2


def test_a_box_over_the_edge_is_clipped(tmp_path):
    """By any tool but conversion, which refuses what is more than a pixel or two."""
    coco = json.loads(json.dumps(to_coco(records())))
    coco["annotations"][0]["bbox"] = [-4, 2, 30, 200]
    (tmp_path / "c.json").write_text(json.dumps(coco))
    back, repaired = load_coco(tmp_path / "c.json")
    assert repaired == ["1 boxes that exceeded the image clipped"]
    assert back[0].truth.boxes[0].tolist() == [0, 2, 26, 100]


@pytest.mark.parametrize("name, images, boxes, notes", [
    ("aqx95_fold0_1024_instances_val", 879, 4781, []),
    ("scusen_my_kfold_annotations_all_vinbig_val_fold1_cls", 444, 2153, [
        "category ids differ from VinBigData's class ids for 14 categories, matched by name",
        "1153 annotations of images that are not in the file left out",
        "25 annotations of the category No finding left out"]),
])
def test_real_files_from_other_tools(data, name, images, boxes, notes):
    records, repaired = load_coco(data / f"vinbig/coco/{name}.json.gz")
    assert (len(records), sum(len(r.truth) for r in records)) == (images, boxes)
    assert repaired == notes


def test_a_real_truncated_file_is_one_line(data):
    with pytest.raises(InputError, match="not valid JSON"):
        load_coco(data / "vinbig/coco/sagar_vinbigdata_valid_coco_format.json.gz")


def test_an_annotation_that_is_there_twice_counts_once(tmp_path):
    """Of one reader: two that drew the same box are two."""
    coco = json.loads(json.dumps(to_coco(records())))
    extra(coco)
    extra(coco, readers=["R1"])
    (tmp_path / "c.json").write_text(json.dumps(coco))
    back, repaired = load_coco(tmp_path / "c.json")
    assert repaired == ["1 repeated annotations count once"]
    assert back[0].readers == (("R8",), ("R10", "R8", "R9"), ("R1",))


HUGE = 10**400


@pytest.mark.parametrize("change, message", [
    (lambda d: d["annotations"][0].update(iscrowd=1), "annotation 1 is a crowd .*, expected single boxes"),
    (lambda d: d["annotations"][0].update(readers="R10"), "annotation 1 has readers 'R10', expected a list"),
    (lambda d: d["annotations"][0].update(readers=None), "annotation 1 has readers None, expected a list"),
    (lambda d: d["annotations"][0].update(readers=[["R1"]]), "annotation 1 has readers .*, expected a list"),
    (lambda d: d["annotations"][0].update(agreement=HUGE), "c.json: a COCO entry has the wrong form"),
    (lambda d: d["annotations"][0].update(bbox=[1, 2, HUGE, 4]), "c.json: a COCO entry has the wrong form"),
    (lambda d: d["images"][0].update(height=HUGE), "c.json: a COCO entry has the wrong form"),
    (lambda d: d["images"][0].update(height=1e30), "a.png has height 1e.30 and width 50, expected two"),
    (lambda d: d["images"][0].update(file_name=None), "image 1 has file_name None, expected a text"),
    (lambda d: d["images"][0].update(file_name=" "), "image 1 has file_name ' ', expected a text"),
    (lambda d: d["images"][0].update(text_id=None), "image 1 has text_id None, expected a text"),
    (lambda d: d["images"][0].update(text_id=["x"]), "image 1 has text_id .*, expected a text"),
])
def test_entries_that_mean_nothing(tmp_path, change, message):
    coco = json.loads(json.dumps(to_coco(records())))
    change(coco)
    (tmp_path / "c.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match=message):
        load_coco(tmp_path / "c.json")


def test_no_finding_is_no_unknown_finding(tmp_path):
    coco = json.loads(json.dumps(to_coco(records())))
    class_14(coco)
    coco["images"][1]["not_exhaustive_category_ids"] = [14, 3]
    own = {"images": [{"id": 1, "file_name": "x.png", "height": 9, "width": 9,
                       "not_exhaustive_category_ids": [7, 9]}], "annotations": [],
           "categories": [{"id": 7, "name": "No finding"}, {"id": 9, "name": "crack"}]}
    for name, content in (("a", coco), ("b", own)):
        (tmp_path / f"{name}.json").write_text(json.dumps(content))
    assert load_coco(tmp_path / "a.json")[0][1].unknown == (3,)
    assert load_coco(tmp_path / "b.json")[0][0].unknown == (0,)


def test_a_uid_is_no_file_name_with_a_suffix(tmp_path):
    coco = to_coco([Record("1.2.3.4", "1.2.3.4", 9, 9), Record("1.2.3.5", "x/1.2.3.5", 9, 9)])
    for image in coco["images"]:
        image.pop("text_id", None)
    (tmp_path / "c.json").write_text(json.dumps(coco))
    assert [record.image_id for record in load_coco(tmp_path / "c.json")[0]] == ["1.2.3.4", "1.2.3.5"]
