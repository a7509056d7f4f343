"""torchvision's losses without negative signal for the findings that are unknown on an image.

A target's ``unknown`` (C,) tells which classes these are; targets without it have none.
"""

from collections.abc import Mapping, Sequence
from typing import Any

import torch
import torch.nn.functional as F
from torch import Tensor, nn
from torchvision.models.detection import FasterRCNN

from vindr_det.detection.incomplete import join_background, mix_in, without

Targets = Sequence[Mapping[str, Tensor]]


def _unknown_of(targets: Targets) -> Tensor | None:
    """(B, C) of a batch; None where the targets do not tell."""
    told = all("unknown" in target for target in targets)
    return torch.stack([target["unknown"] for target in targets]) if told and targets else None


class KnownProposals:
    """An RPN to which an image with unknown findings has no negative anchors: one may lie on a finding.

    They still count in the mean, so that the positive anchors weigh as they do on other images.
    """

    _ignored: Tensor | None

    def assign_targets_to_anchors(self, anchors: Any, targets: Targets) -> Any:
        """torchvision's; which anchors are to be ignored is kept for the loss."""
        labels, boxes = super().assign_targets_to_anchors(anchors, targets)  # type: ignore[misc]
        unknown = _unknown_of(targets)
        self._ignored = None if unknown is None else torch.cat([
            (label == 0) & row.any() for label, row in zip(labels, unknown, strict=True)])
        return labels, boxes

    def compute_loss(self, objectness: Tensor, *others: Any) -> Any:
        """torchvision's, of the other anchors."""
        if self._ignored is not None:
            objectness = without(objectness.flatten(), self._ignored)
        return super().compute_loss(objectness, *others)  # type: ignore[misc]


class KnownBoxPredictor:
    """A box predictor whose softmax leaves out ``unknown`` (N, C + 1) in training; see
    :func:`vindr_det.detection.incomplete.join_background`."""

    unknown: Tensor | None = None
    is_background: Tensor

    def forward(self, features: Tensor) -> tuple[Tensor, Tensor]:
        """Logits (N, C + 1) and deltas (N, 4 C + 4) of N proposals."""
        logits, deltas = super().forward(features)  # type: ignore[misc]
        if self.training and self.unknown is not None:  # type: ignore[attr-defined]
            logits = join_background(logits, self.unknown, self.is_background, 0)
        return logits, deltas


class KnownRoIHeads:
    """ROI heads that tell their :class:`KnownBoxPredictor` what is unknown to the sampled proposals."""

    box_predictor: Any

    def select_training_samples(self, proposals: Any, targets: Targets) -> Any:
        """torchvision's."""
        samples = super().select_training_samples(proposals, targets)  # type: ignore[misc]
        unknown = _unknown_of(targets)
        if unknown is not None:
            counts = torch.tensor([len(boxes) for boxes in samples[0]], device=unknown.device)
            unknown = F.pad(unknown, (1, 0)).repeat_interleave(counts, dim=0)
            self.box_predictor.is_background = torch.cat(samples[2]) == 0
        self.box_predictor.unknown = unknown
        return samples


class KnownDense:
    """A dense detector whose focal loss leaves out the unknown classes of each image."""

    def compute_loss(self, targets: Targets, head_outputs: dict[str, Tensor], *others: Any) -> Any:
        """torchvision's, of the other logits."""
        unknown = _unknown_of(targets)
        if unknown is not None:
            logits = without(head_outputs["cls_logits"], unknown[:, None])
            head_outputs = head_outputs | {"cls_logits": logits}
        return super().compute_loss(targets, head_outputs, *others)  # type: ignore[misc]


def leave_out_unknown(network: nn.Module) -> None:
    """Make the losses of one of our architectures those of the known findings."""
    if not isinstance(network, FasterRCNN):
        mix_in(network, KnownDense)
        return
    mix_in(network.rpn, KnownProposals)
    mix_in(network.roi_heads, KnownRoIHeads)
    mix_in(network.roi_heads.box_predictor, KnownBoxPredictor)
