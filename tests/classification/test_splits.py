"""Which images train, which choose, and that none of them does both."""

from dataclasses import replace

import numpy as np
import pytest

from vindr_det.classification.config import defaults
from vindr_det.classification.label_table import LabelTable
from vindr_det.classification.splits import Tables, set_aside, split
from vindr_det.exceptions import InputError


def table(count=600, seed=0, folds=3, first=0):
    """Patients with one to three images each; a third of them abnormal."""
    rng = np.random.default_rng(seed)
    patients = np.sort(rng.integers(0, count // 2, count))
    fold_of = rng.integers(0, folds, count)[patients]
    ill = rng.random(count)[patients] < 0.33
    names = np.array([f"p{first + patient}" for patient in patients])
    return LabelTable(np.array([f"i{first}_{i}" for i in range(count)]), ("abnormal",),
                      ill[:, None].astype(np.float32), ~ill, names, fold_of, "patient")


def config(select="last", share=0.3):
    cfg = defaults()
    cfg.SOLVER.SELECT, cfg.DATA.CALIBRATION_SHARE = select, share
    return cfg


@pytest.mark.parametrize("select", ["last", "inner"])
def test_no_patient_trains_and_chooses_or_is_reported(select):
    whole = table(1200)
    splits = split(Tables(whole), config(select))
    aside = set(splits.calibration.groups)
    assert sorted(splits.folds) == [0, 1, 2] and len(aside) > 0
    for own in splits.folds.values():
        trained, reported = set(own.train.groups), set(own.held_out.groups)
        assert not trained & (reported | aside)
        if select == "inner":
            assert not set(own.inner.groups) & (trained | reported) and set(own.inner.groups) <= aside
        assert (own.inner is None) == (select == "last")
    everything = np.concatenate([own.held_out.image_ids for own in splits.folds.values()])
    assert sorted(everything) == sorted(whole.image_ids)  # out of fold there is every image


def test_a_fraction_of_each_fold_and_class():
    whole = table(1200)
    aside = set_aside(whole, whole.folds, 0.2, 0)
    for fold in range(3):
        for side in (True, False):
            part = (whole.folds == fold) & (whole.normal == side)
            assert aside[part].mean() == pytest.approx(0.2, abs=0.06)
    assert np.array_equal(aside, set_aside(whole, whole.folds, 0.2, 0))
    assert not np.array_equal(aside, set_aside(whole, whole.folds, 0.2, 1))
    assert not set_aside(whole, whole.folds, 0.0, 0).any()


def test_few_images_are_all_trained_on():
    whole = table(300)
    splits = split(Tables(whole), config("last", 0.1))
    assert splits.calibration is None
    assert len(splits.folds[0].train) + len(splits.folds[0].held_out) == 300
    with pytest.raises(InputError, match="SELECT is inner, and 0 images outside the fold are there"):
        split(Tables(whole), config("inner", 0.001))


def test_a_calibration_table_is_never_trained_on():
    own = table(50, seed=4, first=1000)
    splits = split(Tables(table(300), calibration=own), config("inner", 0.3))
    assert splits.calibration is own and all(fold.inner is own for fold in splits.folds.values())
    assert len(splits.folds[1].train) + len(splits.folds[1].held_out) == 300


def test_a_single_model_needs_images_set_aside_only_to_select_its_epoch():
    held = table(200, seed=5, first=5000)
    assert len(split(Tables(table(2000), held), config("last")).folds[0].train) == 2000
    splits = split(Tables(table(2000), held), config("inner")).folds[0]
    assert len(splits.train) + len(splits.inner) == 2000 and len(splits.inner) > 400
    assert not set(splits.train.groups) & set(splits.inner.groups)


def test_unknown_images_are_neither_normal_nor_abnormal():
    """They do not count as enough abnormal ones, and choose no epoch."""
    whole = table(2000)
    unknown = replace(whole, known=whole.normal)  # normal, or not known
    assert split(Tables(unknown), config("last")).calibration is None
    with pytest.raises(InputError, match="expected normal and abnormal ones"):
        split(Tables(unknown), config("inner"))
