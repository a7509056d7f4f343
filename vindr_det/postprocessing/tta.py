"""Test-time augmentation: an image mirrored and at several sizes, its detections merged by WBF."""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vindr_det.detection.interface import Predictor
from vindr_det.exceptions import InputError
from vindr_det.imaging.resize import Target
from vindr_det.postprocessing.fusion import Fusion, fuse
from vindr_det.structures.detections import Predictions


class TTAPredictor:
    """A predictor that looks several times; works with either engine's.

    Args:
        predictor: looks once.
        scales: factors of the config's test size.
        flip: look at the mirrored image too, at each scale.
        iou_thr: boxes of one class that overlap more are one finding.

    Raises:
        InputError: no scale, or one that is not above 0.
    """

    def __init__(
        self, predictor: Predictor, scales: Sequence[float] = (1.0,), flip: bool = True,
        iou_thr: float = 0.5,
    ) -> None:
        if not scales or min(scales) <= 0:
            raise InputError(f"--tta-scales {list(scales)}: expected numbers above 0")
        self.predictor, self.scales, self.flip = predictor, tuple(scales), flip
        self.fusion = Fusion(iou_thr=iou_thr)

    @property
    def target(self) -> Target:
        """See :class:`vindr_det.detection.interface.Predictor`."""
        return self.predictor.target

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0
    ) -> list[Predictions]:
        """See :class:`vindr_det.detection.interface.Predictor`."""
        looks = []
        for factor in self.scales:
            looks.append(self.predictor(images, factor * scale))
            if self.flip:
                found = self.predictor([np.ascontiguousarray(i[:, ::-1]) for i in images], factor * scale)
                looks.append([mirrored_back(one, image.shape[1])
                              for one, image in zip(found, images, strict=True)])
        return [fuse(seen, image.shape[0], image.shape[1], self.fusion)
                for image, *seen in zip(images, *looks, strict=True)]


def mirrored_back(found: Predictions, width: int) -> Predictions:
    """Detections on a mirrored image, where they are on the image itself."""
    boxes = found.boxes.copy()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return Predictions(boxes, found.scores, found.labels)
