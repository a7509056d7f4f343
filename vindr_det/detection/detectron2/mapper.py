"""Dataset dict to model input: gray images of any format, augmented with Albumentations."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances, PolygonMasks

from vindr_det.detection.detectron2.config import check_mapper
from vindr_det.detection.samples import Sample, SampleReader, to_tensor


class VindrMapper:
    """A replacement for Detectron2's ``DatasetMapper``.

    It also reads DICOM and 16-bit files, scales boxes from the pixels of the dict's ``height`` and ``width``
    (the original's or the file's) to those of the image, augments with Albumentations, and returns the boxes
    outside of training too where ``keep_truth`` is set. All random operations use the ``seed`` in the dict;
    without one, a seed is drawn from numpy's global generator, which Detectron2 seeds differently in each
    process and loader worker.

    Returns of a call:
        image: (1, H, W) uint8, of which models make three float channels as they subtract MODEL.PIXEL_MEAN;
            three equal ones where ``channels`` is 3.
        instances: ``gt_boxes``, ``gt_classes``, ``gt_weights`` and, with masks, ``gt_masks``, in the
            pixels of ``image``; only for training or with ``keep_truth``.
        everything else of the dataset dict but ``annotations``.
    """

    @configurable
    def __init__(
        self, *, reader: SampleReader, edges: tuple[Sequence[int], int, str], keep_truth: bool,
        masks: bool, agreement_power: float = 0.0, channels: int = 1,
    ) -> None:
        """
        Args:
            reader: reads and augments images.
            edges: shortest edges to draw from, longest edge, and "choice" or "range", for Detectron2's
                resize of the shortest edge, which comes last.
            keep_truth: return ``instances``.
            masks: add each box as a mask, for Mask R-CNN on data that has only boxes.
            agreement_power: see VINDR.AGREEMENT_POWER.
            channels: 1, or 3 equal ones for what does not broadcast, such as the pictures of VIS_PERIOD.
        """
        self.reader, self.edges = reader, edges
        self.keep_truth, self.masks = keep_truth, masks
        self.agreement_power, self.channels = agreement_power, channels
        self.random = reader.random or len(edges[0]) > 1

    @classmethod
    def from_config(
        cls, cfg: Any, is_train: bool = True, keep_truth: bool | None = None
    ) -> dict[str, Any]:
        """Arguments of the constructor: training augments and draws a size, validation takes the test size.

        Raises:
            InputError: a key that this mapper cannot honor.
        """
        check_mapper(cfg)
        if is_train:
            edges = (cfg.INPUT.MIN_SIZE_TRAIN, cfg.INPUT.MAX_SIZE_TRAIN,
                     cfg.INPUT.MIN_SIZE_TRAIN_SAMPLING)
        else:
            edges = ((cfg.INPUT.MIN_SIZE_TEST,), cfg.INPUT.MAX_SIZE_TEST, "choice")
        return {
            "reader": SampleReader.from_config(cfg, is_train),
            "edges": edges,
            "keep_truth": is_train if keep_truth is None else keep_truth,
            "masks": cfg.MODEL.MASK_ON,
            "agreement_power": cfg.VINDR.AGREEMENT_POWER,
            "channels": 3 if cfg.VIS_PERIOD > 0 else 1,
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        annotations = dataset_dict.get("annotations", [])
        boxes, labels = boxes_and_labels(annotations)
        seed = self._seed(dataset_dict)
        sample = self.reader(dataset_dict["file_name"], dataset_dict["height"],
                             dataset_dict["width"], boxes, labels, seed)
        aug_input = T.AugInput(sample.image, boxes=sample.boxes)
        self._resize(seed)(aug_input)
        sample = Sample(aug_input.image, aug_input.boxes, sample.labels, sample.kept)
        shares = np.array([a.get("agreement", 1.0) for a in annotations])[sample.kept]
        result = {k: v for k, v in dataset_dict.items() if k not in ("annotations", "seed")}
        result["image"] = to_tensor(sample.image).expand(self.channels, -1, -1).contiguous()
        if self.keep_truth:
            result["instances"] = self._instances(sample, shares)
        return result

    def _seed(self, dataset_dict: dict[str, Any]) -> int:
        """Seed of an image's augmentation; validation needs none, and must not draw from training's."""
        if "seed" in dataset_dict or not self.random:
            return dataset_dict.get("seed", 0)
        return int(np.random.randint(2**31))

    def _resize(self, seed: int) -> T.Augmentation:
        shortest, longest, sampling = self.edges
        rng = np.random.default_rng([seed, 2])  # independent of the reader's
        edge = rng.choice(shortest) if sampling == "choice" else rng.integers(
            shortest[0], shortest[1] + 1)
        return T.ResizeShortestEdge(int(edge), longest)

    def _instances(self, sample: Sample, shares: np.ndarray) -> Instances:
        instances = Instances(sample.image.shape)
        instances.gt_boxes = Boxes(torch.as_tensor(sample.boxes, dtype=torch.float32))
        instances.gt_classes = torch.as_tensor(sample.labels)
        instances.gt_weights = torch.as_tensor(shares**self.agreement_power, dtype=torch.float32)
        if self.masks:
            instances.gt_masks = PolygonMasks([[rectangle(box)] for box in sample.boxes])
        return instances


def boxes_and_labels(annotations: Sequence[dict[str, Any]]) -> tuple[np.ndarray, np.ndarray]:
    """Boxes (N, 4) xyxy and category ids (N,) of Detectron2's annotations."""
    boxes = [BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations]
    labels = [a["category_id"] for a in annotations]
    return np.array(boxes, dtype=np.float64).reshape(-1, 4), np.array(labels, dtype=np.int64)


def rectangle(box: Sequence[float]) -> np.ndarray:
    """A box as a polygon ``x y x y ...``, the mask of a finding that has only a box."""
    x0, y0, x1, y1 = box
    return np.array([x0, y0, x1, y0, x1, y1, x0, y1], dtype=np.float64)
