"""Losses of (B, K) logits against (B, K) targets, 0..1."""

from collections.abc import Callable
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vindr_det.errors import InputError

NAMES = ("bce", "weighted_bce", "asymmetric")

Loss = Callable[[Tensor, Tensor], Tensor]


def build_loss(cfg: Any, targets: Tensor) -> Loss:
    """The loss that SOLVER.LOSS names, as a mean over images and labels.

    Args:
        cfg: the config; LABEL_SMOOTHING moves targets by half of itself towards the middle.
        targets: (N, K) of the training images; ``weighted_bce`` weighs by their frequency.

    Raises:
        InputError: an unknown name.
    """
    name, smoothing = cfg.SOLVER.LOSS, cfg.SOLVER.LABEL_SMOOTHING
    if name not in NAMES:
        raise InputError(f"SOLVER.LOSS is {name!r}, expected one of {', '.join(NAMES)}")
    if name == "asymmetric":
        loss = _asymmetric()
    else:
        frequency = targets.mean(dim=0) if name == "weighted_bce" else None
        loss = _cross_entropy(frequency)
    return lambda logits, truth: loss(logits, truth * (1 - smoothing) + smoothing / 2)


def _cross_entropy(frequency: Tensor | None) -> Loss:
    """With a frequency (K,), each side weighs as often as the other one comes, as in CheXNet
    (Rajpurkar et al., 2017): both sides of a label then weigh the same in all."""

    def loss(logits: Tensor, truth: Tensor) -> Tensor:
        each = F.binary_cross_entropy_with_logits(logits, truth, reduction="none")
        if frequency is None:
            return each.mean()
        share = frequency.to(logits.device)
        return (each * torch.lerp(share, 1 - share, truth)).mean()

    return loss


def _asymmetric() -> Loss:
    """timm's loss of Ben-Baruch et al., 2021."""
    from timm.loss import AsymmetricLossMultiLabel

    return AsymmetricLossMultiLabel(reduction="mean")
