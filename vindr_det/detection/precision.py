"""Half precision, in training and in prediction.

Networks compute in half precision. Their outputs become float32, and so do anchors, proposals and true boxes:
bfloat16 has 8 significant bits, so coordinates near 1,000 would lie on a grid of 4 pixels.
"""

from typing import Any

import torch
from torch import Tensor, nn


def half_precision(cfg: Any) -> torch.dtype | None:
    """The type of SOLVER.AMP.ENABLED and VINDR.AMP_DTYPE; None for float32.

    float16 needs a GPU; on the CPU a config that asks for it computes in float32.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if cfg.VINDR.AMP_DTYPE == "bfloat16":
        return torch.bfloat16
    return torch.float16 if str(cfg.MODEL.DEVICE).startswith("cuda") else None


def autocast(device: Any, half: torch.dtype | None) -> torch.autocast:
    """A context in which networks on a device compute in ``half`` precision; None for float32."""
    return torch.autocast(torch.device(device).type, half, enabled=half is not None)


def in_float32(_: nn.Module, __: Any, output: Any) -> Any:
    """Forward hook: the tensors in a module's output, however nested, as float32."""
    if isinstance(output, Tensor):
        return output.float()
    if isinstance(output, dict):
        return {key: in_float32(_, __, value) for key, value in output.items()}
    return type(output)(in_float32(_, __, value) for value in output)
