"""Maps against boxes: figures of maps whose answer is known."""

import csv
import io

import numpy as np
import pytest

from vindr_det.classification.map_agreement import COLUMNS, MapComparison, agreement, boxes_of
from vindr_det.structures.detections import Predictions, no_finding


def of_squares(*squares):
    heat = np.zeros((100, 200), np.float32)
    for y0, x0, y1, x1 in squares:
        heat[y0:y1, x0:x1] = 1
    return heat


@pytest.mark.parametrize("heat, boxes, energy, area, points", [
    (np.ones((100, 200), np.float32), [], 0, 0, False),
    (np.zeros((100, 200), np.float32), [[0, 0, 50, 50]], 0, 0.125, True),
    (np.ones((100, 200), np.float32), [[0, 0, 50, 50]], 0.125, 0.125, True),
    (of_squares((0, 0, 10, 10)), [[0, 0, 10, 10]], 1, 0.005, True),
    (of_squares((0, 0, 10, 10)), [[0, 0, 10, 10], [0, 0, 10, 10]], 1, 0.005, True),
    (of_squares((0, 0, 10, 10)), [[50, 50, 60, 60]], 0, 0.005, False),
    (of_squares((0, 0, 10, 10), (50, 100, 60, 110)), [[100, 50, 110, 60]], 0.5, 0.005, False),
    (of_squares((0, 0, 10, 10)), [[-5, -5, 5.5, 10]], 0.55, 0.00275, True)])
def test_figures(heat, boxes, energy, area, points):
    agreed = agreement(heat, np.array(boxes, float).reshape(-1, 4))
    assert agreed.energy == pytest.approx(energy) and agreed.area == pytest.approx(area)
    assert agreed.points == points


def test_boxes_of_a_column_are_those_of_its_finding():
    boxes = np.array([[0, 0, 1, 1], [0, 0, 2, 2], [0, 0, 3, 3]], float)
    detections = Predictions(boxes, np.ones(3), np.array([3, 8, 3])) + no_finding()
    assert boxes_of(detections, "p_cardiomegaly")[:, 2].tolist() == [1, 3]
    assert boxes_of(detections, "p_abnormal")[:, 2].tolist() == [1, 2, 3]
    assert not len(boxes_of(detections, "p_no_finding")) and not len(boxes_of(detections, "p_pneumonia"))


def test_a_table_has_a_row_for_each_map_of_images_with_boxes():
    boxes = Predictions(np.array([[0, 0, 400, 300]], float), np.ones(1), np.array([3]))
    compared = MapComparison({"x": boxes})
    for image_id, column in (("x", "p_cardiomegaly"), ("x", "p_ild"), ("y", "p_ild")):
        compared.add(image_id, (600, 800), column, np.ones((30, 30), np.float32))
    rows = list(csv.reader(io.StringIO(compared.text())))
    assert rows == [list(COLUMNS), ["x", "p_cardiomegaly", "1", "0.2500", "0.2500", "1"],
                    ["x", "p_ild", "0", "", "", ""]]
    shown = compared.shown("x", "p_cardiomegaly", (600, 800), (60, 40))
    assert shown.tolist() == [[0, 0, 20, 30]]
