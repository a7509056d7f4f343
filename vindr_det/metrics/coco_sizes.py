"""COCO's other ten numbers: average recall by detections per image, AP and recall by COCO's sizes in pixels.

``coco/AR1``, ``coco/AR10`` and ``coco/AR100`` are the recall with so many detections per image and class,
mean over IoU .50:.05:.95 and classes. ``coco/APs``, ``coco/APm``, ``coco/APl``, ``coco/ARs`` ... are of boxes
below 32 x 32, up to 96 x 96 and above, in the originals' pixels. The same box has another size in a smaller
copy of the image: :func:`coco_in_frame` has the sizes in a copy of given side, and IoU from .40 on, as a
detector that was scored on 256 x 256 images reports them.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vindr_det.metrics import coco_bootstrap
from vindr_det.metrics.bootstrap import Bootstrap
from vindr_det.metrics.coco import accumulate, mean_of_known, stretch
from vindr_det.metrics.coco_bootstrap import RECALL_LIMITS
from vindr_det.metrics.intervals import Replicated
from vindr_det.metrics.metric import MatchedPredictions, Metric, replicate
from vindr_det.structures.detections import PredictionSet
from vindr_det.structures.records import Record

_WIDE = np.linspace(0.40, 0.95, 12)
#: All boxes, then COCO's small, medium and large, square pixels.
_AREAS = ((0.0, 1e10), (0.0, 32.0**2), (32.0**2, 96.0**2), (96.0**2, 1e10))


class CocoSizes(Metric):
    """``coco/AR1``, ``coco/AR10``, ``coco/AR100`` with intervals, and ``coco/APs`` ... ``coco/ARl``."""

    def compute(self, matched: MatchedPredictions) -> dict[str, float]:
        return coco_sizes(matched.predictions, matched.records)

    def replicates(self, matched: MatchedPredictions, bootstrap: Bootstrap) -> dict[str, Replicated]:
        return replicate(matched, bootstrap,
                         lambda part: coco_bootstrap.recall_replicates(matched.coco, part))


def coco_sizes(predictions: PredictionSet, records: Sequence[Record]) -> dict[str, float]:
    """The ten numbers of :class:`CocoSizes`; NaN where there is no true box.

    Args:
        predictions: image id -> detections in original pixels; "no finding" is left out.
        records: images with their true boxes.
    """
    thresholds = coco_bootstrap.THRESHOLDS[1:]
    precision, recall = accumulate(predictions, records, _AREAS, thresholds, RECALL_LIMITS)
    return _recalls("coco", recall) | _by_size("coco", precision, recall)


def coco_in_frame(predictions: PredictionSet, records: Sequence[Record], side: int) -> dict[str, float]:
    """COCO's numbers in a square copy of each image, sides scaled apart as a resize to a square does.

    ``coco/APs@<side>`` ... ``coco/ARl@<side>`` are over IoU .50:.05:.95; ``coco40:95/AP``,
    ``coco40:95/AR1`` ... and ``coco40:95/APs@<side>`` ... over .40:.05:.95. What knows no sizes is the same
    in every frame.

    Args:
        predictions: image id -> detections in original pixels.
        records: images with their true boxes and their sizes.
        side: of the square, pixels.
    """
    precision, recall = accumulate(*stretch(predictions, records, side), _AREAS, _WIDE, RECALL_LIMITS)
    wide = "coco40:95"
    return ({f"{wide}/AP": mean_of_known(precision[..., 0, -1])} | _recalls(wide, recall)
            | _by_size("coco", precision[2:], recall[2:], f"@{side}")
            | _by_size(wide, precision, recall, f"@{side}"))


def _recalls(prefix: str, recall: NDArray[np.float64]) -> dict[str, float]:
    """``<prefix>/AR1`` ... of (T, K, A, M) recalls."""
    return {f"{prefix}/AR{limit}": mean_of_known(recall[:, :, 0, at])
            for at, limit in enumerate(RECALL_LIMITS)}


def _by_size(
    prefix: str, precision: NDArray[np.float64], recall: NDArray[np.float64], suffix: str = ""
) -> dict[str, float]:
    """``<prefix>/APs<suffix>`` ... ``<prefix>/ARl<suffix>`` of (T, 101, K, A, M) and (T, K, A, M)."""
    return {f"{prefix}/{kind}{size}{suffix}": mean_of_known(values[..., at, -1])
            for kind, values in (("AP", precision), ("AR", recall))
            for at, size in enumerate("sml", start=1)}
