import numpy as np
import pytest
import torch

from vindr_det.classification.config import LOSSES, SAMPLERS, defaults
from vindr_det.classification.losses import _BUILDERS, build_loss
from vindr_det.classification.sampler import _WEIGHTS, balanced_weights
from vindr_det.exceptions import InputError

TARGETS = torch.tensor([[1.0, 0.0], [0.0, 0.0], [0.0, 1.0], [0.0, 0.0]])
LOGITS = torch.tensor([[0.3, -1.0], [0.2, 2.0], [-0.5, 0.1], [1.5, -2.0]])


def loss(name, smoothing=0.0, targets=TARGETS):
    cfg = defaults()
    cfg.SOLVER.LOSS, cfg.SOLVER.LABEL_SMOOTHING = name, smoothing
    return float(build_loss(cfg, TARGETS)(LOGITS, targets))


def by_hand(weight, smoothing=0.0, targets=TARGETS):
    total = 0.0
    for row, truth in zip(LOGITS.tolist(), targets.tolist(), strict=True):
        for logit, y in zip(row, truth, strict=True):
            y, p = y * (1 - smoothing) + smoothing / 2, 1 / (1 + np.exp(-logit))
            total -= weight(y) * (y * np.log(p) + (1 - y) * np.log(1 - p))
    return total / LOGITS.numel()


@pytest.mark.parametrize("smoothing", [0.0, 0.1])
def test_cross_entropy(smoothing):
    assert loss("bce", smoothing) == pytest.approx(by_hand(lambda y: 1, smoothing), abs=1e-6)


def test_soft_labels():
    soft = TARGETS * 2 / 3
    assert loss("bce", targets=soft) == pytest.approx(by_hand(lambda y: 1, targets=soft), abs=1e-6)


def test_each_side_weighs_as_often_as_the_other_comes():
    """One in four is positive: positives weigh 3/4, negatives 1/4."""
    assert loss("weighted_bce") == pytest.approx(by_hand(lambda y: 0.75 * y + 0.25 * (1 - y)), abs=1e-6)


def test_asymmetric_loss_is_the_papers():
    """gamma 4 for negatives shifted by .05, gamma 1 for positives (equation 7)."""
    total = 0.0
    for row, truth in zip(LOGITS.tolist(), TARGETS.tolist(), strict=True):
        for logit, y in zip(row, truth, strict=True):
            p = 1 / (1 + np.exp(-logit))
            shifted = max(p - 0.05, 0)
            total -= y * (1 - p) * np.log(p) + (1 - y) * shifted**4 * np.log(1 - shifted)
    assert loss("asymmetric") == pytest.approx(total / LOGITS.numel(), abs=1e-5)


def test_the_config_names_every_loss_and_sampler():
    assert tuple(_BUILDERS) == LOSSES and tuple(_WEIGHTS) == SAMPLERS


def test_unknown_loss():
    with pytest.raises(InputError, match="SOLVER.LOSS is 'mse', expected one of bce"):
        loss("mse")


def test_weighted_sampling_draws_rare_labels_as_often():
    targets = np.zeros((100, 2), np.float32)
    targets[:2, 0], targets[2:12, 1] = 1, 1
    weights = balanced_weights(targets)
    assert weights.sum() == pytest.approx(1)
    assert weights[:2].sum() == pytest.approx(weights[2:12].sum()) == pytest.approx(weights[12:].sum())


@pytest.mark.parametrize("name", ["bce", "weighted_bce", "asymmetric"])
def test_nothing_is_learned_from_labels_that_are_not_known(name):
    """The mean is over the known ones, and the others have no gradient; without any the loss is 0."""
    cfg = defaults()
    cfg.SOLVER.LOSS = name
    some = TARGETS.clone()
    some[0, 0], some[3, 1] = torch.nan, torch.nan
    given, logits = build_loss(cfg, TARGETS), LOGITS.clone().requires_grad_()
    value = given(logits, some)
    value.backward()
    known = ~some.isnan()
    assert (logits.grad[~known] == 0).all() and (logits.grad[known] != 0).any()
    each = torch.stack([given(LOGITS[r:r + 1], torch.where(torch.arange(2) == c, TARGETS[r], torch.nan)[None])
                        for r, c in known.nonzero().tolist()]) if name == "bce" else None
    assert each is None or float(value.detach()) == pytest.approx(float(each.mean()))
    assert float(given(LOGITS, torch.full_like(TARGETS, torch.nan))) == 0


def test_frequencies_are_of_the_known_labels():
    cfg = defaults()
    cfg.SOLVER.LOSS = "weighted_bce"
    some = torch.cat([TARGETS, torch.full((4, 2), torch.nan)])
    assert torch.equal(build_loss(cfg, some).frequency, TARGETS.mean(dim=0))
