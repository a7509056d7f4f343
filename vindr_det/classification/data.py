"""Labeled images as normalized tensors, and their loaders for training and prediction."""

import os
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset
from tqdm import tqdm

from vindr_det.classification.label_table import LabelTable
from vindr_det.classification.sampler import SINGLE_PROCESS, EpochSampler, Shard
from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.packed import IdRows, PackedImages
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target, resize
from vindr_det.training.augmentation import Augment
from vindr_det.training.loading import keep_shared, loader_options
from vindr_det.training.sampler import SampleKey

#: Of gray values of 0..1: that of a constant image, which has none, is not 0.
_MIN_STD = 1 / 255
_NO_BOXES = np.zeros((0, 4))
_NO_LABELS = np.zeros(0, dtype=np.int64)


def input_size(size: int) -> Target:
    """The square of ``size`` pixels that images are resized to, without keeping their aspect."""
    return Target(size, keep_aspect=False)


class Pixels:
    """image id -> (S, S) uint8, from a packed file or from a folder of images of any format.

    Args:
        images: the folder.
        packed: a packed.npy instead; empty for none.
        size: S, pixels.
    """

    def __init__(self, images: str | Path, packed: str | Path, size: int) -> None:
        self.target = input_size(size)
        self.packed = PackedImages(packed) if packed else None
        paths = {} if packed else list_images(images)
        self.rows, self.paths = IdRows(list(paths)), np.array(list(map(os.fsencode, paths.values())), "S")

    def __getitem__(self, image_id: str) -> NDArray[np.uint8]:
        if self.packed is not None:
            return resize(np.array(self.packed[image_id]), self.target)
        return read_image(os.fsdecode(self.paths[self.rows[image_id]]), self.target).pixels


@dataclass(frozen=True)
class Normalization:
    """Gray values, scaled to 0..1, minus their mean, over their standard deviation.

    The defaults are those of models of version 0.1.

    Attributes:
        mean: of gray images.
        std: of gray images.
        per_image: take those of each image itself.
    """

    mean: float = 0.5
    std: float = 64 / 255
    per_image: bool = False

    def __str__(self) -> str:
        if self.per_image:
            return "mean and standard deviation of their own"
        return f"mean {self.mean:.3f} and standard deviation {self.std:.3f}"

    @classmethod
    def of_colors(cls, mean: Sequence[float], std: Sequence[float]) -> "Normalization":
        """The channels' average, for networks that were pretrained on color images."""
        return cls(float(np.mean(mean)), float(np.mean(std)))

    @classmethod
    def of_images(cls, images: Iterable[NDArray[np.uint8]]) -> "Normalization":
        """Of all pixels of some images."""
        counts = sum(np.bincount(image.ravel(), minlength=256) for image in images)
        values = np.arange(256) / 255
        mean = float(np.average(values, weights=counts))
        return cls(mean, max(float(np.average((values - mean) ** 2, weights=counts)) ** 0.5, _MIN_STD))

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """(H, W) uint8 to (1, H, W) float."""
        pixels = torch.from_numpy(image).float()[None]
        if self.per_image:
            return (pixels - pixels.mean()) / pixels.std(correction=0).clamp(min=255 * _MIN_STD)
        return (pixels - 255 * self.mean) / (255 * self.std)


def to_tensor(image: NDArray[np.uint8], size: int, normalize: Normalization) -> Tensor:
    """(H, W) uint8 to (1, S, S) float, as in training."""
    return normalize(resize(image, input_size(size)))


_DEFAULT = Normalization()


def of_training_images(cfg: Any, table: LabelTable, count: int = 1000) -> Normalization:
    """The normalization by mean and standard deviation of (at most ``count``) images of a table."""
    rows = np.random.default_rng(cfg.SEED).permutation(len(table))[:count]
    pixels = Pixels(cfg.DATA.IMAGES, cfg.DATA.PACKED, cfg.INPUT.SIZE)
    return Normalization.of_images(pixels[str(table.image_ids[row])] for row in tqdm(
        np.sort(rows), desc="gray values", unit="image", disable=None, leave=False))


class LabeledDataset(Dataset):
    """Items are (1, S, S) float images and (K,) targets; the seed of a sample key augments.

    Args:
        table: the images.
        pixels: reads them.
        normalize: as the network expects.
        augment: None for no augmentation.
    """

    def __init__(
        self, table: LabelTable, pixels: Pixels, normalize: Normalization = _DEFAULT,
        augment: Augment | None = None,
    ) -> None:
        self.table, self.pixels, self.normalize, self.augment = table, pixels, normalize, augment

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, sample_key: SampleKey | int) -> tuple[Tensor, Tensor]:
        row, seed = sample_key if isinstance(sample_key, SampleKey) else (sample_key, 0)
        image = self.pixels[str(self.table.image_ids[row])]
        if self.augment is not None:
            self.augment.reseed(seed)
            image = self.augment(image, _NO_BOXES, _NO_LABELS)[0]
        return self.normalize(image), torch.from_numpy(self.table.targets[row])


def train_loader(
    cfg: Any, table: LabelTable, seed: int, normalize: Normalization = _DEFAULT, shard: Shard = SINGLE_PROCESS
) -> DataLoader:
    """Augmented batches in the order of SOLVER.SAMPLER; an incomplete last batch is dropped.

    Raises:
        InputError: BATCH_SIZE is no multiple of the number of processes.
    """
    if cfg.SOLVER.BATCH_SIZE % shard.world_size:
        raise InputError(f"SOLVER.BATCH_SIZE is {cfg.SOLVER.BATCH_SIZE}, expected a multiple of "
                         f"{shard.world_size} (the processes)")
    augment = Augment(list(cfg.INPUT.AUGMENT), seed=seed, key="INPUT.AUGMENT") if cfg.INPUT.AUGMENT else None
    pixels = Pixels(cfg.DATA.IMAGES, cfg.DATA.PACKED, cfg.INPUT.SIZE)
    dataset = LabeledDataset(table, pixels, normalize, augment)
    sampler = EpochSampler(table.targets, seed, cfg.SOLVER.SAMPLER, shard)
    return _loader(cfg, dataset, cfg.SOLVER.BATCH_SIZE // shard.world_size, sampler=sampler,
                   drop_last=len(table) >= cfg.SOLVER.BATCH_SIZE)


def predict_loader(cfg: Any, table: LabelTable, normalize: Normalization = _DEFAULT) -> DataLoader:
    """All images once, in the table's order, without augmentation."""
    pixels = Pixels(cfg.DATA.IMAGES, cfg.DATA.PACKED, cfg.INPUT.SIZE)
    return _loader(cfg, LabeledDataset(table, pixels, normalize), cfg.SOLVER.BATCH_SIZE, generator=None)


def _loader(cfg: Any, dataset: Dataset, batch_size: int, **options: Any) -> DataLoader:
    own = {"worker_init_fn": keep_shared}  # signals end a classifier's training and its workers alike
    return DataLoader(dataset, batch_size,
                      **loader_options(cfg.DEVICE, cfg.NUM_WORKERS, cfg.PREFETCH) | own | options)
