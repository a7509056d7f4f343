"""The model EMA: its values by hand, and timm's warm-up as ours."""

import pytest
import torch
from timm.utils import ModelEmaV3
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


def test_the_ema_is_timms_to_the_bit():
    """Also where a forward pass replaces a buffer."""
    torch.manual_seed(0)
    model = nn.Sequential(nn.Conv2d(1, 3, 3), nn.BatchNorm2d(3), nn.Linear(4, 2))
    model[0].weight.requires_grad_(False)
    model[1].register_buffer("passing", torch.ones(1), persistent=False)
    ema, timms = ModelEMA(model, 0.9), ModelEmaV3(
        model, 0.9, update_after_step=-2, use_warmup=True, warmup_gamma=9.0, warmup_power=1.0)
    for update in range(1, 15):
        with torch.no_grad():
            for weight in model.parameters():
                weight.add_(torch.randn_like(weight))
        model[1](torch.randn(2, 3, 4, 4))
        model[1].running_mean = model[1].running_mean + 1
        ema.update(model)
        timms.update(model, update)
    assert list(ema.state) == list(timms.module.state_dict())
    for key, value in timms.module.state_dict().items():
        assert torch.equal(ema.state[key], value), key
