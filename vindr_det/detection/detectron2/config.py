"""Detectron2's config with the VINDR node."""

from typing import Any

from detectron2.config import CfgNode, get_cfg

from vindr_det.config import vindr_node


def add_vindr_config(cfg: Any) -> None:
    """Add ``cfg.VINDR``; nothing else is touched."""
    cfg.VINDR = CfgNode(vindr_node())


def get_vindr_cfg() -> Any:
    """``get_cfg()`` with our node."""
    cfg = get_cfg()
    add_vindr_config(cfg)
    return cfg
