"""Checks of a config's values: what a key may take, as a function and in words."""

import math
from collections.abc import Callable, Mapping
from typing import Any

from fvcore.common.config import CfgNode

from vindr_det.device import DEVICES, is_device
from vindr_det.exceptions import InputError

Check = tuple[Callable[[Any], bool], str]


def above(low: float) -> Check:
    """Numbers larger than ``low``."""
    return lambda value: low < value < math.inf, f"more than {low:g}"


def at_least(low: float) -> Check:
    """Numbers from ``low`` on."""
    return lambda value: low <= value < math.inf, f"{low:g} or more"


def one_of(*choices: Any) -> Check:
    """One of ``choices``."""
    return lambda value: value in choices, " or ".join(map(str, choices))


SHARE: Check = (lambda value: 0 <= value <= 1, "0 to 1")
PART: Check = (lambda value: 0 <= value < 1, "0 to below 1")
FOLDER: Check = (lambda value: bool(value.strip()), "a folder")
DEVICE: Check = (is_device, DEVICES)
#: Names of loggers -> the module that each needs.
LOGGERS = {"tensorboard": "tensorboard", "wandb": "wandb", "mlflow": "mlflow"}
LOGGER_NAMES: Check = (lambda names: not isinstance(names, str) and set(names) <= LOGGERS.keys(),
                       f"a list of {', '.join(LOGGERS)}")


def refuse_values(cfg: CfgNode, checks: Mapping[str, Check], source: str) -> None:
    """Check the values of a config; keys that its schema lacks are skipped.

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
    except TypeError:  # such as a text among numbers
        return False


def value_of(cfg: CfgNode, key: str) -> Any:
    """The value of a key such as ``SOLVER.BASE_LR``; None where there is no such key."""
    node: Any = cfg
    for part in key.split("."):
        if part not in node:
            return None
        node = node[part]
    return node


def lengths(value: Any) -> bool:
    """A length in pixels, or several."""
    values = value if isinstance(value, tuple | list) else (value,)
    return bool(value) and all(length > 0 for length in values)


def thresholds(count: int) -> Check:
    """So many thresholds, ascending."""
    def holds(value: Any) -> bool:
        return len(value) == count and all(0 <= part <= 1 for part in value) and list(value) == sorted(value)

    return holds, f"{count} ascending number{'s' * (count > 1)} of 0 to 1"
