"""What is reported after each epoch, and what of it chooses nothing."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import classifier_config as config
from sklearn.metrics import log_loss, roc_auc_score

from vindr_det.classification import history
from vindr_det.classification.losses import Loss
from vindr_det.classification.train import train
from vindr_det.exceptions import InputError
from vindr_det.imaging.image_run import find
from vindr_det.training.checkpoint_io import read_file


def test_measures_are_sklearns():
    rng = np.random.default_rng(0)
    targets = (rng.random((60, 3)) < 0.4).astype(float)
    p = np.clip(rng.normal(0.3 + 0.3 * targets, 0.2), 0, 1)
    targets[::7, 1] = np.nan
    targets[:, 2] = 0  # no positives: no AUC
    known = ~np.isnan(targets)
    aucs = [roc_auc_score(targets[known[:, k], k], p[known[:, k], k]) for k in (0, 1)]
    values = history.measures(targets, p, Loss())
    assert values["auc"] == pytest.approx(np.mean(aucs))
    assert values["accuracy"] == pytest.approx(np.mean((p >= 0.5)[known] == targets[known]))
    entropy = log_loss(targets[known], np.clip(p[known], 1e-7, 1 - 1e-7))
    assert values["loss"] == pytest.approx(entropy, rel=1e-4)
    assert history.label_aucs(targets, p)[:2] == pytest.approx(aucs)
    nothing = history.measures(np.full((4, 1), np.nan), np.zeros((4, 1)), Loss())
    assert np.isnan(nothing["auc"]) and np.isnan(nothing["accuracy"]) and nothing["loss"] == 0


def test_a_row_per_epoch_and_the_weights_of_every_second(phantoms, tmp_path):
    """The last row's held-out measures are those of the model; reporting them changes no weight."""
    more = ["SOLVER.EPOCHS", "4", "SOLVER.EMA_DECAY", "0.5", "SOLVER.WARMUP_EPOCHS", "2", "SOLVER.LR", "0.01"]
    cfg = config(phantoms, tmp_path / "out", *more, "SOLVER.KEEP_EPOCHS", "2")
    train(cfg, [1])
    frame = pd.read_csv(tmp_path / "out/fold1_history.csv")
    assert list(frame) == ["epoch", "time", "data_time", "lr", "loss", "auc", "held_out_loss", "held_out_auc",
                           "held_out_accuracy"]
    assert frame["epoch"].tolist() == [1, 2, 3, 4] and frame["lr"].idxmax() == 2 and frame["lr"].iloc[-1] > 0
    oof = pd.read_csv(tmp_path / "out/fold1_oof.csv")
    truth, p = oof["abnormal"] >= 0.5, oof["p_abnormal"]
    assert frame["held_out_accuracy"].iloc[-1] == pytest.approx(np.mean((p >= 0.5) == truth))
    assert frame["held_out_loss"].iloc[-1] == pytest.approx(log_loss(truth, p), rel=1e-4)
    last = read_file(tmp_path / "out/fold1.pth")["model"]
    kept = {int(path.parent.name): read_file(path)["model"]
            for path in (tmp_path / "out/epochs").glob("*/fold1.pth")}
    assert kept.keys() == {2, 4}
    assert all(torch.equal(last[key], kept[4][key]) for key in last)
    assert not all(torch.equal(last[key], kept[2][key]) for key in last)

    train(config(phantoms, tmp_path / "without", *more, "SOLVER.REPORT_HELD_OUT", "False"), [1])
    plain = pd.read_csv(tmp_path / "without/fold1_history.csv")
    assert list(plain) == ["epoch", "time", "data_time", "lr", "loss", "auc"]
    assert plain["loss"].tolist() == frame["loss"].tolist()
    other = read_file(tmp_path / "without/fold1.pth")["model"]
    assert all(torch.equal(last[key], other[key]) for key in last)

    train(config(phantoms, tmp_path / "out", *more), [1])  # again, without epochs
    assert not list((tmp_path / "out/epochs").glob("*/*.pth"))


def test_the_weights_of_an_epoch_predict(phantoms, tmp_path):
    """A folder of epochs/ is a classifier's folder, without operating points of its own."""
    from vindr_det.classification.predict import Classifier, classify, read_thresholds

    train(config(phantoms, tmp_path, "SOLVER.KEEP_EPOCHS", "1"), [0, 1])
    for point in ("1.5", "-0.1", "nan", "inf"):
        with pytest.raises(InputError, match=f"--point {point}: expected a number from 0 to 1"):
            read_thresholds(tmp_path, point)
    thresholds = read_thresholds(tmp_path / "epochs/1", "0.4")
    run = find(phantoms / "data/test")
    rows = {name: classify(Classifier(folder, calibrated=False), run, thresholds, workers=1)[0]
            for name, folder in (("epoch", tmp_path / "epochs/1"), ("last", tmp_path))}
    pd.testing.assert_frame_equal(rows["epoch"], rows["last"])
    assert len(rows["epoch"]) == 6
    assert (rows["epoch"]["decision_abnormal"] == (rows["epoch"]["p_abnormal"] >= 0.4)).all()


def test_several_labels_and_images_set_aside(phantoms, tmp_path, monkeypatch):
    monkeypatch.setattr(history, "measurable", lambda truth: 0 < sum(truth) < len(truth))  # few images do
    train(config(phantoms, tmp_path, "DATA.TARGET", "vindr15", "SOLVER.SELECT", "inner", "SOLVER.EPOCHS", "2",
                 "DATA.CALIBRATION_SHARE", "0.4"), [0])
    frame = pd.read_csv(tmp_path / "fold0_history.csv")
    assert {"inner_loss", "inner_auc", "inner_accuracy", "held_out_auc/p_no_finding"} <= set(frame)
    assert sum(name.startswith("held_out_auc/") for name in frame) == 15
    aucs = frame.filter(like="held_out_auc/").mean(axis=1)
    assert frame["held_out_auc"].to_numpy() == pytest.approx(aucs.to_numpy())
