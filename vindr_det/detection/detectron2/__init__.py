"""The Detectron2 plugin: mapper, trainer, hooks, evaluator, predictor. No other folder imports detectron2.

In: a config, records, weights. Out: checkpoints, and Predictions on images. The rest of the package imports
:mod:`.engine` alone. In your own Detectron2 project::

    from vindr_det.detection.detectron2 import (
        ValidationLoss, VindrEvaluator, VindrMapper, add_vindr_config, before_writers, build_model,
        follow_label_set, label_set_of_config, register_datasets)

docs/detectron2.md has a training script that is made of them.
"""

from vindr_det.config_schema import label_set_of_config
from vindr_det.detection.detectron2.architectures import build_model
from vindr_det.detection.detectron2.config import add_vindr_config, follow_label_set, get_vindr_cfg
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
    "build_model",
    "follow_label_set",
    "get_vindr_cfg",
    "label_set_of_config",
    "mean_losses",
    "register_datasets",
    "to_dicts",
]
