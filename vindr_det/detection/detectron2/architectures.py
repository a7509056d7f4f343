"""Architectures and backbones of the Detectron2 engine, and the model that a config describes.

Detectron2 builds a model from parts that the config names, such as MODEL.META_ARCHITECTURE and
MODEL.BACKBONE.NAME, and looks each up in a registry. To add an architecture or a backbone, write it as
Detectron2 writes its own (a class with ``from_config``, or a function of the config) and list it in
:data:`PARTS`; list values that it cannot honor in :data:`HONORED`. Its own keys, if any, belong to
:func:`vindr_det.config_schema.vindr_node`.
"""

import re
from typing import Any

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling import build_model as build_detectron2_model
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from torch import Tensor, nn

from vindr_det.config import leaves
from vindr_det.detection import roi_losses
from vindr_det.detection.detectron2.incomplete import leave_out_unknown
from vindr_det.detection.detectron2.roi_heads import pool_exactly, weigh_proposals
from vindr_det.detection.incomplete import masks_unknown
from vindr_det.exceptions import InputError
from vindr_det.training import timm_backbone
from vindr_det.training.timm_backbone import TimmBody


class TimmBottomUp(TimmBody, Backbone):
    """A timm network with features ``res2`` to ``res5``, or ``res3`` to ``res5`` for dense detectors."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """(B, 3, H, W) images to (B, C, H / stride, W / stride) features by name."""
        return dict(zip(self.output_shape(), super().forward(images), strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each feature."""
        first = 6 - len(self.channels)
        return {f"res{level}": ShapeSpec(channels=channels, stride=2**level)
                for level, channels in enumerate(self.channels, first)}


def build_timm_fpn_backbone(cfg: Any, input_shape: ShapeSpec) -> FPN:
    """Levels 2 to 6, as ``build_resnet_fpn_backbone`` has them."""
    body = timm_backbone.from_config(cfg, TimmBottomUp)
    return FPN(body, cfg.MODEL.FPN.IN_FEATURES, cfg.MODEL.FPN.OUT_CHANNELS, cfg.MODEL.FPN.NORM,
               LastLevelMaxPool(), cfg.MODEL.FPN.FUSE_TYPE)


def build_retinanet_timm_fpn_backbone(cfg: Any, input_shape: ShapeSpec) -> FPN:
    """Levels 3 to 7, as ``build_retinanet_resnet_fpn_backbone`` has them."""
    body, channels = timm_backbone.from_config(cfg, TimmBottomUp), cfg.MODEL.FPN.OUT_CHANNELS
    return FPN(body, cfg.MODEL.FPN.IN_FEATURES, channels, cfg.MODEL.FPN.NORM,
               LastLevelP6P7(body.channels[-1], channels), cfg.MODEL.FPN.FUSE_TYPE)


#: Our parts and the registries of Detectron2 that they join.
PARTS: tuple[tuple[Any, Any], ...] = (
    (BACKBONE_REGISTRY, build_timm_fpn_backbone),
    (BACKBONE_REGISTRY, build_retinanet_timm_fpn_backbone),
)
#: Key -> (the values that the model honors, what to do instead); :mod:`.config` refuses all others.
HONORED: dict[str, tuple[tuple[Any, ...], str]] = {
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": ((False,), "the data sets do not count images per class"),
}
#: Key -> parts of Detectron2 that need or return something other than boxes.
WITHOUT_BOXES = {
    "MODEL.META_ARCHITECTURE": ("PanopticFPN", "ProposalNetwork", "SemanticSegmentor"),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("PrecomputedProposals", "RRPN"),
    "MODEL.ANCHOR_GENERATOR.NAME": ("RotatedAnchorGenerator",),
    "MODEL.ROI_HEADS.NAME": ("RROIHeads",),
}


def register_parts() -> None:
    """Add :data:`PARTS` to Detectron2's registries; a second call does nothing."""
    for registry, part in PARTS:
        if part.__name__ not in registry:
            registry.register(part)


def build_model(cfg: Any) -> nn.Module:
    """The model of a config, with the losses of :mod:`vindr_det.detection.roi_losses` where it has them.

    Raises:
        InputError: a part that Detectron2 does not know, or losses that the config's box head cannot have.
    """
    _check_box_losses(cfg)
    try:
        model = build_detectron2_model(cfg)
    except KeyError as error:
        raise _unknown_part(cfg, error) from error
    pool_exactly(model)
    if roi_losses.wanted(cfg):
        weigh_proposals(cfg, model)
    if masks_unknown(cfg):
        leave_out_unknown(model)
    return model


def _check_box_losses(cfg: Any) -> None:
    roi_losses.check(cfg)
    node = cfg.MODEL.ROI_BOX_HEAD
    plain = not (node.CLS_AGNOSTIC_BBOX_REG or node.USE_SIGMOID_CE) and node.BBOX_REG_LOSS_TYPE == "smooth_l1"
    if roi_losses.wanted(cfg) and not plain:
        raise InputError("VINDR.ROI_FOCAL_GAMMA and AGREEMENT_POWER expect MODEL.ROI_BOX_HEAD with "
                         "CLS_AGNOSTIC_BBOX_REG, USE_SIGMOID_CE False and BBOX_REG_LOSS_TYPE smooth_l1")


def _unknown_part(cfg: Any, error: KeyError) -> Exception:
    """An error that names the key whose value a registry of Detectron2 does not have."""
    match = re.search(r"No object named '(.+)' found in '(.+)' registry", str(error))
    if match is None:
        return error
    keys = [key for key, value in leaves(cfg.MODEL, "MODEL.") if value == match[1]]
    return InputError(f"{' and '.join(keys)} is {match[1]!r}: Detectron2's registry {match[2]} has no "
                      "part of that name")
