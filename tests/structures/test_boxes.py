import numpy as np
import pytest

from vindr_det.structures import boxes


@pytest.mark.parametrize("xyxy, xywh", [
    ([], []),
    ([[0, 0, 1, 1]], [[0, 0, 1, 1]]),
    ([[10, 20, 30, 60]], [[10, 20, 20, 40]]),
])
def test_xyxy_and_xywh_are_inverse(xyxy, xywh):
    assert boxes.xyxy_to_xywh(xyxy).tolist() == boxes.as_boxes(xywh).tolist()
    assert boxes.xywh_to_xyxy(xywh).tolist() == boxes.as_boxes(xyxy).tolist()


def test_unit_boxes_divide_x_by_width_and_y_by_height():
    unit = boxes.to_unit([[10, 20, 30, 40]], height=80, width=100)
    assert unit.tolist() == [[0.1, 0.25, 0.3, 0.5]]
    assert np.allclose(boxes.from_unit(unit, 80, 100), [[10, 20, 30, 40]])


def test_clip_keeps_inside_and_empties_outside():
    clipped = boxes.clip([[-5, -5, 5, 5], [200, 0, 300, 10]], height=50, width=100)
    assert clipped.tolist() == [[0, 0, 5, 5], [100, 0, 100, 10]]
    assert boxes.area(clipped).tolist() == [25, 0]


@pytest.mark.parametrize("a, b, iou", [
    ([0, 0, 10, 10], [0, 0, 10, 10], 1.0),
    ([0, 0, 10, 10], [10, 0, 20, 10], 0.0),
    ([0, 0, 10, 10], [5, 0, 15, 10], 1 / 3),
    ([0, 0, 10, 10], [0, 0, 4, 10], 0.4),
    ([0, 0, 0, 0], [0, 0, 0, 0], 0.0),
])
def test_iou_by_hand(a, b, iou):
    assert boxes.box_iou_batch([a], [b])[0, 0] == pytest.approx(iou)


def test_iou_of_nothing_has_a_shape():
    assert boxes.box_iou_batch([], [[0, 0, 1, 1]]).shape == (0, 1)


def test_wrong_shape_is_refused():
    with pytest.raises(ValueError, match=r"\(1, 3\).*\(N, 4\)"):
        boxes.as_boxes([[1, 2, 3]])
