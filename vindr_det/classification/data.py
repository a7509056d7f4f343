"""Labeled images as tensors, in an order that a resume goes on with."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vindr_det.classification.labels import LabelTable
from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.packed import PackedImages
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target, resize
from vindr_det.training.augmentation import Augment
from vindr_det.training.sampler import SampleKey, seed_of

_NO_BOXES = np.zeros((0, 4))
_NO_LABELS = np.zeros(0, dtype=np.int64)


class Pixels:
    """image id -> (S, S) uint8, from a packed file or from a folder of images of any format.

    Args:
        images: the folder.
        packed: a packed.npy instead; empty for none.
        size: side of the square that images are squeezed into.
    """

    def __init__(self, images: str | Path, packed: str | Path, size: int) -> None:
        self.target = Target(size, keep_aspect=False)
        self.packed = PackedImages(packed) if packed else None
        self.paths = {} if packed else list_images(images)

    def __getitem__(self, image_id: str) -> NDArray[np.uint8]:
        if self.packed is not None:
            return resize(np.array(self.packed[image_id]), self.target)
        return read_image(self.paths[image_id], self.target).pixels


@dataclass(frozen=True)
class Normalization:
    """Brightness, 0..1, less its mean, over its deviation. The defaults are those of models of 0.1.

    Attributes:
        mean: of gray images.
        std: of gray images.
    """

    mean: float = 0.5
    std: float = 64 / 255

    @classmethod
    def of_colors(cls, mean: Sequence[float], std: Sequence[float]) -> "Normalization":
        """Of three channels: gray images have one, which gets their means."""
        return cls(float(np.mean(mean)), float(np.mean(std)))

    def __call__(self, image: NDArray[np.uint8]) -> Tensor:
        """(H, W) uint8 to (1, H, W) float."""
        return (torch.from_numpy(image).float()[None] - 255 * self.mean) / (255 * self.std)


def squeeze(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The square that the network sees; training and prediction share it."""
    return resize(image, Target(size, keep_aspect=False))


_PLAIN = Normalization()


class LabeledDataset(Dataset):
    """Items are (1, S, S) float images and (K,) targets; a ticket's seed augments.

    Args:
        table: the images.
        pixels: where they are read.
        normalize: what a network expects of them.
        augment: None leaves them as they are.
    """

    def __init__(
        self, table: LabelTable, pixels: Pixels, normalize: Normalization = _PLAIN,
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


@dataclass(frozen=True)
class Share:
    """Which part of each step's images this process takes.

    Attributes:
        rank: from 0.
        world: processes that train one model together.
    """

    rank: int = 0
    world: int = 1


_ALL = Share()


class EpochOrder(Sampler[SampleKey]):
    """A new order each epoch, a function of the seed and the epoch alone.

    Several processes take turns, so that each step is of the images that one process would take.

    Args:
        table: the images.
        seed: of all orders.
        weighted: draw with replacement, rare labels as often as frequent ones.
        share: of this process; what cannot be shared evenly waits for another epoch's order.
    """

    def __init__(self, table: LabelTable, seed: int, weighted: bool = False, share: Share = _ALL) -> None:
        self.count, self.seed, self.share, self.epoch = len(table), seed, share, 0
        self.weights = balance(table.targets) if weighted else None

    def set_epoch(self, epoch: int) -> None:
        """Lightning tells."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count // self.share.world

    def __iter__(self) -> Iterator[SampleKey]:
        rng = np.random.default_rng([self.seed, self.epoch])
        rows = (rng.permutation(self.count) if self.weights is None
                else rng.choice(self.count, self.count, p=self.weights))
        for place in range(self.share.rank, len(self) * self.share.world, self.share.world):
            yield SampleKey(int(rows[place]), seed_of(self.seed, self.epoch * self.count + place))


def balance(targets: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) shares that sum to 1: an image weighs as its rarest label, or as having none."""
    present = np.column_stack([targets >= 0.5, ~(targets >= 0.5).any(axis=1)])
    rarity = 1 / np.maximum(present.sum(axis=0), 1)
    weights = (present * rarity).max(axis=1)
    return weights / weights.sum()


def train_loader(
    cfg: Any, table: LabelTable, seed: int, normalize: Normalization = _PLAIN, share: Share = _ALL
) -> DataLoader:
    """TTAPredictor batches; a rest that is smaller than a batch waits for another epoch's order.

    Raises:
        InputError: BATCH_SIZE cannot be shared by so many processes.
    """
    if cfg.SOLVER.BATCH_SIZE % share.world:
        raise InputError(f"SOLVER.BATCH_SIZE is {cfg.SOLVER.BATCH_SIZE}, expected a multiple of "
                         f"{share.world} (the processes)")
    augment = Augment(list(cfg.INPUT.AUGMENT), seed=seed) if cfg.INPUT.AUGMENT else None
    pixels = Pixels(cfg.DATA.IMAGES, cfg.DATA.PACKED, cfg.INPUT.SIZE)
    dataset = LabeledDataset(table, pixels, normalize, augment)
    order = EpochOrder(table, seed, cfg.SOLVER.SAMPLER == "weighted", share)
    return _loader(cfg, dataset, cfg.SOLVER.BATCH_SIZE // share.world, sampler=order,
                   drop_last=len(table) >= cfg.SOLVER.BATCH_SIZE,
                   # A generator of its own: the loader must not draw from what the model draws from.
                   generator=torch.Generator().manual_seed(0))


def plain_loader(cfg: Any, table: LabelTable, normalize: Normalization = _PLAIN) -> DataLoader:
    """The images once, in order, as they are."""
    pixels = Pixels(cfg.DATA.IMAGES, cfg.DATA.PACKED, cfg.INPUT.SIZE)
    return _loader(cfg, LabeledDataset(table, pixels, normalize), cfg.SOLVER.BATCH_SIZE)


def _loader(cfg: Any, dataset: Dataset, batch: int, **options: Any) -> DataLoader:
    return DataLoader(dataset, batch, num_workers=cfg.NUM_WORKERS, persistent_workers=cfg.NUM_WORKERS > 0,
                      pin_memory=cfg.DEVICE != "cpu" and torch.cuda.is_available(), **options)
