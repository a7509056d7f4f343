"""Checkpoints of the Detectron2 engine, and ImageNet weights for any Detectron2 checkpointer.

MODEL.WEIGHTS may be a file, a URL, a model of Detectron2's zoo, ``torchvision://<resnet>`` or
``timm://<model>``.
"""

import re
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.checkpoint.c2_model_loading import convert_c2_detectron_names
from detectron2.utils.file_io import PathHandler, PathManager
from iopath.common.file_io import get_cache_dir
from torch import nn

from vindr_det.detection.checkpoint import require_engine
from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path
from vindr_det.training.checkpoint_io import read_file, read_pickle
from vindr_det.training.weights import catalog_state, detector_weights, is_catalog, local_file, tensors
from vindr_det.training.weights_families import DETECTORS, family_of
from vindr_det.training.weights_names import match_suffixes


class VindrCheckpointer(DetectionCheckpointer):
    """Adds our metadata to every checkpoint, and refuses the other engine's weights.

    Args:
        model: the model, also where it is wrapped for several processes.
        cfg: the model's config; its OUTPUT_DIR gets the checkpoints.
        metadata: returns the entry ``vindr``, see :func:`vindr_det.detection.checkpoint.metadata`.
        checkpointables: what a state to resume from has beside the model; see fvcore's ``Checkpointer``.
    """

    def __init__(self, model: nn.Module, cfg: Any, *, metadata: Callable[[], dict[str, Any]],
                 **checkpointables: Any) -> None:
        super().__init__(model, cfg.OUTPUT_DIR, **checkpointables)
        self.cfg, self.metadata = cfg, metadata
        self._source = ""

    def save(self, name: str, **kwargs: Any) -> None:
        """Write a state to resume from; an interrupted write leaves no file."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        self._write(name, {"model": self.model.state_dict(), **states, **kwargs})
        self.tag_last_checkpoint(f"{name}.pth")

    def export(self, name: str, weights: Mapping[str, torch.Tensor]) -> None:
        """Write a state dict to predict with, not to resume from."""
        if self.save_dir and self.save_to_disk:
            self._write(name, {"model": weights})

    def _write(self, name: str, data: dict[str, Any]) -> None:
        with atomic_path(Path(self.save_dir) / f"{name}.pth") as temporary:
            torch.save(data | {"vindr": self.metadata()}, temporary)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Load whatever MODEL.WEIGHTS may name.

        Raises:
            InputError: cannot be read or downloaded, of the other engine, or without a weight that fits.
        """
        self._source = path
        if is_catalog(path):
            self._load_model({"model": catalog_state(path)})
            return {}
        return super().load(str(local_file(path)) if path else path, checkpointables)

    def _load_file(self, filename: str) -> dict[str, Any]:
        """Pickles of model zoos are read without executing what they hold."""
        return read_pickle(filename) if filename.endswith(".pkl") else super()._load_file(filename)

    def _load_model(self, checkpoint: Any) -> None:
        """Load what fits, tell what does not, and refuse a checkpoint that hardly fits; fvcore would warn."""
        state, own = tensors(self._source, checkpoint.pop("model")), self.model.state_dict()
        if checkpoint.get("matching_heuristics"):
            if checkpoint.get("__author__") == "Caffe2":
                state, _ = convert_c2_detectron_names(state)
            state = match_suffixes(state, own)
        state = {key.removeprefix("module."): value for key, value in state.items()}
        fitting = detector_weights(self._source, state, own, "detectron2", self.cfg, checkpoint)
        self.model.load_state_dict(fitting, strict=False)

    def _torch_load(self, f: str) -> dict[str, Any]:
        data = read_file(f)
        require_engine(f, data.get("vindr") or {}, "detectron2")
        return data


class BackboneWeights(PathHandler):
    """Resolves ``torchvision://`` and ``timm://`` to files of ImageNet weights for Detectron2's checkpointer.

    As Detectron2's ``tools/convert-torchvision-to-d2.py`` does: the names are those of Detectron2's ResNet,
    which its checkpointer matches with the names of the backbone's parameters.
    """

    prefixes = ("torchvision://", "timm://")

    def _get_supported_prefixes(self) -> list[str]:
        return list(self.prefixes)

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        target = Path(get_cache_dir()) / "vindr_det" / f"{quote(path, safe='')}.pth"
        with atomic_path(target) as temporary:  # several processes may write the same file
            torch.save({"model": renamed_state(path), "matching_heuristics": True}, temporary)
        return str(target)


def renamed_state(weights: str) -> dict[str, torch.Tensor]:
    """State dict of ``torchvision://...`` or ``timm://...`` in Detectron2's names, without class heads.

    A backbone's are those below ``backbone.bottom_up``.

    Raises:
        InputError: an unknown model, one that is no ResNet or detector, or its weights cannot be downloaded.
    """
    state = catalog_state(weights)
    family = family_of(state, DETECTORS)
    if family is None:
        raise InputError(f"MODEL.WEIGHTS {weights}: expected a ResNet or a detector with one")
    names = family.rename(state)
    values = family.convert({names[key]: value for key, value in state.items()})
    return {key.removeprefix("backbone.bottom_up.") if not family.engine else key: value
            for key, value in values.items()
            if not (key.endswith("batches_tracked") or re.search(family.class_head, key))}


def register_weights() -> None:
    """Make ``torchvision://`` and ``timm://`` known to Detectron2; a second call does nothing."""
    PathManager.register_handler(BackboneWeights())
