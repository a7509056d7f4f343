"""Operating points and calibration: fitted on some images, estimated on others."""

import json

import numpy as np
import pandas as pd
import pytest

from vindr_det.classification import operating_points as points
from vindr_det.classification import report
from vindr_det.classification.label_table import LabelTable
from vindr_det.classification.operating_points import TargetRates
from vindr_det.exceptions import InputError
from vindr_det.metrics.calibration import logit
from vindr_det.tables import read_csv, write_csv

TARGETS = TargetRates()


def frame(count=300, seed=0, apart=0.3, folds=5, unknown=0.0):
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.4
    labels = truth.astype(float)
    labels[rng.random(count) < unknown] = np.nan
    return pd.DataFrame({"image_id": [f"i{i}" for i in range(count)], "fold": np.arange(count) % folds,
                         "abnormal": labels,
                         "p_abnormal": np.clip(rng.normal(0.3 + apart * truth, 0.2), 0.001, 0.999)})


def labels(table):
    return points.label_predictions(table, ["abnormal"], report.bootstrap_of(table))


def fitted(table, targets=TARGETS):
    return points.fit_points(labels(table), targets, "here")


def test_points_hold_on_the_images_that_chose_them():
    table = frame()
    rates = points.rates_at(labels(table), fitted(table))
    assert set(rates) == {f"p_abnormal/{name}" for name in (
        "threshold_0.5", "youden", "f1", "sensitivity_0.95", "specificity_0.95")}
    assert rates["p_abnormal/sensitivity_0.95"]["sensitivity"] >= 0.95
    assert rates["p_abnormal/specificity_0.95"]["specificity"] >= 0.95
    assert rates["p_abnormal/threshold_0.5"]["threshold"] == 0.5
    assert fitted(frame().head(6)) == {}


def test_targets_can_be_given():
    table = frame()
    thresholds = fitted(table, TargetRates((0.8, 0.9), ()))["p_abnormal"].thresholds
    assert set(thresholds) == {"threshold_0.5", "youden", "f1", "sensitivity_0.8", "sensitivity_0.9"}
    assert thresholds["sensitivity_0.8"] > thresholds["sensitivity_0.9"]


def test_rates_on_images_that_chose_are_optimistic_and_cross_fitted_rates_are_not():
    """At an AUC of .5, sensitivity + specificity is 1 on images that the threshold was not chosen on."""
    sums = {"own": [], "crossed": []}
    for seed in range(40):
        table = frame(60, seed, apart=0.0)
        images, stored = labels(table), fitted(table)
        both = (points.rates_at(images, stored), points.cross_fitted_rates(images, stored, TARGETS))
        for name, rates in zip(sums, both, strict=True):
            own = rates["p_abnormal/youden"]
            sums[name].append(own["sensitivity"] + own["specificity"])
    error = np.std(sums["crossed"]) / 40**0.5
    assert np.mean(sums["own"]) > 1.1 and abs(np.mean(sums["crossed"]) - 1) < 3 * error < 0.1


def test_crossed_rates_by_hand():
    """Two parts of known order: each is counted at the other's threshold."""
    table = pd.DataFrame({"image_id": list("abcdefghijklmnopqrst"), "fold": [0] * 10 + [1] * 10,
                          "abnormal": [0.0] * 5 + [1.0] * 5 + [0.0] * 5 + [1.0] * 5,
                          "p_abnormal": [*np.linspace(0.10, 0.14, 5), *np.linspace(0.20, 0.24, 5),
                                         *np.linspace(0.21, 0.25, 5), *np.linspace(0.40, 0.44, 5)]})
    rates = points.cross_fitted_rates(labels(table), fitted(table), TARGETS)["p_abnormal/youden"]
    # Part 0's threshold is .20 and part 1's .40: part 0 has no true positive, part 1 five false positives.
    assert [rates[key] for key in ("tp", "fp", "fn", "tn")] == [5, 5, 5, 5]
    assert rates["threshold"] == fitted(table)["p_abnormal"].thresholds["youden"]


def test_the_target_is_met_on_new_images_when_chosen_for_the_same_scores():
    """The crossed rate's interval holds what new images get."""
    table, new = frame(3000, 1), frame(20000, 2)
    stored = fitted(table)
    crossed = points.cross_fitted_rates(labels(table), stored, TARGETS)["p_abnormal/specificity_0.95"]
    new_rate = points.rates_at(labels(new), stored)["p_abnormal/specificity_0.95"]["specificity"]
    low, high = crossed["specificity/ci95"]
    assert low < new_rate < high and low < 0.95 < high


def test_what_is_not_known_is_left_out():
    table = frame(unknown=0.3)
    known = table[table["abnormal"].notna()].reset_index(drop=True)
    assert len(known) < 250
    rates, expected = (points.cross_fitted_rates(labels(part), fitted(part), TARGETS)
                       for part in (table, known))
    assert [point["tp"] for point in rates.values()] == [point["tp"] for point in expected.values()]
    assert fitted(table)["p_abnormal"].thresholds == fitted(known)["p_abnormal"].thresholds
    estimate = [report.estimate(part, ["abnormal"], report.bootstrap_of(part))["abnormal"]["auc"].value
                for part in (table, known)]
    assert estimate[0] == estimate[1]


def test_one_fold_is_cut_by_patient():
    table = frame(folds=1).assign(patient=[f"p{i // 3}" for i in range(300)])
    parts = points.cross_fit_parts(table)
    assert sorted(set(parts)) == [0, 1, 2, 3, 4]
    assert all(len(set(parts[table["patient"] == patient])) == 1 for patient in table["patient"])


SHIFT = float(np.log(5))


def shifted(count=4000, seed=0, by=SHIFT):
    """Probabilities that are right but for a constant on the logit, as a weighted loss leaves them."""
    rng = np.random.default_rng(seed)
    p = 1 / (1 + np.exp(-rng.normal(-2, 1.5, count)))
    return pd.DataFrame({"image_id": [str(i) for i in range(count)], "fold": np.arange(count) % 5,
                         "abnormal": (rng.random(count) < p).astype(float),
                         "p_abnormal": 1 / (1 + np.exp(-logit(p) - by))})


def test_a_shifted_prior_is_undone_out_of_fold():
    table = shifted()
    stored = fitted(table)
    errors = points.calibration_summary(labels(table), stored, crossed=True)["p_abnormal"]
    assert errors["method"] == "platt" and errors["intercept"] == pytest.approx(-SHIFT, abs=0.25)
    assert errors["ece"] > 0.15 and errors["ece_calibrated"] < 0.02
    assert errors["nll_calibrated"] < errors["nll"]
    calibrated = report.calibrate(table, stored)
    assert (calibrated["calibrated"] == 1).all()
    assert (np.argsort(calibrated["p_abnormal"], kind="stable") ==
            np.argsort(table["p_abnormal"].round(6), kind="stable")).mean() > 0.99
    new = shifted(seed=1)
    errors = points.calibration_summary(labels(new), stored, crossed=False)["p_abnormal"]
    assert errors["ece_calibrated"] < 0.02 < errors["ece"]


def test_right_probabilities_and_few_images_stay_as_they_are():
    assert fitted(shifted(by=0.0, seed=3))["p_abnormal"].calibration.slope == pytest.approx(1, abs=0.1)
    few = shifted(60)
    assert few["abnormal"].sum() < points.MIN_CALIBRATED
    assert fitted(few)["p_abnormal"].calibration.method == "none"


def test_stored_and_read_again(tmp_path):
    stored = fitted(shifted())
    points.save_points(tmp_path, stored)
    assert points.read_points(tmp_path) == stored


def test_the_file_of_an_earlier_version_and_a_faulty_one(tmp_path):
    path = tmp_path / "operating_points.json"
    path.write_text(json.dumps({
        "chosen_on": {"predictions": "oof_predictions.csv", "images": 24},
        "points": {"p_abnormal": {"youden": 0.4, "temperature": 2.0}}}))
    label = points.read_points(tmp_path)["p_abnormal"]
    assert label.thresholds == {"youden": 0.4} and label.calibration(0.3) == 0.3
    path.write_text('{"points": [1]}')
    with pytest.raises(InputError, match=r"operating_points.json: not what vindr-det train-classifier write"):
        points.read_points(tmp_path)


def test_an_image_that_defines_a_threshold_is_at_it_in_the_file(tmp_path):
    """Rates counted from the CSV are those of the thresholds beside it, to the last bit."""
    table = frame(seed=4, apart=0.1)
    table["p_abnormal"] = table["p_abnormal"].astype(np.float32).astype(float) * 1e-4  # a rare label
    whole = LabelTable(table["image_id"].to_numpy(str), ("abnormal",),
                       table[["abnormal"]].to_numpy(np.float32), table["abnormal"].to_numpy() == 0,
                       table["image_id"].to_numpy(str), table["fold"].to_numpy())
    write_csv(tmp_path / "fold.csv", report.prediction_frame(whole, table[["p_abnormal"]].to_numpy()))
    stored = read_csv(tmp_path / "fold.csv")
    assert (stored["p_abnormal"] == table["p_abnormal"]).all()
    own = fitted(stored)
    points.save_points(tmp_path, own)
    write_csv(tmp_path / "oof.csv", report.calibrate(stored, own))
    read, truth = read_csv(tmp_path / "oof.csv")["p_abnormal"], table["abnormal"].to_numpy() == 1
    for threshold in (points.read_points(tmp_path)["p_abnormal"].thresholds[name]
                      for name in ("sensitivity_0.95", "youden")):
        assert (read == threshold).any()
    assert (read[truth] >= points.read_points(tmp_path)["p_abnormal"].thresholds["sensitivity_0.95"]
            ).mean() >= 0.95


@pytest.mark.parametrize("change", [
    {"slope": "x"}, {"slope": None}, {"slope": float("nan")}, {"slope": -1.0}, {"slope": 0},
    {"intercept": float("inf")}, {"method": "isotonic"}, {"slope": True}])
def test_faulty_calibrations_are_refused(tmp_path, change):
    given = {"method": "platt", "slope": 1.0, "intercept": 0.0} | change
    (tmp_path / "operating_points.json").write_text(json.dumps({
        "points": {"p_abnormal": {"youden": 0.4}}, "calibration": {"p_abnormal": given},
        "chosen_on": {"p_abnormal": "here"}}))
    with pytest.raises(InputError, match=r"operating_points.json: .*train again"):
        points.read_points(tmp_path)


@pytest.mark.parametrize("threshold", [None, float("nan"), "x"])
def test_faulty_thresholds_are_refused(tmp_path, threshold):
    (tmp_path / "operating_points.json").write_text(json.dumps({
        "points": {"p_abnormal": {"youden": threshold}}, "chosen_on": {}}))
    with pytest.raises(InputError, match=r"operating_points.json: .*train again"):
        points.read_points(tmp_path)


def test_names_of_near_targets_differ():
    targets = TargetRates((0.95, 0.9500001), ())
    thresholds = points.thresholds(np.arange(40) > 19, np.linspace(0, 1, 40), targets)
    assert {"sensitivity_0.95", "sensitivity_0.9500001"} <= set(thresholds)


def test_the_threshold_of_one_half_needs_no_fit():
    """A label of which one fold has nearly all positives, and one for which nothing was fitted."""
    table = frame(60)
    table["abnormal"] = ((table["fold"] == 0) & (table.index < 40)).astype(int)
    truth, called = table["abnormal"] == 1, table["p_abnormal"] >= 0.5
    counts = {"tp": (truth & called).sum(), "fp": (~truth & called).sum(), "fn": (truth & ~called).sum(),
              "tn": (~truth & ~called).sum()}
    for rates in (points.cross_fitted_rates(labels(table), fitted(table), TARGETS),
                  points.rates_at(labels(table), {})):
        assert set(rates) == {"p_abnormal/threshold_0.5"}
        half = rates["p_abnormal/threshold_0.5"]
        assert half["threshold"] == 0.5 and {name: half[name] for name in counts} == counts
