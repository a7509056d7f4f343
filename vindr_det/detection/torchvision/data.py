"""Data loaders of torchvision's batches."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vindr_det.data.splits import training_records, validation_records
from vindr_det.detection.incomplete import mask_of, masks_unknown
from vindr_det.detection.samples import SampleReader, to_tensor
from vindr_det.detection.torchvision.model import first_label
from vindr_det.structures.records import Record
from vindr_det.training.loading import SharedList, loader_options
from vindr_det.training.sampler import SampleKey, batch_part, training_order

Batch = tuple[list[Tensor], list[dict[str, Tensor]], list[str]]


class _Item(NamedTuple):
    """What the batches have of a record."""

    path: str
    image_id: str
    size: tuple[int, int]
    boxes: np.ndarray
    labels: np.ndarray
    shares: np.ndarray
    unknown: np.ndarray

    @classmethod
    def of(cls, record: Record, folder: Path, unknown: bool) -> "_Item":
        truth = record.truth
        mask = mask_of(record.unknown if unknown else (), len(record.label_set), truth.labels,
                       record.image_id)
        return cls(str(folder / record.file_name), record.image_id, (record.height, record.width),
                   truth.boxes, truth.labels, truth.scores, mask.numpy())


class RecordDataset(Dataset):
    """Items of three: image, target and image id.

    The image is (1, H, W) uint8; the target has ``boxes`` (N, 4) xyxy, ``labels`` (N,), ``weights``
    (N,), which multiply the loss of each box, ``unknown`` (C,), true for classes that may be on the image
    without a box, and ``masks`` (N, H, W) on demand.

    Args:
        items: records, each with its folder.
        reader: reads and augments.
        masks: make a mask of each box, for Mask R-CNN.
        first_label: label of class 0.
        agreement_power: see VINDR.AGREEMENT_POWER.
        unknown: tell the losses which findings are unknown.
    """

    def __init__(
        self, items: Sequence[tuple[Record, Path]], reader: SampleReader, masks: bool = False,
        first_label: int = 1, agreement_power: float = 0.0, unknown: bool = True,
    ) -> None:
        self.items = SharedList(_Item.of(record, folder, unknown) for record, folder in items)
        self.reader, self.masks, self.first_label = reader, masks, first_label
        self.agreement_power = agreement_power

    @classmethod
    def from_config(
        cls, cfg: Any, items: Sequence[tuple[Record, Path]], is_train: bool
    ) -> "RecordDataset":
        """The data set of a config; only training augments."""
        return cls(items, SampleReader.from_config(cfg, is_train), cfg.MODEL.MASK_ON, first_label(cfg),
                   cfg.VINDR.AGREEMENT_POWER, masks_unknown(cfg))

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, sample_key: SampleKey | int) -> tuple[Tensor, dict[str, Tensor], str]:
        row, seed = sample_key if isinstance(sample_key, SampleKey) else (sample_key, None)
        item = self.items[row]
        sample = self.reader(item.path, *item.size, item.boxes, item.labels, seed)
        pixels, boxes = sample.image, sample.boxes
        target = {
            "boxes": torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.as_tensor(sample.labels) + self.first_label,
            "weights": torch.as_tensor(item.shares[sample.kept] ** self.agreement_power, dtype=torch.float32),
            "unknown": torch.from_numpy(item.unknown),
        }
        if self.masks:
            target["masks"] = _filled(boxes, pixels.shape)
        return to_tensor(pixels), target, item.image_id


def _filled(boxes: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """Masks (N, H, W) that fill the boxes."""
    masks = torch.zeros((len(boxes), *shape), dtype=torch.uint8)
    for mask, box in zip(masks, boxes, strict=True):
        x0, y0 = np.floor(box[:2]).astype(int)
        x1, y1 = np.ceil(box[2:]).astype(int)
        mask[y0:y1, x0:x1] = 1
    return masks


def collate(items: Sequence[tuple[Tensor, dict[str, Tensor], str]]) -> Batch:
    """A batch as three lists, since images differ in size."""
    images, targets, image_ids = zip(*items, strict=True)
    return list(images), list(targets), list(image_ids)


def train_loader(cfg: Any, rank: int, world: int, start: int) -> DataLoader:
    """Endless batches of this rank's share of DATASETS.TRAIN, from iteration ``start`` on."""
    items = training_records(cfg)
    dataset = RecordDataset.from_config(cfg, items, is_train=True)
    order = training_order(cfg, [record for record, _ in items], rank, world, start)
    return _loader(cfg, dataset, batch_part(cfg, world), order)


def validation_loader(cfg: Any, rank: int, world: int) -> DataLoader:
    """This rank's share of VINDR.VALIDATION, once, in order."""
    items = validation_records(cfg)[rank::world]
    dataset = RecordDataset.from_config(cfg, items, is_train=False)
    return _loader(cfg, dataset, batch_part(cfg, world), None)


def _loader(
    cfg: Any, dataset: RecordDataset, batch: int, sampler: Sampler[SampleKey] | None
) -> DataLoader:
    options = loader_options(cfg.MODEL.DEVICE, cfg.DATALOADER.NUM_WORKERS, cfg.VINDR.PREFETCH)
    return DataLoader(dataset, batch, sampler=sampler, collate_fn=collate, **options)
