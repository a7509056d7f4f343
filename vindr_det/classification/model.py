"""A timm model with one logit a label, and its checkpoint."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
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
from vindr_det.classification.config import of_checkpoint
from vindr_det.classification.data import Normalization, squeeze
from vindr_det.classification.labels import TARGETS, columns_of
from vindr_det.classification.operating_points import POINTS_FILE, read_points
from vindr_det.classification.probabilities import P_ABNORMAL, P_NO_FINDING, ClassifierOutput
from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path
from vindr_det.imaging.resize import Target
from vindr_det.structures.label_sets import FINDINGS, column_of
from vindr_det.training.checkpoint_io import read_file
from vindr_det.training.device import best_device
from vindr_det.training.timm_backbone import require_model
from vindr_det.training.weights import filter_compatible

log = logging.getLogger(__name__)


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
        model.load_state_dict(filter_compatible(local, state.get("model", state), model.state_dict()), strict=False)
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
                         f"{cfg.MODEL.OUTPUT_STRIDE}: {str(error) or 'timm cannot build it so'}, expected an "
                         "empty POOL and OUTPUT_STRIDE 0, or what the network has") from error


def normalization(model: nn.Module) -> Normalization:
    """What timm says that a network's images were normalized with when its weights were made."""
    known = getattr(model, "pretrained_cfg", None) or {}
    plain = Normalization()
    return Normalization.of_colors(known.get("mean", [plain.mean]), known.get("std", [plain.std]))


def save_checkpoint(
    path: Path, state: Mapping[str, Tensor], cfg: CfgNode, normalize: Normalization,
    metrics: Mapping[str, float],
) -> None:
    """Weights, config, classes, preprocessing and metrics in one file of plain values."""
    data = {
        "model": dict(state),
        "vindr_classifier": {
            "config": cfg.dump(), "classes": columns_of(TARGETS[cfg.DATA.TARGET]),
            "size": cfg.INPUT.SIZE, "normalization": asdict(normalize), "version": __version__,
            "metrics": dict(metrics),
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
    """The mean of all folds' models in a folder, calibrated.

    Args:
        folder: OUTPUT_DIR of a training; holds fold0.pth, fold1.pth, ...
        calibrated: apply the calibrations of ``operating_points.json``.

    Attributes:
        columns: (K,) what is predicted, such as ``p_abnormal``.
        models: one a fold.
        target: the size that it brings images to, as in training.
        calibrations: column -> its calibration; empty where none is applied.

    Raises:
        InputError: there is none, a file is not a classifier's checkpoint, or they are of several trainings.
    """

    def __init__(self, folder: str | Path, calibrated: bool = True) -> None:
        loaded = [load_one(path) for path in checkpoints(folder)]
        kinds = {(tuple(one.columns), one.cfg.INPUT.SIZE, one.normalize) for one in loaded}
        if len(kinds) > 1:
            raise InputError(f"{folder}: its models differ in labels, size or normalization, expected those "
                             "of one training")
        self.device = torch.device(best_device())
        self.models = [one.network.to(self.device) for one in loaded]
        self.cfg, self.columns, self.normalize = loaded[0].cfg, loaded[0].columns, loaded[0].normalize
        self.target = Target(self.cfg.INPUT.SIZE, keep_aspect=False)
        self.calibrations = {}
        if calibrated and (Path(folder) / POINTS_FILE).is_file():
            self.calibrations = {name: read_point.calibration for name, read_point in read_points(folder).items()}
        elif calibrated:
            log.warning("%s: has no %s, so its probabilities are not calibrated", folder, POINTS_FILE)

    @torch.inference_mode()
    def probabilities(self, images: Sequence[NDArray[np.uint8]]) -> NDArray[np.float64]:
        """(B, K) means over the folds for (H, W) uint8 images, calibrated; with TEST_FLIP also mirrored."""
        batch = torch.stack([self.normalize(squeeze(image, self.cfg.INPUT.SIZE)) for image in images])
        batch = batch.to(self.device)
        parts = [probabilities(model, batch, self.cfg.TEST_FLIP) for model in self.models]
        mean = torch.stack(parts).mean(dim=0).double().cpu().numpy()
        for place, column in enumerate(self.columns):
            if column in self.calibrations:
                mean[:, place] = self.calibrations[column](mean[:, place])
        return mean

    def __call__(self, image: NDArray[np.uint8]) -> ClassifierOutput:
        """What a gate needs to know of one (H, W) uint8 image.

        Raises:
            InputError: the model predicts labels that do not say it.
        """
        values = dict(zip(self.columns, self.probabilities([image])[0].tolist(), strict=True))
        names = [column_of(name) for name in FINDINGS]
        findings = np.array([values[name] for name in names]) if set(names) <= set(values) else None
        if P_ABNORMAL in values:
            return ClassifierOutput(values[P_ABNORMAL], findings)
        if P_NO_FINDING in values:
            return ClassifierOutput(1 - values[P_NO_FINDING], findings)
        raise InputError(f"the classifier predicts {', '.join(self.columns)}, expected {P_ABNORMAL} or "
                         f"{P_NO_FINDING}")


def probabilities(model: nn.Module, images: Tensor, flip: bool) -> Tensor:
    """(B, K) of (B, 1, S, S); with ``flip`` the mean with the mirrored images'."""
    found = model(images).sigmoid()
    return (found + model(images.flip(3)).sigmoid()) / 2 if flip else found


@dataclass(frozen=True)
class Loaded:
    """A fold's model as its checkpoint describes it.

    Attributes:
        network: ready to predict.
        cfg: its config.
        columns: (K,) what it predicts.
        normalize: what it expects of images.
    """

    network: nn.Module
    cfg: Any
    columns: list[str]
    normalize: Normalization


def load_one(path: Path) -> Loaded:
    """A fold's model; what earlier versions did not store is as they had it.

    Raises:
        InputError: not a classifier's checkpoint.
    """
    data = read_file(path)
    if "vindr_classifier" not in data:
        raise InputError(f"{path}: not a classifier's checkpoint")
    meta = data["vindr_classifier"]
    cfg = of_checkpoint(yaml.safe_load(meta["config"]), str(path))
    model = build_model(cfg, pretrained=False)
    model.load_state_dict(data["model"])
    return Loaded(model.eval(), cfg, list(meta["classes"]), Normalization(**meta.get("normalization", {})))
