"""The resize that preparation, training and prediction share."""

from dataclasses import dataclass

import cv2
from numpy.typing import NDArray


@dataclass(frozen=True)
class Target:
    """The size that images are brought to.

    Attributes:
        size: pixels; 0 keeps every image as it is.
        keep_aspect: the longest side becomes ``size`` and a smaller image stays as it is; else the
            result is square.
    """

    size: int
    keep_aspect: bool

    def shape(self, height: int, width: int) -> tuple[int, int]:
        """Height and width that an image of ``height`` x ``width`` gets."""
        if self.size <= 0:
            return height, width
        if not self.keep_aspect:
            return self.size, self.size
        factor = min(1.0, self.size / max(height, width))
        return max(1, round(height * factor)), max(1, round(width * factor))


def resize(image: NDArray, target: Target) -> NDArray:
    """Bring an image (H, W) of any depth to ``target``."""
    return resize_to(image, target.shape(*image.shape[:2]))


def resize_to(image: NDArray, shape: tuple[int, int]) -> NDArray:
    """Bring an image (H, W) to ``shape`` (height, width).

    Shrinking averages areas, which keeps fine structure from aliasing.
    """
    if shape == image.shape[:2]:
        return image
    shrinks = shape[0] < image.shape[0] or shape[1] < image.shape[1]
    method = cv2.INTER_AREA if shrinks else cv2.INTER_LINEAR
    return cv2.resize(image, shape[::-1], interpolation=method)
