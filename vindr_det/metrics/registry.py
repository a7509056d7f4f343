"""The list of metrics that ``vindr-det evaluate`` computes, in the order of its tables."""

from vindr_det.metrics.coco import CocoAP
from vindr_det.metrics.coco_sizes import CocoSizes
from vindr_det.metrics.froc import FrocSensitivity
from vindr_det.metrics.localization import LocalizationAccuracy
from vindr_det.metrics.metric import Metric
from vindr_det.metrics.tide import TideAnalysis
from vindr_det.metrics.voc import VindrAP

METRICS: tuple[Metric, ...] = (VindrAP(), CocoAP(), CocoSizes(), FrocSensitivity(), LocalizationAccuracy(),
                                TideAnalysis())
