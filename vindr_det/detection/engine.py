"""Choose the engine, and the protocol that both fulfil."""

import importlib.util
import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

import numpy as np
from numpy.typing import NDArray

from vindr_det.config import ENGINES
from vindr_det.exceptions import InputError
from vindr_det.imaging.resize import Target
from vindr_det.structures.detections import Predictions

log = logging.getLogger(__name__)


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

    def train(self, cfg: Any, resume: bool = False, launch: Launch = Launch()) -> None:
        """Train as ``cfg`` says.

        ``cfg.OUTPUT_DIR`` then holds config.yaml, metrics.json (a JSON object a line),
        model_best.pth and model_final.pth.
        """

    def evaluate(self, cfg: Any, state: Mapping[str, Any]) -> Mapping[str, float]:
        """Metrics of VINDR.VALIDATION for given weights."""

    def build_predictor(self, cfg: Any, state: Mapping[str, Any]) -> Predictor:
        """A predictor from a config and the weights of a checkpoint; SOLVER.AMP is its precision."""


def detectron2_is_here() -> bool:
    """Whether Detectron2 can be imported; does not import it."""
    return importlib.util.find_spec("detectron2") is not None


def choose(requested: str) -> str:
    """The engine to use for ``auto`` or a name; says which and why in one log line.

    Raises:
        InputError: an unknown name, or Detectron2 is asked for and not here.
    """
    if requested not in ("auto", *ENGINES):
        raise InputError(f"VINDR.ENGINE {requested!r}: expected auto, {' or '.join(ENGINES)}")
    here = detectron2_is_here()
    if requested == "detectron2" and not here:
        raise InputError("the engine detectron2 was asked for, but Detectron2 does not import; see "
                         "INSTALL.md, or use --engine torchvision")
    engine = requested if requested != "auto" else ("detectron2" if here else "torchvision")
    reason = "as asked" if requested != "auto" else (
        "Detectron2 imports" if here else "Detectron2 does not import")
    log.info("engine: %s (%s)", engine, reason)
    return engine


def check_device(cfg: Any, launch: Launch = Launch()) -> None:
    """Refuse GPUs that are not there, before minutes of loading.

    Raises:
        InputError: MODEL.DEVICE cuda without a GPU, or of one GPU for several processes; more processes
            than GPUs; a number that no GPU has.
    """
    import torch

    device = str(cfg.MODEL.DEVICE)
    if not device.startswith("cuda"):
        return
    if not torch.cuda.is_available():
        raise InputError(f"MODEL.DEVICE is {device}, but this machine has no usable GPU; "
                         "add MODEL.DEVICE cpu")
    if launch.processes * launch.machines > 1 and device != "cuda":
        raise InputError(f"MODEL.DEVICE is {device}: expected cuda, where each process has its own GPU")
    here = torch.cuda.device_count()
    if launch.processes > here:
        raise InputError(f"--num-gpus {launch.processes}: this machine has {here} GPUs; add MODEL.DEVICE cpu "
                         "for processes without")
    if int(device.partition(":")[2] or 0) >= here:
        raise InputError(f"MODEL.DEVICE is {device}: this machine has {here} GPUs, numbered from 0")


def best_device() -> str:
    """``cuda`` where a GPU is usable, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def load(name: str) -> Engine:
    """The module of an engine."""
    if name == "detectron2":
        from vindr_det.detection.detectron2 import engine as detectron2_engine

        return detectron2_engine
    from vindr_det.detection.torchvision import engine as torchvision_engine

    return torchvision_engine


def describe() -> str:
    """One line for people: which engine `auto` means here."""
    if detectron2_is_here():
        spec = importlib.util.find_spec("detectron2")
        where = next(iter(spec.submodule_search_locations or []), "?") if spec else "?"
        return f"engine: detectron2 ({where})"
    return "engine: torchvision (Detectron2 is not here; INSTALL.md says how to add it)"
