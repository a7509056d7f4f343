"""Test-time augmentation (TTA): detections on an image, mirrored and at several sizes, merged by WBF."""

from collections.abc import Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vindr_det.detection.interface import Predictor
from vindr_det.exceptions import InputError
from vindr_det.imaging.resize import Target
from vindr_det.postprocessing.fusion import Fusion, fuse
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import LabelSet

#: The least and the largest factor of the test size.
SCALES = (0.1, 4)


class TTAPredictor:
    """A predictor that runs another one on several views of each image; works with either engine's.

    Args:
        predictor: runs once per view.
        scales: factors of the config's test size.
        flip: add the mirrored image, at each scale.
        iou_thr: boxes of one class with a higher IoU are merged.

    Raises:
        InputError: no scale, or one beyond :data:`SCALES`.
    """

    def __init__(
        self, predictor: Predictor, scales: Sequence[float] = (1.0,), flip: bool = True,
        iou_thr: float = 0.5,
    ) -> None:
        least, most = SCALES
        if not scales or not all(least <= scale <= most for scale in scales):
            raise InputError(f"--tta-scales {list(scales)}: expected numbers from {least} to {most}")
        self.predictor, self.scales, self.flip = predictor, tuple(scales), flip
        self.fusion = Fusion(iou_thr=iou_thr)

    @property
    def target(self) -> Target:
        """See :class:`vindr_det.detection.interface.Predictor`."""
        return self.predictor.target

    @property
    def label_set(self) -> LabelSet:
        """See :class:`vindr_det.detection.interface.Predictor`."""
        return self.predictor.label_set

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0
    ) -> list[Predictions]:
        """See :class:`vindr_det.detection.interface.Predictor`."""
        views = []
        for factor in self.scales:
            views.append(self.predictor(images, factor * scale))
            if self.flip:
                mirrored = [np.ascontiguousarray(image[:, ::-1]) for image in images]
                views.append([mirror(detections, image.shape[1]) for detections, image in
                              zip(self.predictor(mirrored, factor * scale), images, strict=True)])
        return [fuse(detections, image.shape[0], image.shape[1], self.fusion)
                for image, *detections in zip(images, *views, strict=True)]


def mirror(detections: Predictions, width: int) -> Predictions:
    """The detections mirrored left to right in an image of that width, in pixels."""
    boxes = detections.boxes.copy()
    boxes[:, [0, 2]] = width - boxes[:, [2, 0]]
    return replace(detections, boxes=boxes)
