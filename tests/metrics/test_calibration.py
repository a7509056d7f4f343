import numpy as np
import pytest

from vindr_det.metrics.calibration import (
    Calibration,
    calibration_error,
    choose_calibration,
    cross_fitted,
    fit_platt,
    fit_temperature,
    reliability,
)


def at_temperature(p, temperature):
    return Calibration("temperature", 1 / temperature, 0.0)(p)


def overconfident(temperature, count=20000):
    """Labels drawn from probabilities, and a model that is ``temperature`` times too confident."""
    rng = np.random.default_rng(0)
    p = rng.random(count)
    return rng.random(count) < p, at_temperature(p, 1 / temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_recovered_and_undone(temperature):
    truth, p = overconfident(temperature)
    fitted = fit_temperature(truth, p)
    assert fitted == pytest.approx(temperature, rel=0.05)
    assert calibration_error(truth, at_temperature(p, fitted)) < 0.015
    assert temperature == 1.0 or calibration_error(truth, p) > 0.05


def test_reliability_by_hand():
    table = reliability([1, 0, 1, 1], [0.1, 0.2, 0.9, 1.0], bins=2)
    assert table == pytest.approx(np.array([[0.15, 0.5, 2], [0.95, 1.0, 2]]))
    error = calibration_error([1, 0, 1, 1], [0.1, 0.2, 0.9, 1.0], 2)
    assert error == pytest.approx((0.35 * 2 + 0.05 * 2) / 4)
    assert np.isnan(reliability([1], [0.9], bins=2)[0, 0]) and reliability([1], [0.9], bins=2)[0, 2] == 0


def test_the_order_of_images_stays():
    p = np.random.default_rng(1).random(100)
    assert (np.argsort(p) == np.argsort(at_temperature(p, 2.5))).all()


def shifted(seed, count=5000, by=5.0):
    """A rare label, and a model whose odds are ``by`` times too high, as a weighted loss leaves them."""
    rng = np.random.default_rng(seed)
    logits = rng.normal(-4, 1.5, count)
    return rng.random(count) < 1 / (1 + np.exp(-logits)), 1 / (1 + np.exp(-logits) / by)


def test_a_shift_of_the_prior_needs_an_intercept():
    """Odds five times too high: the intercept is -log 5, and a temperature cannot stand in for it."""
    truth, p = shifted(0)
    new, new_p = shifted(1, 50000)
    chosen = choose_calibration(truth, p, np.arange(5000) % 5)
    assert chosen.method == "platt" and chosen.intercept == pytest.approx(-np.log(5), abs=0.2)
    assert chosen.slope == pytest.approx(1, abs=0.1)
    scaled = at_temperature(new_p, fit_temperature(truth, p))
    raw, by_temperature, by_platt = (calibration_error(new, q) for q in (new_p, scaled, chosen(new_p)))
    assert raw > 0.09 and by_temperature > 0.04 and by_platt < 0.01


@pytest.mark.parametrize("temperature, method", [(1.0, ("none", "temperature")), (3.0, ("temperature",))])
def test_the_simplest_method_of_equals(temperature, method):
    truth, p = overconfident(temperature, 3000)
    chosen = choose_calibration(truth, p, np.arange(3000) % 5)
    assert chosen.method in method or abs(chosen.intercept) < 0.1


def test_parts_do_not_calibrate_themselves():
    """A part whose labels are inverted changes the others' probabilities, never its own."""
    truth, p = overconfident(2.0, 600)
    parts = np.arange(600) % 3
    inverted = np.where(parts == 1, ~truth, truth)
    plain, changed = (cross_fitted(labels, p, parts, fit_platt) for labels in (truth, inverted))
    assert np.array_equal(plain[parts == 1], changed[parts == 1])
    assert not np.allclose(plain[parts != 1], changed[parts != 1])


def test_classes_that_do_not_overlap_keep_finite_probabilities_and_their_order():
    truth, p = np.arange(40) >= 20, np.linspace(0.01, 0.99, 40)
    calibrated = fit_platt(truth, p)(p)
    assert np.isfinite(calibrated).all() and (np.diff(calibrated) >= 0).all() and calibrated[0] > 0
    assert (np.diff(fit_platt(~truth, p)(p)) >= 0).all()  # even where labels are inverted
