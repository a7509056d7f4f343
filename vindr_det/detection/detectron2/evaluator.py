"""The competition's metric and COCO AP as a Detectron2 evaluator."""

import math
from collections import OrderedDict
from collections.abc import Iterator, Sequence
from dataclasses import replace
from typing import Any

import detectron2.utils.comm as comm
import numpy as np
from detectron2.data import DatasetCatalog, MetadataCatalog
from detectron2.evaluation import DatasetEvaluator

from vindr_det.detection.detectron2.datasets import original_size
from vindr_det.detection.detectron2.mapper import boxes_and_labels
from vindr_det.detection.detectron2.predictor import to_predictions
from vindr_det.detection.incomplete import NOT_EXHAUSTIVE, check_unknown
from vindr_det.detection.validation import validation_metrics
from vindr_det.exceptions import InputError
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet
from vindr_det.structures.records import Record
from vindr_det.training.interruption import Interruption


class BatchesByShape:
    """Batches of images of one shape, from batches of any: padding would move an image's detections.

    Args:
        loader: a sized iterable of lists of dicts with ``image``.
        batch: images in a batch at most.
        waiting: images that may wait for others of their shape, in batches.
    """

    def __init__(self, loader: Any, batch: int, waiting: int = 8) -> None:
        self.loader, self.batch, self.room = loader, batch, waiting * batch

    def __len__(self) -> int:
        return len(self.loader)

    def __iter__(self) -> Iterator[list[dict[str, Any]]]:
        groups: dict[tuple[int, ...], list[dict[str, Any]]] = {}
        for image in (image for images in self.loader for image in images):
            group = groups.setdefault(tuple(image["image"].shape), [])
            group.append(image)
            full = len(group) == self.batch or sum(map(len, groups.values())) > self.room
            if full:
                yield groups.pop(max(groups, key=lambda shape: len(groups[shape])))
        yield from groups.values()


class VindrEvaluator(DatasetEvaluator):
    """Collects detections and scores them against records, in pixels of the originals.

    Nothing is cached on disk, so that changed annotations take effect at once.

    Args:
        records: the images to score, with their true boxes.
        interruption: after a signal nothing is scored, since images are missing.
    """

    def __init__(self, records: Sequence[Record], interruption: Interruption | None = None) -> None:
        self.records = {record.image_id: record for record in records}
        self.interruption = interruption or Interruption()
        self.predictions: dict[str, Predictions] = {}
        #: Of all ranks, on the first, after :meth:`evaluate`.
        self.gathered: dict[str, Predictions] = {}

    @classmethod
    def from_catalog(cls, name: str) -> "VindrEvaluator":
        """Score against a data set of Detectron2's catalog whose category ids are class ids.

        Its label set is that of its metadata: ``label_set``, else ``thing_classes``, else VinBigData's.

        Raises:
            InputError: it has no annotations.
        """
        dicts = DatasetCatalog.get(name)
        if any("annotations" not in dataset_dict for dataset_dict in dicts):
            raise InputError(f"data set {name}: has no annotations to score with")
        label_set = _label_set_of(name)
        return cls([_to_record(dataset_dict, label_set) for dataset_dict in dicts])

    def reset(self) -> None:
        """Forget all detections."""
        self.predictions = {}

    def process(self, inputs: Sequence[dict[str, Any]], outputs: Sequence[dict[str, Any]]) -> None:
        """Add a batch of detections; ``inputs[i]["image_id"]`` is our string id."""
        for image, output in zip(inputs, outputs, strict=True):
            record, instances = self.records[image["image_id"]], output["instances"]
            height, width = instances.image_size  # of the input dict, not of the original
            _require_classes(record, instances.pred_classes)
            detections = to_predictions(instances, record.label_set)
            boxes = box_ops.scale(detections.boxes, record.width / width, record.height / height)
            self.predictions[record.image_id] = replace(detections, boxes=boxes)

    def evaluate(self) -> "OrderedDict[str, float]":
        """Metrics such as ``vindr/mAP40``; empty on all ranks but the first, and after a signal.

        A class without ground truth has no AP and is left out, since JSON has no NaN.
        """
        if self.interruption.agreed():
            return OrderedDict()
        parts = comm.gather(self.predictions)
        if not comm.is_main_process():
            return OrderedDict()
        self.gathered = {key: value for part in parts for key, value in part.items()}
        estimate = validation_metrics(self.gathered, list(self.records.values()))
        return OrderedDict((key, value) for key, value in estimate.items() if math.isfinite(value))


def _require_classes(record: Record, ids: Any) -> None:
    outside = [int(label) for label in ids if not 0 <= label < len(record.label_set)]
    if outside:
        count = len(record.label_set)
        raise InputError(f"{record.image_id}: a detection of class {outside[0]}, expected one of the "
                         f"{count} findings of {record.label_set.name}; is NUM_CLASSES of the model {count}?")


def _label_set_of(name: str) -> LabelSet:
    metadata = MetadataCatalog.get(name)
    classes = tuple(metadata.get("thing_classes", VINBIGDATA.findings))
    default = VINBIGDATA if classes == VINBIGDATA.findings else LabelSet(name, classes)
    return metadata.get("label_set", default)


def _to_record(dataset_dict: dict[str, Any], label_set: LabelSet) -> Record:
    height, width = original_size(dataset_dict)
    boxes, labels = boxes_and_labels(dataset_dict["annotations"])
    boxes = box_ops.scale(boxes, width / dataset_dict["width"], height / dataset_dict["height"])
    image_id, ids = dataset_dict["image_id"], dataset_dict.get(NOT_EXHAUSTIVE) or ()
    unknown = check_unknown(ids, len(label_set), labels, image_id)
    try:
        truth = Predictions(boxes, np.ones(len(boxes)), labels, label_set)
    except ValueError as error:
        raise InputError(f"{image_id}: {error}") from error
    return Record(image_id, dataset_dict["file_name"], height, width, truth, unknown=tuple(unknown))
