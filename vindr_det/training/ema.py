"""An exponential moving average of a model's weights (Polyak and Juditsky, 1992)."""

import contextlib
from collections.abc import Iterator, Mapping
from typing import Any

import torch
from torch import Tensor, nn


class ModelEMA:
    """timm's ``ModelEmaV3``, with the number of its updates in what a checkpoint carries.

    Early in a training the weights are still random, so the decay begins small: update n keeps
    min(decay, (1 + n) / (10 + n)) of the average. Buffers of whole numbers (batch counters) are copied.

    Args:
        model: the model that is trained, with the weights to begin with.
        decay: share of the average that an update keeps, such as 0.999.
    """

    def __init__(self, model: nn.Module, decay: float) -> None:
        from timm.utils import ModelEmaV3  # seconds, which a training without EMA need not wait

        self.updates = 0
        # (1 + n) / (10 + n) = 1 - (1 + s / 9) ** -1 for timm's step s = n + 1.
        self._timm = ModelEmaV3(model, decay, update_after_step=-2, use_warmup=True, warmup_gamma=9.0,
                                warmup_power=1.0)
        self._own, self._averaged = _Slots(model), _Slots(self._timm.module)

    @property
    def state(self) -> dict[str, Tensor]:
        """State dict of the averaged model."""
        return self._timm.module.state_dict()

    @torch.no_grad()
    def update(self, model: nn.Module) -> None:
        """Average in the weights after a step of the optimizer."""
        self.updates += 1
        if model is not self._own.model:
            self._own = _Slots(model)
        keep = self._timm.get_decay(self.updates)
        own, averaged = self._own.tensors(), self._averaged.tensors()
        floating = [place for place, value in enumerate(averaged) if value.is_floating_point()]
        torch._foreach_lerp_([averaged[i] for i in floating], [own[i] for i in floating], weight=1.0 - keep)
        for place in set(range(len(own))).difference(floating):
            averaged[place].copy_(own[place])

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must carry."""
        return {"updates": self.updates, "state": self.state}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint."""
        self.updates = int(state["updates"])
        self._timm.module.load_state_dict(state["state"])


class _Slots:
    """Where a model keeps what its state dict has: a state dict per step takes milliseconds to make."""

    def __init__(self, model: nn.Module) -> None:
        self.model = model
        self._places = [(owner, name) for module in model.modules()
                        for owner, left_out in ((module._parameters, ()),
                                                (module._buffers, module._non_persistent_buffers_set))
                        for name, value in owner.items() if value is not None and name not in left_out]

    def tensors(self) -> list[Tensor]:
        """Those of now: a forward pass may replace a buffer."""
        return [owner[name] for owner, name in self._places]


@contextlib.contextmanager
def ema_weights(model: nn.Module, ema: ModelEMA | None) -> Iterator[None]:
    """The model has the weights of its EMA within the context; without an EMA nothing changes.

    The model itself and not timm's copy: what it keeps outside of its state dict counts as well, see
    :mod:`vindr_det.training.module_state`.
    """
    if ema is None:
        yield
        return
    own = {key: value.clone() for key, value in model.state_dict().items()}
    model.load_state_dict(ema.state)
    try:
        yield
    finally:
        model.load_state_dict(own)
