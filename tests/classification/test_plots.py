"""The figures' lines hold the numbers that another library gives."""

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import classifier_config as config
from sklearn.metrics import auc, average_precision_score, roc_auc_score, roc_curve

from vindr_det.classification import plots
from vindr_det.classification import train as training
from vindr_det.classification.external_scores import threshold_table
from vindr_det.classification.frequencies import frequencies
from vindr_det.classification.operating_points import LabelPredictions, OperatingPoints
from vindr_det.classification.splits import read_tables, split
from vindr_det.figures import write_figure
from vindr_det.metrics.bootstrap import Bootstrap
from vindr_det.metrics.calibration import Calibration

pytestmark = pytest.mark.figures


def predictions(column="p_mass", count=200, positives=60, seed=0):
    rng = np.random.default_rng(seed)
    truth = np.arange(count) < positives
    p = np.round(np.clip(rng.normal(0.3 + 0.3 * truth, 0.2), 0, 1), 2)  # with ties
    ids = np.array([f"i{place}" for place in range(count)])
    return LabelPredictions(column, ids, truth, p, np.arange(count) % 5, Bootstrap.of(ids, 20))


def lines_of(axes):
    return {line.get_label(): line.get_data() for line in axes.lines if not line.get_label().startswith("_")}


@pytest.mark.parametrize("positives", [[], [60], [60, 100, 3], [3]])
def test_roc_and_precision_recall(positives, tmp_path):
    labels = [predictions(f"p_label_{place}", positives=count, seed=place)
              for place, count in enumerate(positives)]
    figure = plots.roc_figure(labels)
    roc, precision_recall = figure.axes
    enough = [label for label in labels if label.truth.sum() > 3]
    assert len(lines_of(roc)) == len(lines_of(precision_recall)) == len(enough)
    for label, (name, line), (ap_name, steps) in zip(
            enough, lines_of(roc).items(), lines_of(precision_recall).items(), strict=True):
        area, ap = roc_auc_score(label.truth, label.p), average_precision_score(label.truth, label.p)
        assert name == f"label {label.column[-1]}  {area:.3f}" and ap_name.endswith(f"{ap:.3f}")
        assert auc(*line) == pytest.approx(area)
        assert np.sum(np.diff(steps[0]) * steps[1][1:]) == pytest.approx(ap)
        expected = roc_curve(label.truth, label.p, drop_intermediate=False)
        assert line[0] == pytest.approx(expected[0]) and line[1] == pytest.approx(expected[1])
    note = figure.get_supxlabel()
    assert note == ("not measured, too few images: label 2" if len(positives) == 3 else
                    "not measured, too few images: label 0" if positives == [3] else "")
    write_figure(tmp_path / "roc.png", figure)


def test_rates_over_thresholds(tmp_path):
    labels = [predictions("p_a"), predictions("p_b", positives=0), predictions("the file", seed=2)]
    table = threshold_table(labels, [0.2, 0.5, 0.8])
    figure = plots.threshold_figure(table)
    assert [axes.get_title().split("\n")[0] for axes in figure.axes] == ["a", "b", "the file"]
    called = labels[0].p >= 0.5
    own = table[(table["probability"] == "p_a") & (table["threshold"] == 0.5)].iloc[0]
    assert own["tp"] == (called & labels[0].truth).sum() and own["fn"] == (~called & labels[0].truth).sum()
    assert lines_of(figure.axes[0])["precision"][1][1] == own["precision"] == own["tp"] / called.sum()
    assert lines_of(figure.axes[0])["F1"][0].tolist() == [0.2, 0.5, 0.8]
    write_figure(tmp_path / "thresholds.png", figure)


def test_reliability(tmp_path):
    label = predictions()
    fitted = {"p_mass": OperatingPoints(Calibration(), {})}
    figure = plots.reliability_figure([label, predictions("p_b")], fitted)
    axes, = figure.axes
    predicted, observed = lines_of(axes)["as predicted"]
    inside = (label.p >= 7 / 15) & (label.p < 8 / 15)
    place = np.argmin(abs(predicted - 0.5))
    assert predicted[place] == pytest.approx(label.p[inside].mean())
    assert observed[place] == pytest.approx(label.truth[inside].mean())


@pytest.mark.parametrize("loss", ["bce", "weighted_bce", "asymmetric"])
def test_frequencies_before_and_after_the_losss_weights(phantoms, tmp_path, loss):
    """With weighted_bce both sides of a label become f (1 - f), as 004 shows."""
    cfg = config(phantoms, tmp_path, "SOLVER.LOSS", loss, "DATA.KEEP_NORMAL", "0.5")
    splits = split(read_tables(cfg), cfg).folds
    table = frequencies(cfg, splits)
    assert table["fold"].tolist() == [0, 1, 2] and table["label"].unique().tolist() == ["abnormal"]
    all_abnormal = splits[0].train.abnormal.sum()
    images = all_abnormal + round(0.5 * splits[0].train.normal.sum())
    f = all_abnormal / images
    row = table.iloc[0]
    assert row["images"] == images and (row["positive"], row["negative"]) == pytest.approx((f, 1 - f))
    weighted = {"bce": (f, 1 - f), "weighted_bce": (f * (1 - f),) * 2, "asymmetric": (np.nan,) * 2}[loss]
    assert (row["weighted_positive"], row["weighted_negative"]) == pytest.approx(weighted, nan_ok=True)
    before, after = plots.frequency_figure(table).axes
    assert before.containers[0][0].get_width() == pytest.approx(table["positive"].mean())
    assert after.containers[1][0].get_width() == pytest.approx(table["weighted_negative"].mean(), nan_ok=True)
    notes = [text.get_text() for text in after.texts]
    assert ("this loss has no fixed weights" in notes) == (loss == "asymmetric")


def test_a_training_draws_and_scores_each_model_on_the_test_list(phantoms, tmp_path, caplog):
    table = pd.read_csv(phantoms / "data/annotations/labels.csv")
    table[table["fold"] == 2].assign(fold=-1).to_csv(tmp_path / "test.csv", index=False)
    table[table["fold"] != 2].to_csv(tmp_path / "learn.csv", index=False)
    out = tmp_path / "out"
    cfg = config(phantoms, out, "DATA.LABELS", str(tmp_path / "learn.csv"),
                 "DATA.TEST", str(tmp_path / "test.csv"))
    caplog.set_level("INFO")
    folds = training.train(cfg)["test"]["folds"]
    expected = []
    for fold in (0, 1):
        frame = pd.read_csv(out / f"fold{fold}_test.csv")
        truth, p = frame["abnormal"] >= 0.5, frame["p_abnormal"]
        expected.append(np.mean((p >= 0.5) == truth))
        assert folds[f"fold{fold}"]["accuracy"] == pytest.approx(expected[-1])
    assert folds["mean"]["accuracy"] == pytest.approx(np.mean(expected))
    assert folds["sd"]["accuracy"] == pytest.approx(np.std(expected, ddof=1))
    assert folds["sd"]["auc"] is None or folds["sd"]["auc"] >= 0
    assert "test, single models at threshold .5" in caplog.text and "were not plotted" not in caplog.text
    assert {"results.png", "frequencies.png", "frequencies.csv"} <= {path.name for path in out.iterdir()}


def test_a_picture_that_fails_costs_no_training(phantoms, tmp_path, caplog, monkeypatch):
    def fail(*_):
        raise ValueError("no canvas")

    for name in ("frequency_figure", "roc_figure", "reliability_figure"):
        monkeypatch.setattr(plots, name, fail)
    training.train(config(phantoms, tmp_path), [0])
    assert "frequencies.png was not written (ValueError: no canvas)" in caplog.text
    assert (tmp_path / "metrics.json").is_file()


def test_weights_of_the_losses_are_those_that_are_applied():
    """Gradient of the weighted loss over that of the plain one, by soft target."""
    from vindr_det.classification.losses import Loss

    truth, frequency = torch.tensor([[0.0], [0.3], [1.0]]), torch.tensor([0.2])
    logits = torch.zeros(3, 1)
    weighted, plain = (torch.stack([loss(logits[i:i + 1], truth[i:i + 1]) for i in range(3)])
                       for loss in (Loss(frequency=frequency), Loss()))
    weights = Loss(frequency=frequency).weights(truth)[:, 0]
    assert (weighted / plain).tolist() == pytest.approx(weights.tolist())
