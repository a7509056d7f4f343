import numpy as np
import pytest

from vindr_det.errors import InputError
from vindr_det.gating import check_sign, read_probabilities, soft_append, without_classifier
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
    ("image_id,target\na,0.5\n", "no column 'p_abnormal', expected p_abnormal or p_no_finding"),
    ("image_id,p_abnormal\na,0.5\nb,1.5\n", "row 3.*1.5"),
    ("image_id,p_abnormal\na,0.5\na,0.5\n", "row 3: image a .*each image once"),
    ("image_id,p_abnormal\na,\n", "row 2"),
])
def test_bad_probability_files(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_probabilities(tmp_path / "p.csv")


@pytest.mark.parametrize("text, how, expected", [
    ("image_id,p_abnormal\na,0.9", {}, 0.9), ("image_id,p_no_finding\na,0.9", {}, 0.1),
    ("image_id,x\na,0.9", {"column": "x"}, 0.9),
    ("image_id,x\na,0.9", {"column": "x", "says": "p_no_finding"}, 0.1),
])
def test_the_sign_is_in_the_columns_name_or_told(tmp_path, text, how, expected):
    (tmp_path / "p.csv").write_text(text)
    assert read_probabilities(tmp_path / "p.csv", **how) == pytest.approx({"a": expected})


def test_a_swapped_sign_is_refused():
    truth = {"a": True, "b": False, "c": True, "d": False}
    p = {"a": 0.9, "b": 0.1, "c": 0.6, "d": 0.7, "unknown": 0.5}
    assert check_sign(p, truth, "file") == pytest.approx(0.75)
    with pytest.raises(InputError, match=r"file: AUC of P\(abnormal\) is 0.2500 .* its sign is swapped"):
        check_sign({key: 1 - value for key, value in p.items()}, truth, "file")
    with pytest.raises(InputError, match="1 of its images have labels, 1 of them abnormal"):
        check_sign({"a": 0.5, "x": 0.5}, truth, "file")


def test_peers_out_of_fold_probabilities(data, tmp_path, tool):
    """Three models' P(no finding) on all training images; the areas are those measured elsewhere."""
    import json

    from conftest import one_line

    made = tool("convert_vindr.py", "--csv", data / "vinbig/train.csv.gz", "--meta",
                data / "vinbig/train_meta.csv", "--out", tmp_path / "a")
    assert made.returncode == 0, made.stderr
    theirs = data / "vinbig/classifier/nht_class14-train-preds.csv"
    peers = ["evaluate_classifier.py", "--predictions", theirs, "--labels", tmp_path / "a/labels.csv",
             "--columns", "effnet", "resnext", "densenet"]
    run = tool(*peers, "--says", "p_no_finding", "--out", tmp_path, "--bootstrap", 200)
    assert run.returncode == 0, run.stderr
    found = json.loads((tmp_path / "metrics.json").read_text())
    assert [found[f"auc/{name}"] for name in ("effnet", "resnext", "densenet")] == pytest.approx(
        [0.98863, 0.97857, 0.98456], abs=5e-6)
    low, high = found["auc/their mean/ci95"]
    assert low < found["auc/their mean"] < high and found["auc/their mean"] > found["auc/effnet"]
    assert "its sign is swapped" in one_line(tool(*peers, "--says", "p_abnormal"))
