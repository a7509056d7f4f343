import numpy as np
import pytest

from vindr_det.data.folds import assign_folds, check_disjoint_patients
from vindr_det.exceptions import InputError


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


def test_patients_stay_together_and_labels_even():
    given = labels(n=3000)
    patients = np.random.default_rng(1).zipf(1.5, 3000) % 700
    folds = assign_folds(given, 5, 0, patients)
    for patient in np.unique(patients):
        assert len(set(folds[patients == patient])) == 1
    assert np.array_equal(folds, assign_folds(given, 5, 0, patients))
    check_disjoint_patients({str(fold): patients[folds == fold] for fold in range(5)})


def test_even_by_images_although_patients_are_assigned():
    """Patients with many images of a finding count for more than those with one."""
    rng = np.random.default_rng(0)
    patients = np.repeat(np.arange(1500), rng.choice([1, 1, 1, 2, 5, 12], 1500))
    ill = rng.random(1500) < 0.2
    given = (ill[patients, None] & (rng.random((len(patients), 3)) < [0.8, 0.4, 0.2])).astype(int)
    folds = assign_folds(given, 5, 0, patients)
    counts = np.stack([given[folds == fold].sum(axis=0) for fold in range(5)])
    assert (np.abs(counts / counts.mean(axis=0) - 1) < 0.1).all()


def test_all_images_alike():
    assert sorted(assign_folds(np.ones((10, 3), int), 5, 0).tolist()) == sorted([*range(5)] * 2)


def test_too_few_patients():
    with pytest.raises(InputError, match="--folds 3: expected 2 to 2 .the number of patients."):
        assign_folds(labels(n=10), 3, 0, [0] * 5 + [1] * 5)


def test_a_leak_is_named():
    check_disjoint_patients({"train": [1, 1, 2], "val": [3]})
    with pytest.raises(InputError, match="leak: patient 2 is in train and in val"):
        check_disjoint_patients({"train": [1, 2], "val": [3, 2]}, "patient")
