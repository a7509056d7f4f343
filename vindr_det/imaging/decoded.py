"""A decoded image and everything that was decided while decoding it."""

from collections.abc import Mapping
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from vindr_det.imaging.resize import Target


@dataclass(frozen=True)
class DecodedImage:
    """A decoded image.

    Attributes:
        pixels: (H, W) uint8, MONOCHROME2 sense: larger is brighter.
        height: rows of the original, which ``pixels`` may be smaller than.
        width: columns of the original.
        syntax: name of the transfer syntax, or of the file format.
        bits: bits stored per pixel.
        photometric: PhotometricInterpretation of the file.
        window: what mapped values to grays: ``linear 2048/4096``, ``sigmoid ...``, ``voi lut``,
            ``percentile`` or ``none``.
        orientation: PatientOrientation, as ``L/F``; empty where the file has none. The
            picture is never rotated.
        view: ViewPosition; empty where the file has none.
        spacing: millimeters between the original's rows and columns, as ``0.139/0.139``; empty where
            the file has none.
        reduced: the original was decoded at 1 / 2 ** reduced of its resolution.
        flags: contradictions in the file, and reasons why it may be no chest X-ray.
        views: target -> (H, W) uint8, where the image was read for several models.
    """

    pixels: NDArray[np.uint8]
    height: int
    width: int
    syntax: str
    bits: int
    photometric: str
    window: str = "none"
    orientation: str = ""
    view: str = ""
    spacing: str = ""
    reduced: int = 0
    flags: tuple[str, ...] = ()
    views: Mapping[Target, NDArray[np.uint8]] = field(default_factory=dict)

    def at(self, target: Target) -> NDArray[np.uint8]:
        """The pixels at ``target``, the same as if the image had been read for it alone."""
        return self.views.get(target, self.pixels)
