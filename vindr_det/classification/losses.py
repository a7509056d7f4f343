"""Losses of (B, K) logits against (B, K) targets, 0..1; unknown targets (NaN) have no gradient.

To add a loss, add its name to LOSSES in config.py and its constructor to :data:`_BUILDERS`.
"""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vindr_det.exceptions import InputError


@dataclass
class Loss:
    """Binary cross entropy, averaged over the known labels; 0 where none is.

    Args:
        smoothing: label smoothing, moves targets by half of itself toward the middle.
        frequency: (K,) of positives; weighs positives by the frequency of negatives and the reverse, as in
            CheXNet (Rajpurkar et al., 2017). None weighs all alike.
        asymmetric: timm's asymmetric loss (Ben-Baruch et al., 2021) instead of cross entropy.
    """

    smoothing: float = 0.0
    frequency: Tensor | None = None
    asymmetric: nn.Module | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        known = ~targets.isnan()
        truth = targets.nan_to_num(0.0) * (1 - self.smoothing) + self.smoothing / 2
        return (self._elementwise(logits, truth) * known).sum() / known.sum().clamp(min=1)

    def _elementwise(self, logits: Tensor, truth: Tensor) -> Tensor:
        if self.asymmetric is not None:
            return self.asymmetric(logits, truth)
        entropy = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        return entropy if self.frequency is None else entropy * self.weights(truth)

    def weights(self, truth: Tensor) -> Tensor:
        """(B, K) weights of targets without unknown ones; NaN where they depend on the prediction."""
        if self.asymmetric is not None:
            return torch.full_like(truth, torch.nan)
        if self.frequency is None:
            return torch.ones_like(truth)
        frequency = self.frequency.to(truth.device)
        return torch.lerp(frequency, 1 - frequency, truth)


def _bce(smoothing: float, targets: Tensor) -> Loss:
    return Loss(smoothing)


def _weighted_bce(smoothing: float, targets: Tensor) -> Loss:
    return Loss(smoothing, targets.nanmean(dim=0).nan_to_num(0.5))


def _asymmetric(smoothing: float, targets: Tensor) -> Loss:
    from timm.loss import AsymmetricLossMultiLabel

    return Loss(smoothing, asymmetric=AsymmetricLossMultiLabel(reduction="none"))


#: SOLVER.LOSS -> its constructor, of label smoothing and (N, K) training targets.
_BUILDERS: dict[str, Callable[[float, Tensor], Loss]] = {
    "bce": _bce, "weighted_bce": _weighted_bce, "asymmetric": _asymmetric}


def build_loss(cfg: Any, targets: Tensor) -> Loss:
    """The loss that SOLVER.LOSS names.

    Args:
        cfg: the config.
        targets: (N, K) of the training images; ``weighted_bce`` weighs by their frequency.

    Raises:
        InputError: an unknown name.
    """
    name = cfg.SOLVER.LOSS
    if name not in _BUILDERS:
        raise InputError(f"SOLVER.LOSS is {name!r}, expected one of {', '.join(_BUILDERS)}")
    return _BUILDERS[name](cfg.SOLVER.LABEL_SMOOTHING, targets)
