import numpy as np
import pytest

from vindr_det.errors import InputError
from vindr_det.gating import read_probabilities, soft_append, without_classifier
from vindr_det.predictions import Predictions, no_finding

BOX = Predictions(np.array([[1.0, 2, 3, 4]]), np.array([0.8]), np.array([3]))


def test_soft_append_writes_one_minus_p():
    gated = soft_append({"a": BOX, "b": Predictions()}, {"a": 0.9, "b": 0.2})
    assert gated["a"].labels.tolist() == [3, 14]
    assert gated["a"].scores == pytest.approx([0.8, 0.1])
    assert gated["a"].boxes[1].tolist() == [0, 0, 1, 1]
    assert gated["b"].scores == pytest.approx([0.8])


def test_an_earlier_class_14_row_is_replaced():
    assert len(soft_append({"a": BOX + no_finding(0.5)}, {"a": 0.9})["a"]) == 2


def test_without_classifier_the_best_box_decides():
    gated = without_classifier({"a": BOX, "b": Predictions()})
    assert gated["a"].scores[1] == pytest.approx(0.2)
    assert gated["b"].scores == pytest.approx([1.0])


def test_a_missing_probability_names_the_image():
    with pytest.raises(InputError, match="image b"):
        soft_append({"a": BOX, "b": BOX}, {"a": 0.5})


@pytest.mark.parametrize("text, message", [
    ("image_id,target\na,0.5\n", "column p_abnormal is missing"),
    ("image_id,p_abnormal\na,0.5\nb,1.5\n", "row 3.*1.5"),
    ("image_id,p_abnormal\na,\n", "row 2"),
])
def test_bad_probability_files(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_probabilities(tmp_path / "p.csv")
