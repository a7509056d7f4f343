import json

import numpy as np
import pytest

from vindr_det.categories import FINDINGS
from vindr_det.coco import read_coco, to_coco
from vindr_det.errors import InputError
from vindr_det.predictions import Predictions
from vindr_det.records import Record


def records():
    truth = Predictions(np.array([[1.5, 2, 30, 40], [5, 5, 9, 9]]), np.array([1 / 3, 1]),
                        np.array([0, 13]))
    return [Record("a", "a.png", 100, 50, truth), Record("b", "b.png", 80, 60)]


def test_round_trip(tmp_path):
    (tmp_path / "c.json").write_text(json.dumps(to_coco(records())))
    back = read_coco(tmp_path / "c.json")
    assert [(r.image_id, r.height, r.width) for r in back] == [("a", 100, 50), ("b", 80, 60)]
    assert np.allclose(back[0].truth.boxes, records()[0].truth.boxes)
    assert back[0].truth.labels.tolist() == [0, 13]
    assert np.allclose(back[0].truth.scores, [1 / 3, 1], atol=1e-4)
    assert back[1].normal


def test_ids_suit_pycocotools():
    coco = to_coco(records())
    assert [i["id"] for i in coco["images"]] == [1, 2]
    assert [a["id"] for a in coco["annotations"]] == [1, 2]
    assert [c["name"] for c in coco["categories"]] == list(FINDINGS)


@pytest.mark.parametrize("change, message", [
    (lambda d: d.pop("images"), "not a COCO file"),
    (lambda d: d["categories"].append({"id": 14, "name": "No finding"}), "'No finding'"),
    (lambda d: d["annotations"][0].update(image_id=9), "image 9, which is not in the file"),
    (lambda d: d["annotations"][0].update(category_id=99), "category_id 99"),
    (lambda d: d["annotations"][0].pop("bbox"), "key 'bbox' is missing"),
    (lambda d: d["annotations"][0].update(bbox=[1, 1, 0, 5]), "a.png.*x_min < x_max"),
])
def test_faults(tmp_path, change, message):
    coco = json.loads(json.dumps(to_coco(records())))
    change(coco)
    (tmp_path / "c.json").write_text(json.dumps(coco))
    with pytest.raises(InputError, match=message):
        read_coco(tmp_path / "c.json")
