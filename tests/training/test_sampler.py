import random
from collections import Counter
from itertools import islice

import numpy as np
import pytest
import torch

from vindr_det.detection.torchvision.config import get_torchvision_cfg
from vindr_det.structures.detections import Predictions
from vindr_det.structures.records import Record
from vindr_det.training.sampler import SampleKey, TrainingOrder, repeat_factors, seed_step, training_order


def take(order, count):
    return list(islice(order, count))


def test_each_epoch_holds_every_image_once():
    drawn = take(TrainingOrder([1.0] * 7, seed=3), 21)
    for begin in (0, 7, 14):
        assert sorted(sample_key.row for sample_key in drawn[begin : begin + 7]) == list(range(7))
    assert len({sample_key.seed for sample_key in drawn}) == 21
    assert drawn == take(TrainingOrder([1.0] * 7, seed=3), 21)
    assert drawn != take(TrainingOrder([1.0] * 7, seed=4), 21)


@pytest.mark.parametrize("skip", [1, 5, 13])
def test_a_resumed_order_continues_where_it_was(skip):
    repeats = [1.0, 2.5, 1.3, 1.0]
    whole = take(TrainingOrder(repeats, 0), 30)
    assert take(TrainingOrder(repeats, 0, skip=skip), 30 - skip) == whole[skip:]


def test_ranks_share_one_order():
    whole = take(TrainingOrder([1.0] * 5, 0), 20)
    shares = [take(TrainingOrder([1.0] * 5, 0, rank, 2), 10) for rank in (0, 1)]
    assert [sample_key for pair in zip(*shares, strict=True) for sample_key in pair] == whole


def test_repeats_come_as_often_as_they_should():
    drawn = Counter(sample_key.row for sample_key in take(TrainingOrder([1.0, 2.5, 0.5], 0), 4000))
    assert drawn[1] / drawn[0] == pytest.approx(2.5, rel=0.05)
    assert drawn[2] / drawn[0] == pytest.approx(0.5, rel=0.1)
    assert SampleKey(1, 2).row == 1


def record(*labels):
    boxes = np.array([[0, 0, 1 + i, 1] for i in range(len(labels))], float).reshape(-1, 4)
    return Record("a", "a.png", 9, 9, Predictions(boxes, np.ones(len(labels)), np.array(labels, int)))


def test_repeat_factors_by_hand():
    """Class 0 is on 4 of 8 images, class 1 on 1 of 8: sqrt(.5 / .125) = 2."""
    records = [record(0), record(0, 0), record(0), record(0, 1), *[record()] * 4]
    assert repeat_factors(records, 0.5) == pytest.approx([1, 1, 1, 2, 1, 1, 1, 1])
    assert set(repeat_factors(records, 0)) == {1.0}
    assert repeat_factors([], 0.5) == []


def vinbigdata(abnormal=3515, normal=8485):
    """As many normal and abnormal images as four of VinBigData's five folds have."""
    shown = [record(0)] * 100 + [record(1, 2)] * (abnormal - 100)
    return [*shown, *[record()] * normal]


def cfg_with(**values):
    cfg = get_torchvision_cfg()
    cfg.DATALOADER.FILTER_EMPTY_ANNOTATIONS = False
    for key, value in values.items():
        cfg.VINDR[key] = value
    return cfg


def test_all_normal_images_are_seen_over_the_epochs():
    """879 of 8,485 in an epoch: after ten epochs all have been seen, and none twice as often as another."""
    records = vinbigdata()
    order = training_order(cfg_with(NORMAL_RATIO=0.25), records, 0, 1, 0)
    epoch, seen = 3515 + 879, Counter()
    drawn = (sample_key.row for sample_key in order)
    for number in range(1, 30):
        rows = list(islice(drawn, epoch))
        assert len(set(rows)) == epoch and sum(row < 3515 for row in rows) == 3515
        seen.update(row for row in rows if row >= 3515)
        assert len(seen) == min(8485, number * 879)
    assert set(seen.values()) == {3, 4}


@pytest.mark.parametrize("skip", [0, 7, 23, 61])
def test_some_normal_images_per_epoch_are_a_function_of_seed_and_position(skip):
    normal, repeats = range(4, 15), [1.0, 1.4, 2.0, 1.0, *[1.0] * 11]
    whole = take(TrainingOrder(repeats, 5, normal=normal, drawn=3), 80)
    assert take(TrainingOrder(repeats, 5, skip=skip, normal=normal, drawn=3), 80 - skip) == whole[skip:]
    ranks = [take(TrainingOrder(repeats, 5, rank, 2, normal=normal, drawn=3), 40) for rank in (0, 1)]
    assert [sample_key for pair in zip(*ranks, strict=True) for sample_key in pair] == whole
    other = take(TrainingOrder(repeats, 6, normal=normal, drawn=3), 80)
    assert [t.row for t in other] != [t.row for t in whole]


@pytest.mark.parametrize("ratio, normal", [(-1.0, 5), (0.0, 0), (0.5, 2), (9.0, 5)])
def test_as_many_normal_images_in_an_epoch_as_asked_for(ratio, normal):
    records = [*[record(0)] * 4, *[record()] * 5]
    order = training_order(cfg_with(NORMAL_RATIO=ratio), records, 0, 1, 0)
    for epoch in np.array([t.row for t in take(order, 6 * (4 + normal))]).reshape(6, -1):
        assert (epoch >= 4).sum() == normal and sorted(epoch[epoch < 4]) == [0, 1, 2, 3]


def test_a_finding_is_rare_among_the_images_of_an_epoch():
    """One of 4 abnormal images has it; with half a normal image for each, that is 1 of 6: sqrt(.5 * 6)."""
    records = [record(1), *[record(0)] * 3, *[record()] * 100]
    order = training_order(cfg_with(NORMAL_RATIO=0.5, REPEAT_THRESHOLD=0.5), records, 0, 1, 0)
    assert order.repeats[0] == pytest.approx(3**0.5)


def test_each_step_of_each_process_draws_its_own_numbers():
    def draw(*position):
        seed_step(*position)
        return torch.rand(1).item(), np.random.rand(), random.random()

    drawn = {(seed, step, rank): draw(seed, step, rank)
             for seed in (0, 3) for step in (0, 1, 20) for rank in (0, 1)}
    for values in zip(*drawn.values(), strict=True):
        assert len(set(values)) == len(drawn)
    torch.rand(5)
    assert all(draw(*position) == numbers for position, numbers in drawn.items())  # whatever was drawn before
