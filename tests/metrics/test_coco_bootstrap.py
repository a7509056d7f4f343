"""Bootstrap replicates against data sets in which images really are repeated."""

from dataclasses import replace

import numpy as np
import pytest
from metric_cases import random_set

from vindr_det.metrics import coco, coco_bootstrap, froc, voc
from vindr_det.metrics.bootstrap import Bootstrap
from vindr_det.metrics.matching import match, mean_over_classes
from vindr_det.structures.detections import Predictions
from vindr_det.structures.records import Record, truth_of


def drawn_out(predictions, records, weights):
    """Copies of images, named so that they follow each other; images of weight 0 go."""
    copies, copied = [], {}
    for record, weight in zip(records, weights, strict=True):
        for copy in range(weight):
            name = f"{record.image_id}_{copy}"
            copies.append(Record(name, f"{name}.png", record.height, record.width, record.truth))
            copied[name] = predictions[record.image_id]
    return copied, copies


@pytest.mark.parametrize("seed", range(12))
def test_a_replicate_is_the_data_set_that_it_stands_for(seed):
    rng = np.random.default_rng(seed)
    predictions, records = random_set(rng)
    # Equal scores over images, but not within one: there it matters whether copies take turns.
    predictions = {i: replace(p, scores=rng.permutation(30)[: len(p)] / 30) for i, p in predictions.items()}
    weights = rng.integers(0, 3, len(records))
    bootstrap = Bootstrap(weights[None].astype(np.uint16), np.arange(len(records)))
    copied, copies = drawn_out(predictions, records, weights)
    mine = voc.ap_replicates(match(predictions, truth_of(records), 0.4), bootstrap)
    expected = voc.vindr_ap(copied, truth_of(copies))
    for label, value in enumerate(expected.ap.values()):
        assert mine[0, label] == pytest.approx(value, abs=1e-12, nan_ok=True)
    assert mean_over_classes(mine)[0] == pytest.approx(expected.mean_ap, abs=1e-12)
    ap = coco_bootstrap.ap_replicates(coco_bootstrap.match(predictions, records), bootstrap)
    for name, value in coco.coco_ap(copied, copies).items():
        assert mean_over_classes(ap[name])[0] == pytest.approx(value, abs=1e-12), name
    point = froc.sensitivities(match(copied, truth_of(copies), 0.4))[0]
    drawn = froc.sensitivities(match(predictions, truth_of(records), 0.4), weights[None].astype(float))[0]
    assert drawn == pytest.approx(point, abs=1e-12, nan_ok=True)


def test_images_that_were_drawn_once_are_the_data_set():
    predictions, records = random_set(np.random.default_rng(3))
    once = Bootstrap(np.ones((1, len(records)), np.uint16), np.arange(len(records)))
    ap = coco_bootstrap.ap_replicates(coco_bootstrap.match(predictions, records), once)
    assert {name: mean_over_classes(values)[0] for name, values in ap.items()} == pytest.approx(
        coco.coco_ap(predictions, records), abs=1e-12)


def test_nothing_to_find_is_no_number():
    _, records = random_set(np.random.default_rng(0))
    empty = [Record(r.image_id, r.file_name, r.height, r.width) for r in records]
    bootstrap = Bootstrap.of(np.arange(len(empty)), 4)
    ap = coco_bootstrap.ap_replicates(coco_bootstrap.match({}, empty), bootstrap)
    assert all(np.isnan(values).all() for values in ap.values())
    values = voc.ap_replicates(match({}, truth_of(empty), 0.4), bootstrap)
    assert np.isnan(values[:, :14]).all() and (values[:, 14] == 0).all()


def test_of_equal_overlaps_the_last_truth_is_taken():
    """As pycocotools: the first box lies between two truths; what it takes decides about the second box."""
    truth = Predictions([[0, 0, 10, 10], [4, 0, 14, 10]], [1, 1], [3, 3])
    detections = {"a": Predictions([[2, 0, 12, 10], [0, 0, 10, 10]], [0.9, 0.8], [3, 3])}
    records = [Record("a", "a.png", 20, 20, truth)]
    matched = coco_bootstrap.match(detections, records)
    assert matched.correct[1].all()  # at IoU .5
    once = Bootstrap(np.ones((1, 1), np.uint16), np.zeros(1, int))
    assert coco_bootstrap.ap_replicates(matched, once)["coco/AP50"][0, 3] == pytest.approx(
        coco.coco_ap(detections, records)["coco/AP50"])
