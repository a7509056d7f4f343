"""Which half precision a training or a prediction computes in, and what it does not compute in it.

Networks compute in it; what they say is taken as float32, and so are anchors, proposals, true boxes
and all that is done with them: bfloat16 has 8 bits, which is a grid of 4 pixels at 1,000.
"""

from typing import Any

import torch
from torch import Tensor, nn


def half_precision(cfg: Any) -> torch.dtype | None:
    """As SOLVER.AMP.ENABLED and VINDR.AMP_DTYPE say; None for none.

    float16 needs a GPU; without one such a config computes in float32.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if cfg.VINDR.AMP_DTYPE == "bfloat16":
        return torch.bfloat16
    return torch.float16 if str(cfg.MODEL.DEVICE).startswith("cuda") else None


def autocast(device: Any, half: torch.dtype | None) -> torch.autocast:
    """A context in which networks on a device compute in a half precision; None for none."""
    return torch.autocast(torch.device(device).type, half, enabled=half is not None)


def in_float32(_: nn.Module, __: Any, output: Any) -> Any:
    """Forward hook: the tensors in a module's output, however nested, as float32."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {key: in_float32(_, __, value) for key, value in output.items()}
    return type(output)(in_float32(_, __, value) for value in output)
