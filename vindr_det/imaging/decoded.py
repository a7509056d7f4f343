"""An image as it came out of its file, and everything that was decided on the way."""

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
        bits: bits stored a pixel.
        photometric: PhotometricInterpretation as it stands in the file.
        window: what set the grays: ``linear 2048/4096``, ``sigmoid ...``, ``voi lut``,
            ``percentile`` or ``none``.
        orientation: PatientOrientation, as ``L/F``; empty where the file does not say. The
            picture is never turned.
        view: ViewPosition; empty where the file does not say.
        spacing: millimeters between the original's rows and columns, as ``0.139/0.139``; empty where
            the file does not say.
        reduced: the original was decoded at 1 / 2 ** reduced of its resolution.
        flags: what in the file contradicts itself or does not look like a chest X-ray.
        views: target -> (H, W) uint8, where the image was read for several models at once.
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
        """The picture that was read for ``target``: as if it had been read for that alone."""
        return self.views.get(target, self.pixels)
