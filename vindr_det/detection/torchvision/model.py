"""The detector that a config describes, from torchvision's parts."""

from collections.abc import Mapping, Sequence
from typing import Any

from torch import nn

from vindr_det.config_values import value_of
from vindr_det.detection import roi_losses
from vindr_det.detection.incomplete import masks_unknown
from vindr_det.detection.precision import in_float32
from vindr_det.detection.torchvision.architectures import ARCHITECTURES, Architecture
from vindr_det.detection.torchvision.backbone import NORMS
from vindr_det.detection.torchvision.incomplete import leave_out_unknown
from vindr_det.exceptions import InputError
from vindr_det.training import timm_backbone

#: Keys that every architecture reads, and the values that torchvision and Lightning can honor.
_CHOICES: Mapping[str, Sequence[Any]] = {
    "MODEL.META_ARCHITECTURE": tuple(ARCHITECTURES),
    "MODEL.RESNETS.NORM": tuple(NORMS),
    "INPUT.MIN_SIZE_TRAIN_SAMPLING": ("choice",),
    "INPUT.RANDOM_FLIP": ("horizontal", "vertical", "none"),
    "INPUT.FORMAT": ("BGR", "RGB"),
    "SOLVER.WARMUP_METHOD": ("linear",),
    "SOLVER.CLIP_GRADIENTS.NORM_TYPE": (2.0,),
}


def architecture_of(cfg: Any) -> Architecture:
    """The entry of MODEL.META_ARCHITECTURE."""
    return ARCHITECTURES[cfg.MODEL.META_ARCHITECTURE]


def check(cfg: Any) -> None:
    """Refuse what torchvision cannot honor.

    Raises:
        InputError: names the key, its value and what was expected.
    """
    roi_losses.check(cfg)
    for key, choices in _CHOICES.items():
        _expect(cfg, key, choices)
    if cfg.SOLVER.CLIP_GRADIENTS.ENABLED:
        _expect(cfg, "SOLVER.CLIP_GRADIENTS.CLIP_TYPE", ("value", "full_model"))
    architecture = architecture_of(cfg)
    for key, only in architecture.fixed.items():
        _expect(cfg, key, (only,))
    _expect(cfg, "MODEL.BACKBONE.NAME", architecture.backbones)
    if not timm_backbone.wanted(cfg):
        _check_resnet(cfg)


def _check_resnet(cfg: Any) -> None:
    _expect(cfg, "MODEL.RESNETS.DEPTH", (18, 34, 50, 101, 152))
    _expect(cfg, "MODEL.BACKBONE.FREEZE_AT", (0, 1, 2, 3, 4, 5))
    bottleneck = cfg.MODEL.RESNETS.DEPTH >= 50
    _expect(cfg, "MODEL.RESNETS.RES2_OUT_CHANNELS", (256 if bottleneck else 64,))


def _expect(cfg: Any, key: str, choices: Sequence[Any]) -> None:
    value = _as_list(value_of(cfg, key))
    if value not in [_as_list(choice) for choice in choices]:
        expected = " or ".join(repr(choice) for choice in choices)
        raise InputError(f"{key} is {value!r}: the torchvision engine takes {expected}; the "
                         "detectron2 engine may take it")


def _as_list(value: Any) -> Any:
    return list(value) if isinstance(value, tuple) else value


def first_label(cfg: Any) -> int:
    """What torchvision calls class 0: R-CNNs keep 0 for the background, dense detectors have none."""
    return architecture_of(cfg).first_label


def build_model(cfg: Any) -> nn.Module:
    """The detector that MODEL.META_ARCHITECTURE names, from random weights.

    Input images are (1, H, W) uint8, or (3, H, W) float, 0..255; labels begin at :func:`first_label`.

    Raises:
        InputError: a key that torchvision cannot honor.
    """
    check(cfg)
    architecture = architecture_of(cfg)
    network = architecture.build(cfg, {
        "min_size": tuple(cfg.INPUT.MIN_SIZE_TRAIN), "max_size": cfg.INPUT.MAX_SIZE_TRAIN,
        "image_mean": list(cfg.MODEL.PIXEL_MEAN), "image_std": list(cfg.MODEL.PIXEL_STD)})
    network.transform.register_forward_pre_hook(_to_float)
    if masks_unknown(cfg):
        leave_out_unknown(network)
    for head in architecture.heads(network):
        head.register_forward_hook(in_float32)
    return network


def _to_float(_: nn.Module, inputs: tuple[Any, ...]) -> tuple[Any, ...]:
    """Gray bytes as float for torchvision's transform, whose normalization then gives three channels."""
    images, *targets = inputs
    return ([image.float() for image in images], *targets)


def set_sizes(network: Any, cfg: Any, training: bool, scale: float = 1.0) -> None:
    """Set the sizes that a network's transform resizes to; torchvision would test at the last of the
    training sizes.

    Args:
        network: has torchvision's ``transform``.
        cfg: the config.
        training: the sizes to draw from in training, else the test size.
        scale: multiplies the test size.
    """
    if training:
        sizes, longest = tuple(cfg.INPUT.MIN_SIZE_TRAIN), cfg.INPUT.MAX_SIZE_TRAIN
    else:
        sizes = (round(cfg.INPUT.MIN_SIZE_TEST * scale),)
        longest = round(cfg.INPUT.MAX_SIZE_TEST * scale)
    network.transform.min_size, network.transform.max_size = sizes, longest
