"""What a metric is: one class that computes a value and, where that makes sense, its bootstrap replicates.

A new metric is one subclass of :class:`Metric` in a module of this folder and one line in
:data:`vindr_det.metrics.registry.METRICS`; ``vindr-det evaluate`` takes its tables, intervals, comparisons
and ``metrics.json`` from that list.
"""

import math
from abc import ABC, abstractmethod
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from functools import cached_property

from numpy.typing import ArrayLike

from vindr_det.metrics import coco_bootstrap
from vindr_det.metrics.bootstrap import Bootstrap, Floats
from vindr_det.metrics.coco_bootstrap import CocoMatched
from vindr_det.metrics.intervals import Replicated
from vindr_det.metrics.matching import IOU_THRESHOLD, Matched, match
from vindr_det.structures.detections import PredictionSet
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record, label_set_of_records, truth_of, unknown_of


@dataclass(frozen=True)
class MatchedPredictions:
    """Predictions and truth, matched once for all metrics.

    An image counts for no class that is unknown on it: its detections of that class are neither right nor
    wrong, and it is no image of the class.

    Attributes:
        predictions: image id -> detections in original pixels; an image may be missing.
        records: images with their true boxes.
    """

    predictions: PredictionSet
    records: Sequence[Record]

    @cached_property
    def label_set(self) -> LabelSet:
        """Of the truth.

        Raises:
            InputError: two sets are mixed.
        """
        return label_set_of_records(self.records)

    @cached_property
    def voc(self) -> Matched:
        """The competition's matching: PASCAL VOC at IoU > 0.4; images sorted by id.

        Raises:
            InputError: an image is predicted that the records lack, or of another label set.
        """
        return match(self.predictions, truth_of(self.records), IOU_THRESHOLD, unknown_of(self.records))

    @cached_property
    def coco(self) -> CocoMatched:
        """COCO's matching at all of its IoU thresholds; images sorted by id."""
        return coco_bootstrap.match(self.predictions, self.records_by_id)

    @property
    def records_by_id(self) -> list[Record]:
        """The images in the order in which a bootstrap draws them."""
        return sorted(self.records, key=lambda record: record.image_id)


class Metric(ABC):
    """One entry of the list of metrics.

    Attributes:
        columns: header of a column in the table of classes -> key, ``{}`` standing for the class name.
        details: prefixes of keys that ``metrics.json`` has and the summary table leaves out.
        summary: keys that it has all the same.
    """

    columns: Mapping[str, str] = {}
    details: tuple[str, ...] = ()
    summary: tuple[str, ...] = ()

    def columns_of(self, label_set: LabelSet) -> Mapping[str, str]:
        """:attr:`columns`, for metrics whose keys depend on the label set."""
        return self.columns

    def is_detail(self, key: str) -> bool:
        """Whether the summary table leaves a key out."""
        return key.startswith(self.details) and key not in self.summary

    @abstractmethod
    def compute(self, matched: MatchedPredictions) -> dict[str, float]:
        """Key -> value, NaN where nothing can be measured."""

    def replicates(self, matched: MatchedPredictions, bootstrap: Bootstrap) -> dict[str, Replicated]:
        """Key -> value and bootstrap replicates; keys that are left out have no interval.

        Args:
            matched: the predictions.
            bootstrap: of the images, sorted by id; the same one makes two files' values pairs.
        """
        return {}

    def table(self, values: Mapping[str, float]) -> str:
        """A table of this metric's own below the summary, if it has one."""
        return ""


def format_value(value: float, digits: int = 4) -> str:
    """A value as tables show it; "-" for NaN."""
    return "-" if math.isnan(value) else f"{value:.{digits}f}"


def by_key(keys: Iterable[str], values: Floats) -> dict[str, Floats]:
    """(..., P) values of a metric at P points as one array per point."""
    return {key: values[..., at] for at, key in enumerate(keys)}


def replicate(
    matched: MatchedPredictions, bootstrap: Bootstrap, per_class: Callable[[Bootstrap], Mapping[str, Floats]],
    measured_on: ArrayLike | None = None,
) -> dict[str, Replicated]:
    """Key -> value on all images and on each replicate, for metrics that are means over classes.

    Args:
        matched: the predictions.
        bootstrap: of their images.
        per_class: replicates -> key -> (R, K) values of the first K classes; NaN without ground truth.
        measured_on: (I, K) whether a class is measured on an image, (I, 1) for metrics that know no classes;
            None for whether the image has ground truth of the class.
    """
    whole, drawn = per_class(bootstrap.whole()), per_class(bootstrap)
    images = bootstrap.groups_with(matched.voc.counts > 0 if measured_on is None else measured_on)
    return {key: Replicated(whole[key][0], values, images[: values.shape[1]])
            for key, values in drawn.items()}
