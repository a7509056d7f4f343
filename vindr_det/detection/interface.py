"""The protocols that both engines fulfill, and the processes that a training runs on."""

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
from vindr_det.structures.label_sets import LabelSet


@dataclass(frozen=True)
class Launch:
    """The processes that a training runs on.

    Attributes:
        processes: GPUs per machine, or CPU processes per machine where MODEL.DEVICE is cpu.
        machines: number of machines.
        rank: number of this machine, from 0.
        url: ``tcp://host:port`` of machine 0; ``auto`` for a single machine.

    Raises:
        InputError: a number is out of range, or the url of several machines names no host and port.
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


#: A training on one GPU, or in one process on the CPU.
SINGLE_PROCESS = Launch()


class Predictor(Protocol):
    """A trained detector."""

    @property
    def target(self) -> Target:
        """The size that it resizes images to, as in training."""

    @property
    def label_set(self) -> LabelSet:
        """Of its detections."""

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0
    ) -> list[Predictions]:
        """Detections on (H, W) uint8 images, each in that image's pixels.

        Args:
            images: a batch; its images may differ in size.
            scale: multiplies INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST, as TTA does.

        Returns:
            Predictions per image: boxes (N, 4) xyxy, scores (N,) and labels (N,), class ids.
        """


class Engine(Protocol):
    """The functions that the module ``engine`` of either engine has."""

    def defaults(self) -> CfgNode:
        """Every key that the engine honors, at Detectron2's default, and the node VINDR."""

    def train(self, cfg: Any, resume: bool = False, launch: Launch = SINGLE_PROCESS) -> None:
        """Train a detector.

        ``cfg.OUTPUT_DIR`` then holds config.yaml, metrics.json (a JSON object per line), its curves
        (results.csv, results.png), model_best.pth and model_final.pth.

        Args:
            cfg: of :func:`vindr_det.detection.loading.load_config`.
            resume: continue from the last state in ``cfg.OUTPUT_DIR``.
            launch: processes to train on.

        Raises:
            InputError: a key that the engine cannot honor, or inputs that do not fit.
            DivergedError: a loss is not finite.
        """

    def evaluate(self, cfg: Any, state: Mapping[str, Any]) -> Mapping[str, float]:
        """Metrics of VINDR.VALIDATION of a state dict."""

    def build_predictor(self, cfg: Any, state: Mapping[str, Any]) -> Predictor:
        """A predictor on MODEL.DEVICE, in the precision of SOLVER.AMP, from a config and a state dict."""
