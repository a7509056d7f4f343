"""The Detectron2 plugin; the only package that imports detectron2.

In your own Detectron2 project::

    from vindr_det.detection.detectron2 import (
        ValidationLoss, VindrEvaluator, VindrMapper, add_vindr_config, before_writers, register_datasets)

docs/detectron2.md has the training script that they make.
"""

from vindr_det.detection.detectron2.config import add_vindr_config, get_vindr_cfg
from vindr_det.detection.detectron2.datasets import register_datasets, to_dicts
from vindr_det.detection.detectron2.evaluator import VindrEvaluator
from vindr_det.detection.detectron2.hooks import BestCheckpoint, ValidationLoss, before_writers, mean_losses
from vindr_det.detection.detectron2.mapper import VindrMapper
from vindr_det.detection.detectron2.predictor import Detectron2Predictor
from vindr_det.detection.detectron2.trainer import VindrTrainer

__all__ = [
    "BestCheckpoint",
    "Detectron2Predictor",
    "ValidationLoss",
    "VindrEvaluator",
    "VindrMapper",
    "VindrTrainer",
    "add_vindr_config",
    "before_writers",
    "get_vindr_cfg",
    "mean_losses",
    "register_datasets",
    "to_dicts",
]
