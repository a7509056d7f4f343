"""The optimizer of the Detectron2 engine."""

from typing import Any

import torch
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from torch import nn

from vindr_det.training import optimizer as optimizers


def build_optimizer(cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
    """VINDR.OPTIMIZER with Detectron2's groups of parameters.

    CLIP_TYPE full_model, which Detectron2 has for LazyConfigs alone, is left to the step.
    """
    if clips_full_model(cfg):
        cfg = cfg.clone()
        cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
    decay = cfg.SOLVER.WEIGHT_DECAY
    groups = get_default_optimizer_params(
        model, base_lr=cfg.SOLVER.BASE_LR, weight_decay=None if cfg.VINDR.OPTIMIZER == "SGD" else decay,
        weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM, bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
        weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS)
    return maybe_add_gradient_clipping(cfg, optimizers.build_optimizer(
        cfg.VINDR.OPTIMIZER, [{"weight_decay": decay} | group for group in groups], cfg.SOLVER.BASE_LR,
        cfg.SOLVER.MOMENTUM, cfg.SOLVER.NESTEROV, optimizers.can_fuse(cfg)))


def clips_full_model(cfg: Any) -> bool:
    """Whether the norm of the whole gradient is clipped."""
    clip = cfg.SOLVER.CLIP_GRADIENTS
    return clip.ENABLED and clip.CLIP_TYPE == "full_model"
