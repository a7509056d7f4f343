"""Choose the engine, and check that its devices are there."""

import importlib.util
import logging
from typing import Any

from vindr_det.config_schema import ENGINES
from vindr_det.detection.interface import SINGLE_PROCESS, Engine, Launch
from vindr_det.exceptions import InputError

log = logging.getLogger(__name__)


def detectron2_is_here() -> bool:
    """Whether Detectron2 can be imported; does not import it."""
    return importlib.util.find_spec("detectron2") is not None


def choose(requested: str) -> str:
    """The engine to use for ``auto`` or a name; logs which and why in one line.

    Raises:
        InputError: an unknown name, or Detectron2 is asked for but not installed.
    """
    if requested not in ("auto", *ENGINES):
        raise InputError(f"VINDR.ENGINE {requested!r}: expected auto, {' or '.join(ENGINES)}")
    installed = detectron2_is_here()
    if requested == "detectron2" and not installed:
        raise InputError("the engine detectron2 was asked for, but Detectron2 does not import; see "
                         "INSTALL.md, or use --engine torchvision")
    engine = requested if requested != "auto" else ("detectron2" if installed else "torchvision")
    reason = "from VINDR.ENGINE or --engine" if requested != "auto" else (
        "Detectron2 imports" if installed else "Detectron2 does not import")
    log.info("engine: %s (%s)", engine, reason)
    return engine


def check_device(cfg: Any, launch: Launch = SINGLE_PROCESS) -> None:
    """Refuse GPUs that this machine does not have, before minutes of loading.

    Raises:
        InputError: MODEL.DEVICE is cuda without a GPU, or a single GPU for several processes, or a number
            that no GPU has; or there are more processes than GPUs.
    """
    import torch

    device = str(cfg.MODEL.DEVICE)
    if not device.startswith("cuda"):
        return
    if not torch.cuda.is_available():
        raise InputError(f"MODEL.DEVICE is {device}, but this machine has no usable GPU; "
                         "use --device cpu or auto")
    if launch.processes * launch.machines > 1 and device != "cuda":
        raise InputError(f"MODEL.DEVICE is {device}: expected cuda, where each process has its own GPU")
    count = torch.cuda.device_count()
    if launch.processes > count:
        raise InputError(f"--num-gpus {launch.processes}: this machine has {count} GPUs; use --device cpu "
                         "for processes without")
    if int(device.partition(":")[2] or 0) >= count:
        raise InputError(f"MODEL.DEVICE is {device}: this machine has {count} GPUs, numbered from 0")


def load(name: str) -> Engine:
    """The module of an engine."""
    if name == "detectron2":
        from vindr_det.detection.detectron2 import engine as detectron2_engine

        return detectron2_engine
    from vindr_det.detection.torchvision import engine as torchvision_engine

    return torchvision_engine


def describe() -> str:
    """One line about the engine that ``auto`` chooses in this environment."""
    if detectron2_is_here():
        spec = importlib.util.find_spec("detectron2")
        folder = next(iter(spec.submodule_search_locations or []), "?") if spec else "?"
        return f"engine: detectron2 ({folder})"
    return "engine: torchvision (Detectron2 is not installed; see INSTALL.md)"
