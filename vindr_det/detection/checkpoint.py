"""Checkpoints: the weights, and what prediction needs beside them.

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
from vindr_det.config_schema import label_set_of_config
from vindr_det.exceptions import InputError

#: Version of the layout above.
FORMAT = 1


@dataclass(frozen=True)
class Checkpoint:
    """A trained detector, read from a file.

    Attributes:
        engine: name of the engine that trained it.
        cfg: its config.
        state: its state dict.
        metrics: of the last validation before it was saved.
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

    label_set = label_set_of_config(cfg)
    return {
        "format": FORMAT,
        "engine": cfg.VINDR.ENGINE,
        "config": cfg.dump(),
        "label_set": label_set.name,
        "classes": list(label_set.findings),
        "preprocessing": preprocessing(cfg),
        "versions": {"vindr_det": __version__, "torch": str(torch.__version__),
                     "python": platform.python_version()},
        "iteration": int(iteration),
        "metrics": {key: float(value) for key, value in metrics.items()},
    }


def preprocessing(cfg: Any) -> dict[str, Any]:
    """What a detector's config does to an image before the network."""
    return {"image_size": cfg.VINDR.IMAGE_SIZE, "keep_aspect": cfg.VINDR.KEEP_ASPECT,
            "pixel_mean": list(cfg.MODEL.PIXEL_MEAN), "pixel_std": list(cfg.MODEL.PIXEL_STD)}


def require_engine(path: str | Path, meta: Mapping[str, Any], engine: str | None) -> None:
    """Refuse the weights of the other engine."""
    if engine is not None and meta.get("engine") not in (None, engine):
        raise InputError(f"{path}: weights of the {meta['engine']} engine, expected {engine}; use "
                         f"--engine {meta['engine']} or other weights")
