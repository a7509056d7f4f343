"""The box head's losses with two options: focal loss, and boxes weighted by the agreement of readers.

N is the number of sampled proposals of a batch, C the number of findings. With gamma 0 and weights of 1 these
are both engines' own losses.
"""

from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor

from vindr_det.exceptions import InputError


def wanted(cfg: Any) -> bool:
    """Whether a config uses one of the options."""
    return cfg.VINDR.ROI_FOCAL_GAMMA > 0 or cfg.VINDR.AGREEMENT_POWER > 0


def check(cfg: Any) -> None:
    """Refuse the options for models without Detectron2's standard box head.

    Raises:
        InputError: names the key.
    """
    model = cfg.MODEL
    standard = (model.META_ARCHITECTURE, model.ROI_HEADS.NAME) == ("GeneralizedRCNN", "StandardROIHeads")
    for key in ("ROI_FOCAL_GAMMA", "AGREEMENT_POWER"):
        value = cfg.VINDR[key]
        if value < 0 or (value > 0 and not standard):
            raise InputError(f"VINDR.{key} is {value}: expected 0, or more with GeneralizedRCNN and "
                             "StandardROIHeads")


def classification_loss(logits: Tensor, labels: Tensor, weights: Tensor, gamma: float) -> Tensor:
    """Softmax cross entropy, focal with ``gamma`` > 0 (Lin et al., "Focal loss", 2017, equation 4).

    Args:
        logits: (N, C + 1).
        labels: (N,) columns of ``logits``.
        weights: (N,) factors of each proposal's loss.
        gamma: 0 is the plain cross entropy.

    Returns:
        Sum over proposals, divided by N.
    """
    entropy = F.cross_entropy(logits, labels, reduction="none")
    if gamma > 0:
        # expm1 keeps the gradient finite where a proposal is all but certain.
        entropy = (-torch.expm1(-entropy)).clamp(min=1e-12) ** gamma * entropy
    return (entropy * weights).sum() / max(len(labels), 1)


def box_loss(deltas: Tensor, targets: Tensor, weights: Tensor, beta: float, count: int) -> Tensor:
    """Smooth L1 loss of the foreground proposals' deltas.

    Args:
        deltas: (M, 4) predicted, of the M foreground proposals.
        targets: (M, 4).
        weights: (M,) factors of each proposal's loss.
        beta: difference at which L2 turns into L1; 0 is L1 alone.
        count: N, by which the sum is divided.
    """
    each = F.smooth_l1_loss(deltas, targets, beta=beta, reduction="none").sum(dim=1)
    return (each * weights).sum() / max(count, 1)
