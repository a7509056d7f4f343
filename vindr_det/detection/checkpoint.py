"""What a checkpoint carries beside its weights, so that prediction needs nothing else.

A file is a dictionary of plain values that ``torch.load(weights_only=True)`` can read::

    model   state dict
    vindr   engine, config (YAML text), classes, preprocessing, versions, iteration, metrics
"""

import platform
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from vindr_det import __version__
from vindr_det.config import config_from_text
from vindr_det.exceptions import InputError
from vindr_det.files import existing_file
from vindr_det.structures.label_sets import FINDINGS

#: Version of the layout above.
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained detector as it lies on disk.

    Attributes:
        engine: which engine trained it.
        cfg: its config.
        state: its weights.
        metrics: of the validation set, as measured when it was saved.
        iteration: number of finished iterations.
    """

    engine: str
    cfg: Any
    state: Mapping[str, Any]
    metrics: Mapping[str, float]
    iteration: int


def metadata(cfg: Any, iteration: int, metrics: Mapping[str, float]) -> dict[str, Any]:
    """The entry ``vindr`` of a checkpoint."""
    import torch

    return {
        "format": FORMAT,
        "engine": cfg.VINDR.ENGINE,
        "config": cfg.dump(),
        "classes": list(FINDINGS),
        "preprocessing": {"image_size": cfg.VINDR.IMAGE_SIZE, "keep_aspect": cfg.VINDR.KEEP_ASPECT,
                          "pixel_mean": list(cfg.MODEL.PIXEL_MEAN),
                          "pixel_std": list(cfg.MODEL.PIXEL_STD)},
        "versions": {"vindr_det": __version__, "torch": str(torch.__version__),
                     "python": platform.python_version()},
        "iteration": int(iteration),
        "metrics": {key: float(value) for key, value in metrics.items()},
    }


def read_file(path: str | Path) -> dict[str, Any]:
    """Load a file of tensors and plain values without executing anything in it.

    Raises:
        InputError: missing, damaged, or holds pickled code.
    """
    import pickle
    import struct

    import torch

    existing_file(path)
    try:  # bytes that are no pickle raise anything
        data = torch.load(path, map_location="cpu", weights_only=True)
    except (pickle.UnpicklingError, RuntimeError, EOFError, ValueError, LookupError, TypeError,
            AttributeError, AssertionError, OverflowError, struct.error) as error:
        reason = str(error).strip().splitlines()[0] if str(error).strip() else type(error).__name__
        if isinstance(error, pickle.UnpicklingError):  # whose text would talk the user into executing it
            reason = "damaged, or it holds other objects"
        raise InputError(f"{path}: not a checkpoint of tensors and plain values ({reason})") from error
    if not isinstance(data, dict):
        raise InputError(f"{path}: holds a {type(data).__name__}, expected a dictionary")
    return data


def load_checkpoint(path: str | Path, engine: str | None = None) -> Checkpoint:
    """Read one of our checkpoints.

    Args:
        path: ``model_best.pth`` or ``model_final.pth`` of either engine.
        engine: refuse a checkpoint of another engine; None takes any.

    Raises:
        InputError: not one of ours, other classes, or the other engine's.
    """
    data = read_file(path)
    meta = data.get("vindr")
    if not isinstance(meta, dict) or "model" not in data:
        raise InputError(f"{path}: carries no vindr_det config, expected a model_best.pth or "
                         "model_final.pth that tools/train_net.py wrote")
    if "trainer" in data:  # of which the weights are not those that were validated where there is an average
        raise InputError(f"{path}: a state to resume from, expected a model_best.pth or model_final.pth")
    require_engine(path, meta, engine)
    if tuple(meta["classes"]) != FINDINGS:
        raise InputError(f"{path}: was trained on classes {meta['classes']}, expected the 14 findings")
    cfg = config_from_text(meta["config"], meta["engine"], str(path))
    return Checkpoint(meta["engine"], cfg, data["model"], meta["metrics"], meta["iteration"])


def require_engine(path: str | Path, meta: Mapping[str, Any], engine: str | None) -> None:
    """Refuse the weights of the other engine."""
    if engine is not None and meta.get("engine") not in (None, engine):
        raise InputError(f"{path}: weights of the {meta['engine']} engine, expected {engine}; use "
                         f"--engine {meta['engine']} or other weights")
