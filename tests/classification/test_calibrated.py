"""What leaves a classifier: the stored calibration is applied, the ensemble's own where it has one."""

import json
import logging

import numpy as np
import pandas as pd
import pytest
from conftest import classifier_config

from vindr_det.classification import operating_points as points
from vindr_det.classification import splits
from vindr_det.classification import train as training
from vindr_det.classification.operating_points import OperatingPoints
from vindr_det.classification.predict import Classifier, classify, read_thresholds
from vindr_det.classification.train import train
from vindr_det.imaging import image_run
from vindr_det.imaging.read import read_image
from vindr_det.metrics.calibration import Calibration


def config(phantoms, out, *more):
    return classifier_config(phantoms, out, "MODEL.NAME", "test_resnet", *more)


@pytest.fixture(scope="module")
def trained(phantoms, tmp_path_factory):
    out = tmp_path_factory.mktemp("classifier")
    train(config(phantoms, out), [0, 1])
    return out


def classified(folder, images):
    """The table of classify.py."""
    return classify(Classifier(folder), image_run.find(images), read_thresholds(folder), workers=1)[0]


def test_calibration_is_applied_by_default_and_stated(phantoms, trained, caplog):
    raw = Classifier(trained, calibrated=False)
    halved = Calibration("platt", 0.5, 1.0)
    points.save_points(trained, {"p_abnormal": OperatingPoints(halved, {"youden": 0.7})})
    image = read_image(next((phantoms / "raw/test").iterdir())).pixels
    before = raw.probabilities([image])
    after = Classifier(trained).probabilities([image])
    assert after == pytest.approx(halved(before)) and abs(after - before).max() > 0.01
    assert Classifier(trained)(image).p_abnormal == pytest.approx(after[0, 0])  # what a gate gets
    table = classified(trained, phantoms / "raw/test")
    assert (table["calibrated"] == 1).all()
    assert (table["decision_abnormal"] == (table["p_abnormal"] >= 0.7)).all()
    (trained / "operating_points.json").unlink()
    with caplog.at_level(logging.WARNING):
        assert Classifier(trained).probabilities([image]) == pytest.approx(before)
    assert "has no operating_points.json, so its probabilities are not calibrated" in caplog.text


def test_points_of_the_ensemble_are_chosen_on_images_that_no_model_has_seen(phantoms, tmp_path, monkeypatch):
    for module in (splits, training):
        monkeypatch.setattr(module, "MIN_CALIBRATION", 5)
    monkeypatch.setattr(points, "MIN_CALIBRATED", 5)
    cfg = config(phantoms, tmp_path, "DATA.CALIBRATION_SHARE", "0.5")
    metrics = train(cfg)
    stored = json.loads((tmp_path / "operating_points.json").read_text())
    assert stored["chosen_on"]["p_abnormal"].startswith("the mean of 3 models, ")
    own = pd.read_csv(tmp_path / "calibration_predictions.csv", dtype={"image_id": str})
    parts = [pd.read_csv(tmp_path / f"fold{fold}_calibration.csv") for fold in range(3)]
    calibration = points.read_points(tmp_path)["p_abnormal"].calibration
    mean = np.mean([part["p_abnormal"] for part in parts], axis=0)
    assert own["p_abnormal"].to_numpy() == pytest.approx(calibration(mean), abs=2e-6)
    oof = pd.read_csv(tmp_path / "oof_predictions.csv")
    assert len(oof) == 24 and len(own) < 16 and (oof["calibrated"] == 1).all()
    assert metrics["ensemble"]["calibration"]["p_abnormal"]["method"] == calibration.method
    assert "out of fold" in metrics["about"]["auc"] and metrics["epoch"] == "the last"
    p = classified(tmp_path, phantoms / "data/train").set_index("image_id")["p_abnormal"]
    assert p[own["image_id"]].to_numpy() == pytest.approx(own["p_abnormal"].to_numpy(), abs=2e-5)
