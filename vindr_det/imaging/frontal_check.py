"""Whether an image looks like a frontal chest radiograph, which is what the models are trained on."""

import numpy as np
from numpy.typing import NDArray

from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.resize import Target, resize

_SMALLEST = 200
_LONGEST_RATIO = 1.8
_LATERAL = {"LL", "RL", "LATERAL", "LLD", "RLD", "LLO", "RLO"}
#: Brightness of the mediastinum less that of the lungs, 0..1, below which an image counts as inverted. Of
#: 701 NIH and 93 VinBigData images 3 lie below it; inverted, 95 % and all of them do.
INVERTED_BELOW = -0.05


def warnings_of(image: DecodedImage) -> list[str]:
    """Reasons not to trust a prediction for this image; none where it looks as it should."""
    warnings = list(image.flags)
    if min(image.height, image.width) < _SMALLEST:
        warnings.append(f"only {image.width} x {image.height} pixels")
    ratio = max(image.height, image.width) / min(image.height, image.width)
    if ratio > _LONGEST_RATIO:
        warnings.append(f"{ratio:.1f} times as long as wide")
    if image.view.upper() in _LATERAL:
        warnings.append(f"view {image.view} is lateral")
    if mediastinum_over_lungs(image.pixels) < INVERTED_BELOW:
        warnings.append("looks inverted: lungs brighter than the mediastinum")
    return warnings


def mediastinum_over_lungs(pixels: NDArray[np.uint8]) -> float:
    """Mean brightness of the mediastinum less that of the lungs, -1..1, where a frontal view has them."""
    small = resize(pixels, Target(64, keep_aspect=False)).astype(float) / 255
    middle = small[16:48, 28:36].mean()
    lungs = (small[16:40, 12:24].mean() + small[16:40, 40:52].mean()) / 2
    return float(middle - lungs)
