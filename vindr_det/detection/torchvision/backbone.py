"""ResNet or one of timm's networks, with a feature pyramid, from Detectron2's keys."""

from typing import Any

from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7

from vindr_det.training import timm_backbone
from vindr_det.training.timm_backbone import TimmBody

#: MODEL.RESNETS.NORM -> layer.
NORMS = {"FrozenBN": FrozenBatchNorm2d, "BN": nn.BatchNorm2d}


class Pyramid(nn.Module):
    """A timm network with a feature pyramid, in the names of torchvision's ``BackboneWithFPN``."""

    def __init__(self, body: TimmBody, out_channels: int, extra: ExtraFPNBlock) -> None:
        super().__init__()
        self.body, self.out_channels = body, out_channels
        self.fpn = FeaturePyramidNetwork(body.channels, out_channels, extra)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to (B, C, H / stride, W / stride) per level."""
        return self.fpn({str(level): part for level, part in enumerate(self.body(images))})


def build_backbone(cfg: Any, dense: bool) -> BackboneWithFPN | Pyramid:
    """The backbone that MODEL.BACKBONE, RESNETS, FPN and VINDR.TIMM_MODEL describe, from random weights.

    Args:
        cfg: the config.
        dense: pyramid levels 3 to 7, as dense detectors have them; else 2 to 6, as R-CNNs do.
    """
    out = cfg.MODEL.FPN.OUT_CHANNELS
    if timm_backbone.wanted(cfg):
        body: TimmBody = timm_backbone.from_config(cfg)
        return Pyramid(body, out, LastLevelP6P7(body.channels[-1], out) if dense else LastLevelMaxPool())
    resnet_body = _resnet(cfg)
    levels, base = range(2 if dense else 1, 5), resnet_body.inplanes // 8
    channels = [base * 2 ** (level - 1) for level in levels]
    return BackboneWithFPN(resnet_body, {f"layer{i}": str(i - levels[0]) for i in levels}, channels, out,
                           extra_blocks=LastLevelP6P7(channels[-1], out) if dense else None)


def _resnet(cfg: Any) -> nn.Module:
    """The first FREEZE_AT stages are not trained; MSRA's networks, in Detectron2's zoo, STRIDE_IN_1X1."""
    node = cfg.MODEL.RESNETS
    body = getattr(resnet, f"resnet{node.DEPTH}")(weights=None, norm_layer=NORMS[node.NORM])
    if node.STRIDE_IN_1X1 and node.DEPTH >= 50:
        for stage in (body.layer2, body.layer3, body.layer4):
            stage[0].conv1.stride, stage[0].conv2.stride = stage[0].conv2.stride, stage[0].conv1.stride
    stages = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
    for names in stages[: cfg.MODEL.BACKBONE.FREEZE_AT]:
        for name in names:
            setattr(body, name, freeze_batch_norm(getattr(body, name).requires_grad_(False)))
    return body


def freeze_batch_norm(module: nn.Module) -> nn.Module:
    """A module whose batch norms keep their statistics, also in training; as Detectron2's ``freeze``."""
    if isinstance(module, nn.BatchNorm2d):
        frozen = FrozenBatchNorm2d(module.num_features, module.eps)
        frozen.load_state_dict(module.state_dict())
        return frozen
    for name, part in module.named_children():
        setattr(module, name, freeze_batch_norm(part))
    return module
