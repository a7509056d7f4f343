"""Optimizers by name, and which parameters weight decay applies to.

To add an optimizer, give it a name in :data:`OPTIMIZERS`.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import nn

Group = dict[str, Any]

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


_State = dict[str, Any]


def _sgd(groups: Iterable[Group], lr: float, momentum: float, nesterov: bool, fused: bool) -> Any:
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov, fused=fused)


def _adamw(groups: Iterable[Group], lr: float, momentum: float, nesterov: bool, fused: bool) -> Any:
    """It has no momentum of SGD's kind."""
    return torch.optim.AdamW(groups, lr=lr, fused=fused)


def _adam(groups: Iterable[Group], lr: float, momentum: float, nesterov: bool, fused: bool) -> Any:
    """Weight decay is a part of its gradient (an L2 penalty), unlike AdamW's."""
    return torch.optim.Adam(groups, lr=lr, fused=fused)


#: Name in a config -> optimizer.
OPTIMIZERS: dict[str, Callable[[Iterable[Group], float, float, bool, bool], torch.optim.Optimizer]] = {
    "SGD": _sgd,
    "AdamW": _adamw,
    "Adam": _adam,
}
#: Devices for which an optimizer's step is a single kernel.
_FUSED_ON = ("cpu", "cuda")


def build_optimizer(
    name: str, groups: Iterable[Group], lr: float, momentum: float = 0.9, nesterov: bool = False,
    fused: bool = True,
) -> torch.optim.Optimizer:
    """An optimizer of :data:`OPTIMIZERS`.

    Args:
        name: such as ``AdamW``.
        groups: parameter groups, each with its ``weight_decay``.
        lr: base learning rate.
        momentum: of SGD.
        nesterov: whether SGD's momentum is Nesterov's.
        fused: update all weights by a single kernel, where the device has one. Not for mixed precision with
            clipped gradients: such a kernel also scales them, after they would be clipped.

    Raises:
        KeyError: a name that :data:`OPTIMIZERS` does not have; configs refuse it when they are read.
    """
    groups = list(groups)
    fused &= all(weight.device.type in _FUSED_ON and weight.is_floating_point()
                 for group in groups for weight in group["params"])
    optimizer = OPTIMIZERS[name](groups, lr, momentum, nesterov, fused)
    optimizer.register_load_state_dict_pre_hook(_as_built)
    optimizer.register_load_state_dict_post_hook(_in_memory_formats)
    return optimizer


def can_fuse(cfg: Any) -> bool:
    """Whether a detector's config leaves :func:`build_optimizer` its single kernel.

    Lightning refuses to clip gradients in mixed precision with such a kernel, also of bfloat16.
    """
    return not (cfg.SOLVER.AMP.ENABLED and cfg.SOLVER.CLIP_GRADIENTS.ENABLED)


def _as_built(optimizer: torch.optim.Optimizer, state: _State) -> _State:
    """A state of another device, or of an earlier version, must not choose the kernel."""
    own = optimizer.param_groups[0]
    kernel = {key: own[key] for key in ("fused", "foreach") if key in own}
    return state | {"param_groups": [group | kernel for group in state["param_groups"]]}


def _in_memory_formats(optimizer: torch.optim.Optimizer) -> None:
    """Kernels expect the state of a weight in the weight's memory format."""
    for weight, state in optimizer.state.items():
        for key, value in state.items():
            if isinstance(value, torch.Tensor) and value.shape == weight.shape:
                state[key] = torch.empty_like(weight, dtype=value.dtype).copy_(value)


def groups_by_norm(network: nn.Module, weight_decay: float, weight_decay_norm: float) -> list[Group]:
    """Two groups of the trained parameters, as detectors have them: weights and biases, and norms' own."""
    norms = {id(parameter) for module in network.modules() if isinstance(module, _NORMS)
             for parameter in module.parameters(recurse=False)}
    trained = [parameter for parameter in network.parameters() if parameter.requires_grad]
    return [{"params": [p for p in trained if id(p) not in norms], "weight_decay": weight_decay},
            {"params": [p for p in trained if id(p) in norms], "weight_decay": weight_decay_norm}]


def groups_by_dimension(
    network: nn.Module, weight_decay: float, without: Collection[str] = ()
) -> list[Group]:
    """Two groups of the trained parameters, as timm's classifiers have them: no decay of norms and biases
    (all that have one dimension) nor of the parameters named in ``without``, and all others."""
    from timm.optim import param_groups_weight_decay

    return param_groups_weight_decay(network, weight_decay, no_weight_decay_list=without)
