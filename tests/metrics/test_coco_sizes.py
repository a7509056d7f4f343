"""Average recall and COCO's sizes against pycocotools, in original pixels and in a smaller square frame."""

import contextlib
import io
import math
from dataclasses import replace

import numpy as np
import pytest
from metric_cases import random_set

from vindr_det.data.coco import to_coco
from vindr_det.metrics import coco, coco_bootstrap
from vindr_det.metrics.bootstrap import Bootstrap
from vindr_det.metrics.coco_sizes import CocoSizes, coco_in_frame, coco_sizes
from vindr_det.metrics.matching import mean_over_classes
from vindr_det.metrics.metric import MatchedPredictions
from vindr_det.metrics.registry import METRICS
from vindr_det.structures.records import Record

STATS = ("AP", "AP50", "AP75", "APs", "APm", "APl", "AR1", "AR10", "AR100", "ARs", "ARm", "ARl")


def by_pycocotools(predictions, records, first=0.5):
    """pycocotools' own twelve numbers, by its own ``summarize``."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = to_coco(records)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(coco.to_results(predictions, records)), "bbox")
        run.params.iouThrs = np.linspace(first, 0.95, round((0.95 - first) / 0.05) + 1)
        run.evaluate()
        run.accumulate()
        run.summarize()
    return {name: math.nan if value == -1 else value for name, value in zip(STATS, run.stats, strict=True)}


def scaled(predictions, records, side):
    """Both in a square of the side, box by box."""
    def of(boxes, record):
        return replace(boxes, boxes=boxes.boxes * np.array([side / record.width, side / record.height] * 2))

    return ({record.image_id: of(predictions[record.image_id], record) for record in records},
            [replace(record, height=side, width=side, truth=of(record.truth, record)) for record in records])


@pytest.mark.parametrize("seed", range(8))
def test_equal_pycocotools(seed):
    predictions, records = random_set(np.random.default_rng(seed))
    ours, theirs = coco_sizes(predictions, records), by_pycocotools(predictions, records)
    assert set(ours) == {f"coco/{name}" for name in STATS[3:]}
    for key, value in ours.items():
        assert value == pytest.approx(theirs[key.removeprefix("coco/")], abs=1e-9, nan_ok=True), key


@pytest.mark.parametrize("side", [64, 256])
def test_a_frame_is_the_score_of_scaled_boxes(side):
    predictions, records = random_set(np.random.default_rng(1))
    ours = coco_in_frame(predictions, records, side)
    in_frame = scaled(predictions, records, side)
    theirs, wide = by_pycocotools(*in_frame), by_pycocotools(*in_frame, first=0.4)
    expected = {f"coco/{name}@{side}": theirs[name] for name in STATS if name[-1] in "sml"}
    expected |= {f"coco40:95/{name}@{side}": wide[name] for name in STATS if name[-1] in "sml"}
    expected |= {f"coco40:95/{name}": wide[name] for name in ("AP", "AR1", "AR10", "AR100")}
    assert ours == pytest.approx(expected, abs=1e-9, nan_ok=True)


def test_the_frame_moves_boxes_between_sizes():
    """A box of 100 x 100 in 1000 x 1000 is large there and small at 256 px."""
    records = [Record("a", "a.png", 1000, 1000, random_set(np.random.default_rng(0))[1][1].truth)]
    box = replace(records[0].truth[:1], boxes=np.array([[0.0, 0, 100, 100]]))
    records = [replace(records[0], truth=box)]
    sizes, frame = coco_sizes({"a": box}, records), coco_in_frame({"a": box}, records, 256)
    assert sizes["coco/APl"] == pytest.approx(1) and math.isnan(sizes["coco/APs"])
    assert frame["coco/APs@256"] == pytest.approx(1) and math.isnan(frame["coco/APl@256"])


def test_nothing_found_and_nothing_to_find():
    _, records = random_set(np.random.default_rng(0))
    found_nothing = coco_sizes({}, records)
    assert found_nothing["coco/AR100"] == found_nothing["coco/APm"] == 0
    normal = [Record("a", "a.png", 500, 400)]
    assert all(math.isnan(value) for value in coco_sizes({}, normal).values())


@pytest.mark.parametrize("seed", range(4))
def test_replicates_of_each_image_once_are_the_value(seed):
    predictions, records = random_set(np.random.default_rng(seed))
    once = Bootstrap(np.ones((1, len(records)), np.uint16), np.arange(len(records)))
    drawn = coco_bootstrap.recall_replicates(coco_bootstrap.match(predictions, records), once)
    values = coco_sizes(predictions, records)
    assert {key: mean_over_classes(of)[0] for key, of in drawn.items()} == pytest.approx(
        {key: values[key] for key in ("coco/AR1", "coco/AR10", "coco/AR100")}, abs=1e-12)


def test_the_list_has_it_and_its_intervals():
    assert any(isinstance(metric, CocoSizes) for metric in METRICS)
    predictions, records = random_set(np.random.default_rng(2), images=30)
    replicates = CocoSizes().replicates(MatchedPredictions(predictions, records),
                                        Bootstrap.of(np.arange(30), 50))
    for key in ("coco/AR1", "coco/AR100"):
        estimate = replicates[key].estimate()
        assert estimate.low < estimate.value < estimate.high
