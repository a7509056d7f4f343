"""Turn a record into pixels and boxes, the same way for both engines."""

from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

import cv2
import numpy as np
import torch
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of
from vindr_det.imaging.image_run import is_of_another_shape
from vindr_det.imaging.original_sizes import Size
from vindr_det.imaging.packed import PackedImages
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target, resize
from vindr_det.structures import boxes as box_ops
from vindr_det.training.augmentation import Augment


@dataclass(frozen=True)
class Sample:
    """An image and its boxes, resized and augmented.

    Attributes:
        image: (H, W) uint8.
        boxes: (N, 4) xyxy in the image's pixels.
        labels: (N,) class ids.
        kept: (N,) indices of these boxes among those that were given.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]
    kept: NDArray[np.int64]


class Pixels:
    """Path of an image -> (H, W) uint8, from a packed file that has its id or from the image's own file.

    Args:
        packed: VINDR.PACKED, opened when the first image is read; empty for none.
        target: the size to bring images to; None keeps every pixel.
    """

    def __init__(self, packed: str | Path, target: Target | None = None) -> None:
        self.path, self.target = packed, target

    @cached_property
    def _packed(self) -> PackedImages:
        return PackedImages(self.path)

    def __call__(self, path: str | Path, original: Size | None = None) -> NDArray[np.uint8]:
        """Read an image.

        Args:
            path: of its own file.
            original: (height, width) of the original; None if it is not known.

        Raises:
            InputError: it cannot be read, or the packed file does not have it, or has another of its id.
        """
        if not self.path:
            return read_image(path, self.target).pixels
        image_id = image_id_of(path)
        try:
            pixels = self._packed[image_id]
        except KeyError:
            raise InputError(f"{self.path}: has no image {image_id}, expected that of {path}") from None
        if original is not None and is_of_another_shape(pixels.shape, original):
            height, width = pixels.shape
            raise InputError(f"{self.path}: its image {image_id} has {width} x {height} pixels, expected the "
                             f"shape of the original, {original[1]} x {original[0]}; pack again")
        resized = pixels if self.target is None else resize(pixels, self.target)
        return np.require(resized, requirements="W")  # the packed file itself must stay as it is


class SampleReader:
    """Read, resize and, for training, augment.

    Args:
        image_size: longest side in pixels; 0 leaves images alone.
        keep_aspect: keep the ratio of the sides.
        augment: None for validation.
        flip: mirror half of the images: ``horizontal``, ``vertical`` or ``none``.
        packed: VINDR.PACKED; empty for single files.
    """

    def __init__(
        self, image_size: int, keep_aspect: bool, augment: Augment | None = None, flip: str = "none",
        packed: str | Path = "",
    ) -> None:
        self.target = Target(image_size, keep_aspect)
        self.augment, self.flip = augment, flip
        self.pixels = Pixels(packed, self.target)

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool) -> "SampleReader":
        """The reader of a config's VINDR node; only training augments."""
        node = cfg.VINDR
        augment = Augment(list(node.AUGMENT), node.MIN_VISIBILITY) if is_train else None
        flip = cfg.INPUT.RANDOM_FLIP if is_train else "none"
        return cls(node.IMAGE_SIZE, node.KEEP_ASPECT, augment, flip, node.PACKED)

    @property
    def random(self) -> bool:
        """Whether a sample depends on its seed."""
        return self.augment is not None or self.flip != "none"

    def __call__(
        self, path: str | Path, height: int, width: int, boxes: NDArray[np.float64],
        labels: NDArray[np.int64], seed: int | None = None,
    ) -> Sample:
        """Read an image.

        Args:
            path: of the file, which may be smaller than the original.
            height: of the image that ``boxes`` refer to, such as the original.
            width: of the same image.
            boxes: (N, 4) xyxy.
            labels: (N,) class ids.
            seed: of the augmentation; None for a random one.
        """
        image = self.pixels(path, (height, width))
        boxes = box_ops.scale(boxes, image.shape[1] / width, image.shape[0] / height)
        boxes = box_ops.clip(boxes, *image.shape)
        kept = np.flatnonzero((boxes[:, 2:] > boxes[:, :2]).all(axis=1))
        boxes, labels = boxes[kept], labels[kept]
        if self.augment is not None:
            if seed is not None:
                self.augment.reseed(seed)
            image, boxes, labels, left = self.augment(image, boxes, labels)
            kept = kept[left]
        if self.flip != "none" and _stream(seed).random() < 0.5:
            image, boxes = mirrored(image, boxes, vertical=self.flip == "vertical")
        return Sample(image, boxes, labels, kept)

    def to_size(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The resize that training and prediction share."""
        return resize(image, self.target)


def _stream(seed: int | None) -> np.random.Generator:
    """A generator that is independent of the augmentation's for the same seed."""
    return np.random.default_rng(None if seed is None else [seed, 1])


def mirrored(
    image: NDArray[np.uint8], boxes: NDArray[np.float64], vertical: bool = False
) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """An image (H, W) and its boxes (N, 4) xyxy, flipped left to right, or top to bottom."""
    axis = 0 if vertical else 1
    low, high = (1, 3) if vertical else (0, 2)
    boxes = boxes.copy()
    boxes[:, [low, high]] = image.shape[axis] - boxes[:, [high, low]]
    return np.asarray(cv2.flip(image, axis), np.uint8), boxes


def to_tensor(image: NDArray[np.uint8]) -> torch.Tensor:
    """Gray (H, W) as (1, H, W) uint8, which models make three float channels of on their device."""
    return torch.from_numpy(np.require(image, requirements=["C", "W"])[None])


def to_rgb(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Gray (H, W) as three equal channels (3, H, W), 0..255: the input of exported files."""
    return np.repeat(image[None].astype(np.float32), 3, axis=0)
