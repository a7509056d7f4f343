"""One YAML schema for both engines: Detectron2's keys and the VINDR node.

For Detectron2 the defaults come from its own ``get_cfg()``. For torchvision they come from
:func:`torchvision_defaults`, which holds those of Detectron2's keys that torchvision's models can
honour, with Detectron2's default values; a test holds the two against each other. A YAML that sets
any other key is refused by the torchvision engine, never silently half obeyed.
"""

import difflib
import re
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from vindr_det.config_values import DETECTOR, above, refuse_values
from vindr_det.exceptions import InputError
from vindr_det.files import existing_file
from vindr_det.structures.label_sets import CLASS_NAMES, NUM_FINDINGS

ENGINES = ("detectron2", "torchvision")

#: What validation measures, higher being better.
METRICS = ("vindr/mAP40", "coco/AP", "coco/AP40", "coco/AP50", "coco/AP75",
           *(f"vindr/AP40/{name}" for name in CLASS_NAMES))

_CHOICES = {"OPTIMIZER": ("SGD", "AdamW"), "AMP_DTYPE": ("float16", "bfloat16")}

_SCHEDULERS = ("WarmupMultiStepLR", "WarmupCosineLR", "WarmupStepWithFixedGammaLR")


def vindr_node() -> dict[str, Any]:
    """Everything that this project adds to the schema."""
    return {
        # auto takes Detectron2 where it imports, else torchvision.
        "ENGINE": "auto",
        # Folder that holds train/, test/ and annotations/; see datasets/README.md.
        "DATA_ROOT": "datasets/vindr",
        # Scored during training; DATASETS.TEST is what predict.py turns into a submission.
        "VALIDATION": ("vindr_val_fold0",),
        # Longest side in pixels that every image is brought to (area average) before anything
        # else, in training and in prediction; 0 leaves images as they are.
        "IMAGE_SIZE": 1024,
        # False squeezes images into squares of IMAGE_SIZE.
        "KEEP_ASPECT": True,
        # Normal images in an epoch of the training for each abnormal one; others come in the next
        # epoch, so that all are seen. -1 takes all each time. Validation loss: the same ones each time.
        "NORMAL_RATIO": -1.0,
        # Boxes behind which fewer readers stand are not trained on.
        "MIN_READERS": 1,
        # Which of timm's networks, where MODEL.BACKBONE.NAME is build_timm_fpn_backbone or
        # build_retinanet_timm_fpn_backbone.
        "TIMM_MODEL": "",
        # SGD, or AdamW, with which transformers and ConvNeXt are trained.
        "OPTIMIZER": "SGD",
        # Type of half precision where SOLVER.AMP.ENABLED: float16 (a GPU) or bfloat16 (any).
        "AMP_DTYPE": "float16",
        # Images of findings on a smaller share of the images than this come oftener (LVIS's repeat
        # factor); 0 shows every image once a round.
        "REPEAT_THRESHOLD": 0.0,
        # Albumentations by name: [{name: HorizontalFlip, p: 0.5}, ...]; boxes follow.
        "AUGMENT": [],
        # Loss of the box head: a box that a share s of the readers drew weighs s to this power; 0
        # weighs all the same.
        "AGREEMENT_POWER": 0.0,
        # Focal loss of the box head (Lin et al., 2017); 0 is the plain cross entropy.
        "ROI_FOCAL_GAMMA": 0.0,
        # After augmentation, boxes with less of their area left than this are dropped.
        "MIN_VISIBILITY": 0.3,
        # model_best.pth is the checkpoint with the highest value of this metric.
        "BEST_METRIC": "vindr/mAP40",
        # Validations without a new best before training stops; 0 trains to the end.
        "PATIENCE": 0,
        # A batch is computed in so many parts, one after the other, where memory is short.
        "ACCUMULATE": 1,
        # The average of the weights that is validated and saved keeps so much at each step, such
        # as 0.999; 0 validates and saves the weights themselves.
        "EMA_DECAY": 0.0,
        # Checkpoints to resume from that are kept.
        "KEEP_CHECKPOINTS": 3,
    }


def torchvision_defaults() -> CfgNode:
    """Detectron2's keys that torchvision's models honour, at Detectron2's defaults, and VINDR."""
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


def defaults(engine: str) -> CfgNode:
    """The schema of one engine."""
    if engine == "detectron2":
        from vindr_det.detection.detectron2.config import get_vindr_cfg

        return get_vindr_cfg()
    return torchvision_defaults()


def requested_engine(path: str | Path, overrides: Sequence[str] = ()) -> str:
    """What a config and its overrides ask for: an engine's name or ``auto``."""
    node = _load_yaml(path).get("VINDR")
    wanted = node.get("ENGINE", "auto") if isinstance(node, dict) else "auto"
    for key, value in _pairs(overrides):
        wanted = value if key == "VINDR.ENGINE" else wanted
    return str(wanted)


def load_config(path: str | Path, engine: str, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a YAML file on top of an engine's defaults, then ``KEY VALUE`` overrides.

    Raises:
        InputError: names the file, the key, the value and what was expected.
    """
    cfg = defaults(engine)
    merge_yaml(cfg, path, f"{engine} engine")
    merge_overrides(cfg, overrides, f"{engine} engine")
    cfg.VINDR.ENGINE = engine
    check(cfg, str(path))
    return cfg


def config_from_text(text: str, engine: str, source: str) -> CfgNode:
    """The config that a checkpoint carries, as :func:`load_config` would give it."""
    cfg = defaults(engine)
    _merge(cfg, yaml.safe_load(text), f"{engine} engine", source)
    return cfg


def merge_yaml(cfg: CfgNode, path: str | Path, schema: str) -> None:
    """Put a YAML file (with ``_BASE_``) over a config; ``schema`` names it in errors."""
    _merge(cfg, _load_yaml(path), schema, str(path))


def merge_overrides(cfg: CfgNode, overrides: Sequence[str], schema: str) -> None:
    """Put ``KEY VALUE`` pairs over a config."""
    for key, value in _pairs(overrides):
        _override(cfg, key, value, schema)


def check(cfg: CfgNode, source: str) -> None:
    """Refuse values that could only fail later."""
    dense = cfg.MODEL.META_ARCHITECTURE in ("RetinaNet", "FCOS")
    part = "RETINANET" if dense else "ROI_HEADS"
    if cfg.MODEL[part].NUM_CLASSES != NUM_FINDINGS:
        raise InputError(f"{source}: MODEL.{part}.NUM_CLASSES is {cfg.MODEL[part].NUM_CLASSES}, "
                         f"expected {NUM_FINDINGS} (the findings)")
    if cfg.VINDR.BEST_METRIC not in METRICS:
        raise InputError(f"{source}: VINDR.BEST_METRIC is {cfg.VINDR.BEST_METRIC!r}, expected one of "
                         f"{', '.join(METRICS)}")
    for key, choices in _CHOICES.items():
        if cfg.VINDR[key] not in choices:
            raise InputError(f"{source}: VINDR.{key} is {cfg.VINDR[key]!r}, expected {' or '.join(choices)}")
    refuse_values(cfg, DETECTOR, source)
    if cfg.VINDR.ENGINE == "torchvision":
        refuse_values(cfg, {"INPUT.MIN_SIZE_TEST": above(0)}, source)
    if not re.fullmatch(r"cpu|cuda(:\d+)?", cfg.MODEL.DEVICE):
        raise InputError(f"{source}: MODEL.DEVICE is {cfg.MODEL.DEVICE!r}, expected cpu, cuda or cuda:<n>")
    _check_schedule(cfg.SOLVER, source)


def _check_schedule(solver: Any, source: str) -> None:
    """Steps beyond MAX_ITER never come; Detectron2 says so."""
    if solver.LR_SCHEDULER_NAME not in _SCHEDULERS:
        raise InputError(f"{source}: SOLVER.LR_SCHEDULER_NAME is {solver.LR_SCHEDULER_NAME!r}, expected "
                         f"{' or '.join(_SCHEDULERS)}")
    steps = tuple(solver.STEPS)
    ascending = all(first < second for first, second in zip((0, *steps), steps, strict=False))
    if solver.LR_SCHEDULER_NAME == "WarmupMultiStepLR" and (not ascending or solver.MAX_ITER in steps):
        raise InputError(f"{source}: SOLVER.STEPS is {steps}, expected ascending iterations from 1 on, none "
                         f"of them SOLVER.MAX_ITER ({solver.MAX_ITER})")


def _load_yaml(path: str | Path) -> dict[str, Any]:
    existing_file(path)
    try:
        data = CfgNode.load_yaml_with_base(str(path))
    except RecursionError as error:
        raise InputError(f"{path}: its _BASE_ leads back to itself") from error
    except (yaml.YAMLError, TypeError, AttributeError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not valid YAML ({' '.join(str(error).split())})") from error
    except FileNotFoundError as error:
        raise InputError(f"{path}: its _BASE_ {error.filename} does not exist") from error
    if not isinstance(data or {}, dict):
        raise InputError(f"{path}: holds a {type(data).__name__}, expected keys and their values")
    return data or {}


def _pairs(overrides: Sequence[str]) -> Iterator[tuple[str, str]]:
    if len(overrides) % 2:
        raise InputError(f"overrides {' '.join(overrides)!r}: expected KEY VALUE pairs")
    return zip(overrides[::2], overrides[1::2], strict=True)


def _override(cfg: CfgNode, key: str, value: str, schema: str) -> None:
    if key not in set(_keys(cfg)):
        raise InputError(unknown_key("command line", key, cfg, schema))
    node = cfg
    for part in key.split("."):
        node = node[part]
    if isinstance(node, float) and re.fullmatch(r"[-+]?\d+", value):
        value += ".0"  # a whole number is a number too
    try:
        cfg.merge_from_list([key, value])
    except (ValueError, AssertionError) as error:
        raise InputError(f"command line: {key} cannot be {value!r} ({error})") from error


def _merge(cfg: CfgNode, data: dict[str, Any], schema: str, source: str) -> None:
    known = set(_keys(cfg))
    for key in _keys(data):
        if key not in known:
            raise InputError(unknown_key(source, key, cfg, schema))
    _whole_to_float(cfg, data)
    try:
        cfg.merge_from_other_cfg(type(cfg)(data))
    except (ValueError, AssertionError, KeyError) as error:
        raise InputError(f"{source}: {error}") from error


def _whole_to_float(cfg: Any, data: dict[str, Any]) -> None:
    """YAML's 1 where the schema has 1.0; the config library would refuse it."""
    for key, value in data.items():
        if isinstance(value, dict):
            _whole_to_float(cfg[key], value)
        elif isinstance(cfg[key], float) and type(value) is int:
            data[key] = float(value)


def leaves(node: Any, prefix: str = "") -> Iterator[tuple[str, Any]]:
    """Full names of the leaves, and their values."""
    for key, value in node.items():
        if isinstance(value, dict):
            yield from leaves(value, f"{prefix}{key}.")
        else:
            yield f"{prefix}{key}", value


def _keys(node: Any) -> Iterator[str]:
    return (key for key, _ in leaves(node))


def unknown_key(source: str, key: str, cfg: CfgNode, schema: str) -> str:
    """The line that tells what is wrong with a key."""
    near = difflib.get_close_matches(key, list(_keys(cfg)), n=1)
    hint = f"; did you mean {near[0]}?" if near else ""
    return f"{source}: key {key} does not exist for the {schema}{hint}"
