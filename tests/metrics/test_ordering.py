"""The fast orders are numpy's stable ones."""

import numpy as np
import pytest

from vindr_det.metrics.ordering import best_first, grouped, rows_by_class


@pytest.mark.parametrize("count", [0, 1, 2, 5000])
@pytest.mark.parametrize("digits", [1, 3, 17])
def test_orders_are_the_stable_ones(count, digits):
    rng = np.random.default_rng(count)
    score, key = np.round(rng.random(count), digits), rng.integers(0, 15, count)
    np.testing.assert_array_equal(best_first(score), np.argsort(-score, kind="stable"))
    np.testing.assert_array_equal(grouped(key), np.argsort(key, kind="stable"))
    for label, rows in enumerate(rows_by_class(key, 16)):
        np.testing.assert_array_equal(rows, np.flatnonzero(key == label))
