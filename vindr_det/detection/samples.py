"""A record to pixels and boxes, the same way for both engines."""

from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det import boxes as box_ops
from vindr_det.augment import Augment
from vindr_det.images import read_image
from vindr_det.resize import Target, resize


@dataclass(frozen=True)
class Sample:
    """An image ready for a network.

    Attributes:
        image: (H, W) uint8.
        boxes: (N, 4) xyxy in the image's pixels.
        labels: (N,) class ids 0..13.
    """

    image: NDArray[np.uint8]
    boxes: NDArray[np.float64]
    labels: NDArray[np.int64]


class SampleReader:
    """Read, bring to size and, for training, augment.

    Args:
        image_size: longest side in pixels; 0 leaves images alone.
        keep_aspect: keep the ratio of the sides.
        augment: None for validation.
    """

    def __init__(self, image_size: int, keep_aspect: bool, augment: Augment | None = None) -> None:
        self.target = Target(image_size, keep_aspect)
        self.augment = augment

    @classmethod
    def from_config(cls, cfg: Any, is_train: bool) -> "SampleReader":
        """As VINDR says; only training augments."""
        node = cfg.VINDR
        augment = Augment(list(node.AUGMENT), node.MIN_VISIBILITY) if is_train else None
        return cls(node.IMAGE_SIZE, node.KEEP_ASPECT, augment)

    def __call__(
        self, path: str | Path, height: int, width: int, boxes: NDArray[np.float64],
        labels: NDArray[np.int64],
    ) -> Sample:
        """Read one image.

        Args:
            path: of the file, which may be smaller than the original.
            height: of the original.
            width: of the original.
            boxes: (N, 4) xyxy in the original's pixels.
            labels: (N,).
        """
        image = read_image(path, self.target).pixels
        boxes = box_ops.scale(boxes, image.shape[1] / width, image.shape[0] / height)
        boxes = box_ops.clip(boxes, *image.shape)
        whole = (boxes[:, 2:] > boxes[:, :2]).all(axis=1)
        boxes, labels = boxes[whole], labels[whole]
        if self.augment is not None:
            image, boxes, labels, _ = self.augment(image, boxes, labels)
        return Sample(image, boxes, labels)

    def to_size(self, image: NDArray[np.uint8]) -> NDArray[np.uint8]:
        """The resize that training and prediction share."""
        return resize(image, self.target)


def to_rgb(image: NDArray[np.uint8]) -> NDArray[np.float32]:
    """Gray (H, W) as three equal channels (3, H, W), 0..255: what ImageNet's backbones expect."""
    return np.repeat(image[None].astype(np.float32), 3, axis=0)
