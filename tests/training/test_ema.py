"""The model EMA: its values by hand, and timm's warm-up as ours."""

import pytest
import torch
from torch import nn

from vindr_det.training.ema import ModelEMA, ema_weights


def test_the_ema_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    ema = ModelEMA(model, 0.5)
    nn.init.constant_(model.weight, 1.0)
    expected = 0.0
    for update in range(1, 30):
        ema.update(model)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay)
        assert ema.state["weight"].item() == pytest.approx(expected, abs=1e-6)
    with ema_weights(model, ema):
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 1.0
    again = ModelEMA(model, 0.5)
    again.load_state_dict(ema.state_dict())
    assert again.updates == 29 and again.state["weight"].item() == ema.state["weight"].item()


def test_whole_numbers_are_copied_into_the_ema():
    model = nn.BatchNorm2d(2)
    ema = ModelEMA(model, 0.9)
    model(torch.randn(4, 2, 3, 3))
    ema.update(model)
    assert ema.state["num_batches_tracked"].item() == 1
