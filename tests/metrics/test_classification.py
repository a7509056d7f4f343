import numpy as np
import pytest
from sklearn.metrics import (
    accuracy_score,
    average_precision_score,
    confusion_matrix,
    f1_score,
    precision_score,
    recall_score,
    roc_auc_score,
)

from vindr_det.metrics import classification as c
from vindr_det.metrics.bootstrap import Bootstrap


def scattered(seed, count=200, ties=True):
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.3
    scores = rng.normal(truth * 0.8, 1)
    return truth, np.round(scores, 1) if ties else scores


@pytest.mark.parametrize("seed", range(8))
def test_areas_are_sklearns_with_ties_and_weights(seed):
    truth, scores = scattered(seed, ties=seed % 2 == 0)
    weights = np.random.default_rng(seed).integers(0, 4, (5, len(truth))).astype(float)
    curves = c.curve(truth, scores, weights)
    for row, w in enumerate(weights):
        assert c.auc(curves)[row] == pytest.approx(roc_auc_score(truth, scores, sample_weight=w), abs=1e-12)
        assert c.average_precision(curves)[row] == pytest.approx(
            average_precision_score(truth, scores, sample_weight=w), abs=1e-12)


@pytest.mark.parametrize("truth, scores, expected", [
    ([0, 0, 1, 1], [0.1, 0.2, 0.3, 0.4], 1.0), ([0, 0, 1, 1], [0.4, 0.3, 0.2, 0.1], 0.0),
    ([0, 1, 0, 1], [0.5, 0.5, 0.5, 0.5], 0.5), ([0, 1, 0, 1], [0.1, 0.2, 0.3, 0.4], 0.75),
])
def test_auc_by_hand(truth, scores, expected):
    assert c.auc(c.curve(truth, scores))[0] == pytest.approx(expected)


def test_one_side_alone_is_no_number():
    assert np.isnan(c.auc(c.curve([1, 1], [0.1, 0.2]))[0])
    assert np.isnan(c.average_precision(c.curve([0, 0], [0.1, 0.2]))[0])
    assert c.measure([1] * 4 + [0] * 50, np.arange(54), Bootstrap.of(np.arange(54))) == {}
    assert not c.measurable([0] * 50) and c.measurable([1] * 5 + [0] * 5)


def test_an_interval_holds_the_value_and_shrinks_with_images():
    small, large = (c.measure(*scattered(3, count), Bootstrap.of(np.arange(count), 300))["auc"]
                    for count in (100, 3000))
    for estimate in (small, large):
        assert estimate.low < estimate.value < estimate.high
    assert large.high - large.low < (small.high - small.low) / 3


def test_parts_of_a_bootstrap_are_the_whole(monkeypatch):
    drawn = Bootstrap.of(np.arange(30), 50, seed=4)
    whole = np.concatenate(list(drawn.parts()))
    monkeypatch.setattr("vindr_det.metrics.bootstrap._PART", 200)
    parts = list(drawn.parts())
    assert len(parts) == 9 and np.array_equal(np.concatenate(parts), whole) and whole.shape == (50, 30)
    assert not np.array_equal(whole, np.concatenate(list(Bootstrap.of(np.arange(30), 50, seed=5).parts())))


def test_images_of_one_patient_widen_the_interval():
    """Ten copies of each image know no more than the image."""
    truth, scores = (np.repeat(x, 10) for x in scattered(1, 100))
    alone = c.measure(truth, scores, Bootstrap.of(np.arange(1000), 300))["auc"]
    patients = c.measure(truth, scores, Bootstrap.of(np.repeat(np.arange(100), 10), 300))["auc"]
    assert patients.high - patients.low > 2 * (alone.high - alone.low)


def test_rates_by_hand():
    counts = c.Confusion.at([1, 1, 1, 0, 0, 0, 0], [0.9, 0.8, 0.1, 0.8, 0.2, 0.1, 0.0], 0.8)
    assert (counts.tp, counts.fp, counts.fn, counts.tn) == (2, 1, 1, 3)
    assert counts.rates() == pytest.approx({"accuracy": 5 / 7, "sensitivity": 2 / 3, "specificity": 3 / 4,
                                           "ppv": 2 / 3, "npv": 3 / 4, "f1": 2 / 3})
    assert np.isnan(c.Confusion.at([1, 1], [0, 0], 1).rates()["specificity"])
    truth, scores = scattered(4)
    assert c.Confusion.at(truth, scores, 0.5).rates()["f1"] == pytest.approx(f1_score(truth, scores >= 0.5))


@pytest.mark.parametrize("seed", range(5))
def test_operating_points_against_every_threshold(seed):
    truth, scores = scattered(seed)
    rates = {t: c.Confusion.at(truth, scores, t).rates() for t in np.unique(scores)}
    points = c.operating_points(truth, scores, 0.9, 0.8)
    best = max(r["sensitivity"] + r["specificity"] for r in rates.values())
    chosen = rates[points["youden"]]
    assert chosen["sensitivity"] + chosen["specificity"] == pytest.approx(best)
    assert rates[points["f1"]]["f1"] == pytest.approx(max(r["f1"] for r in rates.values()))
    assert points["sensitivity_0.9"] == max(t for t, r in rates.items() if r["sensitivity"] >= 0.9)
    assert points["specificity_0.8"] == min(t for t, r in rates.items() if r["specificity"] >= 0.8)


def test_a_specificity_out_of_reach_is_above_all_scores():
    assert c.at_specificity([0, 1], [0.9, 0.5], 0.99) > 0.9


def test_rates_have_intervals_and_leave_out_what_follows_from_nothing():
    truth, scores = scattered(6, 400)
    rates = c.rates(truth, scores, 0.5, Bootstrap.of(np.arange(400), 300))
    plain = c.Confusion.at(truth, scores, 0.5).rates()
    assert {name: rate.value for name, rate in rates.items()} == pytest.approx(plain)
    assert all(rate.low <= rate.value <= rate.high and rate.low < rate.high for rate in rates.values())
    assert "ppv" not in c.rates(truth, scores, 99.0, Bootstrap.of(np.arange(400), 20))


def test_a_sweep_over_thresholds_is_sklearns():
    truth, scores = scattered(7)
    assert c.sweep(truth, scores, []) == []
    p = 1 / (1 + np.exp(-scores))
    rows = c.sweep(truth, p, [0.4, 0.5, 0.6])
    assert [row["threshold"] for row in rows] == [0.4, 0.5, 0.6]
    for row in rows:
        called = p >= row["threshold"]
        tn, fp, fn, tp = confusion_matrix(truth, called).ravel()
        assert (row["tn"], row["fp"], row["fn"], row["tp"]) == (tn, fp, fn, tp)
        assert row["accuracy"] == pytest.approx(accuracy_score(truth, called))
        assert row["sensitivity"] == pytest.approx(recall_score(truth, called))
        assert row["specificity"] == pytest.approx(recall_score(~truth, ~called))
        assert row["ppv"] == pytest.approx(precision_score(truth, called))
        assert row["f1"] == pytest.approx(f1_score(truth, called))


def test_a_sweep_by_hand():
    row, = c.sweep([1, 1, 0, 0, 0], [0.9, 0.2, 0.6, 0.1, 0.3], [0.5])
    assert (row["tp"], row["fp"], row["fn"], row["tn"]) == (1, 1, 1, 2)
    assert (row["accuracy"], row["sensitivity"], row["ppv"], row["f1"]) == (0.6, 0.5, 0.5, 0.5)
    assert row["specificity"] == pytest.approx(2 / 3)


@pytest.mark.parametrize("values, expected", [
    ([], {}), ([0.7], dict.fromkeys(("min", "max", "mean", "median"), 0.7)),
    ([0.5, 0.9, 0.6, 0.8], {"min": 0.5, "max": 0.9, "mean": 0.7, "median": 0.7}),
    ([0.5, 0.9, 0.55], {"min": 0.5, "max": 0.9, "mean": 0.65, "median": 0.55})])
def test_labels_are_summarized(values, expected):
    assert c.summary_of_labels(values) == pytest.approx(expected)
