"""The fast orders are numpy's stable ones."""

import numpy as np
import pytest

from vindr_det.metrics import ordering
from vindr_det.metrics.ordering import best_first, best_first_within, columns_by_class, grouped, rows_by_class


@pytest.mark.parametrize("count", [0, 1, 2, 5000])
@pytest.mark.parametrize("digits", [1, 3, 17])
def test_orders_are_the_stable_ones(count, digits):
    rng = np.random.default_rng(count)
    score, key = np.round(rng.random(count), digits), rng.integers(0, 15, count)
    np.testing.assert_array_equal(best_first(score), np.argsort(-score, kind="stable"))
    np.testing.assert_array_equal(grouped(key), np.argsort(key, kind="stable"))
    for label, rows in enumerate(rows_by_class(key, 16)):
        np.testing.assert_array_equal(rows, np.flatnonzero(key == label))


@pytest.mark.parametrize("block", [1, 7, 1000, 1 << 16])
@pytest.mark.parametrize("count", [0, 1, 500])
def test_blocks_are_of_no_consequence(monkeypatch, block, count):
    monkeypatch.setattr(ordering, "_BLOCK", block)
    rng = np.random.default_rng(count)
    image, label = np.sort(rng.integers(0, 40, count)), rng.integers(0, 15, count)
    score, key = np.round(rng.random(count), 1), image * 15 + label
    np.testing.assert_array_equal(best_first_within(image, key, score), np.lexsort((-score, key)))
    columns = columns_by_class(label, (image, np.arange(count)), 16)
    assert len(columns) == 16
    for own, (images, rows) in enumerate(columns):
        np.testing.assert_array_equal(rows, np.flatnonzero(label == own))
        np.testing.assert_array_equal(images, image[label == own])
