"""Detectron2's keys to torchvision's Faster and Mask R-CNN, RetinaNet and FCOS."""

from collections.abc import Sequence
from typing import Any

import torch
from torch import Tensor, nn
from torchvision.models import resnet
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.backbone_utils import BackboneWithFPN
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import FeaturePyramidNetwork, FrozenBatchNorm2d, MultiScaleRoIAlign
from torchvision.ops.feature_pyramid_network import ExtraFPNBlock, LastLevelMaxPool, LastLevelP6P7
from torchvision.ops.poolers import initLevelMapper

from vindr_det.detection import roi_losses
from vindr_det.detection.precision import in_float32
from vindr_det.detection.torchvision.roi_heads import WeightedRoIHeads
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import NUM_FINDINGS
from vindr_det.training import timm_backbone
from vindr_det.training.timm_backbone import TimmBody

_NORMS = {"FrozenBN": FrozenBatchNorm2d, "BN": nn.BatchNorm2d}

# Keys whose value names a part that only Detectron2 can swap; torchvision has just this one.
_ALWAYS = {
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": "choice",
    "SOLVER.WARMUP_METHOD": "linear",
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": 2.0,
}
_RCNN = {
    "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
    "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
    "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
    "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
    "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
    "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
    "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
}
_DENSE = {
    "MODEL.MASK_ON": False,
    "MODEL.RESNETS.OUT_FEATURES": ["res3", "res4", "res5"],
    "MODEL.FPN.IN_FEATURES": ["res3", "res4", "res5"],
    "MODEL.RETINANET.IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"],
    "MODEL.RETINANET.NUM_CONVS": 4,
    "MODEL.RETINANET.IOU_LABELS": [0, -1, 1],
    "MODEL.RETINANET.PRIOR_PROB": 0.01,
    "MODEL.RETINANET.BBOX_REG_WEIGHTS": [1.0, 1.0, 1.0, 1.0],
    "MODEL.RETINANET.FOCAL_LOSS_GAMMA": 2.0,
    "MODEL.RETINANET.FOCAL_LOSS_ALPHA": 0.25,
    "MODEL.RETINANET.BBOX_REG_LOSS_TYPE": "smooth_l1",
    "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA": 0.0,
    "MODEL.RETINANET.NORM": "",
}
_RCNN_BACKBONES = ("build_resnet_fpn_backbone", timm_backbone.R_CNN)
_DENSE_BACKBONES = ("build_retinanet_resnet_fpn_backbone", timm_backbone.DENSE)


def check(cfg: Any) -> None:
    """Refuse what torchvision cannot honor.

    Raises:
        InputError: names the key, its value and what was expected.
    """
    roi_losses.check(cfg)
    _expect(cfg, "MODEL.META_ARCHITECTURE", ("GeneralizedRCNN", "RetinaNet", "FCOS"))
    rcnn = cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN"
    for key, only in (_ALWAYS | (_RCNN if rcnn else _DENSE)).items():
        _expect(cfg, key, (only,))
    _expect(cfg, "MODEL.BACKBONE.NAME", _RCNN_BACKBONES if rcnn else _DENSE_BACKBONES)
    _expect(cfg, "MODEL.RESNETS.NORM", tuple(_NORMS))
    _expect(cfg, "INPUT.RANDOM_FLIP", ("horizontal", "vertical", "none"))
    _expect(cfg, "SOLVER.LR_SCHEDULER_NAME", ("WarmupMultiStepLR", "WarmupCosineLR"))
    _expect(cfg, "INPUT.FORMAT", ("BGR", "RGB"))
    if not timm_backbone.wanted(cfg):
        _check_resnet(cfg)


def _check_resnet(cfg: Any) -> None:
    depths = (18, 34, 50, 101, 152)
    _expect(cfg, "MODEL.RESNETS.DEPTH", depths)
    _expect(cfg, "MODEL.BACKBONE.FREEZE_AT", (0, 1, 2, 3, 4, 5))
    bottleneck = cfg.MODEL.RESNETS.DEPTH >= 50
    _expect(cfg, "MODEL.RESNETS.RES2_OUT_CHANNELS", (256 if bottleneck else 64,))
    if bottleneck:
        # torchvision's ResNet strides in the 3x3 convolution ("v1.5").
        _expect(cfg, "MODEL.RESNETS.STRIDE_IN_1X1", (False,))


def _expect(cfg: Any, key: str, allowed: Sequence[Any]) -> None:
    value = cfg
    for part in key.split("."):
        value = value[part]
    value = list(value) if isinstance(value, tuple) else value
    if value not in [list(a) if isinstance(a, tuple) else a for a in allowed]:
        choices = " or ".join(repr(a) for a in allowed)
        raise InputError(f"{key} is {value!r}: the torchvision engine takes {choices}; the "
                         "detectron2 engine may take it")


def first_label(cfg: Any) -> int:
    """What torchvision calls class 0: R-CNNs keep 0 for the background, dense detectors have none."""
    return 1 if cfg.MODEL.META_ARCHITECTURE == "GeneralizedRCNN" else 0


def build_model(cfg: Any) -> nn.Module:
    """The detector that MODEL.META_ARCHITECTURE and MASK_ON name, from random weights.

    Input images are (3, H, W) float, 0..255; labels begin at :func:`first_label`.
    """
    check(cfg)
    build = {"GeneralizedRCNN": _build_rcnn, "RetinaNet": _build_retinanet, "FCOS": _build_fcos}
    sizes = {"min_size": tuple(cfg.INPUT.MIN_SIZE_TRAIN), "max_size": cfg.INPUT.MAX_SIZE_TRAIN,
             "image_mean": list(cfg.MODEL.PIXEL_MEAN), "image_std": list(cfg.MODEL.PIXEL_STD)}
    network = build[cfg.MODEL.META_ARCHITECTURE](cfg, sizes)
    for head in _heads(network):
        head.register_forward_hook(in_float32)
    return network


def _heads(network: Any) -> list[nn.Module]:
    """Where a network ends and boxes begin."""
    if not isinstance(network, FasterRCNN):
        return [network.head]
    heads = [network.rpn.head, network.roi_heads.box_predictor, network.roi_heads.mask_predictor]
    return [head for head in heads if head is not None]


def _build_rcnn(cfg: Any, sizes: dict[str, Any]) -> FasterRCNN:
    model, rpn, heads = cfg.MODEL, cfg.MODEL.RPN, cfg.MODEL.ROI_HEADS
    backbone = build_backbone(cfg)
    options = sizes | {
        "rpn_anchor_generator": _anchors(cfg, len(rpn.IN_FEATURES)),
        "rpn_pre_nms_top_n_train": rpn.PRE_NMS_TOPK_TRAIN,
        "rpn_pre_nms_top_n_test": rpn.PRE_NMS_TOPK_TEST,
        "rpn_post_nms_top_n_train": rpn.POST_NMS_TOPK_TRAIN,
        "rpn_post_nms_top_n_test": rpn.POST_NMS_TOPK_TEST,
        "rpn_nms_thresh": rpn.NMS_THRESH,
        "rpn_bg_iou_thresh": rpn.IOU_THRESHOLDS[0],
        "rpn_fg_iou_thresh": rpn.IOU_THRESHOLDS[1],
        "rpn_batch_size_per_image": rpn.BATCH_SIZE_PER_IMAGE,
        "rpn_positive_fraction": rpn.POSITIVE_FRACTION,
        "box_roi_pool": _pool(model.ROI_BOX_HEAD),
        "box_head": _fc_head(cfg, backbone.out_channels),
        "box_predictor": FastRCNNPredictor(model.ROI_BOX_HEAD.FC_DIM, NUM_FINDINGS + 1),
        "box_score_thresh": heads.SCORE_THRESH_TEST,
        "box_nms_thresh": heads.NMS_THRESH_TEST,
        "box_detections_per_img": cfg.TEST.DETECTIONS_PER_IMAGE,
        "box_fg_iou_thresh": heads.IOU_THRESHOLDS[0],
        "box_bg_iou_thresh": heads.IOU_THRESHOLDS[0],
        "box_batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
        "box_positive_fraction": heads.POSITIVE_FRACTION,
        "bbox_reg_weights": tuple(model.ROI_BOX_HEAD.BBOX_REG_WEIGHTS),
    }
    network = _mask_rcnn(cfg, backbone, options) if model.MASK_ON else FasterRCNN(backbone, **options)
    _initialize_like_detectron2(network)
    if roi_losses.wanted(cfg):
        network.roi_heads = WeightedRoIHeads(cfg.VINDR.ROI_FOCAL_GAMMA, network.roi_heads)
    return network


def _build_retinanet(cfg: Any, sizes: dict[str, Any]) -> RetinaNet:
    """Lin et al., "Focal loss for dense object detection", 2017."""
    node = cfg.MODEL.RETINANET
    return RetinaNet(
        build_backbone(cfg), NUM_FINDINGS, **sizes, **_dense_test(cfg),
        anchor_generator=_anchors(cfg, len(node.IN_FEATURES)),
        bg_iou_thresh=node.IOU_THRESHOLDS[0], fg_iou_thresh=node.IOU_THRESHOLDS[1],
    )


def _build_fcos(cfg: Any, sizes: dict[str, Any]) -> FCOS:
    """Tian et al., "FCOS", 2019; needs no anchors."""
    centers = Anchors(tuple((8 * 2**level,) for level in range(5)), ((1.0,),) * 5)  # as torchvision has them
    return FCOS(build_backbone(cfg), NUM_FINDINGS, **sizes, **_dense_test(cfg), anchor_generator=centers)


def _dense_test(cfg: Any) -> dict[str, Any]:
    node = cfg.MODEL.RETINANET
    return {"score_thresh": node.SCORE_THRESH_TEST, "nms_thresh": node.NMS_THRESH_TEST,
            "topk_candidates": node.TOPK_CANDIDATES_TEST,
            "detections_per_img": cfg.TEST.DETECTIONS_PER_IMAGE}


class Pyramid(nn.Module):
    """A timm network with a feature pyramid, in the names of torchvision's ``BackboneWithFPN``."""

    def __init__(self, body: TimmBody, out_channels: int, extra: ExtraFPNBlock) -> None:
        super().__init__()
        self.body, self.out_channels = body, out_channels
        self.fpn = FeaturePyramidNetwork(body.channels, out_channels, extra)

    def forward(self, images: Tensor) -> dict[str, Tensor]:
        """(B, 3, H, W) to one (B, C, H / stride, W / stride) a level."""
        return self.fpn({str(level): part for level, part in enumerate(self.body(images))})


def build_backbone(cfg: Any) -> BackboneWithFPN | Pyramid:
    """ResNet or one of timm's networks with a feature pyramid.

    The pyramid of R-CNNs has levels 2 to 6, that of dense detectors 3 to 7.
    """
    dense = cfg.MODEL.META_ARCHITECTURE != "GeneralizedRCNN"
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
    """The first FREEZE_AT stages are not trained."""
    node = cfg.MODEL.RESNETS
    body = getattr(resnet, f"resnet{node.DEPTH}")(weights=None, norm_layer=_NORMS[node.NORM])
    stages = (("conv1", "bn1"), ("layer1",), ("layer2",), ("layer3",), ("layer4",))
    for stage in stages[: cfg.MODEL.BACKBONE.FREEZE_AT]:
        for name in stage:
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


def _initialize_like_detectron2(network: nn.Module) -> None:
    """Box heads start small in Detectron2 (Girshick, "Fast R-CNN", section 2.3), so here too."""
    predictor = network.roi_heads.box_predictor
    nn.init.normal_(predictor.cls_score.weight, std=0.01)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.001)
    nn.init.zeros_(predictor.cls_score.bias)
    nn.init.zeros_(predictor.bbox_pred.bias)


class Anchors(AnchorGenerator):
    """In float32, whatever the type of the features that they are laid over."""

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """torchvision's, without the features' type."""
        super().set_cell_anchors(torch.float32, device)


def _anchors(cfg: Any, levels: int) -> Anchors:
    """One list of sizes and ratios a pyramid level; a single list of ratios serves all levels."""
    node = cfg.MODEL.ANCHOR_GENERATOR
    sizes, ratios = list(node.SIZES), list(node.ASPECT_RATIOS)
    ratios = ratios * levels if len(ratios) == 1 else ratios
    if len(sizes) != levels or len(ratios) != levels:
        raise InputError(f"MODEL.ANCHOR_GENERATOR: {len(sizes)} lists of SIZES and {len(ratios)} of "
                         f"ASPECT_RATIOS, expected one for each of {levels} levels")
    return Anchors(tuple(map(tuple, sizes)), tuple(map(tuple, ratios)))


def _pool(node: Any) -> MultiScaleRoIAlign:
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], node.POOLER_RESOLUTION,
                              node.POOLER_SAMPLING_RATIO)
    # Left to itself, torchvision guesses the strides from the first batch's padded size and keeps
    # the guess; for small images it is wrong, and differs between training and a reloaded model.
    pool.scales = [1 / stride for stride in (4, 8, 16, 32)]
    pool.map_levels = initLevelMapper(2, 5, canonical_scale=pool.canonical_scale,
                                      canonical_level=pool.canonical_level)
    return pool


def _fc_head(cfg: Any, channels: int) -> nn.Sequential:
    node = cfg.MODEL.ROI_BOX_HEAD
    if node.NUM_FC < 1:
        raise InputError(f"MODEL.ROI_BOX_HEAD.NUM_FC is {node.NUM_FC}: the torchvision engine takes "
                         "1 or more")
    width, layers = channels * node.POOLER_RESOLUTION**2, [nn.Flatten(1)]
    for _ in range(node.NUM_FC):
        layers += [nn.Linear(width, node.FC_DIM), nn.ReLU(inplace=True)]
        width = node.FC_DIM
    return nn.Sequential(*layers)


def _mask_rcnn(cfg: Any, backbone: nn.Module, options: dict[str, Any]) -> MaskRCNN:
    node = cfg.MODEL.ROI_MASK_HEAD
    return MaskRCNN(
        backbone, **options,
        mask_roi_pool=_pool(node),
        mask_head=MaskRCNNHeads(backbone.out_channels, (node.CONV_DIM,) * node.NUM_CONV, 1),
        mask_predictor=MaskRCNNPredictor(node.CONV_DIM, node.CONV_DIM, NUM_FINDINGS + 1),
    )


def set_sizes(network: Any, cfg: Any, training: bool, scale: float = 1.0) -> None:
    """Torchvision draws the training sizes but tests at the last of them; give it ours instead."""
    if training:
        sizes, longest = tuple(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN
    else:
        sizes = (round(cfg.INPUT.MIN_SIZE_TEST * scale),)
        longest = round(cfg.INPUT.MAX_SIZE_TEST * scale)
    network.transform.min_size, network.transform.max_size = sizes, longest
