"""Text on pictures, in a font that has more than ASCII: names of findings may be in any language."""

from functools import cache
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.imaging.palette import Color

_PAD = 3


@cache
def _font(size: int) -> Any:
    """DejaVu Sans, which comes with matplotlib."""
    import matplotlib
    from PIL import ImageFont

    return ImageFont.truetype(str(Path(matplotlib.get_data_path()) / "fonts/ttf/DejaVuSans.ttf"), size)


def text_size(text: str, size: int) -> tuple[int, int]:
    """Width and height in pixels of the strip that :func:`text_strip` makes."""
    ascent, descent = _font(size).getmetrics()
    return int(np.ceil(_font(size).getlength(text))) + 2 * _PAD, ascent + descent


def text_strip(text: str, size: int, color: Color, background: Color) -> NDArray[np.uint8]:
    """A text with a margin at its sides.

    Args:
        text: of one line.
        size: of the font, pixels.
        color: of the letters, RGB.
        background: of the strip, RGB.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    from PIL import Image, ImageDraw

    strip = Image.new("RGB", text_size(text, size), background)
    ImageDraw.Draw(strip).text((_PAD, 0), text, fill=color, font=_font(size))
    return np.asarray(strip)


def paste(picture: NDArray[np.uint8], strip: NDArray[np.uint8], x: int, y: int) -> None:
    """Put a strip into a picture in place, its upper left corner at (x, y); what is outside is cut off."""
    height, width = picture.shape[:2]
    left, top, right, bottom = max(x, 0), max(y, 0), min(x + strip.shape[1], width), min(y + strip.shape[0], height)
    if left < right and top < bottom:
        picture[top:bottom, left:right] = strip[top - y : bottom - y, left - x : right - x]
