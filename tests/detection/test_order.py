from collections import Counter
from itertools import islice

import numpy as np
import pytest

from vindr_det.detection.order import Ticket, TrainingOrder, repeat_factors
from vindr_det.predictions import Predictions
from vindr_det.records import Record


def take(order, count):
    return list(islice(order, count))


def test_each_round_holds_every_image_once():
    drawn = take(TrainingOrder([1.0] * 7, seed=3), 21)
    for begin in (0, 7, 14):
        assert sorted(ticket.row for ticket in drawn[begin : begin + 7]) == list(range(7))
    assert len({ticket.seed for ticket in drawn}) == 21
    assert drawn == take(TrainingOrder([1.0] * 7, seed=3), 21)
    assert drawn != take(TrainingOrder([1.0] * 7, seed=4), 21)


@pytest.mark.parametrize("skip", [1, 5, 13])
def test_a_resumed_order_goes_on_where_it_was(skip):
    repeats = [1.0, 2.5, 1.3, 1.0]
    whole = take(TrainingOrder(repeats, 0), 30)
    assert take(TrainingOrder(repeats, 0, skip=skip), 30 - skip) == whole[skip:]


def test_ranks_share_one_order():
    one = take(TrainingOrder([1.0] * 5, 0), 20)
    two = [take(TrainingOrder([1.0] * 5, 0, rank, 2), 10) for rank in (0, 1)]
    assert [ticket for pair in zip(*two, strict=True) for ticket in pair] == one


def test_repeats_come_as_often_as_they_should():
    drawn = Counter(ticket.row for ticket in take(TrainingOrder([1.0, 2.5, 0.5], 0), 4000))
    assert drawn[1] / drawn[0] == pytest.approx(2.5, rel=0.05)
    assert drawn[2] / drawn[0] == pytest.approx(0.5, rel=0.1)
    assert Ticket(1, 2).row == 1


def record(*labels):
    boxes = np.array([[0, 0, 1 + i, 1] for i in range(len(labels))], float).reshape(-1, 4)
    return Record("a", "a.png", 9, 9, Predictions(boxes, np.ones(len(labels)), np.array(labels, int)))


def test_repeat_factors_by_hand():
    """Class 0 is on 4 of 8 images, class 1 on 1 of 8: sqrt(.5 / .125) = 2."""
    records = [record(0), record(0, 0), record(0), record(0, 1), *[record()] * 4]
    assert repeat_factors(records, 0.5) == pytest.approx([1, 1, 1, 2, 1, 1, 1, 1])
    assert set(repeat_factors(records, 0)) == {1.0}
    assert repeat_factors([], 0.5) == []
