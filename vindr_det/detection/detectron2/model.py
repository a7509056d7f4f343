"""A config's model, with the losses of :mod:`vindr_det.detection.roi_losses` where it asks for them."""

import re
from typing import Any

import torch
from detectron2.layers import ROIAlign, cat
from detectron2.modeling import build_model as build_detectron2s
from detectron2.modeling.poolers import ROIPooler
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers, _log_classification_stats
from torch import Tensor, nn

from vindr_det.config import leaves
from vindr_det.detection import roi_losses
from vindr_det.exceptions import InputError


class WeightedOutputLayers(FastRCNNOutputLayers):
    """Box predictor whose proposals may have ``gt_weights`` (N,); the background's weight is 1."""

    gamma = 0.0

    def losses(self, predictions: tuple[Tensor, Tensor], proposals: list[Any]) -> dict[str, Tensor]:
        """As the base class, by proposal."""
        logits, deltas = predictions
        labels = cat([p.gt_classes for p in proposals])
        _log_classification_stats(logits, labels)
        positive = torch.where((labels >= 0) & (labels < self.num_classes))[0]
        weights = torch.ones(len(labels), device=logits.device)  # not of the logits' half precision
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
    """(N,) the weight of the box that each proposal was matched with."""
    if proposals.has("gt_weights"):
        return proposals.gt_weights
    return torch.ones(len(proposals), device=proposals.proposal_boxes.device)


class ExactROIAlign(ROIAlign):
    """Detectron2's rounds the regions to the features' half precision; a grid of 4 pixels at 1,000."""

    def forward(self, input: Tensor, rois: Tensor) -> Tensor:
        """(N, C, H, W) features and (M, 5) regions to (M, C, h, w) of the features' type."""
        return super().forward(input.float(), rois).to(input.dtype)


def build_model(cfg: Any) -> nn.Module:
    """Detectron2's model for a config.

    Raises:
        InputError: a lever of the box head that this config's box head does not have.
    """
    roi_losses.check(cfg)
    try:
        model = build_detectron2s(cfg)
    except KeyError as error:
        raise _unknown_part(cfg, error) from error
    _pool_exactly(model)
    if roi_losses.wanted(cfg):
        node = cfg.MODEL.ROI_BOX_HEAD
        if node.CLS_AGNOSTIC_BBOX_REG or node.BBOX_REG_LOSS_TYPE != "smooth_l1" or node.USE_SIGMOID_CE:
            raise InputError("VINDR.ROI_FOCAL_GAMMA and AGREEMENT_POWER expect MODEL.ROI_BOX_HEAD with "
                             "CLS_AGNOSTIC_BBOX_REG, USE_SIGMOID_CE False and BBOX_REG_LOSS_TYPE smooth_l1")
        heads = model.roi_heads
        layers = WeightedOutputLayers(cfg, heads.box_head.output_shape).to(model.device)
        layers.load_state_dict(heads.box_predictor.state_dict())
        layers.gamma = cfg.VINDR.ROI_FOCAL_GAMMA
        heads.box_predictor = layers
    return model


def _pool_exactly(model: nn.Module) -> None:
    for pooler in model.modules():
        if isinstance(pooler, ROIPooler):
            pooler.level_poolers = nn.ModuleList(
                ExactROIAlign(level_pooler.output_size, level_pooler.spatial_scale, level_pooler.sampling_ratio, level_pooler.aligned)
                if type(level_pooler) is ROIAlign else level_pooler for level_pooler in pooler.level_poolers)


def _unknown_part(cfg: Any, error: KeyError) -> Exception:
    """An error that names the key, where a registry of Detectron2 does not know its value."""
    found = re.search(r"No object named '(.+)' found in '(.+)' registry", str(error))
    if found is None:
        return error
    keys = [key for key, value in leaves(cfg.MODEL, "MODEL.") if value == found[1]]
    return InputError(f"{' and '.join(keys)} is {found[1]!r}: Detectron2's registry {found[2]} has none such")
