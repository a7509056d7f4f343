"""COCO AP against pycocotools."""

import math
import multiprocessing
import os
from functools import partial

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
