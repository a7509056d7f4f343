"""MODEL.WEIGHTS as a state dict: from torchvision's or timm's catalog, a URL, or a local file.

``torchvision://resnet50`` and ``timm://convnext_tiny`` are the same ImageNet weights in either engine.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

from vindr_det.exceptions import InputError
from vindr_det.files import existing_file
from vindr_det.training import timm_backbone
from vindr_det.training.checkpoint_io import read_file

log = logging.getLogger(__name__)

_CATALOG = "torchvision://"


def is_backbone(weights: str) -> bool:
    """Whether ``weights`` names an ImageNet classifier of torchvision's or timm's catalog."""
    return weights.startswith(_CATALOG) or timm_backbone.is_timm(weights)


def backbone_state(weights: str) -> dict[str, Any]:
    """State dict of a catalog's model without its classifier, in torchvision's names or below ``net.``.

    Raises:
        InputError: an unknown model, or its weights cannot be downloaded.
    """
    from torchvision.models import get_model_weights

    if timm_backbone.is_timm(weights):
        return {f"net.{key}": value for key, value in timm_backbone.pretrained_state(weights).items()}
    name = weights.removeprefix(_CATALOG)
    try:
        entry = get_model_weights(name).DEFAULT
    except ValueError as error:
        raise InputError(f"MODEL.WEIGHTS {weights}: torchvision has no model {name!r}") from error
    state = read_file(_download(entry.url, weights))
    return {key: value for key, value in state.items() if not key.startswith("fc.")}


def local_file(weights: str) -> Path:
    """Path of a local file, or of a downloaded URL.

    Raises:
        InputError: no such file, or the URL cannot be downloaded.
    """
    if urlparse(weights).scheme in ("http", "https"):
        return _download(weights, weights)
    return existing_file(weights)


def _download(url: str, weights: str) -> Path:
    import torch

    folder = Path(torch.hub.get_dir()) / "checkpoints"
    target = folder / Path(urlparse(url).path).name
    if not target.is_file():
        folder.mkdir(parents=True, exist_ok=True)
        log.info("downloading %s", url)
        try:
            torch.hub.download_url_to_file(url, str(target), progress=True)
        except (URLError, OSError) as error:
            raise InputError(
                f"MODEL.WEIGHTS {weights}: cannot be downloaded ({error}); put the file at "
                f"{target}, or train from random weights: MODEL.WEIGHTS '' "
                "MODEL.RESNETS.NORM BN MODEL.BACKBONE.FREEZE_AT 0"
            ) from error
    return target


def filter_compatible(weights: str, state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, Any]:
    """The weights of a file that fit a model by name and shape; the log names those that do not.

    A head for another number of classes has other shapes: it is left out, and so starts from random weights.

    Args:
        weights: name of the file, for the log.
        state: its state dict.
        own: state dict of the model.

    Raises:
        InputError: nothing fits.
    """
    compatible = {k: v for k, v in state.items() if k in own and own[k].shape == v.shape}
    if not compatible:
        raise InputError(f"MODEL.WEIGHTS {weights}: none of its {len(state)} weights has a place in "
                         "this model")
    log.info("%s: %d of the model's %d weights loaded", weights, len(compatible), len(own))
    for difference, names in _differences(state, own).items():
        if names:
            more = f" and {len(names) - 3} more" if len(names) > 3 else ""
            log.warning("%s: weights %s: %s%s", weights, difference, ", ".join(names[:3]), more)
    return compatible


def require_same_model(weights: str, state: Mapping[str, Any], own: Mapping[str, Any]) -> None:
    """Refuse weights of another model.

    Args:
        weights: name of the file.
        state: its state dict.
        own: state dict of the model.

    Raises:
        InputError: names the first weight that differs.
    """
    counters = "num_batches_tracked"  # which older checkpoints may have and frozen norms lack
    theirs, ours = ({key: value for key, value in part.items() if not key.endswith(counters)}
                    for part in (state, own))
    for difference, names in _differences(theirs, ours).items():
        if names:
            raise InputError(f"{weights}: {len(names)} weights {difference.partition(',')[0]}, such as "
                             f"{names[0]}; expected those of the model that the config describes")


def _differences(state: Mapping[str, Any], own: Mapping[str, Any]) -> dict[str, list[str]]:
    """Names of the weights in which a file and a model differ, by kind of difference."""
    return {
        "of another shape, which start from random values": [
            f"{k} ({tuple(state[k].shape)} there, {tuple(own[k].shape)} here)"
            for k in state if k in own and own[k].shape != state[k].shape],
        "that it lacks": [k for k in own if k not in state],
        "that have no place here": [k for k in state if k not in own],
    }


_RENAMED = (
    (r"^(conv1|bn1)\b", r"stem.\1"),
    (r"^layer(\d)", lambda m: f"res{int(m[1]) + 1}"),
    (r"\bbn(\d)\b", r"conv\1.norm"),
    (r"downsample\.0", "shortcut"),
    (r"downsample\.1", "shortcut.norm"),
)


def detectron2_name(key: str) -> str:
    """Name in Detectron2's ResNet of a parameter of torchvision's ResNet."""
    if key.startswith("net."):  # timm's names are the same in both engines
        return key
    for pattern, name in _RENAMED:
        key = re.sub(pattern, name, key)
    return key
