"""Records to torchvision's batches."""

from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler, get_worker_info

from vindr_det.detection.samples import SampleReader, to_rgb
from vindr_det.detection.splits import training_records, validation_records
from vindr_det.records import Record

Batch = tuple[list[Tensor], list[dict[str, Tensor]], list[str]]


class RecordDataset(Dataset):
    """One item: image (3, H, W) float 0..255; target with ``boxes`` (N, 4) xyxy, ``labels`` (N,)
    from 1, and ``masks`` (N, H, W) where asked for; and the image id.

    Args:
        items: records, each with its folder.
        reader: reads and augments.
        masks: fill each box with a mask.
        flip: mirror half of the images.
    """

    def __init__(
        self, items: Sequence[tuple[Record, Path]], reader: SampleReader, masks: bool = False,
        flip: bool = False,
    ) -> None:
        self.items, self.reader, self.masks, self.flip = list(items), reader, masks, flip

    def __len__(self) -> int:
        return len(self.items)

    def __getitem__(self, index: int) -> tuple[Tensor, dict[str, Tensor], str]:
        record, folder = self.items[index]
        sample = self.reader(folder / record.file_name, record.height, record.width,
                             record.truth.boxes, record.truth.labels)
        pixels, boxes = sample.image, sample.boxes
        if self.flip and torch.rand(()) < 0.5:
            pixels = np.ascontiguousarray(pixels[:, ::-1])
            boxes = boxes.copy()
            boxes[:, [0, 2]] = pixels.shape[1] - boxes[:, [2, 0]]
        target = {
            "boxes": torch.as_tensor(boxes, dtype=torch.float32).reshape(-1, 4),
            "labels": torch.as_tensor(sample.labels) + 1,
        }
        if self.masks:
            target["masks"] = _filled(boxes, pixels.shape)
        return torch.from_numpy(to_rgb(pixels)), target, record.image_id


def _filled(boxes: np.ndarray, shape: tuple[int, ...]) -> Tensor:
    """A mask (N, H, W) for each box."""
    masks = torch.zeros((len(boxes), *shape), dtype=torch.uint8)
    for mask, box in zip(masks, boxes, strict=True):
        x0, y0 = np.floor(box[:2]).astype(int)
        x1, y1 = np.ceil(box[2:]).astype(int)
        mask[y0:y1, x0:x1] = 1
    return masks


class EndlessSampler(Sampler[int]):
    """Every image once in random order, again and again; each rank takes its own share.

    Args:
        size: number of images.
        seed: of the order, the same on all ranks.
        rank: this process.
        world: number of processes.
        skip: images that this rank has taken before a resume.
    """

    def __init__(self, size: int, seed: int, rank: int = 0, world: int = 1, skip: int = 0) -> None:
        self.size, self.seed, self.rank, self.world, self.skip = size, seed, rank, world, skip

    def __iter__(self) -> Iterator[int]:
        generator = torch.Generator().manual_seed(self.seed)
        position = 0
        while True:
            for index in torch.randperm(self.size, generator=generator).tolist():
                mine, turn = position % self.world == self.rank, position // self.world
                position += 1
                if mine and turn >= self.skip:
                    yield index


def collate(items: Sequence[tuple[Tensor, dict[str, Tensor], str]]) -> Batch:
    """Images differ in size, so a batch is three lists."""
    images, targets, image_ids = zip(*items, strict=True)
    return list(images), list(targets), list(image_ids)


def train_loader(cfg: Any, rank: int, world: int, start: int) -> DataLoader:
    """Endless batches of DATASETS.TRAIN; ``start`` iterations have been done already."""
    items = training_records(cfg)
    dataset = RecordDataset(items, SampleReader.from_config(cfg, True), cfg.MODEL.MASK_ON,
                            cfg.INPUT.RANDOM_FLIP == "horizontal")
    batch = max(1, cfg.SOLVER.IMS_PER_BATCH // world)
    sampler = EndlessSampler(len(items), max(cfg.SEED, 0), rank, world, start * batch)
    return _loader(cfg, dataset, batch, sampler)


def validation_loader(cfg: Any, rank: int, world: int) -> DataLoader:
    """This rank's share of VINDR.VALIDATION, once, in order."""
    items = validation_records(cfg)[rank::world]
    dataset = RecordDataset(items, SampleReader.from_config(cfg, False), cfg.MODEL.MASK_ON)
    return _loader(cfg, dataset, max(1, cfg.SOLVER.IMS_PER_BATCH // world), None)


def _loader(cfg: Any, dataset: RecordDataset, batch: int, sampler: Sampler[int] | None) -> DataLoader:
    workers = cfg.DATALOADER.NUM_WORKERS
    return DataLoader(dataset, batch, sampler=sampler, num_workers=workers, collate_fn=collate,
                      worker_init_fn=_seed_worker, persistent_workers=workers > 0)


def _seed_worker(_: int) -> None:
    """Without this, every worker would augment with the same random numbers."""
    info = get_worker_info()
    if info is not None and info.dataset.reader.augment is not None:
        info.dataset.reader.augment.reseed(info.seed % 2**32)
