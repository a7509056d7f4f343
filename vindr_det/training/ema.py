"""An exponential moving average of a model's weights (Polyak and Juditsky, 1992)."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import nn


class ModelEMA:
    """The average of a model's weights over its training.

    Early on the weights are still random, so the decay begins small: the n-th update keeps
    min(decay, (1 + n) / (10 + n)) of the average. Whole numbers (batch counters) are copied.

    Args:
        model: the model that is trained.
        decay: share that an update keeps, such as .999.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        self.decay, self.updates = decay, 0
        self.state = {key: value.detach().clone() for key, value in model.state_dict().items()}

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Take one step's weights in."""
        self.updates += 1
        decay = min(self.decay, (1 + self.updates) / (10 + self.updates))
        for key, value in model.state_dict().items():
            if value.is_floating_point():
                self.state[key].lerp_(value.detach().to(self.state[key]), 1 - decay)
            else:
                self.state[key].copy_(value)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must carry."""
        return {"updates": self.updates, "state": self.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint."""
        self.updates = int(state["updates"])
        for key, value in state["state"].items():
            self.state[key].copy_(value)


@contextlib.contextmanager
def ema_weights(model: nn.Module, ema: ModelEMA | None) -> Iterator[None]:
    """The model has the averaged weights meanwhile; None changes nothing."""
    if ema is None:
        yield
        return
    own = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(ema.state)
    try:
        yield
    finally:
        model.load_state_dict(own)
