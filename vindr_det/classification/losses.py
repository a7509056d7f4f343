"""Losses of (B, K) logits against (B, K) targets, 0..1; where a target is NaN nothing is learned from it."""

from dataclasses import dataclass
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn

from vindr_det.exceptions import InputError

NAMES = ("bce", "weighted_bce", "asymmetric")


@dataclass
class Loss:
    """Mean over the labels that are known; 0 where none is.

    Args:
        smoothing: moves targets by half of itself toward the middle.
        frequency: (K,) of positives, from which both sides of a label weigh the same in all, each as often
            as the other one comes, as in CheXNet (Rajpurkar et al., 2017); None weighs all alike.
        asymmetric: timm's loss of Ben-Baruch et al., 2021, instead of the cross entropy.
    """

    smoothing: float = 0.0
    frequency: Tensor | None = None
    asymmetric: nn.Module | None = None

    def __call__(self, logits: Tensor, targets: Tensor) -> Tensor:
        known = ~targets.isnan()
        truth = targets.nan_to_num(0.0) * (1 - self.smoothing) + self.smoothing / 2
        return (self._each(logits, truth) * known).sum() / known.sum().clamp(min=1)

    def _each(self, logits: Tensor, truth: Tensor) -> Tensor:
        if self.asymmetric is not None:
            return self.asymmetric(logits, truth)
        each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        if self.frequency is None:
            return each
        share = self.frequency.to(logits.device)
        return each * torch.lerp(share, 1 - share, truth)


def build_loss(cfg: Any, targets: Tensor) -> Loss:
    """The loss that SOLVER.LOSS names.

    Args:
        cfg: the config.
        targets: (N, K) of the training images; ``weighted_bce`` weighs by their frequency.

    Raises:
        InputError: an unknown name.
    """
    name, smoothing = cfg.SOLVER.LOSS, cfg.SOLVER.LABEL_SMOOTHING
    if name not in NAMES:
        raise InputError(f"SOLVER.LOSS is {name!r}, expected one of {', '.join(NAMES)}")
    if name == "asymmetric":
        from timm.loss import AsymmetricLossMultiLabel

        return Loss(smoothing, asymmetric=AsymmetricLossMultiLabel(reduction="none"))
    return Loss(smoothing, targets.nanmean(dim=0).nan_to_num(0.5) if name == "weighted_bce" else None)
