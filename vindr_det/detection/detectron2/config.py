"""Detectron2's config with the VINDR node, and Detectron2's keys that our parts cannot honor.

A value that a part cannot honor is an error that names the key; it is never silently ignored. Every other key
is read by Detectron2's own code or by ours, which a test checks.
"""

from collections.abc import Mapping
from typing import Any

from detectron2.config import CfgNode, get_cfg

from vindr_det import config
from vindr_det.config_schema import vindr_node
from vindr_det.detection.detectron2 import architectures
from vindr_det.detection.detectron2.checkpointer import register_weights
from vindr_det.exceptions import InputError
from vindr_det.training.schedule import SCHEDULES

#: Key -> (the values that a part honors, what to do instead).
Honored = Mapping[str, tuple[tuple[Any, ...], str]]

#: What a mapper reads.
MAPPER: Honored = {
    "INPUT.CROP.ENABLED": ((False,), "crop with VINDR.AUGMENT"),
    "INPUT.FORMAT": (("BGR", "RGB"), "images are gray, in three equal channels"),
    "INPUT.MASK_FORMAT": (("polygon",), "masks are made of boxes"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": (("choice", "range"), ""),
    "INPUT.RANDOM_FLIP": (("horizontal", "vertical", "none"), ""),
    "MODEL.KEYPOINT_ON": ((False,), "findings have boxes alone"),
    "MODEL.LOAD_PROPOSALS": ((False,), "findings have boxes alone"),
}
#: What a trainer and its data loader read.
TRAINER: Honored = {
    "DATALOADER.ASPECT_RATIO_GROUPING": ((False,), "batches follow the order of the seed"),
    "DATALOADER.REPEAT_SQRT": ((True,), "see VINDR.REPEAT_THRESHOLD"),
    "DATALOADER.REPEAT_THRESHOLD": ((0.0,), "see VINDR.REPEAT_THRESHOLD"),
    "DATALOADER.SAMPLER_TRAIN": (("TrainingSampler",), "see VINDR.REPEAT_THRESHOLD and NORMAL_RATIO"),
    "DATASETS.PROPOSAL_FILES_TEST": (((),), "proposals come from the model"),
    "DATASETS.PROPOSAL_FILES_TRAIN": (((),), "proposals come from the model"),
    "FLOAT32_PRECISION": (("", "highest", "high", "medium"), ""),
    "GLOBAL.HACK": ((1.0,), ""),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": (("value", "norm", "full_model"), ""),
    "SOLVER.LR_SCHEDULER_NAME": (tuple(SCHEDULES),
                                 "WarmupStepWithFixedGammaLR fails at Detectron2's last iteration"),
    "TEST.AUG.ENABLED": ((False,), "vindr-det predict has --tta"),
    "TEST.EXPECTED_RESULTS": (((),), ""),
    "TEST.KEYPOINT_OKS_SIGMAS": (((),), "findings have boxes alone"),
    "TEST.PRECISE_BN.ENABLED": ((False,), ""),
}


def add_vindr_config(cfg: Any) -> None:
    """Add ``cfg.VINDR``, and register the backbones and ImageNet weights that our configs name.

    No other key is changed.
    """
    register()
    cfg.VINDR = CfgNode(vindr_node())


def register() -> None:
    """Make the backbones and ImageNet weights that our configs name known to Detectron2, in this process."""
    architectures.register_parts()
    register_weights()


def follow_label_set(cfg: Any) -> None:
    """Set NUM_CLASSES and VINDR.BEST_METRIC, where they are VinBigData's, to those of the config's label set.

    Raises:
        InputError: unknown findings, or another NUM_CLASSES or BEST_METRIC than theirs.
    """
    config.follow_label_set(cfg)
    config.check_label_set(cfg, "config")


def get_vindr_cfg() -> Any:
    """Detectron2's defaults and the VINDR node, for :class:`VindrTrainer`."""
    cfg = get_cfg()
    add_vindr_config(cfg)
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False  # batches follow the order of the seed
    return cfg


def check_mapper(cfg: Any) -> None:
    """Refuse values that :class:`VindrMapper` would ignore.

    Raises:
        InputError: names the key, its value and what was expected.
    """
    _check(cfg, MAPPER)


def check_trainer(cfg: Any) -> None:
    """Refuse values that :class:`VindrTrainer` or its model would ignore, or fail at later.

    Raises:
        InputError: names the key, its value and what was expected.
    """
    _check(cfg, {**MAPPER, **TRAINER, **architectures.HONORED})
    for key, parts in architectures.WITHOUT_BOXES.items():
        if _value(cfg, key) in parts:
            raise InputError(f"{key} is {_value(cfg, key)!r}: expected a part that returns boxes of findings")


def _check(cfg: Any, honored: Honored) -> None:
    for key, (allowed, instead) in honored.items():
        value = _value(cfg, key)
        if (tuple(value) if isinstance(value, (list, tuple)) else value) not in allowed:
            choices = " or ".join(map(repr, allowed))
            raise InputError(f"{key} is {value!r}: expected {choices}{'; ' if instead else ''}{instead}")


def _value(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
