"""The competition's metric and COCO AP as a Detectron2 evaluator."""

from collections import OrderedDict
from collections.abc import Sequence
from typing import Any

import detectron2.utils.comm as comm
import numpy as np
from detectron2.data import DatasetCatalog
from detectron2.evaluation import DatasetEvaluator
from detectron2.structures import BoxMode

from vindr_det import boxes as box_ops
from vindr_det.detection.detectron2.predictor import to_predictions
from vindr_det.detection.evaluation import validation_metrics
from vindr_det.detection.interruption import Interruption
from vindr_det.predictions import Predictions
from vindr_det.records import Record


class VindrEvaluator(DatasetEvaluator):
    """Collects detections in original pixels and scores them against records.

    Nothing is cached on disk, so changed annotations count at once.

    Args:
        records: the images to score, with their true boxes.
        interruption: after a signal nothing is scored, since images are missing.
    """

    def __init__(self, records: Sequence[Record], interruption: Interruption | None = None) -> None:
        self.records, self.interruption = list(records), interruption or Interruption()
        self.predictions: dict[str, Predictions] = {}

    @classmethod
    def from_catalog(cls, name: str) -> "VindrEvaluator":
        """Score against a data set of Detectron2's catalog whose category ids are 0..13."""
        return cls([_to_record(given) for given in DatasetCatalog.get(name)])

    def reset(self) -> None:
        """Forget everything."""
        self.predictions = {}

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Take one batch; ``inputs[i]["image_id"]`` is our string id."""
        for given, found in zip(inputs, outputs, strict=True):
            self.predictions[given["image_id"]] = to_predictions(found["instances"])

    def evaluate(self) -> "OrderedDict[str, Any]":
        """Metrics such as ``vindr/mAP40``; empty on all ranks but the first, and after a signal."""
        if self.interruption.agreed():
            return OrderedDict()
        gathered = comm.gather(self.predictions)
        if not comm.is_main_process():
            return OrderedDict()
        merged = {key: value for part in gathered for key, value in part.items()}
        return OrderedDict(validation_metrics(merged, self.records))


def _to_record(given: dict[str, Any]) -> Record:
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in given["annotations"]]
    labels = np.array([a["category_id"] for a in given["annotations"]], dtype=np.int64)
    truth = Predictions(box_ops.as_boxes(boxes), np.ones(len(boxes)), labels)
    return Record(given["image_id"], given["file_name"], given["height"], given["width"], truth)
