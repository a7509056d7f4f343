"""The keys of Detectron2 that the torchvision engine honors, at Detectron2's defaults; a test compares them.

A YAML that sets any other key is refused, so that no key is silently ignored.
"""

from typing import Any

from fvcore.common.config import CfgNode

from vindr_det.config_schema import vindr_node
from vindr_det.detection.torchvision.architectures import ARCHITECTURES


def get_torchvision_cfg() -> CfgNode:
    """Every key that this engine honors, and the node VINDR."""
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
    """The nodes that all architectures read, and those that each reads in addition."""
    model: dict[str, Any] = {
        "DEVICE": "cuda", "META_ARCHITECTURE": "GeneralizedRCNN", "WEIGHTS": "", "MASK_ON": False,
        "PIXEL_MEAN": [103.53, 116.28, 123.675], "PIXEL_STD": [1.0, 1.0, 1.0],
        "BACKBONE": {"NAME": "build_resnet_backbone", "FREEZE_AT": 2},
        "RESNETS": {"DEPTH": 50, "NORM": "FrozenBN", "OUT_FEATURES": ["res4"],
                    "RES2_OUT_CHANNELS": 256, "STRIDE_IN_1X1": True},
        "FPN": {"IN_FEATURES": [], "OUT_CHANNELS": 256},
        "ANCHOR_GENERATOR": {"SIZES": [[32, 64, 128, 256, 512]],
                             "ASPECT_RATIOS": [[0.5, 1.0, 2.0]]},
    }
    for architecture in ARCHITECTURES.values():
        model |= architecture.nodes
    return model
