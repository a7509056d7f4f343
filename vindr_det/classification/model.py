"""A timm model with one output, and its checkpoint."""

from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import yaml
from fvcore.common.config import CfgNode
from numpy.typing import NDArray
from torch import nn

from vindr_det import __version__
from vindr_det.classification.data import squeeze, to_tensor
from vindr_det.detection.checkpoint import read_file
from vindr_det.errors import InputError
from vindr_det.files import atomic_path
from vindr_det.gating import P_ABNORMAL


def build_model(cfg: Any, pretrained: bool | None = None) -> nn.Module:
    """Gray input, one logit of P(abnormal).

    Raises:
        InputError: timm does not know the model, or its weights cannot be had.
    """
    name = cfg.MODEL.NAME
    if not timm.is_model(name):
        near = timm.list_models(f"*{name.split('.')[0][:6]}*")[:5]
        raise InputError(f"MODEL.NAME {name!r}: timm has no such model; near it are "
                         f"{', '.join(near) or 'none'}")
    pretrained = cfg.MODEL.PRETRAINED if pretrained is None else pretrained
    local = cfg.MODEL.WEIGHTS if pretrained else ""
    try:
        model = timm.create_model(
            name, pretrained=pretrained and not local, in_chans=1, num_classes=1)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"MODEL.NAME {name}: its ImageNet weights cannot be downloaded "
            f"({type(error).__name__}); set MODEL.WEIGHTS to a local file, or MODEL.PRETRAINED False"
        ) from error
    if local:
        _load_local(model, local)
    return model


def _load_local(model: nn.Module, path: str) -> None:
    state, own = read_file(path), model.state_dict()
    state = state.get("model", state)
    fitting = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not fitting:
        raise InputError(f"MODEL.WEIGHTS {path}: none of its {len(state)} weights has a place in "
                         "this model")
    model.load_state_dict(fitting, strict=False)


def save_checkpoint(path: Path, model: nn.Module, cfg: CfgNode, metrics: dict[str, float]) -> None:
    """Weights, config, classes, preprocessing and metrics in one file of plain values."""
    data = {
        "model": model.state_dict(),
        "vindr_classifier": {
            "config": cfg.dump(), "classes": [P_ABNORMAL], "size": cfg.INPUT.SIZE,
            "version": __version__, "metrics": metrics,
        },
    }
    with atomic_path(path) as temporary:
        torch.save(data, temporary)


class Classifier:
    """The mean of all folds' models in a folder.

    Args:
        folder: OUTPUT_DIR of a training; holds fold0.pth, fold1.pth, ...

    Raises:
        InputError: there is none, or a file is not a classifier's checkpoint.
    """

    def __init__(self, folder: str | Path) -> None:
        paths = sorted(Path(folder).glob("fold*.pth"))
        if not paths:
            raise InputError(f"{folder}: holds no fold*.pth, expected a folder that "
                             "tools/train_classifier.py wrote")
        loaded = [_load_one(path) for path in paths]
        self.models = [model for model, _ in loaded]
        self.size = loaded[0][1]

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8]) -> float:
        """P(abnormal) of one (H, W) uint8 image."""
        batch = to_tensor(squeeze(image, self.size))[None]
        return float(np.mean([model(batch).sigmoid().item() for model in self.models]))


def _load_one(path: Path) -> tuple[nn.Module, int]:
    data = read_file(path)
    if "vindr_classifier" not in data:
        raise InputError(f"{path}: not a classifier's checkpoint")
    meta = data["vindr_classifier"]
    model = build_model(CfgNode(yaml.safe_load(meta["config"])), pretrained=False)
    model.load_state_dict(data["model"])
    return model.eval(), int(meta["size"])
