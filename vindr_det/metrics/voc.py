"""The competition's metric: PASCAL VOC 2010 mAP at IoU > 0.4 over 15 classes; of any label set over its own.

Everingham et al., "The PASCAL VOC Challenge", IJCV 2010, section 4.2 and the 2010 development kit; the
matching is :func:`vindr_det.metrics.matching.match`. AP is the area under the precision-recall curve made
monotone, at all points. "No finding" is the fifteenth class: a normal image's truth is one box ``0 0 1 1``
of class 14. For VinBigData's findings the mean is ``vindr/mAP40``, for others ``voc/mAP40``; a label set in
which "no finding" is no class has its findings alone.

Shapes: I images, D detections, R bootstrap replicates, K classes.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import partial

import numpy as np

from vindr_det.metrics.bootstrap import Bootstrap, Floats, counts_down_to
from vindr_det.metrics.intervals import Replicated
from vindr_det.metrics.matching import (
    IOU_THRESHOLD,
    Matched,
    match,
    mean_over_classes,
    precision_envelope,
)
from vindr_det.metrics.metric import MatchedPredictions, Metric, replicate
from vindr_det.structures.detections import PredictionSet
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet
from vindr_det.structures.records import Record


@dataclass(frozen=True)
class VindrResult:
    """The competition's mAP and the APs that it is the mean of.

    Attributes:
        mean_ap: mean over the classes that have ground truth; NaN if none has.
        ap: class name -> AP; NaN where the class has no ground truth.
        truths: class name -> number of ground truths.
        detections: class name -> number of detections.
        label_set: which names the keys.
    """

    mean_ap: float
    ap: Mapping[str, float]
    truths: Mapping[str, int]
    detections: Mapping[str, int]
    label_set: LabelSet = VINBIGDATA

    @classmethod
    def of_matched(cls, matched: Matched) -> "VindrResult":
        """The result of matched detections."""
        return cls.of_ap(average_precisions(matched, np.ones((1, len(matched.ids))))[0], matched)

    @classmethod
    def of_ap(cls, ap: Floats, matched: Matched) -> "VindrResult":
        """(K,) AP of every class, with the counts of the detections behind it."""
        names = matched.label_set.classes
        return cls(
            float(mean_over_classes(ap[None])[0]), dict(zip(names, ap.tolist(), strict=True)),
            dict(zip(names, matched.counts.sum(axis=0).tolist(), strict=True)),
            {name: len(ranked) for name, ranked in zip(names, matched.by_class, strict=True)},
            matched.label_set)

    def as_metrics(self) -> dict[str, float]:
        """``vindr/mAP40`` and ``vindr/AP40/<class name>``, or ``voc/...`` of another label set."""
        return {self.label_set.mean_ap: self.mean_ap} | {
            self.label_set.class_ap.format(name): ap for name, ap in self.ap.items()}


class VindrAP(Metric):
    """``vindr/mAP40`` over 15 classes and ``vindr/AP40/<class>``; ``voc/...`` of another label set."""

    details = ("vindr/AP40/", "voc/AP40/")

    def columns_of(self, label_set: LabelSet) -> Mapping[str, str]:
        return {"AP40": label_set.class_ap}

    def compute(self, matched: MatchedPredictions) -> dict[str, float]:
        return VindrResult.of_matched(matched.voc).as_metrics()

    def replicates(self, matched: MatchedPredictions, bootstrap: Bootstrap) -> dict[str, Replicated]:
        mean, label_set = _mean_ap(matched, bootstrap), matched.label_set
        return {label_set.mean_ap: mean} | {
            label_set.class_ap.format(name): mean.of_class(at) for at, name in enumerate(label_set.classes)}


def vindr_ap(
    predictions: PredictionSet, truth: PredictionSet, iou_threshold: float = IOU_THRESHOLD
) -> VindrResult:
    """The competition's mAP of predictions.

    Args:
        predictions: image id -> detections; an image may be missing. Class 14 rows are detections
            of "no finding"; without any, that class scores 0.
        truth: image id -> true boxes; an image without boxes is normal.
        iou_threshold: an overlap must be strictly greater.

    Ties in score keep their order: by image id, then as they stand in the prediction.

    Raises:
        InputError: an image is predicted that the truth lacks.
    """
    return VindrResult.of_matched(match(predictions, truth, iou_threshold))


def vindr_ap_of_records(predictions: PredictionSet, records: Sequence[Record]) -> VindrResult:
    """:func:`vindr_ap` by annotated images, each left out for the classes that are unknown on it."""
    return VindrResult.of_matched(MatchedPredictions(predictions, records).voc)


def mean_ap(predictions: PredictionSet, records: Sequence[Record], bootstrap: Bootstrap) -> Replicated:
    """The mean AP alone with its replicates; the bootstrap is of the images, sorted by id."""
    return _mean_ap(MatchedPredictions(predictions, records), bootstrap)


def _mean_ap(matched: MatchedPredictions, bootstrap: Bootstrap) -> Replicated:
    return replicate(matched, bootstrap, lambda part: {"": ap_replicates(matched.voc, part)})[""]


def ap_replicates(matched: Matched, bootstrap: Bootstrap) -> Floats:
    """(R, K) AP of every class in every replicate of the images (``matched.ids``, in this order)."""
    return bootstrap.apply(partial(average_precisions, matched))


def average_precisions(matched: Matched, weights: Floats) -> Floats:
    """(R, K) AP of every class where image i counts weights[r, i] times; NaN without ground truth.

    An image that counts twice stands for two equal images; each detection is followed by its copy.
    """
    totals = weights @ matched.counts
    result = np.empty((len(weights), len(matched.by_class)))
    for label, ranked in enumerate(matched.by_class):
        at = ranked.true  # recall grows there and nowhere else
        seen, gained = counts_down_to(weights, ranked.image, at), weights[:, ranked.image[at]]
        result[:, label] = _average_precision(gained, seen, totals[:, label])
    return result


def _average_precision(gained: Floats, seen: Floats, total: Floats) -> Floats:
    """(R,) area under the monotone curve of one class.

    Args:
        gained: (R, P) how often each true positive counts, best first.
        seen: (R, P) detections down to each of them.
        total: (R,) ground truths.
    """
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(np.cumsum(gained, axis=1) / seen)
        return np.where(total > 0, (precision_envelope(precision) * gained).sum(axis=1) / total, np.nan)
