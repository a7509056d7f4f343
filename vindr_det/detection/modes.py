"""Training losses without training."""

import contextlib
from collections.abc import Iterator

import torch
from torch import nn

from vindr_det.training.module_state import put_back


@contextlib.contextmanager
def training_mode_aside(model: nn.Module) -> Iterator[None]:
    """Training mode that leaves no trace: batch norm frozen; random state, modes and whatever else a
    forward pass changes in the model restored.

    Proposals are sampled with a fixed seed, so that two measurements of the same weights agree.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), put_back(model):
        torch.manual_seed(0)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        yield
