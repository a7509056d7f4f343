"""What both engines fulfill: the protocols of an engine and of its predictor, and a launch."""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from fvcore.common.config import CfgNode
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.imaging.resize import Target
from vindr_det.structures.detections import Predictions


@dataclass(frozen=True)
class Launch:
    """On how many processes a training runs.

    Attributes:
        processes: a machine: GPUs, or CPU processes where MODEL.DEVICE is cpu.
        machines: in all.
        rank: of this machine, from 0.
        url: ``tcp://host:port`` of machine 0; ``auto`` for one machine alone.

    Raises:
        InputError: a number is out of range, or the url does not say where machine 0 is.
    """

    processes: int = 1
    machines: int = 1
    rank: int = 0
    url: str = "auto"

    def __post_init__(self) -> None:
        if self.processes < 1 or self.machines < 1 or not 0 <= self.rank < self.machines:
            raise InputError(f"--num-gpus {self.processes} --num-machines {self.machines} "
                             f"--machine-rank {self.rank}: expected at least 1, at least 1, and 0 to "
                             "below the number of machines")
        if self.machines > 1 and not re.fullmatch(r"tcp://[^:/]+:\d+", self.url):
            raise InputError(f"--dist-url {self.url}: expected tcp://host:port of machine 0")


class Predictor(Protocol):
    """A trained detector.

    Attributes:
        target: the size that it brings images to, as in training; larger ones gain it nothing.
    """

    target: Target

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0
    ) -> list[Predictions]:
        """Detections on (H, W) uint8 images, each in that image's pixels.

        The images of one call are one batch, padded to the largest. ``scale`` multiplies the sizes of
        INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST.
        """


class Engine(Protocol):
    """What an engine module offers."""

    def defaults(self) -> CfgNode:
        """The schema: every key that the engine honors, at Detectron2's default, and VINDR."""

    def train(self, cfg: Any, resume: bool = False, launch: Launch = Launch()) -> None:
        """Train as ``cfg`` says.

        ``cfg.OUTPUT_DIR`` then holds config.yaml, metrics.json (a JSON object a line),
        model_best.pth and model_final.pth.
        """

    def evaluate(self, cfg: Any, state: Mapping[str, Any]) -> Mapping[str, float]:
        """Metrics of VINDR.VALIDATION for given weights."""

    def build_predictor(self, cfg: Any, state: Mapping[str, Any]) -> Predictor:
        """A predictor from a config and the weights of a checkpoint; SOLVER.AMP is its precision."""
