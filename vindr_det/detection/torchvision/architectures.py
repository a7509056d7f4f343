"""torchvision's detectors by MODEL.META_ARCHITECTURE: how each is built, and which keys it honors.

To add an architecture, write a function that builds it and an entry of :data:`ARCHITECTURES`. A value that
torchvision cannot honor is listed under ``fixed``, so that it is refused and not silently ignored. Its losses
leave out what is unknown on an image (:mod:`vindr_det.detection.torchvision.incomplete`). If the
number of classes is under another key than MODEL.ROI_HEADS.NUM_CLASSES,
:data:`vindr_det.config_schema.CLASSES_UNDER` names it.
"""

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

import torch
from torch import nn
from torchvision.models.detection import FCOS, FasterRCNN, MaskRCNN, RetinaNet
from torchvision.models.detection.anchor_utils import AnchorGenerator
from torchvision.models.detection.faster_rcnn import FastRCNNPredictor
from torchvision.models.detection.mask_rcnn import MaskRCNNHeads, MaskRCNNPredictor
from torchvision.ops import MultiScaleRoIAlign
from torchvision.ops.poolers import initLevelMapper

from vindr_det.detection import roi_losses
from vindr_det.detection.torchvision.backbone import build_backbone
from vindr_det.detection.torchvision.roi_heads import WeightedRoIHeads
from vindr_det.exceptions import InputError
from vindr_det.training import timm_backbone

Options = dict[str, Any]


@dataclass(frozen=True)
class Architecture:
    """One of torchvision's detectors.

    Attributes:
        build: a config, and torchvision's options for sizes and normalization, to a network with random
            weights. The network takes (3, H, W) float images, 0..255.
        heads: a network's last modules before boxes are made; their outputs are kept in float32.
        first_label: what it calls class 0: 1 where 0 is the background.
        backbones: names of MODEL.BACKBONE.NAME that it takes.
        nodes: the nodes of MODEL that only this architecture reads, at Detectron2's defaults.
        fixed: key -> the one value that torchvision can honor, of keys that Detectron2 takes others for.
    """

    build: Callable[[Any, Options], nn.Module]
    heads: Callable[[Any], list[nn.Module]]
    first_label: int
    backbones: tuple[str, ...]
    nodes: Mapping[str, Mapping[str, Any]]
    fixed: Mapping[str, Any]


def build_rcnn(cfg: Any, options: Options) -> FasterRCNN:
    """Faster R-CNN (Ren et al., 2015), or Mask R-CNN (He et al., 2017) where MODEL.MASK_ON."""
    backbone = build_backbone(cfg, dense=False)
    options = options | _rpn_options(cfg) | _box_options(cfg, backbone.out_channels)
    if cfg.MODEL.MASK_ON:
        network: FasterRCNN = MaskRCNN(backbone, **options, **_mask_options(cfg, backbone.out_channels))
    else:
        network = FasterRCNN(backbone, **options)
    _initialize_like_detectron2(network.roi_heads.box_predictor)
    if roi_losses.wanted(cfg):
        network.roi_heads = WeightedRoIHeads(cfg.VINDR.ROI_FOCAL_GAMMA, network.roi_heads)
    return network


def _rpn_options(cfg: Any) -> Options:
    rpn = cfg.MODEL.RPN
    return {
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
    }


def _box_options(cfg: Any, channels: int) -> Options:
    heads, box_head = cfg.MODEL.ROI_HEADS, cfg.MODEL.ROI_BOX_HEAD
    return {
        "box_roi_pool": _pool(box_head),
        "box_head": _fc_head(box_head, channels),
        "box_predictor": FastRCNNPredictor(box_head.FC_DIM, heads.NUM_CLASSES + 1),
        "box_score_thresh": heads.SCORE_THRESH_TEST,
        "box_nms_thresh": heads.NMS_THRESH_TEST,
        "box_detections_per_img": cfg.TEST.DETECTIONS_PER_IMAGE,
        "box_fg_iou_thresh": heads.IOU_THRESHOLDS[0],
        "box_bg_iou_thresh": heads.IOU_THRESHOLDS[0],
        "box_batch_size_per_image": heads.BATCH_SIZE_PER_IMAGE,
        "box_positive_fraction": heads.POSITIVE_FRACTION,
        "bbox_reg_weights": tuple(box_head.BBOX_REG_WEIGHTS),
    }


def _mask_options(cfg: Any, channels: int) -> Options:
    node = cfg.MODEL.ROI_MASK_HEAD
    return {
        "mask_roi_pool": _pool(node),
        "mask_head": MaskRCNNHeads(channels, (node.CONV_DIM,) * node.NUM_CONV, 1),
        "mask_predictor": MaskRCNNPredictor(node.CONV_DIM, node.CONV_DIM,
                                            cfg.MODEL.ROI_HEADS.NUM_CLASSES + 1),
    }


def _pool(node: Any) -> MultiScaleRoIAlign:
    pool = MultiScaleRoIAlign(["0", "1", "2", "3"], node.POOLER_RESOLUTION, node.POOLER_SAMPLING_RATIO)
    # Left to itself, torchvision guesses the strides from the first batch's padded size and keeps
    # the guess; for small images it is wrong, and differs between training and a reloaded model.
    pool.scales = [1 / stride for stride in (4, 8, 16, 32)]
    pool.map_levels = initLevelMapper(2, 5, canonical_scale=pool.canonical_scale,
                                      canonical_level=pool.canonical_level)
    return pool


def _fc_head(node: Any, channels: int) -> nn.Sequential:
    if node.NUM_FC < 1:
        raise InputError(f"MODEL.ROI_BOX_HEAD.NUM_FC is {node.NUM_FC}: the torchvision engine takes 1 "
                         "or more")
    width, layers = channels * node.POOLER_RESOLUTION**2, [nn.Flatten(1)]
    for _ in range(node.NUM_FC):
        layers += [nn.Linear(width, node.FC_DIM), nn.ReLU(inplace=True)]
        width = node.FC_DIM
    return nn.Sequential(*layers)


def _initialize_like_detectron2(predictor: FastRCNNPredictor) -> None:
    """Box heads start small in Detectron2 (Girshick, "Fast R-CNN", section 2.3), so here too."""
    nn.init.normal_(predictor.cls_score.weight, std=0.01)
    nn.init.normal_(predictor.bbox_pred.weight, std=0.001)
    nn.init.zeros_(predictor.cls_score.bias)
    nn.init.zeros_(predictor.bbox_pred.bias)


def _rcnn_heads(network: FasterRCNN) -> list[nn.Module]:
    heads = [network.rpn.head, network.roi_heads.box_predictor, network.roi_heads.mask_predictor]
    return [head for head in heads if head is not None]


def build_retinanet(cfg: Any, options: Options) -> RetinaNet:
    """Lin et al., "Focal loss for dense object detection", 2017."""
    node = cfg.MODEL.RETINANET
    return RetinaNet(
        build_backbone(cfg, dense=True), node.NUM_CLASSES, **options, **_dense_options(cfg),
        anchor_generator=_anchors(cfg, len(node.IN_FEATURES)),
        bg_iou_thresh=node.IOU_THRESHOLDS[0], fg_iou_thresh=node.IOU_THRESHOLDS[1],
    )


def build_fcos(cfg: Any, options: Options) -> FCOS:
    """Tian et al., "FCOS", 2019; needs no anchors."""
    centers = Anchors(tuple((8 * 2**level,) for level in range(5)), ((1.0,),) * 5)  # as torchvision has them
    return FCOS(build_backbone(cfg, dense=True), cfg.MODEL.RETINANET.NUM_CLASSES, **options,
                **_dense_options(cfg), anchor_generator=centers)


def _dense_options(cfg: Any) -> Options:
    node = cfg.MODEL.RETINANET
    return {"score_thresh": node.SCORE_THRESH_TEST, "nms_thresh": node.NMS_THRESH_TEST,
            "topk_candidates": node.TOPK_CANDIDATES_TEST,
            "detections_per_img": cfg.TEST.DETECTIONS_PER_IMAGE}


class Anchors(AnchorGenerator):
    """In float32, whatever the type of the features that they are laid over."""

    def set_cell_anchors(self, dtype: torch.dtype, device: torch.device) -> None:
        """torchvision's, without the features' type."""
        super().set_cell_anchors(torch.float32, device)


def _anchors(cfg: Any, levels: int) -> Anchors:
    """A list of sizes and of ratios per pyramid level; a single list of ratios serves all levels."""
    node = cfg.MODEL.ANCHOR_GENERATOR
    sizes, ratios = list(node.SIZES), list(node.ASPECT_RATIOS)
    ratios = ratios * levels if len(ratios) == 1 else ratios
    if len(sizes) != levels or len(ratios) != levels:
        raise InputError(f"MODEL.ANCHOR_GENERATOR: {len(sizes)} lists of SIZES and {len(ratios)} of "
                         f"ASPECT_RATIOS, expected one for each of {levels} levels")
    return Anchors(tuple(map(tuple, sizes)), tuple(map(tuple, ratios)))


_R_CNN = Architecture(
    build=build_rcnn, heads=_rcnn_heads, first_label=1,
    backbones=("build_resnet_fpn_backbone", timm_backbone.R_CNN),
    nodes={
        "PROPOSAL_GENERATOR": {"NAME": "RPN"},
        "RPN": {
            "IN_FEATURES": ["res4"], "IOU_THRESHOLDS": [0.3, 0.7], "BATCH_SIZE_PER_IMAGE": 256,
            "POSITIVE_FRACTION": 0.5, "NMS_THRESH": 0.7, "PRE_NMS_TOPK_TRAIN": 12000,
            "PRE_NMS_TOPK_TEST": 6000, "POST_NMS_TOPK_TRAIN": 2000, "POST_NMS_TOPK_TEST": 1000,
        },
        "ROI_HEADS": {
            "NAME": "Res5ROIHeads", "NUM_CLASSES": 80, "IN_FEATURES": ["res4"],
            "IOU_THRESHOLDS": [0.5], "BATCH_SIZE_PER_IMAGE": 512, "POSITIVE_FRACTION": 0.25,
            "SCORE_THRESH_TEST": 0.05, "NMS_THRESH_TEST": 0.5,
        },
        "ROI_BOX_HEAD": {
            "NAME": "", "NUM_FC": 0, "FC_DIM": 1024, "POOLER_RESOLUTION": 14,
            "POOLER_SAMPLING_RATIO": 0, "BBOX_REG_WEIGHTS": (10.0, 10.0, 5.0, 5.0),
        },
        "ROI_MASK_HEAD": {
            "NAME": "MaskRCNNConvUpsampleHead", "NUM_CONV": 0, "CONV_DIM": 256,
            "POOLER_RESOLUTION": 14, "POOLER_SAMPLING_RATIO": 0,
        },
    },
    fixed={
        "MODEL.PROPOSAL_GENERATOR.NAME": "RPN",
        "MODEL.ROI_HEADS.NAME": "StandardROIHeads",
        "MODEL.ROI_BOX_HEAD.NAME": "FastRCNNConvFCHead",
        "MODEL.ROI_MASK_HEAD.NAME": "MaskRCNNConvUpsampleHead",
        "MODEL.RESNETS.OUT_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.FPN.IN_FEATURES": ["res2", "res3", "res4", "res5"],
        "MODEL.RPN.IN_FEATURES": ["p2", "p3", "p4", "p5", "p6"],
        "MODEL.ROI_HEADS.IN_FEATURES": ["p2", "p3", "p4", "p5"],
    },
)
_DENSE: dict[str, Any] = {
    "heads": lambda network: [network.head],
    "first_label": 0,
    "backbones": ("build_retinanet_resnet_fpn_backbone", timm_backbone.DENSE),
    "nodes": {
        "RETINANET": {
            "NUM_CLASSES": 80, "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"], "NUM_CONVS": 4,
            "IOU_THRESHOLDS": [0.4, 0.5], "IOU_LABELS": [0, -1, 1], "PRIOR_PROB": 0.01,
            "SCORE_THRESH_TEST": 0.05, "TOPK_CANDIDATES_TEST": 1000, "NMS_THRESH_TEST": 0.5,
            "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0), "FOCAL_LOSS_GAMMA": 2.0,
            "FOCAL_LOSS_ALPHA": 0.25, "SMOOTH_L1_LOSS_BETA": 0.1, "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "NORM": "",
        },
    },
    "fixed": {
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
    },
}

#: MODEL.META_ARCHITECTURE -> what torchvision has under that name.
ARCHITECTURES: dict[str, Architecture] = {
    "GeneralizedRCNN": _R_CNN,
    "RetinaNet": Architecture(build=build_retinanet, **_DENSE),
    "FCOS": Architecture(build=build_fcos, **_DENSE),
}
