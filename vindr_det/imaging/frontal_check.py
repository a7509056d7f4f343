"""Does an image look like what a classifier of frontal chest radiographs was trained on?"""

import numpy as np
from numpy.typing import NDArray

from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.resize import Target, resize

_SMALLEST = 200
_LONGEST_RATIO = 1.8
_LATERAL = {"LL", "RL", "LATERAL", "LLD", "RLD", "LLO", "RLO"}
#: Brightness of the mediastinum less that of the lungs, 0..1, below which an image counts as inverted. Of
#: 701 NIH and 93 VinBigData images 3 lie below it; turned over, 95 % and all of them do.
INVERTED_BELOW = -0.05


def warnings_of(image: DecodedImage) -> list[str]:
    """What speaks against a prediction for this image; nothing where it looks as it should."""
    found = list(image.flags)
    if min(image.height, image.width) < _SMALLEST:
        found.append(f"only {image.width} x {image.height} pixels")
    ratio = max(image.height, image.width) / min(image.height, image.width)
    if ratio > _LONGEST_RATIO:
        found.append(f"{ratio:.1f} times as long as wide")
    if image.view.upper() in _LATERAL:
        found.append(f"view {image.view} is lateral")
    if mediastinum_over_lungs(image.pixels) < INVERTED_BELOW:
        found.append("looks inverted: lungs brighter than the mediastinum")
    return found


def mediastinum_over_lungs(pixels: NDArray[np.uint8]) -> float:
    """Difference of mean brightness, -1..1, where the two lie in a frontal chest radiograph."""
    small = resize(pixels, Target(64, keep_aspect=False)).astype(float) / 255
    middle = small[16:48, 28:36].mean()
    lungs = (small[16:40, 12:24].mean() + small[16:40, 40:52].mean()) / 2
    return float(middle - lungs)
