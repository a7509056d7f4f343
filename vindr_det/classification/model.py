"""A timm model with one logit a label, and its checkpoint."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import timm
import torch
import yaml
from fvcore.common.config import CfgNode
from numpy.typing import NDArray
from torch import Tensor, nn

from vindr_det import __version__
from vindr_det.categories import FINDINGS, column_of
from vindr_det.classification.config import defaults
from vindr_det.classification.data import squeeze, to_tensor
from vindr_det.classification.labels import TARGETS, columns_of
from vindr_det.detection.checkpoint import read_file
from vindr_det.detection.engine import best_device
from vindr_det.detection.timm_backbone import require_model
from vindr_det.detection.weights import fitting
from vindr_det.errors import InputError
from vindr_det.files import atomic_path
from vindr_det.gating import P_ABNORMAL, P_NO_FINDING, Word
from vindr_det.resize import Target


def build_model(cfg: Any, pretrained: bool | None = None) -> nn.Module:
    """Gray input (B, 1, S, S), one logit a label of DATA.TARGET: (B, K).

    Raises:
        InputError: timm does not know the model, or its weights cannot be had.
    """
    name = cfg.MODEL.NAME
    require_model("MODEL.NAME", name)
    pretrained = cfg.MODEL.PRETRAINED if pretrained is None else pretrained
    local = cfg.MODEL.WEIGHTS if pretrained else ""
    try:
        model = _create(name, cfg, pretrained and not local)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"MODEL.NAME {name}: its ImageNet weights cannot be downloaded "
            f"({type(error).__name__}); set MODEL.WEIGHTS to a local file, or MODEL.PRETRAINED False"
        ) from error
    if local:
        state = read_file(local)
        model.load_state_dict(fitting(local, state.get("model", state), model.state_dict()), strict=False)
    return model


def _create(name: str, cfg: Any, pretrained: bool) -> nn.Module:
    options = {"pretrained": pretrained, "in_chans": 1, "num_classes": len(TARGETS[cfg.DATA.TARGET]),
               "drop_rate": cfg.MODEL.DROP_RATE}
    wanted = {"global_pool": cfg.MODEL.POOL, "output_stride": cfg.MODEL.OUTPUT_STRIDE}
    options |= {key: value for key, value in wanted.items() if value}
    try:  # transformers otherwise take the one size that they were trained with
        return timm.create_model(name, img_size=cfg.INPUT.SIZE, **options)
    except TypeError:
        pass
    try:
        return timm.create_model(name, **options)
    except (TypeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"MODEL.NAME {name} with POOL {cfg.MODEL.POOL!r} and OUTPUT_STRIDE "
                         f"{cfg.MODEL.OUTPUT_STRIDE}: {error or 'it has no such option'}") from error


def save_checkpoint(
    path: Path, state: Mapping[str, Tensor], cfg: CfgNode, metrics: Mapping[str, float]
) -> None:
    """Weights, config, classes, preprocessing and metrics in one file of plain values."""
    data = {
        "model": dict(state),
        "vindr_classifier": {
            "config": cfg.dump(), "classes": columns_of(TARGETS[cfg.DATA.TARGET]),
            "size": cfg.INPUT.SIZE, "version": __version__, "metrics": dict(metrics),
        },
    }
    with atomic_path(path) as temporary:
        torch.save(data, temporary)


def checkpoints(folder: str | Path) -> list[Path]:
    """One file per fold.

    Raises:
        InputError: there is none.
    """
    paths = sorted(Path(folder).glob("fold*.pth"))
    if not paths:
        raise InputError(f"{folder}: holds no fold*.pth, expected a folder that "
                         "tools/train_classifier.py wrote")
    return paths


class Classifier:
    """The mean of all folds' models in a folder.

    Args:
        folder: OUTPUT_DIR of a training; holds fold0.pth, fold1.pth, ...

    Attributes:
        columns: (K,) what is predicted, such as ``p_abnormal``.
        models: one a fold.
        target: the size that it brings images to, as in training.

    Raises:
        InputError: there is none, or a file is not a classifier's checkpoint.
    """

    def __init__(self, folder: str | Path) -> None:
        loaded = [load_one(path) for path in checkpoints(folder)]
        self.device = torch.device(best_device())
        self.models = [model.to(self.device) for model, _, _ in loaded]
        self.cfg, self.columns = loaded[0][1:]
        self.target = Target(self.cfg.INPUT.SIZE, keep_aspect=False)

    @torch.inference_mode()
    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """(B, K) means over the folds for (H, W) uint8 images; with TEST_FLIP also mirrored."""
        batch = torch.stack([to_tensor(squeeze(image, self.cfg.INPUT.SIZE)) for image in images])
        batch = batch.to(self.device)
        parts = [probabilities(model, batch, self.cfg.TEST_FLIP) for model in self.models]
        return torch.stack(parts).mean(dim=0).double().cpu().numpy()

    def __call__(self, image: NDArray[np.uint8]) -> Word:
        """What a gate needs to know of one (H, W) uint8 image.

        Raises:
            InputError: the model predicts labels that do not say it.
        """
        values = dict(zip(self.columns, self.probabilities([image])[0].tolist(), strict=True))
        names = [column_of(name) for name in FINDINGS]
        findings = np.array([values[name] for name in names]) if set(names) <= set(values) else None
        if P_ABNORMAL in values:
            return Word(values[P_ABNORMAL], findings)
        if P_NO_FINDING in values:
            return Word(1 - values[P_NO_FINDING], findings)
        raise InputError(f"the classifier predicts {', '.join(self.columns)}, expected {P_ABNORMAL} or "
                         f"{P_NO_FINDING}")


def probabilities(model: nn.Module, images: Tensor, flip: bool) -> Tensor:
    """(B, K) of (B, 1, S, S); with ``flip`` the mean with the mirrored images'."""
    found = model(images).sigmoid()
    return (found + model(images.flip(3)).sigmoid()) / 2 if flip else found


def load_one(path: Path) -> tuple[nn.Module, Any, list[str]]:
    """A fold's model, its config and the columns that it predicts.

    Raises:
        InputError: not a classifier's checkpoint.
    """
    data = read_file(path)
    if "vindr_classifier" not in data:
        raise InputError(f"{path}: not a classifier's checkpoint")
    meta, cfg = data["vindr_classifier"], defaults()
    cfg.merge_from_other_cfg(CfgNode(yaml.safe_load(meta["config"])))
    model = build_model(cfg, pretrained=False)
    model.load_state_dict(data["model"])
    return model.eval(), cfg, list(meta["classes"])
