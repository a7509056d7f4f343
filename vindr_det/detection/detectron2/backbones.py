"""timm's networks as Detectron2 backbones."""

from typing import Any

from detectron2.layers import ShapeSpec
from detectron2.modeling import BACKBONE_REGISTRY, Backbone
from detectron2.modeling.backbone.fpn import FPN, LastLevelMaxPool, LastLevelP6P7
from torch import Tensor

from vindr_det.training import timm_backbone
from vindr_det.training.timm_backbone import TimmBody


class TimmBottomUp(TimmBody, Backbone):
    """Its features as ``res2`` to ``res5``, or from ``res3`` for dense detectors."""

    def forward(self, images: Tensor) -> dict[str, Tensor]:  # type: ignore[override]
        """(B, 3, H, W) to one (B, C, H / stride, W / stride) a name."""
        return dict(zip(self.output_shape(), super().forward(images), strict=True))

    def output_shape(self) -> dict[str, ShapeSpec]:
        """Channels and stride of each."""
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


def register_backbones() -> None:
    """Make both known to Detectron2; again does nothing."""
    for build in (build_timm_fpn_backbone, build_retinanet_timm_fpn_backbone):
        if build.__name__ not in BACKBONE_REGISTRY:
            BACKBONE_REGISTRY.register(build)
