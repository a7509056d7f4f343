"""COCO AP against pycocotools."""

import math

import numpy as np
import pytest
from metric_cases import by_pycocotools, random_boxes, random_set

from vindr_det.metrics import coco
from vindr_det.structures.detections import Predictions
from vindr_det.structures.records import Record


@pytest.mark.parametrize("seed", range(20))
def test_equals_pycocotools(seed):
    predictions, records = random_set(np.random.default_rng(seed))
    ours, theirs = coco.coco_ap(predictions, records), by_pycocotools(predictions, records)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert ours[key] == pytest.approx(theirs[key], abs=1e-9), key


def test_perfect_and_empty():
    rng = np.random.default_rng(1)
    records = [Record("a", "a.png", 500, 400, random_boxes(rng, 6))]
    assert coco.coco_ap({"a": records[0].truth}, records)["coco/AP"] == pytest.approx(1)
    assert coco.coco_ap({}, records)["coco/AP"] == 0
    assert coco.coco_ap({"a": Predictions()}, records)["coco/AP75"] == 0
    normal = [Record("a", "a.png", 500, 400)]
    assert math.isnan(coco.coco_ap({"a": Predictions()}, normal)["coco/AP"])
