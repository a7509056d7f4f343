"""Labelled images as tensors, in an order that a resume goes on with."""

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import DataLoader, Dataset, Sampler

from vindr_det.augment import Augment
from vindr_det.classification.labels import LabelTable
from vindr_det.detection.order import Ticket, seed_of
from vindr_det.images import read_image
from vindr_det.inputs import list_images
from vindr_det.packed import PackedImages
from vindr_det.resize import Target, resize

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


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(H, W) uint8 to (1, H, W) float with mean about 0 and deviation about 1."""
    return (torch.from_numpy(image).float()[None] - 127.5) / 64.0


def squeeze(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The square that the network sees; training and prediction share it."""
    return resize(image, Target(size, keep_aspect=False))


class LabelledDataset(Dataset):
    """Items are (1, S, S) float images and (K,) targets; a ticket's seed augments.

    Args:
        table: the images.
        pixels: where they are read.
        augment: None leaves them as they are.
    """

    def __init__(self, table: LabelTable, pixels: Pixels, augment: Augment | None = None) -> None:
        self.table, self.pixels, self.augment = table, pixels, augment

    def __len__(self) -> int:
        return len(self.table)

    def __getitem__(self, ticket: Ticket | int) -> tuple[Tensor, Tensor]:
        row, seed = ticket if isinstance(ticket, Ticket) else (ticket, 0)
        image = self.pixels[str(self.table.image_ids[row])]
        if self.augment is not None:
            self.augment.reseed(seed)
            image = self.augment(image, _NO_BOXES, _NO_LABELS)[0]
        return to_tensor(image), torch.from_numpy(self.table.targets[row])


class EpochOrder(Sampler[Ticket]):
    """A new order each epoch, a function of the seed and the epoch alone.

    Args:
        table: the images.
        seed: of all orders.
        weighted: draw with replacement, rare labels as often as frequent ones.
    """

    def __init__(self, table: LabelTable, seed: int, weighted: bool = False) -> None:
        self.count, self.seed, self.epoch = len(table), seed, 0
        self.weights = balance(table.targets) if weighted else None

    def set_epoch(self, epoch: int) -> None:
        """Lightning tells."""
        self.epoch = epoch

    def __len__(self) -> int:
        return self.count

    def __iter__(self) -> Iterator[Ticket]:
        rng = np.random.default_rng([self.seed, self.epoch])
        rows = (rng.permutation(self.count) if self.weights is None
                else rng.choice(self.count, self.count, p=self.weights))
        for place, row in enumerate(rows.tolist()):
            yield Ticket(row, seed_of(self.seed, self.epoch * self.count + place))


def balance(targets: NDArray[np.float32]) -> NDArray[np.float64]:
    """(N,) shares that sum to 1: an image weighs as its rarest label, or as having none."""
    present = np.column_stack([targets >= 0.5, ~(targets >= 0.5).any(axis=1)])
    rarity = 1 / np.maximum(present.sum(axis=0), 1)
    weights = (present * rarity).max(axis=1)
    return weights / weights.sum()


def train_loader(cfg: Any, table: LabelTable, seed: int) -> DataLoader:
    """Augmented batches; a rest that is smaller than a batch waits for another epoch's order."""
    augment = Augment(list(cfg.INPUT.AUGMENT), seed=seed) if cfg.INPUT.AUGMENT else None
    dataset = LabelledDataset(table, Pixels(cfg.DATA.IMAGES, cfg.DATA.PACKED, cfg.INPUT.SIZE), augment)
    order = EpochOrder(table, seed, cfg.SOLVER.SAMPLER == "weighted")
    return DataLoader(dataset, cfg.SOLVER.BATCH_SIZE, sampler=order, num_workers=cfg.NUM_WORKERS,
                      drop_last=len(table) >= cfg.SOLVER.BATCH_SIZE,
                      # A generator of its own: the loader must not draw from what the model draws from.
                      generator=torch.Generator().manual_seed(0))


def plain_loader(cfg: Any, table: LabelTable) -> DataLoader:
    """The images once, in order, as they are."""
    dataset = LabelledDataset(table, Pixels(cfg.DATA.IMAGES, cfg.DATA.PACKED, cfg.INPUT.SIZE))
    return DataLoader(dataset, cfg.SOLVER.BATCH_SIZE, num_workers=cfg.NUM_WORKERS)
