"""MODEL.WEIGHTS as a model's state dict: from torchvision's or timm's catalog, a URL, or a local file.

``torchvision://resnet50`` and ``timm://convnext_tiny`` are the same ImageNet weights in either engine, and
``torchvision://fasterrcnn_resnet50_fpn`` or a file of Detectron2's zoo the same detector.
"""

import logging
import re
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.error import URLError
from urllib.parse import urlparse

from vindr_det.config_schema import label_set_of_config
from vindr_det.config_values import value_of
from vindr_det.exceptions import InputError
from vindr_det.files import existing_file
from vindr_det.training import timm_backbone
from vindr_det.training.checkpoint_io import read_file, read_pickle
from vindr_det.training.weights_account import Account, account, tell
from vindr_det.training.weights_classes import ClassMap, class_agnostic, label_set_of_checkpoint
from vindr_det.training.weights_families import CLASSIFIERS, DETECTORS, Family, classifier_family, family_of
from vindr_det.training.weights_names import first_level, to_torchvision

log = logging.getLogger(__name__)

_CATALOG = "torchvision://"
#: Detectron2's prefix of its zoo, and where the zoo is.
_ZOO = "detectron2://", "https://dl.fbaipublicfiles.com/detectron2/"


def is_catalog(weights: str) -> bool:
    """Whether ``weights`` names a model of torchvision's or timm's catalog."""
    return weights.startswith(_CATALOG) or timm_backbone.is_timm(weights)


def catalog_state(weights: str) -> dict[str, Any]:
    """State dict of a catalog's model in its own names, those of timm's below ``net.``.

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
    return read_file(_download(entry.url, weights))


def file_data(weights: str) -> dict[str, Any]:
    """A catalog's model, a file, or what a URL names, with its tensors by name under ``model``.

    Raises:
        InputError: not there, cannot be downloaded, or holds no tensors.
    """
    if is_catalog(weights):
        return {"model": catalog_state(weights)}
    path = local_file(weights)
    data = read_pickle(path) if path.suffix == ".pkl" else read_file(path)
    state = next((data[key] for key in ("model", "state_dict") if isinstance(data.get(key), dict)), data)
    return data | {"model": tensors(weights, state)}


def tensors(weights: str, state: Mapping[str, Any]) -> dict[str, Any]:
    """The tensors and numpy arrays of a state dict, as tensors.

    Raises:
        InputError: there are none.
    """
    import numpy as np
    import torch

    kept = {key: torch.as_tensor(value) for key, value in state.items()
             if isinstance(value, (torch.Tensor, np.ndarray))}
    if not kept:
        raise InputError(f"MODEL.WEIGHTS {weights}: holds no tensors, expected a state dict")
    return kept


def local_file(weights: str) -> Path:
    """Path of a local file, or of a downloaded URL.

    Raises:
        InputError: no such file, or the URL cannot be downloaded.
    """
    url = weights.replace(*_ZOO, 1) if weights.startswith(_ZOO[0]) else weights
    if urlparse(url).scheme in ("http", "https"):
        return _download(url, weights)
    return existing_file(weights)


def _download(url: str, weights: str) -> Path:
    import torch

    path = urlparse(url).path
    # The zoo has several files of one name, such as R-50.pkl: they keep their folders.
    name = path.removeprefix("/") if url.startswith(_ZOO[1]) else Path(path).name
    target = Path(torch.hub.get_dir()) / "checkpoints" / name
    if not target.is_file():
        target.parent.mkdir(parents=True, exist_ok=True)
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


def detector_weights(
    weights: str, state: Mapping[str, Any], own: Mapping[str, Any], engine: str, cfg: Any = None,
    entries: Mapping[str, Any] | None = None,
) -> dict[str, Any]:
    """The tensors of a file that fit a detector, in its names; the log tells what became of each.

    A first convolution for gray images is spread over three equal channels. Of our checkpoint of another
    label set the class heads have the rows of the findings that both sets have, and of the background.

    Args:
        weights: name of the file.
        state: its tensors, in the names of a family of detectors, or in the model's.
        own: the model's tensors.
        engine: whose detector the model is.
        cfg: its config, to compare with what the weights expect; None compares nothing.
        entries: what else the file has: ``vindr`` of our detectors, ``vindr_classifier`` of our classifiers.

    Raises:
        InputError: most of the file does not fit.
    """
    meta, classifier = ((entries or {}).get(key) for key in ("vindr", "vindr_classifier"))
    family = classifier_family(classifier, own) if classifier else family_of(state, DETECTORS)
    if family is None:
        return _told(weights, "an unknown family", state, account(state, {key: key for key in state}, own))
    common = family.rename(state)
    values = dict(family.convert({common[key]: value for key, value in state.items()}))
    crosses = family.engine not in ("", engine)
    if crosses:
        values = _other_anchor_order(values)
    heads = [key for key, name in common.items() if re.search(family.class_head, name)]
    names = _engine_names(common, own, engine)
    if cfg is not None and meta is None:
        _compare_pixels(weights, family, values, cfg)
    classes = None if cfg is None or meta is None else _class_map(weights, meta, cfg)
    if classes is not None:
        values |= {common[key]: classes.apply(common[key], values[common[key]], own[names[key]])
                   for key in heads if names[key] in own}
    ready = {key: _for_colors(values[name], own.get(names[key])) for key, name in common.items()}
    return _told(weights, family.name, ready, account(ready, names, own, heads, crosses))


def _class_map(weights: str, meta: Mapping[str, Any], cfg: Any) -> ClassMap | None:
    source, target = label_set_of_checkpoint(meta), label_set_of_config(cfg)
    if source.findings == target.findings:
        return None
    agnostic = class_agnostic(cfg) or class_agnostic(meta.get("config", "{}"))
    classes = ClassMap.between(source, target, cfg.VINDR.ENGINE, agnostic)
    classes.tell(weights)
    return classes


def _for_colors(value: Any, own: Any) -> Any:
    if own is not None and own.ndim == 4 and value.shape == (len(own), 1, *own.shape[2:]) != own.shape:
        return value.expand_as(own) / own.shape[1]
    return value


def _told(weights: str, family: str, state: Mapping[str, Any], told: Account) -> dict[str, Any]:
    tell(weights, family, told, state)
    return {name: state[key] for key, name in told.used.items()}


def _engine_names(common: Mapping[str, str], own: Mapping[str, Any], engine: str) -> dict[str, str]:
    """The file's names, each with that in an engine's model."""
    if engine == "torchvision":
        theirs = to_torchvision(common.values(), first_level(own))
        return {key: theirs[name] for key, name in common.items()}
    if any(name.startswith("backbone.bottom_up.") for name in own):
        return dict(common)
    return {key: name.replace("backbone.bottom_up.", "backbone.") for key, name in common.items()}


def _other_anchor_order(state: Mapping[str, Any]) -> dict[str, Any]:
    """RetinaNet's three sizes and three ratios, which one engine has in the other's reverse order."""
    return {key: value.unflatten(0, (3, 3, 4)).transpose(0, 1).flatten(0, 2)
            if key.startswith("head.bbox_pred.") and len(value) == 36 else value
            for key, value in state.items()}


def _compare_pixels(weights: str, family: Family, state: Mapping[str, Any], cfg: Any) -> None:
    """Warn of images, or strides, other than those that the weights were trained with."""
    expected = family.pixels(state)
    if expected is None:
        return
    keys: dict[str, Any] = {"MODEL.PIXEL_MEAN": list(expected.mean), "MODEL.PIXEL_STD": list(expected.std)}
    if cfg.MODEL.RESNETS.DEPTH >= 50 and not timm_backbone.wanted(cfg):
        keys["MODEL.RESNETS.STRIDE_IN_1X1"] = expected.stride_in_1x1
    differing = {key: value for key, value in keys.items()
                 if value != (list(have) if isinstance(have := value_of(cfg, key), (list, tuple)) else have)}
    if differing:
        log.warning("%s: was trained with %s, which the config has otherwise: set them", weights,
                    ", ".join(f"{key} {value}" for key, value in differing.items()))


def classifier_weights(
    weights: str, state: Mapping[str, Any], own: Mapping[str, Any], meta: Mapping[str, Any]
) -> dict[str, Any]:
    """The tensors of a file that fit one of timm's classifiers; the log tells what became of each.

    A first convolution for colors is summed into a single channel, which gives for gray images what the
    colors gave for three equal channels.

    Args:
        weights: name of the file.
        state: its tensors, in timm's names or those of a family of classifiers.
        own: the classifier's tensors.
        meta: timm's ``pretrained_cfg``, which names the ``first_conv`` and the ``classifier``.

    Raises:
        InputError: most of the file does not fit.
    """
    from timm.models import adapt_input_conv

    family = family_of(state, CLASSIFIERS) or CLASSIFIERS[-1]
    names, ready = family.rename(state), dict(state)
    convolutions, classifiers = (_layers(meta.get(key)) for key in ("first_conv", "classifier"))
    heads = [key for key, name in names.items() if name.startswith(classifiers)]
    for key, name in names.items():
        if name.startswith(convolutions) and name in own and state[key].ndim == 4:
            ready[key] = adapt_input_conv(own[name].shape[1], state[key], base_chans=state[key].shape[1])
    return _told(weights, family.name, ready, account(ready, names, own, heads))


def _layers(names: Any) -> tuple[str, ...]:
    """Beginnings of the parameters of layers, of which timm names a single, several or none."""
    return tuple(f"{name}." for name in ([names] if isinstance(names, str) else names or ()))


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
