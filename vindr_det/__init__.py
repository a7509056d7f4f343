"""Detects and localizes findings on chest X-rays: a Detectron2 plugin that also trains without Detectron2."""

from importlib import import_module
from typing import TYPE_CHECKING, Any

from vindr_det.exceptions import InputError

if TYPE_CHECKING:
    from vindr_det.api.functions import convert, evaluate, fuse, predict, run, train
    from vindr_det.api.loading import load
    from vindr_det.api.model import Model
    from vindr_det.api.result import Result

__version__ = "0.1.0"

__all__ = ["InputError", "Model", "Result", "__version__", "convert", "evaluate", "fuse", "load", "predict",
           "run", "train"]

#: Imported when first asked for: ``import vindr_det`` waits for none of their libraries.
_HOMES = {"load": "loading", "Model": "model", "Result": "result",
          **dict.fromkeys(("convert", "evaluate", "fuse", "predict", "run", "train"), "functions")}


def __getattr__(name: str) -> Any:
    if name not in _HOMES:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(import_module(f"{__name__}.api.{_HOMES[name]}"), name)


def __dir__() -> list[str]:
    return sorted({*globals(), *_HOMES})
