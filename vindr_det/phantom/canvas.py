"""Drawing on an attenuation map in coordinates that do not depend on its size.

Positions are fractions of the image: x from 0 (left edge) to 1, y from 0 (top edge) to 1. Lengths
(radii, stroke widths, blurs) are fractions of the image's width. The patient faces the viewer,
so the right lung is on the image's left.
"""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

Map = NDArray[np.floating]  # float32 in practice; numpy's types lose that in arithmetic
Point = tuple[float, float]

_SHIFT = 4  # OpenCV's fixed-point coordinates: 1/16 pixel


class Canvas:
    """An attenuation map of ``height`` x ``width`` and the masks that findings need.

    Attributes:
        att: (H, W) attenuation along each ray, in arbitrary units; air is 0.
        lungs: side (-1 the patient's right, +1 the left) to (H, W) depth of air, 0..1.
    """

    def __init__(self, height: int, width: int) -> None:
        self.height, self.width = height, width
        self.att: Map = np.zeros((height, width), np.float32)
        self.lungs: dict[int, Map] = {}
        self.x = ((np.arange(width, dtype=np.float32) + 0.5) / width)[None, :]
        self.y = ((np.arange(height, dtype=np.float32) + 0.5) / height)[:, None]

    @property
    def lung(self) -> Map:
        """Both lungs' depth of air, 0..1."""
        return np.maximum(self.lungs[-1], self.lungs[1])

    def blank(self) -> Map:
        """A zero map of the canvas's size."""
        return np.zeros_like(self.att)

    def pixels(self, points: Sequence[Point] | NDArray) -> NDArray[np.int32]:
        """Fractions (N, 2) to OpenCV's fixed-point pixels (N, 1, 2)."""
        scaled = np.asarray(points, np.float64) * [self.width, self.height] * 2**_SHIFT
        return np.round(scaled).astype(np.int32)[:, None, :]

    def blur(self, image: Map, sigma: float) -> Map:
        """Gaussian blur; ``sigma`` as a fraction of the width. Nothing below a third of a pixel."""
        pixels = sigma * self.width
        return image if pixels < 0.3 else cv2.GaussianBlur(image, (0, 0), pixels)

    def polygon(self, points: Sequence[Point] | NDArray, soft: float = 0.0) -> Map:
        """A filled outline, 0..1, its edge blurred by ``soft``."""
        mask = np.zeros(self.att.shape, np.uint8)
        cv2.fillPoly(mask, [self.pixels(points)], 255, cv2.LINE_AA, _SHIFT)
        return self.blur(mask.astype(np.float32) / 255, soft)

    def strokes(
        self, lines: Sequence[Sequence[Point] | NDArray], width: float, soft: float = 0.0
    ) -> Map:
        """Open lines of one width, 0..1."""
        mask = np.zeros(self.att.shape, np.uint8)
        thickness = max(1, round(width * self.width))
        cv2.polylines(
            mask, [self.pixels(p) for p in lines], False, 255, thickness, cv2.LINE_AA, _SHIFT
        )
        return self.blur(mask.astype(np.float32) / 255, soft)

    def ellipse(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Map:
        """Squared distance from (x, y) in units of the radii: below 1 is inside.

        ``rx`` is a fraction of the width, ``ry`` of the height; ``angle`` is in degrees.
        """
        cos, sin = float(np.cos(np.radians(angle))), float(np.sin(np.radians(angle)))
        dx, dy = self.x - np.float32(x), self.y - np.float32(y)
        u = (dx * cos + dy * sin) / float(rx)
        v = (dy * cos - dx * sin) / float(ry)
        return u * u + v * v

    def ball(self, x: float, y: float, rx: float, ry: float, angle: float = 0.0) -> Map:
        """The chord length through an ellipsoid, 1 at its middle and 0 at its rim."""
        return np.sqrt(np.clip(1 - self.ellipse(x, y, rx, ry, angle), 0, None))

    def cloud(self, rng: np.random.Generator, grain: float, octaves: int = 3) -> Map:
        """Smooth noise with mean 0 and deviation 1; ``grain`` is its coarsest grain's size."""
        total = self.blank()
        for octave in range(octaves):
            cell = grain / 2**octave
            rows = max(2, round(self.height / (cell * self.width)) + 1)
            columns = max(2, round(1 / cell) + 1)
            noise = rng.standard_normal((rows, columns)).astype(np.float32)
            size = (self.width, self.height)
            total += cv2.resize(noise, size, interpolation=cv2.INTER_CUBIC) / 2**octave
        return (total - total.mean()) / (total.std() + 1e-6)


def bezier(start: Point, middle: Point, end: Point, count: int = 24) -> NDArray[np.float64]:
    """A quadratic Bezier curve as (count, 2) points."""
    t = np.linspace(0, 1, count)[:, None]
    p0, p1, p2 = (np.asarray(p, np.float64) for p in (start, middle, end))
    return (1 - t) ** 2 * p0 + 2 * t * (1 - t) * p1 + t**2 * p2
