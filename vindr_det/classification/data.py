"""Images with a 0/1 label for abnormal."""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor
from torch.utils.data import Dataset

from vindr_det.augment import Augment
from vindr_det.coco import read_coco
from vindr_det.errors import InputError
from vindr_det.files import read_csv
from vindr_det.images import read_image
from vindr_det.resize import Target, resize

_NO_BOXES = np.zeros((0, 4))
_NO_LABELS = np.zeros(0, dtype=np.int64)


@dataclass(frozen=True)
class LabelledImage:
    """One training image; ``abnormal`` is 1 where any finding was drawn."""

    image_id: str
    path: Path
    abnormal: int
    fold: int


def read_labelled(cfg: Any) -> list[LabelledImage]:
    """What DATA describes.

    Raises:
        InputError: an image has no fold or no file.
    """
    folds = read_csv(cfg.DATA.FOLDS, ["image_id", "fold"], dtype={"image_id": str})
    fold_of = dict(zip(folds["image_id"], folds["fold"].astype(int), strict=True))
    images = []
    for record in read_coco(cfg.DATA.ANNOTATIONS):
        path = Path(cfg.DATA.IMAGES) / record.file_name
        if record.image_id not in fold_of:
            raise InputError(f"{cfg.DATA.FOLDS}: image {record.image_id} has no fold")
        if not path.is_file():
            raise InputError(f"{path}: no such image, but {cfg.DATA.ANNOTATIONS} names it")
        fold = fold_of[record.image_id]
        images.append(LabelledImage(record.image_id, path, int(not record.normal), fold))
    return images


def to_tensor(image: NDArray[np.uint8]) -> Tensor:
    """(H, W) uint8 to (1, H, W) float with mean about 0 and deviation about 1."""
    return (torch.from_numpy(image).float()[None] - 127.5) / 64.0


def squeeze(image: NDArray[np.uint8], size: int) -> NDArray[np.uint8]:
    """The square that the network sees; training and prediction share it."""
    return resize(image, Target(size, keep_aspect=False))


class LabelledDataset(Dataset):
    """Items are (1, S, S) float images and their 0/1 labels."""

    def __init__(
        self, images: Sequence[LabelledImage], size: int, augment: Augment | None = None
    ) -> None:
        self.images, self.size, self.augment = list(images), size, augment

    def __len__(self) -> int:
        return len(self.images)

    def __getitem__(self, index: int) -> tuple[Tensor, Tensor]:
        item = self.images[index]
        pixels = squeeze(read_image(item.path).pixels, self.size)
        if self.augment is not None:
            pixels = self.augment(pixels, _NO_BOXES, _NO_LABELS)[0]
        return to_tensor(pixels), torch.tensor(float(item.abnormal))
