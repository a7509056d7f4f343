"""Parts of Detectron2's R-CNNs with the losses and the precision of both engines."""

from typing import Any

import torch
from detectron2.layers import ROIAlign, cat
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, _log_classification_stats
from torch import Tensor, nn

from vindr_det.detection import roi_losses


class WeightedOutputLayers(FastRCNNOutputLayers):
    """Box predictor with the losses of :mod:`vindr_det.detection.roi_losses`.

    Proposals may have ``gt_weights`` (N,); the weight of the background is 1.
    """

    gamma = 0.0

    def losses(self, predictions: tuple[Tensor, Tensor], proposals: list[Any]) -> dict[str, Tensor]:
        """As in the base class, with a weight per proposal."""
        logits, deltas = predictions
        labels = cat([p.gt_classes for p in proposals])
        _log_classification_stats(logits, labels)
        positive = torch.where((labels >= 0) & (labels < self.num_classes))[0]
        weights = torch.ones(len(labels), device=logits.device)  # float32, whatever the type of the logits
        weights[positive] = cat([_weights(p) for p in proposals])[positive]
        boxes = cat([p.proposal_boxes.tensor for p in proposals])
        truth = cat([(p.gt_boxes if p.has("gt_boxes") else p.proposal_boxes).tensor for p in proposals])
        targets = self.box2box_transform.get_deltas(boxes[positive], truth[positive])
        chosen = deltas.view(len(labels), -1, 4)[positive, labels[positive]]
        losses = {
            "loss_cls": roi_losses.classification_loss(logits, labels, weights, self.gamma),
            "loss_box_reg": roi_losses.box_loss(chosen, targets, weights[positive], self.smooth_l1_beta,
                                                len(labels)),
        }
        return {key: value * self.loss_weight.get(key, 1.0) for key, value in losses.items()}


def _weights(proposals: Any) -> Tensor:
    """(N,) weight of the true box that each proposal is matched with."""
    if proposals.has("gt_weights"):
        return proposals.gt_weights
    return torch.ones(len(proposals), device=proposals.proposal_boxes.device)


def weigh_proposals(cfg: Any, model: Any) -> None:
    """Replace a model's box predictor by :class:`WeightedOutputLayers` with the same weights."""
    heads = model.roi_heads
    layers = WeightedOutputLayers(cfg, heads.box_head.output_shape).to(model.device)
    layers.load_state_dict(heads.box_predictor.state_dict())
    layers.gamma = cfg.VINDR.ROI_FOCAL_GAMMA
    heads.box_predictor = layers


class ExactROIAlign(ROIAlign):
    """ROIAlign in float32.

    Detectron2 rounds the regions to the type of the features: to a grid of 4 pixels at 1,000 in bfloat16.
    """

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """(N, C, H, W) features and (M, 5) regions to (M, C, h, w) of the features' type."""
        return super().forward(input.float(), rois).to(input.dtype)


def pool_exactly(model: nn.Module) -> None:
    """Replace every ROIAlign of a model by :class:`ExactROIAlign`."""
    for pooler in model.modules():
        if isinstance(pooler, ROIPooler):
            pooler.level_poolers = nn.ModuleList(
                ExactROIAlign(level.output_size, level.spatial_scale, level.sampling_ratio, level.aligned)
                if type(level) is ROIAlign else level for level in pooler.level_poolers)
