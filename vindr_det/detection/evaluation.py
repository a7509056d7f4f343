"""Validation metrics, the same for both engines."""

from collections.abc import Sequence

from vindr_det.metrics import coco, voc
from vindr_det.structures.detections import PredictionSet, with_no_finding
from vindr_det.structures.records import Record, truth_of


def validation_metrics(predictions: PredictionSet, records: Sequence[Record]) -> dict[str, float]:
    """``vindr/...`` and ``coco/...`` of a detector without classifier.

    A detector never says "no finding" by itself; 1 - the highest box score stands in for it, so
    that the fifteenth class counts as it does in the competition.
    """
    gated = with_no_finding(predictions)
    scores = voc.vindr_ap(gated, truth_of(records)).as_metrics()
    return scores | coco.coco_ap(predictions, records)
