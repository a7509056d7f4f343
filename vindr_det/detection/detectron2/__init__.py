"""The Detectron2 plugin; the only package that imports detectron2.

In your own Detectron2 project::

    from vindr_det.detection.detectron2 import (
        ValidationLoss, VindrEvaluator, VindrMapper, get_vindr_cfg, register_datasets)
"""

from vindr_det.detection.detectron2.config import add_vindr_config, get_vindr_cfg
from vindr_det.detection.detectron2.datasets import register_datasets, to_dicts
from vindr_det.detection.detectron2.evaluator import VindrEvaluator
from vindr_det.detection.detectron2.hooks import BestModel, ValidationLoss
from vindr_det.detection.detectron2.mapper import VindrMapper
from vindr_det.detection.detectron2.predictor import Detectron2Predictor
from vindr_det.detection.detectron2.trainer import VindrTrainer

__all__ = [
    "BestModel",
    "Detectron2Predictor",
    "ValidationLoss",
    "VindrEvaluator",
    "VindrMapper",
    "VindrTrainer",
    "add_vindr_config",
    "get_vindr_cfg",
    "register_datasets",
    "to_dicts",
]
