"""Those of Detectron2's keys that torchvision's models honor, at Detectron2's defaults; a test compares them.

A YAML that sets any other key is refused by this engine, never silently half obeyed.
"""

from typing import Any

from fvcore.common.config import CfgNode

from vindr_det.config_schema import vindr_node


def get_torchvision_cfg() -> CfgNode:
    """Detectron2's keys that torchvision's models honor, at Detectron2's defaults, and VINDR."""
    return CfgNode({
        "VERSION": 2,
        "OUTPUT_DIR": "./output",
        "SEED": -1,
        "CUDNN_BENCHMARK": False,
        "MODEL": _model_defaults(),
        "INPUT": {
            "MIN_SIZE_TRAIN": (800,), "MAX_SIZE_TRAIN": 1333, "MIN_SIZE_TRAIN_SAMPLING": "choice",
            "MIN_SIZE_TEST": 800, "MAX_SIZE_TEST": 1333, "FORMAT": "BGR",
            "RANDOM_FLIP": "horizontal",
        },
        "DATASETS": {"TRAIN": (), "TEST": ()},
        "DATALOADER": {"NUM_WORKERS": 4, "FILTER_EMPTY_ANNOTATIONS": True},
        "SOLVER": {
            "LR_SCHEDULER_NAME": "WarmupMultiStepLR", "MAX_ITER": 40000, "BASE_LR": 0.001,
            "BASE_LR_END": 0.0, "MOMENTUM": 0.9, "NESTEROV": False, "WEIGHT_DECAY": 0.0001,
            "WEIGHT_DECAY_NORM": 0.0, "GAMMA": 0.1, "STEPS": (30000,), "WARMUP_FACTOR": 0.001,
            "WARMUP_ITERS": 1000, "WARMUP_METHOD": "linear", "CHECKPOINT_PERIOD": 5000,
            "IMS_PER_BATCH": 16, "AMP": {"ENABLED": False},
            "CLIP_GRADIENTS": {"ENABLED": False, "CLIP_TYPE": "value", "CLIP_VALUE": 1.0,
                               "NORM_TYPE": 2.0},
        },
        "TEST": {"EVAL_PERIOD": 0, "DETECTIONS_PER_IMAGE": 100},
        "VINDR": vindr_node(),
    })


def _model_defaults() -> dict[str, Any]:
    return {
        "DEVICE": "cuda", "META_ARCHITECTURE": "GeneralizedRCNN", "WEIGHTS": "", "MASK_ON": False,
        "PIXEL_MEAN": [103.53, 116.28, 123.675], "PIXEL_STD": [1.0, 1.0, 1.0],
        "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2},
        "RESNETS": {"DEPTH": 50, "NORM": "FrozenBN", "OUT_FEATURES": ["res4"],
                    "RES2_OUT_CHANNELS": 256, "STRIDE_IN_1X1": True},
        "FPN": {"IN_FEATURES": [], "OUT_CHANNELS": 256},
        "PROPOSAL_GENERATOR": {"NAME": "RPN"},
        "ANCHOR_GENERATOR": {"SIZES": [[32, 64, 128, 256, 512]],
                             "ASPECT_RATIOS": [[0.5, 1.0, 2.0]]},
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
        "RETINANET": {
            "NUM_CLASSES": 80, "IN_FEATURES": ["p3", "p4", "p5", "p6", "p7"], "NUM_CONVS": 4,
            "IOU_THRESHOLDS": [0.4, 0.5], "IOU_LABELS": [0, -1, 1], "PRIOR_PROB": 0.01,
            "SCORE_THRESH_TEST": 0.05, "TOPK_CANDIDATES_TEST": 1000, "NMS_THRESH_TEST": 0.5,
            "BBOX_REG_WEIGHTS": (1.0, 1.0, 1.0, 1.0), "FOCAL_LOSS_GAMMA": 2.0,
            "FOCAL_LOSS_ALPHA": 0.25, "SMOOTH_L1_LOSS_BETA": 0.1, "BBOX_REG_LOSS_TYPE": "smooth_l1",
            "NORM": "",
        },
        "ROI_MASK_HEAD": {
            "NAME": "MaskRCNNConvUpsampleHead", "NUM_CONV": 0, "CONV_DIM": 256,
            "POOLER_RESOLUTION": 14, "POOLER_SAMPLING_RATIO": 0,
        },
    }
