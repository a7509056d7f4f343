"""Dataset dict to model input: gray images of any format and Albumentations from the config."""

from collections.abc import Sequence
from typing import Any

import numpy as np
import torch
from detectron2.config import configurable
from detectron2.data import transforms as T
from detectron2.structures import Boxes, BoxMode, Instances, PolygonMasks

from vindr_det.detection.detectron2.keys import check_mapper
from vindr_det.detection.samples import Sample, SampleReader, to_rgb


class VindrMapper:
    """A replacement for Detectron2's ``DatasetMapper``.

    Differs in that it reads DICOM and 16-bit files as well, scales boxes from the pixels that
    ``height`` and ``width`` of the dict count (the original's or the file's) to those of the image,
    augments with Albumentations, and keeps the boxes when ``is_train`` is False and ``keep_truth``
    is set. All that is random comes from a ``seed`` in the dict; without one, a seed is drawn from
    numpy's global numbers, which Detectron2 seeds apart for each process and loader worker.

    Returns of a call:
        image: (3, H, W) float32, 0..255, three equal channels.
        instances: ``gt_boxes``, ``gt_classes``, ``gt_weights`` and, with masks, ``gt_masks``, in the
            pixels of ``image``; only for training or with ``keep_truth``.
        everything else of the dataset dict but ``annotations``.
    """

    @configurable
    def __init__(
        self, *, reader: SampleReader, edges: tuple[Sequence[int], int, str], keep_truth: bool,
        masks: bool, agreement_power: float = 0.0,
    ) -> None:
        """
        Args:
            reader: reads and augments.
            edges: shortest edges to draw from, longest edge and "choice" or "range", for
                Detectron2's resize of the shortest edge, after all else.
            keep_truth: give ``instances``.
            masks: fill each box with a mask, for Mask R-CNN on data that has only boxes.
            agreement_power: see VINDR.AGREEMENT_POWER.
        """
        self.reader, self.edges = reader, edges
        self.keep_truth, self.masks = keep_truth, masks
        self.agreement_power = agreement_power
        self.random = reader.random or len(edges[0]) > 1

    @classmethod
    def from_config(
        cls, cfg: Any, is_train: bool = True, keep_truth: bool | None = None
    ) -> dict[str, Any]:
        """Training augments and draws a size; validation takes the test size.

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
        }

    def __call__(self, dataset_dict: dict[str, Any]) -> dict[str, Any]:
        annotations = dataset_dict.get("annotations", [])
        boxes = np.array([
            BoxMode.convert(a["bbox"], a["bbox_mode"], BoxMode.XYXY_ABS) for a in annotations
        ], dtype=np.float64).reshape(-1, 4)
        labels = np.array([a["category_id"] for a in annotations], dtype=np.int64)
        seed = self._seed(dataset_dict)
        sample = self.reader(dataset_dict["file_name"], dataset_dict["height"],
                             dataset_dict["width"], boxes, labels, seed)
        aug_input = T.AugInput(sample.image, boxes=sample.boxes)
        self._resize(seed)(aug_input)
        sample = Sample(aug_input.image, aug_input.boxes, sample.labels, sample.kept)
        shares = np.array([a.get("agreement", 1.0) for a in annotations])[sample.kept]
        result = {k: v for k, v in dataset_dict.items() if k not in ("annotations", "seed")}
        result["image"] = torch.from_numpy(to_rgb(sample.image))
        if self.keep_truth:
            result["instances"] = self._instances(sample, shares)
        return result

    def _seed(self, dataset_dict: dict[str, Any]) -> int:
        """Of this image's augmentation; validation has none, and draws no number that training would."""
        if "seed" in dataset_dict or not self.random:
            return dataset_dict.get("seed", 0)
        return int(np.random.randint(2**31))

    def _resize(self, seed: int) -> T.Augmentation:
        shortest, longest, sampling = self.edges
        rng = np.random.default_rng([seed, 2])  # another stream than the reader's
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


def rectangle(box: Sequence[float]) -> np.ndarray:
    """A box as a polygon ``x y x y ...``: the mask of a finding that was only ever boxed."""
    x0, y0, x1, y1 = box
    return np.array([x0, y0, x1, y0, x1, y1, x0, y1], dtype=np.float64)
