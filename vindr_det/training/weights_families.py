"""Families of weights: whose network a state dict is of, by its names, and how it becomes one of ours.

To add a family, write what recognizes its names and what renames them, and list it in :data:`DETECTORS` or
:data:`CLASSIFIERS`. Detectors and their backbones get Detectron2's names, from which
:mod:`vindr_det.training.weights` goes to the engine's; classifiers get timm's.
"""

import re
from collections.abc import Callable, Collection, Iterator, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

import yaml

from vindr_det.training.weights_names import current_layout, detectron2_name, first_level, to_detectron2

State = Mapping[str, Any]
#: Epsilon of both engines' frozen batch norm.
_EPS = 1e-5
_BODY = "backbone.bottom_up."


@dataclass(frozen=True)
class Pixels:
    """What a network's images were in its training, in Detectron2's keys.

    Attributes:
        mean, std: MODEL.PIXEL_MEAN and PIXEL_STD, in the order of the first convolution's channels.
        stride_in_1x1: MODEL.RESNETS.STRIDE_IN_1X1.
    """

    mean: tuple[float, ...]
    std: tuple[float, ...]
    stride_in_1x1: bool


IMAGENET = Pixels((123.675, 116.28, 103.53), (58.395, 57.12, 57.375), False)
MSRA = Pixels((103.53, 116.28, 123.675), (1.0, 1.0, 1.0), True)


@dataclass(frozen=True)
class Family:
    """Weights of one origin.

    Attributes:
        name: for the log.
        recognize: whether a state dict's names are this family's.
        rename: those names, each with the common one.
        class_head: pattern of the common names that depend on the classes; classifiers' are known to timm.
        engine: whose detectors these are; empty for backbones and classifiers.
        convert: values in the common names, of another meaning here.
        pixels: what the images were, where the weights tell.
    """

    name: str
    recognize: Callable[[Collection[str]], bool]
    rename: Callable[[Collection[str]], dict[str, str]]
    class_head: str = ""
    engine: str = ""
    convert: Callable[[State], State] = dict
    pixels: Callable[[State], Pixels | None] = lambda state: None


def family_of(names: Collection[str], families: Collection[Family]) -> Family | None:
    """The first family that has these names."""
    return next((family for family in families if family.recognize(names)), None)


def _begins(*prefixes: str) -> Callable[[Collection[str]], bool]:
    return lambda names: any(name.startswith(prefixes) for name in names)


def _same(names: Collection[str]) -> dict[str, str]:
    return {name: name for name in names}


def _prefixed(rename: Callable[[str], str]) -> Callable[[Collection[str]], dict[str, str]]:
    return lambda names: {name: _BODY + rename(name) for name in names}


def _rename_torchvision(names: Collection[str]) -> dict[str, str]:
    current = current_layout(names)
    common = to_detectron2(current.values(), first_level(current.values()))
    return {name: common[current[name]] for name in names}


def without_eps(state: State) -> State:
    """Batch norms that were frozen with an epsilon of 0, for norms that add one.

    torchvision sets it to 0 for the detectors that it published before version 0.9, where it had been
    ignored. Their files have the pyramid's old names; FCOS came later and has them too.

    Args:
        state: in any names.
    """
    return {key: value - _EPS if key.endswith("running_var") else value for key, value in state.items()}


def _is_before_eps(names: Collection[str]) -> bool:
    return ("backbone.fpn.inner_blocks.0.weight" in names
            and not any("bbox_ctrness" in name for name in names))


def _msra_pixels(state: State) -> Pixels | None:
    """MSRA's ResNets, from which most of Detectron2's zoo was trained, have folded norms: means of 0."""
    means = state.get(f"{_BODY}stem.conv1.norm.running_mean")
    return None if means is None or means.any() else MSRA


_DETECTOR_HEADS = r"^(roi_heads\.box_predictor|roi_heads\.mask_head\.predictor|head\.cls_score)\b"
_BODY_HEADS = rf"^{re.escape(_BODY)}(net\.)?(fc|linear|classifier|head)\b"

#: In the order in which they are tried.
DETECTORS = (
    Family("torchvision detector before 0.9", _is_before_eps, _rename_torchvision, _DETECTOR_HEADS,
           "torchvision", without_eps, lambda state: IMAGENET),
    Family("torchvision detector", _begins("backbone.body.", "backbone.fpn.inner_blocks."),
           _rename_torchvision, _DETECTOR_HEADS, "torchvision", pixels=lambda state: IMAGENET),
    Family("Detectron2 detector", _begins(_BODY, "backbone.fpn_", "proposal_generator."), _same,
           _DETECTOR_HEADS, "detectron2", pixels=_msra_pixels),
    Family("torchvision ResNet", lambda names: {"conv1.weight", "layer1.0.conv1.weight"} <= set(names),
           _prefixed(detectron2_name), _BODY_HEADS, pixels=lambda state: IMAGENET),
    Family("Detectron2 ResNet", _begins("stem.conv1."), _prefixed(str), _BODY_HEADS, pixels=_msra_pixels),
    Family("timm network", _begins("net."), _prefixed(str), _BODY_HEADS),
)


def _rename_densenet(names: Collection[str]) -> dict[str, str]:
    """``denselayer1.norm.1`` was torchvision's name before 0.3, and is that of its published files still."""
    pattern = re.compile(r"(\bdenselayer\d+\.(?:norm|conv))\.([12])\b")
    return {name: pattern.sub(r"\1\2", name) for name in names}


CLASSIFIERS = (
    Family("DenseNet", _begins("features.conv0."), _rename_densenet),
    Family("timm network", lambda names: True, _same),
)


def classifier_family(meta: Mapping[str, Any], own: Collection[str]) -> Family:
    """A classifier of ours, for a detector with its network as backbone: a ResNet, or the same of timm's.

    Args:
        meta: entry ``vindr_classifier`` of its checkpoint.
        own: the detector's names.
    """
    below = [name.partition(".net.")[2] for name in own if ".net." in name]
    rename = partial(_rename_below_net, below) if below else _prefixed(detectron2_name)
    name = yaml.safe_load(meta["config"])["MODEL"]["NAME"]
    return Family(f"our classifier {name}", lambda names: True, rename, _BODY_HEADS,
                  pixels=lambda state: _gray_pixels(meta))


def _rename_below_net(below: Collection[str], names: Collection[str]) -> dict[str, str]:
    sources = {next(filter(set(names).__contains__, _before_wrapping(key)), key): key for key in below}
    return {name: f"{_BODY}net.{sources.get(name, name)}" for name in names}


def _before_wrapping(key: str) -> Iterator[str]:
    """What a name of timm's networks for features may be in its classifiers: theirs join two modules."""
    yield from (key, key.removeprefix("model."))
    module, _, rest = key.partition(".")
    yield from (f"{module[:at]}.{module[at + 1:]}.{rest}" for at, sign in enumerate(module) if sign == "_")


def _gray_pixels(meta: Mapping[str, Any]) -> Pixels | None:
    """Images that were normalized each by itself have none."""
    values = meta.get("normalization") or {"per_image": True}
    if values["per_image"]:
        return None
    mean, std = ((round(255 * values[key], 3),) * 3 for key in ("mean", "std"))
    return Pixels(mean, std, stride_in_1x1=False)
