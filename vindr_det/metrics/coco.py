"""COCO AP over the findings, by hotcoco, with AP40 beside AP50 and AP75.

``coco/AP`` is the mean over IoU .50:.05:.95 of the 101-point AP, as cocodataset.org defines it.
``coco/AP40`` is the same 101-point AP at IoU >= .40; it is not the competition's metric. COCO's sizes are
fixed numbers of pixels (:mod:`vindr_det.metrics.coco_sizes`), by which almost all findings are large;
:func:`coco_ap_by_size` goes by the share of the image that a box covers.

Shapes: T thresholds, K classes, A ranges of area.
"""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import replace

import numpy as np
from numpy.typing import NDArray

from vindr_det.data.coco import boxes_and_areas
from vindr_det.metrics import coco_bootstrap
from vindr_det.metrics.bootstrap import Bootstrap
from vindr_det.metrics.coco_bootstrap import MAX_DETECTIONS, ROW_OF, THRESHOLDS
from vindr_det.metrics.coco_forked import accumulate_by_pycocotools, is_forked
from vindr_det.metrics.intervals import Replicated
from vindr_det.metrics.matching import Table, comparable
from vindr_det.metrics.metric import MatchedPredictions, Metric, replicate
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.records import Record, label_set_of_records

log = logging.getLogger(__name__)

#: Shares of the image; about a third of VinBigData's consensus boxes each.
SIZES: Mapping[str, tuple[float, float]] = {
    "small": (0.0, 0.006), "medium": (0.006, 0.025), "large": (0.025, 1.01)}
#: COCO's range for boxes of any area, square pixels.
_ANY_AREA = [0.0, 1e10]
#: Side of the square into which images are stretched to compare shares; overlaps do not change.
_SIDE = 1000


class CocoAP(Metric):
    """``coco/AP``, ``coco/AP40``, ``coco/AP50``, ``coco/AP75``: means over findings."""

    def compute(self, matched: MatchedPredictions) -> dict[str, float]:
        return coco_ap(matched.predictions, matched.records)

    def replicates(self, matched: MatchedPredictions, bootstrap: Bootstrap) -> dict[str, Replicated]:
        return replicate(matched, bootstrap, lambda part: coco_bootstrap.ap_replicates(matched.coco, part))


def coco_ap(predictions: PredictionSet, records: Sequence[Record]) -> dict[str, float]:
    """``coco/AP``, ``coco/AP40``, ``coco/AP50``, ``coco/AP75``; NaN without any true box.

    Args:
        predictions: image id -> detections in original pixels; "no finding" is left out.
        records: images with their true boxes.
    """
    return summary(_precision(predictions, records)[..., 0])


def coco_ap_by_size(predictions: PredictionSet, records: Sequence[Record]) -> dict[str, float]:
    """``coco/AP/small`` and so on, and the same of AP40, AP50 and AP75, by :data:`SIZES`.

    Per size, truths of other sizes are ignored, and so are unmatched detections of other sizes, as in COCO.

    Args:
        predictions: image id -> detections in original pixels.
        records: images with their true boxes and their sizes.
    """
    areas = [[low * _SIDE**2, high * _SIDE**2] for low, high in SIZES.values()]
    precision = _precision(*stretch(predictions, records, _SIDE), areas)
    return {f"{name}/{size}": value for at, size in enumerate(SIZES)
            for name, value in summary(precision[..., at]).items()}


def stretch(
    predictions: PredictionSet, records: Sequence[Record], side: int
) -> tuple[dict[str, Predictions], list[Record]]:
    """Findings and truth in square copies of the images of given side, pixels; overlaps do not change."""
    def moved(boxes: Predictions, record: Record) -> Predictions:
        return replace(boxes, boxes=box_ops.scale(boxes.boxes, side / record.width, side / record.height))

    square = [replace(record, height=side, width=side, truth=moved(record.truth, record))
              for record in records]
    return {record.image_id: moved(predictions[record.image_id].findings(), record)
            for record in records if record.image_id in predictions}, square


def summary(precision: NDArray[np.float64]) -> dict[str, float]:
    """``coco/AP`` and :data:`ROW_OF` of (T, ...) precisions, in which -1 stands for classes without truth."""
    return {"coco/AP": mean_of_known(precision[1:])} | {
        key: mean_of_known(precision[at]) for key, at in ROW_OF.items()}


def to_results(predictions: PredictionSet, records: Sequence[Record]) -> NDArray[np.float64]:
    """(N, 7) findings as COCO's ``loadRes`` reads them: image, x, y, width, height, score, category.

    Image and category ids are those of :func:`vindr_det.data.coco.to_coco`.

    Args:
        predictions: image id -> detections in the records' pixels; "no finding" is left out.
        records: the images.
    """
    return _results({image_id: boxes.findings() for image_id, boxes in predictions.items()}, records)


def _results(findings: PredictionSet, records: Sequence[Record]) -> NDArray[np.float64]:
    empty, label_set = Predictions(), label_set_of_records(records)
    detections = Table.of([findings.get(record.image_id, empty) for record in records], label_set)
    return np.column_stack([detections.image + 1, box_ops.xyxy_to_xywh(detections.boxes), detections.score,
                            detections.label])


def _precision(
    predictions: PredictionSet, records: Sequence[Record], areas: Sequence[Sequence[float]] = (_ANY_AREA,)
) -> NDArray[np.float64]:
    """(T, 101, K, A) over recalls, classes and areas; -1 where there is no truth."""
    return accumulate(predictions, records, areas)[0][..., -1]


def accumulate(
    predictions: PredictionSet, records: Sequence[Record], areas: Sequence[Sequence[float]],
    thresholds: NDArray[np.float64] = THRESHOLDS, limits: Sequence[int] = (MAX_DETECTIONS,),
) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """Precisions (T, 101, K, A, M) and recalls (T, K, A, M) by hotcoco; -1 where there is no truth.

    In a process that was forked from one that has used hotcoco, pycocotools computes the same.

    Args:
        predictions: image id -> detections in the records' pixels; "no finding" is left out, and findings
            that are unknown on their image.
        records: images with their true boxes.
        areas: A ranges of area, square pixels.
        thresholds: of IoU.
        limits: M numbers of detections per image and class that count, rising.
    """
    label_set, predictions = label_set_of_records(records), comparable(predictions, records)
    truth = Table.of([record.truth for record in records], label_set)
    classes = len(label_set.findings), len(areas), len(limits)
    shapes = (len(thresholds), 101, *classes), (len(thresholds), *classes)
    if not len(truth):
        return np.full(shapes[0], -1.0), np.full(shapes[1], -1.0)
    if is_forked():
        log.info("COCO's numbers are computed by pycocotools: hotcoco's threads are not in a forked process")
        return accumulate_by_pycocotools(_results(predictions, records), records, areas, thresholds, limits)
    from hotcoco import COCO, COCOeval

    boxes, sizes = boxes_and_areas(truth.boxes)
    coco = COCO.from_arrays([{"id": number} for number in range(1, len(records) + 1)],
                            [{"id": label, "name": name} for label, name in enumerate(label_set.findings)],
                            truth.image + 1, truth.label, boxes, area=sizes)
    evaluation = COCOeval(coco, coco.load_res(_results(predictions, records)), "bbox")
    params = evaluation.params
    params.iou_thrs, params.max_dets = thresholds.tolist(), list(limits)
    params.area_rng, params.area_rng_lbl = list(map(list, areas)), list(map(str, range(len(areas))))
    evaluation.evaluate()
    evaluation.accumulate()
    curves = evaluation.eval or {}
    return curves["precision"], curves["recall"]


def mean_of_known(values: NDArray[np.float64]) -> float:
    """Mean over everything that is not -1, which means no truth; NaN without any."""
    values = values[values > -1]
    return float(values.mean()) if len(values) else float("nan")
