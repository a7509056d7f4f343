"""Detectron2's keys that our parts cannot honor: an error that names the key, never silently half obeyed.

Every other key is read by Detectron2's own code or by ours; a test holds that none is left out.
"""

from collections.abc import Mapping
from typing import Any

from vindr_det.exceptions import InputError

#: key -> (the values that the part takes, what to do instead)
Rows = Mapping[str, tuple[tuple[Any, ...], str]]

#: What a mapper would have to do.
MAPPER: Rows = {
    "INPUT.CROP.ENABLED": ((False,), "crop with VINDR.AUGMENT"),
    "INPUT.FORMAT": (("BGR", "RGB"), "images are gray, in three equal channels"),
    "INPUT.MASK_FORMAT": (("polygon",), "masks are made of boxes"),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": (("choice", "range"), ""),
    "INPUT.RANDOM_FLIP": (("horizontal", "vertical", "none"), ""),
    "MODEL.KEYPOINT_ON": ((False,), "findings have boxes alone"),
    "MODEL.LOAD_PROPOSALS": ((False,), "findings have boxes alone"),
}
#: What a trainer and its data loader would have to do.
TRAINER: Rows = {
    "DATALOADER.ASPECT_RATIO_GROUPING": ((False,), "batches follow the order of the seed"),
    "DATALOADER.REPEAT_SQRT": ((True,), "see VINDR.REPEAT_THRESHOLD"),
    "DATALOADER.REPEAT_THRESHOLD": ((0.0,), "see VINDR.REPEAT_THRESHOLD"),
    "DATALOADER.SAMPLER_TRAIN": (("TrainingSampler",), "see VINDR.REPEAT_THRESHOLD and NORMAL_RATIO"),
    "DATASETS.PROPOSAL_FILES_TEST": (((),), "proposals come from the model"),
    "DATASETS.PROPOSAL_FILES_TRAIN": (((),), "proposals come from the model"),
    "FLOAT32_PRECISION": (("", "highest", "high", "medium"), ""),
    "GLOBAL.HACK": ((1.0,), ""),
    "MODEL.ROI_BOX_HEAD.USE_FED_LOSS": ((False,), "the data sets do not count images of a class"),
    "SOLVER.CLIP_GRADIENTS.CLIP_TYPE": (("value", "norm", "full_model"), ""),
    "SOLVER.LR_SCHEDULER_NAME": (("WarmupMultiStepLR", "WarmupCosineLR"),
                                 "WarmupStepWithFixedGammaLR fails at Detectron2's last iteration"),
    "TEST.AUG.ENABLED": ((False,), "tools/predict.py has --tta"),
    "TEST.EXPECTED_RESULTS": (((),), ""),
    "TEST.KEYPOINT_OKS_SIGMAS": (((),), "findings have boxes alone"),
    "TEST.PRECISE_BN.ENABLED": ((False,), ""),
}
#: Parts of Detectron2 that want or give something else than boxes.
_OTHER_PARTS = {
    "MODEL.META_ARCHITECTURE": ("PanopticFPN", "ProposalNetwork", "SemanticSegmentor"),
    "MODEL.PROPOSAL_GENERATOR.NAME": ("PrecomputedProposals", "RRPN"),
    "MODEL.ANCHOR_GENERATOR.NAME": ("RotatedAnchorGenerator",),
    "MODEL.ROI_HEADS.NAME": ("RROIHeads",),
}


def check_mapper(cfg: Any) -> None:
    """Refuse what :class:`VindrMapper` would ignore.

    Raises:
        InputError: names the key, its value and what was expected.
    """
    _check(cfg, MAPPER)


def check_trainer(cfg: Any) -> None:
    """Refuse what :class:`VindrTrainer` would ignore, or could only fail at later.

    Raises:
        InputError: names the key, its value and what was expected.
    """
    _check(cfg, {**MAPPER, **TRAINER})
    for key, names in _OTHER_PARTS.items():
        if _value(cfg, key) in names:
            raise InputError(f"{key} is {_value(cfg, key)!r}: expected a part that gives boxes of findings")


def _check(cfg: Any, rows: Rows) -> None:
    for key, (allowed, instead) in rows.items():
        value = _value(cfg, key)
        if (tuple(value) if isinstance(value, (list, tuple)) else value) not in allowed:
            choices = " or ".join(repr(one) for one in allowed)
            raise InputError(f"{key} is {value!r}: expected {choices}{'; ' if instead else ''}{instead}")


def _value(cfg: Any, key: str) -> Any:
    for part in key.split("."):
        cfg = cfg[part]
    return cfg
