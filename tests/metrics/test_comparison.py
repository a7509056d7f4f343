import numpy as np
import pytest
from scipy.stats import norm
from sklearn.metrics import average_precision_score, roc_auc_score

from vindr_det.metrics.bootstrap import Bootstrap
from vindr_det.metrics.comparison import delong, paired


def two_classifiers(seed, count=120, gain=0.0):
    """Labels and the scores of two correlated classifiers."""
    rng = np.random.default_rng(seed)
    truth = rng.random(count) < 0.4
    common = rng.normal(truth * 1.0, 1)
    first, second = (common + rng.normal(more * truth, 0.7) for more in (gain, 0.0))
    return truth, np.round(first, 1), np.round(second, 1)


@pytest.mark.parametrize("seed", range(4))
def test_delong_by_pairs(seed):
    """The definition: every positive against every negative, equal scores half (equations 4 to 8)."""
    truth, *scores = two_classifiers(seed)
    pairs = [score[truth][:, None] - score[~truth] for score in scores]
    wins = [(pair > 0) + 0.5 * (pair == 0) for pair in pairs]
    by_positive, by_negative = (np.stack([win.mean(axis=axis) for win in wins]) for axis in (1, 0))
    spread = np.cov(by_positive) / truth.sum() + np.cov(by_negative) / (~truth).sum()
    deviation = np.sqrt(spread[0, 0] + spread[1, 1] - 2 * spread[0, 1])
    result = delong(truth, *scores)
    value = roc_auc_score(truth, scores[0]) - roc_auc_score(truth, scores[1])
    assert result.difference.value == pytest.approx(value)
    assert result.difference.high == pytest.approx(value + 1.959964 * deviation)
    assert result.p == pytest.approx(2 * norm.sf(abs(value) / deviation))


def test_a_classifier_against_itself():
    truth, scores, _ = two_classifiers(0)
    result = delong(truth, scores, scores)
    assert result.difference.value == 0 and result.p == 1
    both = paired(truth, scores, scores, Bootstrap.of(np.arange(len(truth)), 50))
    assert [(area.value, area.low, area.high) for area in both.values()] == [(0, 0, 0)] * 2


def test_without_a_difference_one_in_twenty_is_significant():
    significant = [delong(*two_classifiers(seed)).p < 0.05 for seed in range(600)]
    assert 0.03 < np.mean(significant) < 0.075


def test_the_bootstrap_agrees_where_images_are_independent():
    truth, first, second = two_classifiers(3, 800, gain=0.5)
    analytic = delong(truth, first, second)
    bootstrap = paired(truth, first, second, Bootstrap.of(np.arange(800), 2000))
    assert bootstrap["auc"].value == pytest.approx(analytic.difference.value)
    assert bootstrap["auc"].low == pytest.approx(analytic.difference.low, abs=0.004)
    assert analytic.p < 0.01 and bootstrap["auc"].low > 0
    assert bootstrap["ap"].value == pytest.approx(
        average_precision_score(truth, first) - average_precision_score(truth, second))


def test_images_of_one_patient_widen_the_bootstrap_alone():
    truth, first, second = (np.repeat(values, 5) for values in two_classifiers(4, 100, gain=0.5))
    patients = Bootstrap.of(np.repeat(np.arange(100), 5), 500)
    images = delong(truth, first, second).difference
    whole = paired(truth, first, second, patients)["auc"]
    assert whole.high - whole.low > 1.8 * (images.high - images.low)


def test_one_positive_has_a_difference_without_an_interval():
    result = delong([1, 0, 0, 0], [0.9, 0.1, 0.2, 0.3], [0.15, 0.1, 0.2, 0.3])
    assert result.difference.value == pytest.approx(2 / 3)
    assert np.isnan([result.difference.low, result.difference.high, result.p]).all()
