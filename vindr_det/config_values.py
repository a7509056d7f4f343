"""What values the keys of a config may take: a check each, and in words what it expects."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from fvcore.common.config import CfgNode

from vindr_det.exceptions import InputError

Check = tuple[Callable[[Any], bool], str]


def above(low: float) -> Check:
    """Numbers larger than that."""
    return lambda value: low < value < math.inf, f"more than {low:g}"


def at_least(low: float) -> Check:
    """Numbers of that size or larger."""
    return lambda value: low <= value < math.inf, f"{low:g} or more"


def one_of(*choices: Any) -> Check:
    """One of a few values."""
    return lambda value: value in choices, " or ".join(map(str, choices))


SHARE: Check = (lambda value: 0 <= value <= 1, "0 to 1")
PART: Check = (lambda value: 0 <= value < 1, "0 to below 1")
FOLDER: Check = (lambda value: bool(value.strip()), "a folder")


def refuse_values(cfg: CfgNode, checks: Mapping[str, Check], source: str) -> None:
    """Hold the values of a config against their checks; keys that its schema lacks are passed over.

    Raises:
        InputError: names the source, the key, the value and what was expected.
    """
    for key, (holds, expected) in checks.items():
        value = value_of(cfg, key)
        if value is not None and not _holds(holds, value):
            raise InputError(f"{source}: {key} is {value!r}, expected {expected}")


def _holds(check: Callable[[Any], bool], value: Any) -> bool:
    try:
        return check(value)
    except TypeError:  # a text among numbers, say
        return False


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value of a key such as ``SOLVER.BASE_LR``; None where there is no such key."""
    node: Any = cfg
    for part in key.split("."):
        if part not in node:
            return None
        node = node[part]
    return node


def _sizes(value: Any) -> bool:
    """One or several lengths in pixels."""
    return bool(value) and all(one > 0 for one in (value if isinstance(value, tuple | list) else (value,)))


def _thresholds(count: int) -> Check:
    def holds(value: Any) -> bool:
        return len(value) == count and all(0 <= one <= 1 for one in value) and list(value) == sorted(value)

    return holds, f"{count} ascending number{'s' * (count > 1)} of 0 to 1"


_THREE: Check = (lambda value: len(value) == 3 and all(math.isfinite(one) for one in value), "three numbers")
#: Of detectors, where a wrong value could only fail later, or would be taken without a word.
DETECTOR: Mapping[str, Check] = {
    **dict.fromkeys(("SOLVER.MAX_ITER", "SOLVER.IMS_PER_BATCH", "SOLVER.BASE_LR", "SOLVER.CHECKPOINT_PERIOD",
                     "SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "VINDR.MIN_READERS", "VINDR.ACCUMULATE",
                     "VINDR.KEEP_CHECKPOINTS", "MODEL.FPN.OUT_CHANNELS",
                     "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION",
                     "MODEL.ROI_MASK_HEAD.POOLER_RESOLUTION"), above(0)),
    **dict.fromkeys(("SOLVER.WEIGHT_DECAY", "SOLVER.WARMUP_ITERS", "SOLVER.BASE_LR_END", "VINDR.IMAGE_SIZE",
                     "VINDR.REPEAT_THRESHOLD", "DATALOADER.NUM_WORKERS", "INPUT.MIN_SIZE_TEST"), at_least(0)),
    **dict.fromkeys(("MODEL.ROI_HEADS.NMS_THRESH_TEST", "MODEL.ROI_HEADS.SCORE_THRESH_TEST",
                     "MODEL.RPN.NMS_THRESH", "MODEL.RETINANET.NMS_THRESH_TEST",
                     "MODEL.RETINANET.SCORE_THRESH_TEST", "VINDR.MIN_VISIBILITY"), SHARE),
    "SOLVER.MOMENTUM": PART, "VINDR.EMA_DECAY": PART, "OUTPUT_DIR": FOLDER,
    "SOLVER.WARMUP_METHOD": one_of("linear", "constant"),
    "SOLVER.STEPS": (lambda value: all(isinstance(one, int) for one in value), "iterations"),
    "MODEL.RESNETS.DEPTH": one_of(18, 34, 50, 101, 152),
    "MODEL.BACKBONE.FREEZE_AT": (lambda value: 0 <= value <= 5, "0 to 5"),
    "MODEL.PIXEL_MEAN": _THREE, "MODEL.PIXEL_STD": _THREE,
    "MODEL.RPN.IOU_THRESHOLDS": _thresholds(2), "MODEL.RETINANET.IOU_THRESHOLDS": _thresholds(2),
    "MODEL.ROI_HEADS.IOU_THRESHOLDS": _thresholds(1),
    "INPUT.MIN_SIZE_TRAIN": (_sizes, "one or several lengths in pixels"),
    # -1 draws one; random generators take 32 bits.
    "SEED": (lambda value: -1 <= value < 2**32, f"a whole number from 0 to {2**32 - 1}, or -1 for any"),
}
