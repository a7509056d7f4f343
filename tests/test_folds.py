import numpy as np
import pytest

from vindr_det.errors import InputError
from vindr_det.folds import assign_folds


def labels(seed=0, n=600):
    rng = np.random.default_rng(seed)
    return (rng.random((n, 15)) < np.linspace(0.05, 0.6, 15)).astype(int)


def spread(given, folds):
    """Mean over labels of (largest - smallest fold), in images."""
    counts = np.stack([given[folds == fold].sum(axis=0) for fold in range(5)])
    return np.ptp(counts, axis=0).mean()


def test_each_label_is_spread_evenly_and_seeded():
    given = labels()
    folds = assign_folds(given, 5, seed=1)
    assert set(folds) == set(range(5))
    at_random = np.random.default_rng(0).permutation(600) % 5
    assert spread(given, folds) < spread(given, at_random) / 3
    assert np.array_equal(folds, assign_folds(given, 5, seed=1))
    assert not np.array_equal(folds, assign_folds(given, 5, seed=2))


@pytest.mark.parametrize("count", [0, 1, 601])
def test_bad_counts(count):
    with pytest.raises(InputError, match="--folds"):
        assign_folds(labels(), count, 0)
