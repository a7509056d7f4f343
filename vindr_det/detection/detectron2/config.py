"""Detectron2's config with the VINDR node."""

from typing import Any

from detectron2.config import CfgNode, get_cfg

from vindr_det.config import vindr_node
from vindr_det.detection.detectron2.backbones import register_backbones


def add_vindr_config(cfg: Any) -> None:
    """Add ``cfg.VINDR`` and the backbones that its keys describe; nothing else is touched."""
    register_backbones()
    cfg.VINDR = CfgNode(vindr_node())


def get_vindr_cfg() -> Any:
    """``get_cfg()`` with our node."""
    cfg = get_cfg()
    add_vindr_config(cfg)
    return cfg
