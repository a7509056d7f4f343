"""Images to files."""

from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.files import atomic_path


def write_png(path: str | Path, picture: NDArray[np.uint8]) -> None:
    """Write a picture, whole or not at all."""
    with atomic_path(path) as temporary:
        # OpenCV's own writing says nothing of a full disk.
        temporary.write_bytes(cv2.imencode(".png", picture)[1].tobytes())
