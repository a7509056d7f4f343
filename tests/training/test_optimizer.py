import copy

import pytest
import torch
from torch import nn

from vindr_det.detection.torchvision.config import get_torchvision_cfg
from vindr_det.training.optimizer import (
    OPTIMIZERS,
    build_optimizer,
    can_fuse,
    groups_by_dimension,
    groups_by_norm,
)


@pytest.fixture
def network():
    network = nn.Sequential(nn.Conv2d(1, 2, 3), nn.BatchNorm2d(2), nn.LayerNorm(2), nn.Linear(2, 2))
    network[3].requires_grad_(False)
    return network


def test_groups_by_norm_leave_out_what_is_frozen(network):
    others, norms = groups_by_norm(network, 0.1, 0.0)
    assert [p.shape for p in others["params"]] == [(2, 1, 3, 3), (2,)] and others["weight_decay"] == 0.1
    assert len(norms["params"]) == 4 and norms["weight_decay"] == 0.0


def test_groups_by_dimension(network):
    plain, decayed = groups_by_dimension(network, 0.1)
    assert [p.shape for p in decayed["params"]] == [(2, 1, 3, 3)] and decayed["weight_decay"] == 0.1
    assert len(plain["params"]) == 5 and plain["weight_decay"] == 0.0
    only, = groups_by_dimension(network, 0.1, {"0.weight"})
    assert len(only["params"]) == 6 and only["weight_decay"] == 0.0


def test_each_optimizer_by_its_name(network):
    for name in OPTIMIZERS:
        optimizer = build_optimizer(name, groups_by_norm(network, 0.1, 0.0), 0.5, 0.7, True)
        assert type(optimizer).__name__ == name
        assert [group["weight_decay"] for group in optimizer.param_groups] == [0.1, 0.0]
        assert {group["lr"] for group in optimizer.param_groups} == {0.5}
    sgd = build_optimizer("SGD", groups_by_norm(network, 0.1, 0.0), 0.5, 0.7, True).defaults
    assert sgd["momentum"] == 0.7 and sgd["nesterov"]


def test_decay_is_a_part_of_adams_gradient_and_not_of_adamws():
    """With a gradient of 0, AdamW shrinks a weight by lr times decay, and Adam takes a step of size lr."""
    for name, expected in (("AdamW", 2 * (1 - 0.5 * 0.1)), ("Adam", 2 - 0.5), ("SGD", 2 - 0.5 * 0.1 * 2)):
        weight = torch.nn.Parameter(torch.tensor([2.0]))
        optimizer = build_optimizer(name, [{"params": [weight], "weight_decay": 0.1}], 0.5)
        weight.grad = torch.zeros(1)
        optimizer.step()
        assert float(weight.detach()) == pytest.approx(expected, abs=1e-6), name


@pytest.mark.parametrize("name", OPTIMIZERS)
def test_a_single_kernel_takes_the_steps_of_the_loop(name, network):
    """Within rounding; and a state of either resumes in the other, in any memory format."""
    steps = {}
    for fused, channels_last in ((False, False), (True, False), (True, True)):
        own = copy.deepcopy(network)
        if channels_last:
            own.to(memory_format=torch.channels_last)
        optimizer = build_optimizer(name, groups_by_norm(own, 0.1, 0.0), 0.05, fused=fused)
        torch.manual_seed(0)
        for step in range(4):
            if step == 2 and steps:
                own.load_state_dict(steps["weights"])
                optimizer.load_state_dict(copy.deepcopy(steps["optimizer"]))
                assert all(group["fused"] for group in optimizer.param_groups)
            elif step == 2:
                steps["weights"] = copy.deepcopy(own.state_dict())
                steps["optimizer"] = copy.deepcopy(optimizer.state_dict())
            for weight in own.parameters():
                gradient = torch.randn(weight.shape)
                weight.grad = torch.empty_like(weight).copy_(gradient) if weight.requires_grad else None
            optimizer.step()
        weights = steps.setdefault("end", own.state_dict())
        for key, value in own.state_dict().items():
            torch.testing.assert_close(value, weights[key], rtol=1e-5, atol=1e-6)


@pytest.mark.parametrize(("half", "clips", "expected"), [
    (False, False, True), (False, True, True), (True, False, True), (True, True, False)])
def test_no_single_kernel_clips_gradients_of_mixed_precision(half, clips, expected):
    """It would scale them after they are clipped."""
    cfg = get_torchvision_cfg()
    cfg.SOLVER.AMP.ENABLED, cfg.SOLVER.CLIP_GRADIENTS.ENABLED = half, clips
    assert can_fuse(cfg) == expected
