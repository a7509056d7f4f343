import numpy as np
import pytest

from vindr_det.metrics.calibration import calibration_error, fit_temperature, reliability, warmed


def sure(temperature, count=20000):
    """Labels drawn from probabilities, and a model that is ``temperature`` times too sure of them."""
    rng = np.random.default_rng(0)
    p = rng.random(count)
    return rng.random(count) < p, warmed(p, 1 / temperature)


@pytest.mark.parametrize("temperature", [0.5, 1.0, 3.0])
def test_the_temperature_is_found_and_undoes_it(temperature):
    truth, p = sure(temperature)
    found = fit_temperature(truth, p)
    assert found == pytest.approx(temperature, rel=0.05)
    assert calibration_error(truth, warmed(p, found)) < 0.015
    assert temperature == 1.0 or calibration_error(truth, p) > 0.05


def test_reliability_by_hand():
    table = reliability([1, 0, 1, 1], [0.1, 0.2, 0.9, 1.0], bins=2)
    assert table == pytest.approx(np.array([[0.15, 0.5, 2], [0.95, 1.0, 2]]))
    error = calibration_error([1, 0, 1, 1], [0.1, 0.2, 0.9, 1.0], 2)
    assert error == pytest.approx((0.35 * 2 + 0.05 * 2) / 4)
    assert np.isnan(reliability([1], [0.9], bins=2)[0, 0]) and reliability([1], [0.9], bins=2)[0, 2] == 0


def test_the_order_of_images_stays():
    p = np.random.default_rng(1).random(100)
    assert (np.argsort(p) == np.argsort(warmed(p, 2.5))).all()
