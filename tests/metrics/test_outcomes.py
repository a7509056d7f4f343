"""Boxes of an image judged as the metrics judge them."""

import numpy as np
import pytest
from metric_cases import P, T

from vindr_det.exceptions import InputError
from vindr_det.metrics.matching import match
from vindr_det.metrics.outcomes import judge
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, no_finding
from vindr_det.structures.label_sets import NIH_BOXES
from vindr_det.structures.outcomes import Outcome

BOX, HALF, FAR = (0, 0, 10, 10), (0, 0, 10, 4), (50, 50, 60, 60)
TP, FP, DETECTED, MISSED = Outcome.TRUE_POSITIVE, Outcome.FALSE_POSITIVE, Outcome.DETECTED, Outcome.MISSED


@pytest.mark.parametrize("predicted, truth, unknown, expected", [
    (None, None, (), []),
    (P(), T(), (), []),
    (P((3, 0.9, *BOX)), None, (), [Outcome.PREDICTED]),
    (None, T((3, *BOX)), (), [Outcome.TRUE]),
    (P((3, 0.9, *BOX)), T((3, *BOX)), (), [TP, DETECTED]),
    (P((3, 0.9, *BOX)), T((4, *BOX)), (), [FP, MISSED]),
    (P((3, 0.9, *HALF)), T((3, *BOX)), (), [FP, MISSED]),  # IoU .4 exactly is not enough
    (P((3, 0.2, *BOX), (3, 0.9, 0, 0, 10, 9)), T((3, *BOX)), (), [TP, FP, DETECTED]),  # the best scored takes it
    (P((3, 0.9, *BOX)), T(), (), [FP]),  # a normal image
    (P((3, 0.9, *BOX), (14, 0.1, 0, 0, 1, 1)), no_finding(), (), [FP]),
    (P(), T((3, *BOX)), (), [MISSED]),
    (P((3, 0.9, *BOX), (4, 0.8, *BOX)), T((4, *BOX)), (3,), [Outcome.NOT_JUDGED, TP, DETECTED]),
    (P((3, 0.9, *BOX)), T((3, *BOX), (4, *FAR)), (3,), [Outcome.NOT_JUDGED, Outcome.TRUE, MISSED]),
    (P((3, 0.9, *FAR)), T((4, *BOX), (3, *FAR)), (4,), [TP, Outcome.TRUE, DETECTED]),
])
def test_outcomes(predicted, truth, unknown, expected):
    boxes, outcomes = judge(predicted, truth, unknown)
    assert outcomes == expected and len(boxes) == len(expected)


def test_other_label_sets():
    box = Predictions(np.array([BOX]), np.ones(1), np.ones(1), NIH_BOXES)
    assert judge(box, box)[1] == [TP, DETECTED]
    assert judge(box, Predictions(label_set=NIH_BOXES))[1] == [FP]
    with pytest.raises(InputError, match="label set"):
        judge(box, T((3, *BOX)))


def test_a_score_threshold_changes_no_other_box():
    """Random images: outcomes by a loop, of all boxes and of those above a score."""
    rng = np.random.default_rng(0)
    for _ in range(40):
        low = rng.uniform(0, 30, (30, 2))
        table = Predictions(np.hstack([low, low + rng.uniform(5, 25, (30, 2))]), rng.random(30), rng.integers(0, 3, 30))
        predicted, truth = table[:20], table[20:]
        for threshold in (0, 0.5):
            boxes, outcomes = judge(predicted[predicted.scores >= threshold], truth)
            count, taken = len(boxes) - 10, set()
            for row in range(count):
                iou = box_ops.box_iou_batch(boxes.boxes[row : row + 1], truth.boxes)[0]
                iou[truth.labels != boxes.labels[row]] = 0
                right = iou.max() > 0.4 and int(iou.argmax()) not in taken
                taken |= {int(iou.argmax())} if right else set()
                assert outcomes[row] is (TP if right else FP)
            assert [kind is DETECTED for kind in outcomes[count:]] == [row in taken for row in range(10)]
        assert sum(match({"": predicted}, {"": truth}, 0.4).correct) == sum(kind is TP for kind in judge(
            predicted, truth)[1])
