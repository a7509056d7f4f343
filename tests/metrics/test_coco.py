"""COCO AP against pycocotools."""

import contextlib
import io
import math

import numpy as np
import pytest

from vindr_det.coco import to_coco
from vindr_det.metrics import coco
from vindr_det.predictions import Predictions
from vindr_det.records import Record


def random_set(rng, images=12):
    records, predictions = [], {}
    for number in range(images):
        n, m = rng.integers(0, 5), rng.integers(0, 25)
        truth = random_boxes(rng, n)
        records.append(Record(f"i{number:02d}", f"i{number:02d}.png", 500, 400, truth))
        near = truth.boxes[rng.integers(0, n, m)] if n else random_boxes(rng, m).boxes
        moved = np.sort((near + rng.normal(0, 8, (m, 4))).reshape(m, 2, 2), axis=1).reshape(m, 4)
        moved[:, 2:] += 1
        predictions[f"i{number:02d}"] = Predictions(
            moved, rng.integers(0, 20, m) / 20, rng.integers(0, 4, m))
    return predictions, records


def random_boxes(rng, n):
    low = rng.uniform(0, 300, (n, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 100, (n, 2))], axis=1)
    return Predictions(boxes, np.ones(n), rng.integers(0, 4, n))


def by_pycocotools(predictions, records):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = to_coco(records)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(coco.to_detections(predictions, records)), "bbox")
        run.params.iouThrs = np.array([0.4, *np.linspace(0.5, 0.95, 10)])
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, -1]

    def mean(part):
        return part[part > -1].mean()

    return {"coco/AP": mean(precision[1:]), "coco/AP40": mean(precision[0]),
            "coco/AP50": mean(precision[1]), "coco/AP75": mean(precision[6])}


@pytest.mark.parametrize("seed", range(20))
def test_equals_pycocotools(seed):
    predictions, records = random_set(np.random.default_rng(seed))
    ours, theirs = coco.evaluate(predictions, records), by_pycocotools(predictions, records)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert ours[key] == pytest.approx(theirs[key], abs=1e-9), key


def test_perfect_and_empty():
    rng = np.random.default_rng(1)
    records = [Record("a", "a.png", 500, 400, random_boxes(rng, 6))]
    assert coco.evaluate({"a": records[0].truth}, records)["coco/AP"] == pytest.approx(1)
    assert coco.evaluate({}, records)["coco/AP"] == 0
    assert coco.evaluate({"a": Predictions()}, records)["coco/AP75"] == 0
    normal = [Record("a", "a.png", 500, 400)]
    assert math.isnan(coco.evaluate({"a": Predictions()}, normal)["coco/AP"])
