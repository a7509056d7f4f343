"""Detects and localizes findings on chest X-rays: a Detectron2 plugin that also trains without Detectron2."""

from vindr_det.exceptions import InputError

__version__ = "0.1.0"

__all__ = ["InputError", "__version__"]
