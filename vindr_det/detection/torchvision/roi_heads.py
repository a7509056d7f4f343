"""torchvision's ROI heads with the losses of :mod:`vindr_det.detection.roi_losses`."""

from typing import Any

import torch
from torch import Tensor
from torchvision.models.detection.roi_heads import RoIHeads

from vindr_det.detection.roi_losses import box_loss, classification_loss

#: Difference at which torchvision's own loss turns from L2 into L1.
_BETA = 1 / 9


class WeightedRoIHeads(RoIHeads):
    """ROI heads with focal loss, and weights per box: ``weights`` (N,) of a target; the background has 1.

    Args:
        gamma: of the focal loss.
        heads: the heads whose parts and settings these take over.
    """

    def __init__(self, gamma: float, heads: RoIHeads) -> None:
        torch.nn.Module.__init__(self)
        self.__dict__.update(heads.__dict__)
        self.gamma = gamma

    def select_training_samples(self, proposals: Any, targets: Any) -> Any:
        """torchvision's; the samples are kept for the losses."""
        proposals, matched, labels, deltas = super().select_training_samples(proposals, targets)
        self._sampled = (torch.cat(labels), torch.cat(deltas), _weights(matched, labels, targets))
        return proposals, matched, labels, deltas

    def forward(self, features: Any, proposals: Any, image_shapes: Any, targets: Any = None) -> Any:
        """torchvision's, with two of the losses replaced."""
        if not self.training:
            return super().forward(features, proposals, image_shapes, targets)
        outputs: list[tuple[Tensor, Tensor]] = []
        hook = self.box_predictor.register_forward_hook(lambda _, __, output: outputs.append(output))
        try:
            result, losses = super().forward(features, proposals, image_shapes, targets)
        finally:
            hook.remove()
        labels, deltas, weights = self._sampled
        del self._sampled
        logits, regressed = outputs[0]
        positive = torch.where(labels > 0)[0]
        chosen = regressed.reshape(len(labels), -1, 4)[positive, labels[positive]]
        losses["loss_classifier"] = classification_loss(logits, labels, weights, self.gamma)
        losses["loss_box_reg"] = box_loss(chosen, deltas[positive], weights[positive], _BETA, len(labels))
        return result, losses


def _weights(matched: list[Tensor], labels: list[Tensor], targets: Any) -> Tensor:
    """(N,) weight of the true box that each proposal is matched with."""
    parts = []
    for rows, classes, target in zip(matched, labels, targets, strict=True):
        given = target.get("weights")
        if given is None or not len(given):
            parts.append(torch.ones(len(rows), device=rows.device))
        else:
            parts.append(torch.where(classes > 0, given[rows], torch.ones_like(given[rows])))
    return torch.cat(parts)
