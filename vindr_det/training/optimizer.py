"""Optimizers by name, and which parameters weight decay applies to.

To add an optimizer, give it a name in :data:`OPTIMIZERS`.
"""

from collections.abc import Callable, Collection, Iterable
from typing import Any

import torch
from torch import nn

Group = dict[str, Any]

_NORMS = (nn.modules.batchnorm._BatchNorm, nn.GroupNorm, nn.LayerNorm)


def _sgd(groups: Iterable[Group], lr: float, momentum: float, nesterov: bool) -> torch.optim.Optimizer:
    return torch.optim.SGD(groups, lr=lr, momentum=momentum, nesterov=nesterov)


def _adamw(groups: Iterable[Group], lr: float, momentum: float, nesterov: bool) -> torch.optim.Optimizer:
    """It has no momentum of SGD's kind."""
    return torch.optim.AdamW(groups, lr=lr)


def _adam(groups: Iterable[Group], lr: float, momentum: float, nesterov: bool) -> torch.optim.Optimizer:
    """Weight decay is a part of its gradient (an L2 penalty), unlike AdamW's."""
    return torch.optim.Adam(groups, lr=lr)


#: Name in a config -> optimizer.
OPTIMIZERS: dict[str, Callable[[Iterable[Group], float, float, bool], torch.optim.Optimizer]] = {
    "SGD": _sgd,
    "AdamW": _adamw,
    "Adam": _adam,
}


def build_optimizer(
    name: str, groups: Iterable[Group], lr: float, momentum: float = 0.9, nesterov: bool = False
) -> torch.optim.Optimizer:
    """An optimizer of :data:`OPTIMIZERS`.

    Args:
        name: such as ``AdamW``.
        groups: parameter groups, each with its ``weight_decay``.
        lr: base learning rate.
        momentum: of SGD.
        nesterov: whether SGD's momentum is Nesterov's.

    Raises:
        KeyError: a name that :data:`OPTIMIZERS` does not have; configs refuse it when they are read.
    """
    return OPTIMIZERS[name](groups, lr, momentum, nesterov)


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
