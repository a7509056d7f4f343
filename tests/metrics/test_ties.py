"""Boxes of equal score: every order that they can have, and random ones."""

from itertools import permutations

import numpy as np
import pytest
from metric_cases import BOX, FAR, P, T, slow_reference

from vindr_det.metrics import ties
from vindr_det.metrics.bootstrap import Bootstrap
from vindr_det.metrics.matching import assign, match, mean_over_classes

# name, truth, predictions; all boxes are of class 3 and tied
CASES = [
    ("one box", {"a": T((3, *BOX))}, {"a": P((3, 0.5, *BOX))}),
    ("one right, one wrong", {"a": T((3, *BOX)), "b": T((3, *BOX))},
     {"a": P((3, 0.5, *BOX)), "b": P((3, 0.5, *FAR))}),
    ("a duplicate may come first", {"a": T((3, *BOX), (3, *FAR))},
     {"a": P((3, 0.5, *BOX), (3, 0.5, *BOX), (3, 0.5, *FAR))}),
    ("two of four", {"a": T((3, *BOX), (3, *FAR)), "b": T((3, *BOX))},
     {"a": P((3, 0.5, *BOX), (3, 0.5, 90, 0, 99, 9)), "b": P((3, 0.5, *BOX), (3, 0.5, *FAR))}),
]


def every_order(truth, predictions):
    """AP of class 3 in each order, by scores that are no longer equal."""
    counts = {name: len(prediction) for name, prediction in predictions.items()}
    for order in permutations(range(sum(counts.values()))):
        left = list(order)
        apart = {name: P(*[(3, 0.5 + 0.01 * left.pop(0), *box) for box in boxes.boxes])
                 for name, boxes in predictions.items()}
        yield slow_reference(apart, truth)


@pytest.mark.parametrize("name, truth, predictions", CASES, ids=[case[0] for case in CASES])
def test_random_orders_are_all_orders(name, truth, predictions):
    known = np.array(list(every_order(truth, predictions)))
    drawn = ties.average_precisions(ties.random_orders(assign(predictions, truth, 0.4), 500))[:, 3]
    assert {round(value, 9) for value in drawn} == {round(value, 9) for value in known}
    assert drawn.mean() == pytest.approx(known.mean(), abs=0.03)
    assert drawn.std() == pytest.approx(known.std(), abs=0.03)


def test_scores_that_differ_keep_their_order():
    truth, predictions = {"a": T((3, *BOX))}, {"a": P((3, 0.5, *FAR), (3, 0.6, *BOX))}
    assert (ties.average_precisions(ties.random_orders(assign(predictions, truth, 0.4), 9))[:, 3] == 1).all()


def test_share_by_hand():
    """Equal scores of two classes are no tie."""
    truth = {"a": T((3, *BOX))}
    assert ties.tied_share(match({}, truth, 0.4)) == 0
    assert ties.tied_share(match({"a": P((3, 0.5, *BOX), (4, 0.5, *FAR))}, truth, 0.4)) == 0
    tied = P((3, 0.5, *BOX), (3, 0.5, *FAR), (4, 0.5, *FAR), (3, 0.4, *FAR))
    assert ties.tied_share(match({"a": tied}, truth, 0.4)) == 0.5


def test_an_interval_goes_with_the_mean_of_the_orders():
    truth = {f"{i:02}": T((3, *BOX)) for i in range(40)}
    detections = {name: P((3, 1.0, *(BOX if at % 2 else FAR))) for at, name in enumerate(truth)}
    shuffled = list(ties.random_orders(assign(detections, truth, 0.4)))
    metric = ties.tie_replicates(shuffled, Bootstrap.of(np.arange(40), 120))
    assert metric.value == pytest.approx(mean_over_classes(ties.average_precisions(shuffled)).mean())
    estimate = metric.of_class(3).estimate()
    assert metric.drawn.shape == (120, 15) and metric.images[3] == 40 and estimate.low < 0.25 < estimate.high
