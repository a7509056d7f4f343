"""Which half precision a training or a prediction computes in."""

from typing import Any

import torch


def half_precision(cfg: Any) -> torch.dtype | None:
    """As SOLVER.AMP.ENABLED and VINDR.AMP_DTYPE say; None for none.

    float16 needs a GPU; without one such a config computes in float32.
    """
    if not cfg.SOLVER.AMP.ENABLED:
        return None
    if cfg.VINDR.AMP_DTYPE == "bfloat16":
        return torch.bfloat16
    return torch.float16 if str(cfg.MODEL.DEVICE).startswith("cuda") else None
