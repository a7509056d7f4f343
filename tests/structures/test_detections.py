import numpy as np
import pytest

from vindr_det.structures.detections import Predictions, drop_degenerate, no_finding


def test_empty_is_valid():
    assert len(Predictions()) == 0
    assert len(Predictions().by_score()) == 0


@pytest.mark.parametrize("boxes, scores, labels, message", [
    ([[0, 0, 1, 1]], [0.5, 0.6], [1], "differ in length"),
    ([[0, 0, 1, np.nan]], [0.5], [1], "not finite"),
    ([[0, 0, 1, 1]], [1.5], [1], r"score 1.5 is not in \[0, 1\]"),
    ([[0, 0, 1, 1]], [np.nan], [1], "score nan"),
    ([[0, 0, 1, 1]], [0.5], [15], "class id 15"),
    ([[0, 0, 1, 1]], [0.5], [1.5], "class id 1.5"),
    ([[1, 0, 1, 1]], [0.5], [1], "x_min < x_max"),
])
def test_bad_values_are_refused_with_the_value(boxes, scores, labels, message):
    with pytest.raises(ValueError, match=message):
        Predictions(np.array(boxes), np.array(scores), np.array(labels))


def test_by_score_keeps_the_order_of_ties():
    p = Predictions(np.array([[0, 0, i + 1, 1] for i in range(4)]), np.array([0.5, 0.9, 0.5, 0.9]),
                    np.array([0, 1, 2, 3]))
    assert p.by_score().labels.tolist() == [1, 3, 0, 2]


def test_findings_leave_class_14_out():
    both = no_finding(0.7) + Predictions(np.array([[0, 0, 5, 5]]), np.array([0.2]), np.array([3]))
    assert both.findings().labels.tolist() == [3]


def test_drop_degenerate_drops_what_nobody_can_use():
    boxes = np.array([[0, 0, 1, 1], [5, 5, 5, 9], [0, 0, np.inf, 1]])
    assert len(drop_degenerate(boxes, np.array([1.0000001, 0.5, 0.5]), np.array([1, 2, 3]))) == 1
