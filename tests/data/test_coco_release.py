"""COCO files of others: their frames, their categories, and what they say nothing of."""

import json

import numpy as np
import pytest

from vindr_det.data.coco import load_coco, to_coco
from vindr_det.data.convert import convert
from vindr_det.data.release import Conversion
from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH_BOXES, LabelSet
from vindr_det.structures.records import Record


def records(count=40, label_set=NIH_BOXES):
    """Images of 600 x 400 with three boxes each, which reach the right and the lower edge."""
    rng = np.random.default_rng(0)
    made = []
    for number in range(count):
        low = rng.random((3, 2)) * (300, 200)
        high = low + 20 + rng.random((3, 2)) * (280, 180)
        truth = Predictions(np.hstack([low, high]), np.ones(3), rng.integers(0, len(label_set), 3), label_set)
        made.append(Record(f"i{number}", f"i{number}.png", 400, 600, truth))
    return made


def written(tmp_path, content, name="some.json"):
    path = tmp_path / name
    path.write_text(json.dumps(content))
    return path


def converted(tmp_path, content):
    convert("coco", tmp_path / "out", Conversion(folds=2), annotations=written(tmp_path, content))
    return {record.image_id: record for record in load_coco(tmp_path / "out/instances_all.json")[0]}


def reduced_images(coco):
    for image in coco["images"]:
        image.update(height=200, width=300)


def halved_boxes(coco):
    for annotation in coco["annotations"]:
        annotation["bbox"] = [value / 2 for value in annotation["bbox"]]


def corners(coco):
    for annotation in coco["annotations"]:
        x, y, w, h = annotation["bbox"]
        annotation["bbox"] = [x, y, x + w, y + h]


@pytest.mark.parametrize("change, message", [
    (reduced_images, r"some.json: \d+ of 120 boxes leave their images, .*annotation \d+ of image i0"),
    (corners, r"some.json: \d+ of 120 boxes leave their images, .*of width 600 and height 400"),
    (halved_boxes, "some.json: all 120 boxes end within .*, as in a smaller frame"),
])
def test_boxes_of_another_frame(tmp_path, change, message):
    """Read by any tool, not by conversion alone."""
    coco = json.loads(json.dumps(to_coco(records())))
    change(coco)
    with pytest.raises(InputError, match=message):
        load_coco(written(tmp_path, coco))
    with pytest.raises(InputError, match=message):
        converted(tmp_path, coco)
    assert not (tmp_path / "out").exists()


def test_boxes_of_an_own_label_set_may_all_lie_in_a_corner(tmp_path, caplog):
    coco = json.loads(json.dumps(to_coco(records(label_set=LabelSet("own", ("tube tip",))))))
    halved_boxes(coco)
    assert len(load_coco(written(tmp_path, coco))[0]) == 40
    assert "all 120 boxes end within" in caplog.text


@pytest.mark.parametrize("box, message", [
    ([700, 500, 50, 50], "some.json: annotation 1 of image i0: box .* leaves the image of width 600 and"),
    ([580, 10, 30, 50], "some.json: annotation 1 of image i0: box .* leaves the image"),
    ([-30, 10, 50, 50], "some.json: annotation 1 of image i0: box .* leaves the image"),
    ([50, 50, -20, 20], "some.json: annotation 1 of image i0: box .* leaves the image|has a negative"),
])
def test_a_box_outside_its_image(tmp_path, box, message):
    """Refused by conversion; what other tools leave out is unknown there, never absent."""
    coco = json.loads(json.dumps(to_coco(records())))
    first = coco["images"][0]["id"]
    coco["annotations"] = [row for row in coco["annotations"] if row["id"] == 1 or row["image_id"] != first]
    coco["annotations"][0].update(bbox=box, category_id=4)
    with pytest.raises(InputError, match=message):
        converted(tmp_path, coco)
    record = load_coco(written(tmp_path, coco))[0][0]
    assert not record.normal and (len(record.truth) == 1 or record.unknown == (4,))


def test_a_box_a_little_over_the_edge_is_clipped(tmp_path):
    coco = json.loads(json.dumps(to_coco(records())))
    coco["annotations"][0]["bbox"] = [580, 396, 22, 6]
    assert converted(tmp_path, coco)["i0"].truth.boxes[0].tolist() == [580, 396, 600, 400]


@pytest.mark.parametrize("others, unknown", [([], (4,)), ([2], (4,)), ([4], ())])
def test_a_box_without_area_is_of_a_finding_that_is_unknown_there(tmp_path, others, unknown):
    """Unless another box of that finding is there."""
    truth = Predictions(np.array([[10, 10, 20, 20.]] * len(others)), np.ones(len(others)), np.array(
        others, np.int64), NIH_BOXES)
    coco = json.loads(json.dumps(to_coco([Record("a", "a.png", 40, 50, truth), Record(
        "b", "b.png", 9, 9, Predictions(label_set=NIH_BOXES))])))
    coco["annotations"].append({"id": 9, "image_id": 1, "category_id": 4, "bbox": [5, 5, 0, 9]})
    loaded, repaired = load_coco(written(tmp_path, coco))
    assert repaired == ["1 boxes without area left out",
                        "1 findings are unknown on the image of the box that was left out"][:1 + len(unknown)]
    assert loaded[0].unknown == unknown and not loaded[0].normal and loaded[1].normal
    assert converted(tmp_path, coco)["a"].unknown == unknown


def test_a_tiny_box_is_kept(tmp_path):
    boxes = np.array([[5, 5, 5.0001, 9], [49.99995, 3, 50, 3.0002], [1.23456, 1, 9, 9]])
    truth = Predictions(boxes, np.ones(3), np.zeros(3, np.int64))
    path = written(tmp_path, to_coco([Record("a", "a.png", 40, 50, truth)]))
    back, repaired = load_coco(path)
    assert not repaired and len(back[0].truth) == 3
    np.testing.assert_allclose(back[0].truth.boxes[:2], boxes[:2], atol=1e-9)
    assert back[0].truth.boxes[2, 0] == 1.235  # others to a thousandth
    annotations = json.loads(path.read_text())["annotations"]
    assert all(row["area"] > 0 for row in annotations)


@pytest.mark.parametrize("names, message", [
    (["Foo", "foo"], "some.json: categories 0 and 1 are both 'foo', expected each name once"),
    (["Foo", "Foo"], "categories 0 and 1 are both 'foo'"),
    (["Foo bar", "Foo  bar "], "categories 0 and 1 are both 'foo bar'"),
    (["Foo", ""], "some.json: category 1 has the name '', expected a text"),
    (["Foo", "  "], "category 1 has the name '  ', expected a text"),
    (["Foo", None], "category 1 has the name None, expected a text"),
    (["Foo", True], "category 1 has the name True, expected a text"),
])
def test_categories_without_a_name_of_their_own(tmp_path, names, message):
    content = {"images": [{"id": 1, "file_name": "a.png", "height": 9, "width": 9}], "annotations": [],
               "categories": [{"id": number, "name": name} for number, name in enumerate(names)]}
    with pytest.raises(InputError, match=message):
        converted(tmp_path, content)


def test_findings_that_a_shipped_set_has_and_the_categories_lack_are_unknown(tmp_path):
    coco = json.loads(json.dumps(to_coco(records(4))))
    coco["categories"] = [row for row in coco["categories"] if row["name"] in ("Mass", "Nodule")]
    kept = [row["id"] for row in coco["categories"]]
    coco["annotations"] = [row for row in coco["annotations"] if row["category_id"] in kept]
    loaded, repaired = load_coco(written(tmp_path, coco))
    others = tuple(label for label, name in enumerate(NIH_BOXES.findings) if name not in ("Mass", "Nodule"))
    assert all(record.unknown == others and not record.normal for record in loaded)
    assert repaired == ["6 findings of NIH boxes have no category and are unknown on all images"]
    assert converted(tmp_path, coco)["i0"].unknown == others
    del coco["info"]
    own = load_coco(written(tmp_path, coco))[0][0]  # those two alone are a set of their own
    assert own.label_set.findings == ("Mass", "Nodule") and own.unknown == ()
