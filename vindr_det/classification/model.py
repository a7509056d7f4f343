"""A timm model with one logit per label: built from a config, saved to and loaded from a checkpoint."""

from collections.abc import Mapping
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import timm
import torch
import yaml
from fvcore.common.config import CfgNode
from torch import Tensor, nn

from vindr_det import __version__
from vindr_det.classification import resnet56  # noqa: F401 registers its network with timm
from vindr_det.classification.config import of_checkpoint
from vindr_det.classification.data import Normalization, of_training_images
from vindr_det.classification.label_table import LabelTable, columns_of
from vindr_det.classification.targets import labels_of_target
from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path
from vindr_det.training.checkpoint_io import read_file, require_agreement, weights_of
from vindr_det.training.timm_backbone import require_model
from vindr_det.training.weights import classifier_weights, file_data


def build_model(cfg: Any, pretrained: bool | None = None) -> nn.Module:
    """Build MODEL.NAME for gray input (B, 1, S, S), with one logit per label of DATA.TARGET: (B, K).

    With INPUT.CHANNELS 3 the network repeats the gray channel for its first layer.

    Args:
        cfg: the config.
        pretrained: whether to load ImageNet weights; None takes MODEL.PRETRAINED.

    Raises:
        InputError: timm does not know the model, or its weights cannot be downloaded.
    """
    name = cfg.MODEL.NAME
    require_model("MODEL.NAME", name)
    pretrained = cfg.MODEL.PRETRAINED if pretrained is None else pretrained
    local = cfg.MODEL.WEIGHTS if pretrained else ""
    try:
        model = _create(name, cfg, pretrained and not local)
        _limit_head(model)
    except (OSError, RuntimeError) as error:
        raise InputError(
            f"MODEL.NAME {name}: its ImageNet weights cannot be downloaded "
            f"({type(error).__name__}); set MODEL.WEIGHTS to a local file, or MODEL.PRETRAINED False"
        ) from error
    if local:
        meta = getattr(model, "pretrained_cfg", None) or {}
        state = classifier_weights(local, file_data(local)["model"], model.state_dict(), meta)
        model.load_state_dict(state, strict=False)
    if cfg.INPUT.CHANNELS == 3:
        model.register_forward_pre_hook(_repeat_channel)
    return model


def _create(name: str, cfg: Any, pretrained: bool) -> nn.Module:
    options = {"pretrained": pretrained, "in_chans": cfg.INPUT.CHANNELS,
               "num_classes": len(labels_of_target(cfg.DATA.TARGET)), "drop_rate": cfg.MODEL.DROP_RATE}
    optional = {"global_pool": cfg.MODEL.POOL, "output_stride": cfg.MODEL.OUTPUT_STRIDE}
    options |= {key: value for key, value in optional.items() if value}
    try:
        try:  # transformers otherwise take only the size that they were pretrained with
            return timm.create_model(name, img_size=cfg.INPUT.SIZE, **options)
        except TypeError:
            return timm.create_model(name, **options)
    except (TypeError, AssertionError, NotImplementedError) as error:
        raise InputError(f"MODEL.NAME {name} with POOL {cfg.MODEL.POOL!r} and OUTPUT_STRIDE "
                         f"{cfg.MODEL.OUTPUT_STRIDE}: {str(error) or 'timm cannot build it so'}, expected an "
                         "empty POOL and OUTPUT_STRIDE 0, or what the network has") from error


def _limit_head(model: nn.Module) -> None:
    """Draw the last layer again, as torch does, where its weights are many times larger than torch's.

    timm's EfficientNets draw it by the number of labels: with few labels, first logits would be 10 and more.
    """
    head = model.get_classifier()
    if isinstance(head, nn.Linear) and not head.weight.is_meta \
            and head.weight.abs().max() > 4 / head.in_features**0.5:
        head.reset_parameters()


def _repeat_channel(model: nn.Module, inputs: tuple[Tensor]) -> tuple[Tensor]:
    """Three equal channels of (B, 1, S, S) images, without a copy."""
    return (inputs[0].expand(-1, 3, -1, -1),)


def choose_normalization(cfg: Any, model: nn.Module, table: LabelTable) -> Normalization:
    """The normalization that INPUT.NORMALIZE names.

    Args:
        cfg: the config.
        model: of ``cfg``.
        table: the images to train on.
    """
    return {"weights": lambda: normalization(model), "image": lambda: Normalization(per_image=True),
            "unit": lambda: Normalization(0.0, 1.0),
            "dataset": lambda: of_training_images(cfg, table)}[cfg.INPUT.NORMALIZE]()


def normalization(model: nn.Module) -> Normalization:
    """The normalization of a network's pretraining, as timm has it, averaged over the color channels."""
    pretraining = getattr(model, "pretrained_cfg", None) or {}
    default = Normalization()
    return Normalization.of_colors(pretraining.get("mean", [default.mean]),
                                   pretraining.get("std", [default.std]))


def predict_batch(model: nn.Module, images: Tensor, flip: bool) -> Tensor:
    """(B, K) probabilities of (B, 1, S, S) images; with ``flip`` the mean with the mirrored images'."""
    p = model(images).sigmoid()
    return (p + model(images.flip(3)).sigmoid()) / 2 if flip else p


def save_checkpoint(
    path: Path, state: Mapping[str, Tensor], cfg: CfgNode, normalize: Normalization,
    metrics: Mapping[str, float],
) -> None:
    """Write weights, config, classes, preprocessing and metrics in one file of plain values."""
    data = {
        "model": dict(state),
        "vindr_classifier": {
            "config": cfg.dump(), "classes": columns_of(labels_of_target(cfg.DATA.TARGET)),
            "size": cfg.INPUT.SIZE, "normalization": asdict(normalize), "version": __version__,
            "metrics": dict(metrics),
        },
    }
    with atomic_path(path) as temporary:
        torch.save(data, temporary)


def find_checkpoints(folder: str | Path) -> list[Path]:
    """The checkpoints of a training, one per fold.

    Raises:
        InputError: there is none.
    """
    paths = sorted(Path(folder).glob("fold*.pth"))
    if not paths:
        raise InputError(f"{folder}: holds no fold*.pth, expected a folder that "
                         "vindr-det train-classifier wrote")
    return paths


@dataclass(frozen=True)
class TrainedModel:
    """A fold's model as its checkpoint describes it.

    Attributes:
        network: in evaluation mode.
        cfg: its config.
        columns: (K,) of its probabilities.
        normalize: of its images.
    """

    network: nn.Module
    cfg: Any
    columns: list[str]
    normalize: Normalization


def load_checkpoint(path: Path) -> TrainedModel:
    """Load a fold's model; checkpoints of earlier versions have the default normalization.

    Raises:
        InputError: not a classifier's checkpoint.
    """
    data = read_file(path)
    if "vindr_classifier" not in data:
        raise InputError(f"{path}: not a classifier's checkpoint")
    return trained_model(data["model"], data["vindr_classifier"], path)


def trained_model(state: Mapping[str, Tensor], meta: Mapping[str, Any], path: str | Path) -> TrainedModel:
    """The model that :func:`load_checkpoint` reads, from what its file holds.

    Args:
        state: the entry ``model``.
        meta: the entry ``vindr_classifier``.
        path: named in errors.

    Raises:
        InputError: its config is not one of this version, or other entries or the weights contradict it.
    """
    cfg = of_checkpoint(yaml.safe_load(meta["config"]), str(path))
    columns = columns_of(labels_of_target(cfg.DATA.TARGET))
    require_agreement(path, meta, {"classes": columns, "size": cfg.INPUT.SIZE})
    normalize = _saved_normalization(meta.get("normalization", {}), path)
    model = build_model(cfg, pretrained=False)
    with weights_of(path):
        model.load_state_dict(state)
    return TrainedModel(model.eval(), cfg, columns, normalize)


def _saved_normalization(entry: Any, path: str | Path) -> Normalization:
    """Of values that gray images from 0 to 1 can have."""
    if isinstance(entry, Mapping) and entry.keys() <= asdict(Normalization()).keys():
        saved = Normalization(**entry)
        numbers = all(type(value) in (int, float) for value in (saved.mean, saved.std))
        if numbers and 0 <= saved.mean <= 1 and 0 < saved.std <= 1 and isinstance(saved.per_image, bool):
            return saved
    raise InputError(f"{path}: its normalization is {entry!r}, expected a mean and a std of gray values, "
                     "0 to 1")
