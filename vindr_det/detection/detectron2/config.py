"""Detectron2's config with the VINDR node."""

from typing import Any

from detectron2.config import CfgNode, get_cfg

from vindr_det.config_schema import vindr_node
from vindr_det.detection.detectron2.backbones import register_backbones
from vindr_det.detection.detectron2.weights import register_weights


def add_vindr_config(cfg: Any) -> None:
    """Add ``cfg.VINDR``, and the backbones and ImageNet weights that our configs name; nothing else
    is touched."""
    register_backbones()
    register_weights()
    cfg.VINDR = CfgNode(vindr_node())


def get_vindr_cfg() -> Any:
    """``get_cfg()`` with our node, for our trainer."""
    cfg = get_cfg()
    add_vindr_config(cfg)
    cfg.DATALOADER.ASPECT_RATIO_GROUPING = False  # batches follow the order of the seed
    return cfg
