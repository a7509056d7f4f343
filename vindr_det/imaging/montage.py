"""Pictures with titles, side by side on a sheet."""

from collections.abc import Sequence

import cv2
import numpy as np
from numpy.typing import NDArray

_FONT, _LARGEST, _SMALLEST = cv2.FONT_HERSHEY_SIMPLEX, 0.5, 0.35
#: Pixels between the pictures of a sheet.
GAP = 6


def title_strip(text: str, width: int, height: int) -> NDArray[np.uint8]:
    """A black strip, (height, width, 3), with a text made to fit: smaller, or without its middle."""
    strip = np.zeros((height, width, 3), np.uint8)
    size = next((size for size in (_LARGEST, 0.42, _SMALLEST) if _width(text, size) <= width - 8), _SMALLEST)
    kept = len(text)
    shown = text
    while kept > 2 and _width(shown, size) > width - 8:
        kept -= 1
        shown = f"{text[: kept - kept // 2]}...{text[-(kept // 2):]}"
    cv2.putText(strip, shown, (4, height - 7), _FONT, size, (255, 255, 255), 1, cv2.LINE_AA)
    return strip


def _width(text: str, size: float) -> int:
    return cv2.getTextSize(text, _FONT, size, 1)[0][0]


def grid_of(pictures: Sequence[NDArray[np.uint8]], columns: int) -> NDArray[np.uint8]:
    """Pictures on a sheet, row by row, each at the upper left of a cell of the size of the largest.

    Args:
        pictures: (H, W, 3) uint8 each, BGR; at least one.
        columns: cells per row; fewer pictures take fewer columns.

    Returns:
        (R, C, 3) uint8, the cells :data:`GAP` pixels apart.
    """
    columns = min(columns, len(pictures))
    height, width = (max(picture.shape[axis] for picture in pictures) + GAP for axis in (0, 1))
    rows = -(-len(pictures) // columns)
    sheet = np.zeros((rows * height - GAP, columns * width - GAP, 3), np.uint8)
    for place, picture in enumerate(pictures):
        top, left = place // columns * height, place % columns * width
        sheet[top : top + picture.shape[0], left : left + picture.shape[1]] = picture
    return sheet
