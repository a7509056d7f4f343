"""Dataset dict to model input: gray images of any format and Albumentations from the config."""

from typing import Any

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances, PolygonMasks

from vindr_det.detection.samples import Sample, SampleReader, to_rgb


class VindrMapper:
    """A replacement for Detectron2's ``DatasetMapper``.

    Differs in that it reads DICOM and 16-bit files as well, scales boxes from the original's
    pixels (``height``, ``width`` of the dict) to those of the file, augments with Albumentations,
    and keeps the boxes when ``is_train`` is False and ``keep_truth`` is set.

    Returns of a call:
        image: (3, H, W) float32, 0..255, three equal channels.
        instances: ``gt_boxes``, ``gt_classes`` and, with masks, ``gt_masks``, in the pixels of
            ``image``; only for training or with ``keep_truth``.
        everything else of the dataset dict but ``annotations``.
    """

    @configurable
    def __init__(
        self, *, reader: SampleReader, resize: T.Augmentation, keep_truth: bool, masks: bool,
    ) -> None:
        """
        Args:
            reader: reads and augments.
            resize: Detectron2's resize of the shortest edge, after all else.
            keep_truth: give ``instances``.
            masks: fill each box with a mask, for Mask R-CNN on data that has only boxes.
        """
        self.reader, self.resize = reader, resize
        self.keep_truth, self.masks = keep_truth, masks

    @classmethod
    def from_config(
        cls, cfg: Any, is_train: bool = True, keep_truth: bool | None = None
    ) -> dict[str, Any]:
        """Training augments and draws a size; validation takes the test size."""
        if is_train:
            edges = (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN,
                     cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)
        else:
            edges = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST, "choice")
        return {
            "reader": SampleReader.from_config(cfg, is_train),
            "resize": T.ResizeShortestEdge(*edges),
            "keep_truth": is_train if keep_truth is None else keep_truth,
            "masks": cfg.MODEL.MASK_ON,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        annotations = dataset_dict.get("annotations", [])
        boxes = np.array([
            BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations
        ], dtype=np.float64).reshape(-1, 4)
        labels = np.array([a["category_id"] for a in annotations], dtype=np.int64)
        sample = self.reader(dataset_dict["file_name"], dataset_dict["height"],
                             dataset_dict["width"], boxes, labels)
        aug_input = T.AugInput(sample.image, boxes=sample.boxes)
        self.resize(aug_input)
        sample = Sample(aug_input.image, aug_input.boxes, sample.labels)
        result = {key: value for key, value in dataset_dict.items() if key != "annotations"}
        result["image"] = torch.from_numpy(to_rgb(sample.image))
        if self.keep_truth:
            result["instances"] = self._instances(sample)
        return result

    def _instances(self, sample: Sample) -> Instances:
        instances = Instances(sample.image.shape)
        instances.gt_boxes = Boxes(torch.as_tensor(sample.boxes, dtype=torch.float32))
        instances.gt_classes = torch.as_tensor(sample.labels)
        if self.masks:
            instances.gt_masks = PolygonMasks([[_rectangle(box)] for box in sample.boxes])
        return instances


def _rectangle(box: np.ndarray) -> np.ndarray:
    """A box as a polygon ``x y x y ...``: the mask of a finding that was only ever boxed."""
    x0, y0, x1, y1 = box
    return np.array([x0, y0, x1, y0, x1, y1, x0, y1], dtype=np.float64)
