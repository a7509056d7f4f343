"""The competition's metric against hand-computed cases and a slow reference."""

import math

import numpy as np
import pytest
from metric_cases import BOX, FAR, P, T, random_case, slow_reference

from vindr_det.exceptions import InputError
from vindr_det.metrics import voc
from vindr_det.structures.detections import no_finding

# name, truth, predictions, AP of class 3
CASES = [
    ("perfect", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *BOX))}, 1.0),
    ("none predicted", {"a": T((3, *BOX))}, {"a": P()}, 0.0),
    ("image not predicted at all", {"a": T((3, *BOX))}, {}, 0.0),
    ("wrong place", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *FAR))}, 0.0),
    ("wrong class", {"a": T((3, *BOX))}, {"a": P((5, 0.9, *BOX))}, 0.0),
    # IoU exactly .4 is no match: 10x10 against 4x10 inside it.
    ("IoU exactly 0.4", {"a": T((3, *BOX))}, {"a": P((3, 0.9, 0, 0, 4, 10))}, 0.0),
    ("IoU just above", {"a": T((3, *BOX))}, {"a": P((3, 0.9, 0, 0, 4.01, 10))}, 1.0),
    # The second detection of a truth is a false positive, but after the only true positive it costs nothing.
    ("duplicate", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *BOX), (3, 0.8, *BOX))}, 1.0),
    # Right, duplicate, right: precision 1, 1/2, 2/3; area = .5 * 1 + .5 * 2/3.
    ("duplicate before a true positive", {"a": T((3, *BOX), (3, *FAR))},
     {"a": P((3, 0.9, *BOX), (3, 0.8, *BOX), (3, 0.7, *FAR))}, 0.5 + 0.5 * 2 / 3),
    # A false positive first: precision 0, 1/2.
    ("false positive first", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *FAR), (3, 0.8, *BOX))}, 0.5),
    # The same score: file order decides.
    ("tie, false positive first", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *FAR), (3, 0.9, *BOX))}, 0.5),
    ("tie, true positive first", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *BOX), (3, 0.9, *FAR))}, 1.0),
    ("tie over images: by id", {"a": T((3, *BOX)), "b": T((3, *BOX))},
     {"b": P((3, 0.9, *BOX)), "a": P((3, 0.9, *FAR))}, 0.25),
    # Half detected: recall stops at 1/2.
    ("one of two detected", {"a": T((3, *BOX)), "b": T((3, *BOX))}, {"a": P((3, 0.9, *BOX))}, 0.5),
    # VOC: a detection belongs to the truth it overlaps most, taken or not.
    ("best truth is taken", {"a": T((3, 0, 0, 10, 10), (3, 0, 0, 10, 14))},
     {"a": P((3, 0.9, *BOX), (3, 0.8, 0, 0, 10, 10.5))}, 0.5),
]


@pytest.mark.parametrize("name, truth, predictions, expected", CASES, ids=[c[0] for c in CASES])
def test_hand_computed(name, truth, predictions, expected):
    result = voc.vindr_ap(predictions, truth)
    assert result.ap["Cardiomegaly"] == pytest.approx(expected, abs=1e-12)


def test_class_14_counts_as_a_class():
    truth = {"a": T(), "b": T((3, *BOX))}
    detections = {"a": no_finding(0.9), "b": P((3, 0.9, *BOX)) + no_finding(0.1)}
    result = voc.vindr_ap(detections, truth)
    assert result.ap["No finding"] == 1.0
    assert result.mean_ap == 1.0
    inverted = {"a": no_finding(0.1), "b": P((3, 0.9, *BOX)) + no_finding(0.9)}
    assert voc.vindr_ap(inverted, truth).ap["No finding"] == 0.5


def test_mean_is_over_classes_with_truth():
    result = voc.vindr_ap({"a": P((3, 0.9, *BOX), (4, 0.9, *BOX))}, {"a": T((3, *BOX), (5, *FAR))})
    assert result.mean_ap == 0.5
    assert math.isnan(result.ap["Consolidation"])
    assert result.truths["ILD"] == 1 and result.detections["Consolidation"] == 1


def test_nothing_at_all_is_not_a_number():
    assert math.isnan(voc.vindr_ap({}, {}).mean_ap)


def test_a_prediction_for_an_unknown_image_is_refused():
    with pytest.raises(InputError, match="image x"):
        voc.vindr_ap({"x": P()}, {"a": T()})


def test_equals_the_slow_reference_on_200_random_cases():
    rng = np.random.default_rng(0)
    for _ in range(200):
        predictions, truth = random_case(rng)
        assert voc.vindr_ap(predictions, truth).mean_ap == pytest.approx(
            slow_reference(predictions, truth), abs=1e-12)
