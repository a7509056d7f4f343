"""Training losses without training."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn


@contextlib.contextmanager
def training_mode_aside(model: nn.Module) -> Iterator[None]:
    """Training mode that leaves no trace: batch norm frozen, random state and modes restored.

    Proposals are sampled with a fixed seed, so that two measurements of the same weights agree.
    """
    modes = {name: module.training for name, module in model.named_modules()}
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices):
        torch.manual_seed(0)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        try:
            yield
        finally:
            for name, module in model.named_modules():
                module.training = modes[name]
