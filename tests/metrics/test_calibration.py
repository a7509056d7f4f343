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


def sure(temperature, count=20000):
    """Labels drawn from probabilities, and a model that is ``temperature`` times too sure of them."""
    rng = np.random.default_rng(0)
    p = rng.random(count)
    return rng.random(count) < p, at_temperature(p, 1 / temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_and_undoes_it(temperature):
    truth, p = sure(temperature)
    found = fit_temperature(truth, p)
    assert found == pytest.approx(temperature, rel=0.05)
    assert calibration_error(truth, at_temperature(p, found)) < 0.015
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
    found = choose_calibration(truth, p, np.arange(5000) % 5)
    assert found.method == "platt" and found.intercept == pytest.approx(-np.log(5), abs=0.2)
    assert found.slope == pytest.approx(1, abs=0.1)
    warm = at_temperature(new_p, fit_temperature(truth, p))
    raw, by_temperature, by_platt = (calibration_error(new, one) for one in (new_p, warm, found(new_p)))
    assert raw > 0.09 and by_temperature > 0.04 and by_platt < 0.01


@pytest.mark.parametrize("temperature, method", [(1.0, ("none", "temperature")), (3.0, ("temperature",))])
def test_the_simplest_that_pays(temperature, method):
    truth, p = sure(temperature, 3000)
    found = choose_calibration(truth, p, np.arange(3000) % 5)
    assert found.method in method or abs(found.intercept) < 0.1


def test_parts_do_not_calibrate_themselves():
    """A part whose labels are turned round changes the others' probabilities, never its own."""
    truth, p = sure(2.0, 600)
    parts = np.arange(600) % 3
    turned = np.where(parts == 1, ~truth, truth)
    one, other = (cross_fitted(labels, p, parts, fit_platt) for labels in (truth, turned))
    assert np.array_equal(one[parts == 1], other[parts == 1])
    assert not np.allclose(one[parts != 1], other[parts != 1])


def test_classes_that_do_not_overlap_keep_finite_probabilities_and_their_order():
    truth, p = np.arange(40) >= 20, np.linspace(0.01, 0.99, 40)
    found = fit_platt(truth, p)(p)
    assert np.isfinite(found).all() and (np.diff(found) >= 0).all() and found[0] > 0
    assert (np.diff(fit_platt(~truth, p)(p)) >= 0).all()  # even where they are the wrong way round
