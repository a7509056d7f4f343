"""The torchvision engine as :class:`vindr_det.detection.interface.Engine`.

Only training imports Lightning: prediction starts seconds sooner without it.
"""

from collections.abc import Mapping
from typing import Any

from fvcore.common.config import CfgNode

from vindr_det.detection.interface import SINGLE_PROCESS, Launch
from vindr_det.detection.torchvision.config import get_torchvision_cfg
from vindr_det.detection.torchvision.predictor import TorchvisionPredictor


def defaults() -> CfgNode:
    """See :class:`vindr_det.detection.interface.Engine`."""
    return get_torchvision_cfg()


def train(cfg: Any, resume: bool = False, launch: Launch = SINGLE_PROCESS) -> None:
    """See :class:`vindr_det.detection.interface.Engine`."""
    from vindr_det.detection.torchvision import train as training

    training.train(cfg, resume, launch)


def evaluate(cfg: Any, state: Mapping[str, Any]) -> Mapping[str, float]:
    """See :class:`vindr_det.detection.interface.Engine`."""
    from vindr_det.detection.torchvision import train as training

    return training.evaluate(cfg, state)


def build_predictor(cfg: Any, state: Mapping[str, Any]) -> TorchvisionPredictor:
    """See :class:`vindr_det.detection.interface.Engine`."""
    return TorchvisionPredictor(cfg, state)
