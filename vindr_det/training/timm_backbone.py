"""timm's networks as backbones of either engine's detectors.

Any network that yields a pyramid of features will do.

``MODEL.BACKBONE.NAME`` is ``build_timm_fpn_backbone`` (R-CNNs) or ``build_retinanet_timm_fpn_backbone``
(dense detectors), ``VINDR.TIMM_MODEL`` the network, and ``MODEL.WEIGHTS: timm://...`` its weights.
"""

import difflib
from collections.abc import Sequence
from typing import Any, TypeVar

import torch
from torch import Tensor, nn

from vindr_det.exceptions import InputError

R_CNN, DENSE = "build_timm_fpn_backbone", "build_retinanet_timm_fpn_backbone"
_CATALOG = "timm://"


def wanted(cfg: Any) -> bool:
    """Whether a config has a backbone of timm's."""
    return cfg.MODEL.BACKBONE.NAME in (R_CNN, DENSE)


class TimmBody(nn.Module):
    """Features of a timm network at given strides.

    Args:
        name: the network, such as ``convnext_tiny``.
        strides: such as ``(4, 8, 16, 32)``.
        frozen_norm: fix the statistics of batch norm, as is usual for few images per batch.

    Raises:
        InputError: timm has no such network, or the network has no features at these strides.
    """

    def __init__(self, name: str, strides: Sequence[int], frozen_norm: bool = False) -> None:
        from timm.layers import freeze_batch_norm_2d

        super().__init__()
        with torch.device("meta"):
            reductions = _create(name).feature_info.reduction()
        missing = sorted(set(strides).difference(reductions))
        if missing:
            raise InputError(f"VINDR.TIMM_MODEL {name}: has features at strides {reductions}, expected "
                             f"{list(strides)} among them")
        net = _create(name, out_indices=tuple(reductions.index(stride) for stride in strides))
        self.net = freeze_batch_norm_2d(net) if frozen_norm else net
        self.channels: list[int] = net.feature_info.channels()
        self._channels_last = str(getattr(net, "output_fmt", "NCHW")).endswith("NHWC")

    def forward(self, images: Tensor) -> list[Tensor]:
        """(B, 3, H, W) images to (B, C, H / stride, W / stride) features, one tensor per stride."""
        features = self.net(images)
        if not self._channels_last:
            return features
        return [part.permute(0, 3, 1, 2).contiguous() for part in features]


Body = TypeVar("Body", bound=TimmBody)


def from_config(cfg: Any, body: type[Body] = TimmBody) -> Body:
    """The backbone's body that a config describes, as an engine's own subclass of :class:`TimmBody`.

    Raises:
        InputError: a key that timm's networks cannot honor.
    """
    strides = (8, 16, 32) if cfg.MODEL.BACKBONE.NAME == DENSE else (4, 8, 16, 32)
    if cfg.MODEL.BACKBONE.FREEZE_AT:
        raise InputError(f"MODEL.BACKBONE.FREEZE_AT is {cfg.MODEL.BACKBONE.FREEZE_AT}: a backbone of timm's "
                         "is trained whole, expected 0")
    norm = cfg.MODEL.RESNETS.NORM
    if norm not in ("FrozenBN", "BN"):
        raise InputError(f"MODEL.RESNETS.NORM is {norm!r}: a backbone of timm's has its own norms, expected "
                         "FrozenBN, or BN to train them")
    return body(cfg.VINDR.TIMM_MODEL, strides, norm == "FrozenBN")


def is_timm(weights: str) -> bool:
    """Whether ``weights`` names a network of timm's catalog."""
    return weights.startswith(_CATALOG)


def pretrained_state(weights: str) -> dict[str, Any]:
    """State dict of ``timm://<model>`` or ``timm://<model>@<file>``, in the names of TimmBody's ``net``.

    Without a file, timm downloads the weights.

    Raises:
        InputError: an unknown model, or its weights cannot be loaded.
    """
    name, _, file = weights.removeprefix(_CATALOG).partition("@")
    options = {"pretrained_cfg_overlay": {"file": file}} if file else {}
    try:
        net = _create(name, pretrained=True, **options)
    except InputError:
        raise
    except Exception as error:  # timm's and its hub's errors have no base of their own
        raise InputError(
            f"MODEL.WEIGHTS {weights}: cannot be loaded ({' '.join(str(error).split())[:200]}); give a file "
            f"of timm's as MODEL.WEIGHTS timm://{name}@FILE, or train from random weights: MODEL.WEIGHTS '' "
            "MODEL.RESNETS.NORM BN") from error
    return net.state_dict()


def require_model(key: str, name: str) -> None:
    """Refuse a name that timm does not know.

    Raises:
        InputError: names the key, the value and the nearest network.
    """
    import timm

    if not timm.is_model(name):
        near = difflib.get_close_matches(name.split(".")[0], timm.list_models(), n=1)
        hint = f"; did you mean {near[0]}?" if near else ""
        raise InputError(f"{key} {name!r}: timm has no such network{hint}")


def _create(name: str, **options: Any) -> Any:
    import timm

    require_model("VINDR.TIMM_MODEL", name)
    try:
        try:  # transformers otherwise take the one size that they were trained with
            return timm.create_model(name, features_only=True, strict_img_size=False, **options)
        except TypeError:
            return timm.create_model(name, features_only=True, **options)
    except (RuntimeError, AttributeError, NotImplementedError) as error:
        if options.get("pretrained"):
            raise
        raise InputError(f"VINDR.TIMM_MODEL {name}: gives no pyramid of features ({error})") from error
