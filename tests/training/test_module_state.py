"""What a forward pass changes in a model beside its parameters."""

import pytest
import torch
from torch import nn

from vindr_det.detection.validation import training_mode_aside
from vindr_det.training.module_state import changed, numbers, put_back, set_numbers


class Head(nn.Module):
    """Keeps an average of its inputs in each way that public detectors do."""

    def __init__(self):
        super().__init__()
        self.weight, self.gamma, self.flag = nn.Parameter(torch.ones(1)), 2.0, True
        self.register_buffer("rebound", torch.zeros(1))
        self.register_buffer("written", torch.zeros(1))

    def forward(self, x):
        self.normalizer = 0.9 * getattr(self, "normalizer", 100.0) + 0.1 * float(x.mean())
        self.rebound = 0.9 * self.rebound + x.mean()
        self.written += x.mean()
        return x * self.weight


class Net(nn.Sequential):
    def __init__(self):
        norms = nn.BatchNorm1d(3), nn.InstanceNorm1d(3, track_running_stats=True)
        super().__init__(Head(), *norms, nn.Dropout())


X = torch.arange(12.0).reshape(2, 3, 2)


def everything(model):
    return numbers(model) | {k: v.tolist() for k, v in model.state_dict().items()} | {
        f"{k}.training": m.training for k, m in model.named_modules()}


def test_a_measurement_leaves_no_trace():
    net = Net().eval()
    net[0].train()
    net[0](X)
    before, state = everything(net), torch.random.get_rng_state()
    with training_mode_aside(net):
        net(X)
        assert net[0].normalizer != before["0.normalizer"] and net[3].training
    assert everything(net) == before and torch.equal(torch.random.get_rng_state(), state)


def test_also_one_before_the_first_step_and_one_that_fails():
    """A first forward pass makes an attribute that must be gone afterward."""
    net = Net()
    before = everything(net)
    with pytest.raises(RuntimeError), put_back(net):
        net(X)
        net(torch.zeros(2, 4, 2))
    assert everything(net) == before and not hasattr(net[0], "normalizer")


def test_only_what_training_changed_goes_into_a_checkpoint():
    """Values of the config must come from the config, also where a resume changes it."""
    net = Net()
    built = numbers(net)
    assert changed(net, built) == {}
    net(X)
    state = changed(net, built)
    assert state == {"0.normalizer": pytest.approx(90 + 0.55)}
    other = Net()
    other[0].gamma = 3.0
    set_numbers(other, state)
    assert other[0].normalizer == net[0].normalizer and other[0].gamma == 3.0
