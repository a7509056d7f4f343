"""COCO AP against pycocotools."""

import contextlib
import io
import math
import multiprocessing
import os
from functools import partial

import numpy as np
import pytest
from metric_cases import by_pycocotools, random_boxes, random_set
from pycocotools.coco import COCO
from pycocotools.cocoeval import COCOeval

from vindr_det.data.coco import read_coco
from vindr_det.files import write_json
from vindr_det.metrics import coco
from vindr_det.structures.detections import Predictions
from vindr_det.structures.records import Record
from vindr_det.submission import read_submission


@pytest.mark.parametrize("seed", range(20))
def test_equals_pycocotools(seed):
    predictions, records = random_set(np.random.default_rng(seed))
    ours, theirs = coco.coco_ap(predictions, records), by_pycocotools(predictions, records)
    assert ours.keys() == theirs.keys()
    for key in ours:
        assert ours[key] == pytest.approx(theirs[key], abs=1e-9), key


def in_a_fork(work):
    """What a forked child gives, within 20 seconds."""
    pool = multiprocessing.get_context("fork").Pool(1)
    with pool:
        return pool.apply_async(work).get(20)


@pytest.mark.skipif(not hasattr(os, "fork"), reason="forks")
@pytest.mark.parametrize("empty", [False, True])
def test_a_child_that_is_forked_after_the_parent_has_computed(empty):
    """It hung: the threads of the library stay in the parent."""
    predictions, records = random_set(np.random.default_rng(3))
    predictions = {} if empty else predictions
    limits = (1, 100)
    expected = coco.accumulate(predictions, records, [[0, 1e10], [0, 900]], limits=limits)
    forked = in_a_fork(partial(coco.accumulate, predictions, records, [[0, 1e10], [0, 900]], limits=limits))
    for ours, theirs in zip(expected, forked, strict=True):
        assert np.array_equal(ours, theirs)


def test_perfect_and_empty():
    rng = np.random.default_rng(1)
    records = [Record("a", "a.png", 500, 400, random_boxes(rng, 6))]
    assert coco.coco_ap({"a": records[0].truth}, records)["coco/AP"] == pytest.approx(1)
    assert coco.coco_ap({}, records)["coco/AP"] == 0
    assert coco.coco_ap({"a": Predictions()}, records)["coco/AP75"] == 0
    normal = [Record("a", "a.png", 500, 400)]
    assert math.isnan(coco.coco_ap({"a": Predictions()}, normal)["coco/AP"])


@pytest.mark.parametrize("seed", range(5))
def test_equal_scores_stand_in_pycocotools_order(tmp_path, seed):
    """Which is that of the images' ids, whatever their order in the file; straight from the two files."""
    rng = np.random.default_rng(seed)
    ids = rng.permutation(40).tolist()
    truth = [{"id": number, "image_id": key, "category_id": 1, "bbox": [10, 10, 20, 20], "area": 400,
              "iscrowd": 0} for number, key in enumerate(ids[:25], start=1)]
    drawn = [{"image_id": key, "category_id": 1, "bbox": [10 + rng.integers(0, 8), 10, 20, 20],
              "score": round(rng.random(), 1)} for key in ids]
    file, results = tmp_path / "truth.json", tmp_path / "results.json"
    images = [{"id": key, "file_name": f"{key}.png", "height": 90, "width": 90} for key in ids]
    write_json(file, {"images": images, "annotations": truth,
                      "categories": [{"id": 1, "name": "lesion"}]})
    write_json(results, [{**box, "bbox": [float(side) for side in box["bbox"]]} for box in drawn])
    records = read_coco(file)
    ours = coco.coco_ap(read_submission(results, annotations=file), records)
    with contextlib.redirect_stdout(io.StringIO()):
        theirs = COCO(str(file))
        run = COCOeval(theirs, theirs.loadRes(str(results)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    assert ours["coco/AP"] == pytest.approx(run.stats[0], abs=1e-9) and run.stats[0] > 0.05
