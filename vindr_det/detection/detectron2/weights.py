"""``torchvision://<resnet>`` and ``timm://<model>`` as MODEL.WEIGHTS of any Detectron2 checkpointer."""

from pathlib import Path
from typing import Any
from urllib.parse import quote

import torch
from detectron2.utils.file_io import PathHandler, PathManager
from iopath.common.file_io import get_cache_dir

from vindr_det.files import atomic_path
from vindr_det.training.weights import backbone_state, detectron2_name


class BackboneWeights(PathHandler):
    """Gives a catalog's ImageNet weights as Detectron2's ``tools/convert-torchvision-to-d2.py`` writes
    them: in Detectron2's names, which its checkpointer matches with those of the backbone's parameters."""

    prefixes = ("torchvision://", "timm://")

    def _get_supported_prefixes(self) -> list[str]:
        return list(self.prefixes)

    def _get_local_path(self, path: str, force: bool = False, **kwargs: Any) -> str:
        target = Path(get_cache_dir()) / "vindr_det" / f"{quote(path, safe='')}.pth"
        with atomic_path(target) as temporary:  # several processes may write the same
            torch.save({"model": in_detectron2s_names(path), "matching_heuristics": True}, temporary)
        return str(target)


def in_detectron2s_names(weights: str) -> dict[str, Any]:
    """State dict of ``torchvision://...`` or ``timm://...``, named as below ``backbone.bottom_up``.

    Raises:
        InputError: an unknown model, or its weights cannot be downloaded.
    """
    return {detectron2_name(key): value for key, value in backbone_state(weights).items()
            if not key.endswith("batches_tracked")}


def register_weights() -> None:
    """Make the catalogs known to Detectron2; again does nothing."""
    PathManager.register_handler(BackboneWeights())
