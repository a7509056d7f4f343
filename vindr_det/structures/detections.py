"""The detections on an image, checked once where they are made and trusted after that."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.label_sets import NO_FINDING_BOX, VINBIGDATA, LabelSet, same_label_set


@dataclass(frozen=True)
class Predictions:
    """Detections on an image.

    Attributes:
        boxes: (N, 4) xyxy in the original image's pixels.
        scores: (N,) in [0, 1].
        labels: (N,) class ids of the label set; "no finding", where it is a class, has the box ``0 0 1 1``.
        label_set: what the class ids mean.

    Raises:
        ValueError: lengths differ, a value is not finite, a score or label is out of range, or
            a box has its corners crossed.
    """

    boxes: NDArray[np.float64] = field(default_factory=lambda: np.zeros((0, 4)))
    scores: NDArray[np.float64] = field(default_factory=lambda: np.zeros(0))
    labels: NDArray[np.int64] = field(default_factory=lambda: np.zeros(0, dtype=np.int64))
    label_set: LabelSet = VINBIGDATA

    def __post_init__(self) -> None:
        boxes = box_ops.as_boxes(self.boxes)
        scores = np.asarray(self.scores, dtype=np.float64).reshape(-1)
        labels = np.asarray(self.labels).reshape(-1)
        object.__setattr__(self, "boxes", boxes)
        object.__setattr__(self, "scores", scores)
        object.__setattr__(self, "labels", labels.astype(np.int64))
        self._check(labels)

    def _check(self, labels: NDArray) -> None:
        counts = (len(self.boxes), len(self.scores), len(labels))
        if len(set(counts)) != 1:
            raise ValueError(f"boxes, scores and labels differ in length: {counts}")
        if not len(labels):
            return
        if not np.isfinite(self.boxes).all():
            raise ValueError(f"box {_first(self.boxes, ~np.isfinite(self.boxes).all(axis=1))} "
                             "is not finite")
        outside = ~((self.scores >= 0) & (self.scores <= 1))
        if outside.any():
            raise ValueError(f"score {_first(self.scores, outside)} is not in [0, 1]")
        classes = len(self.label_set.classes)
        unknown = (labels != self.labels) | (self.labels < 0) | (self.labels >= classes)
        if unknown.any():
            raise ValueError(f"class id {_first(labels, unknown)} is not one of 0..{classes - 1}")
        crossed = (self.boxes[:, 2:] <= self.boxes[:, :2]).any(axis=1)
        if crossed.any():
            raise ValueError(f"box {_first(self.boxes, crossed)} needs x_min < x_max, y_min < y_max")

    def __len__(self) -> int:
        return len(self.scores)

    def __getitem__(self, index) -> "Predictions":
        """A subset by mask, slice or index array; it is not checked again."""
        part = object.__new__(Predictions)
        for name in ("boxes", "scores", "labels"):
            object.__setattr__(part, name, getattr(self, name)[index])
        object.__setattr__(part, "label_set", self.label_set)
        return part

    def by_score(self) -> "Predictions":
        """The same detections, best first; ties keep their order."""
        return self[np.argsort(-self.scores, kind="stable")]

    def findings(self) -> "Predictions":
        """Without the rows of "no finding", class 14 of VinBigData's set."""
        if self.label_set.no_finding_id is None:
            return self
        kept = self.labels != self.label_set.no_finding_id
        return self if kept.all() else self[kept]

    def __add__(self, other: "Predictions") -> "Predictions":
        if not len(other) or not len(self):
            return self if len(self) else other
        if self.label_set != other.label_set:
            raise InputError(f"detections of the label sets {self.label_set.name} and {other.label_set.name} "
                             "on an image, expected a single set")
        return Predictions(
            np.concatenate([self.boxes, other.boxes]),
            np.concatenate([self.scores, other.scores]),
            np.concatenate([self.labels, other.labels]),
            self.label_set,
        )


#: image id -> its detections.
PredictionSet = Mapping[str, Predictions]


def by_image(codes: NDArray[np.int64], names: Sequence[str], boxes: Predictions) -> dict[str, Predictions]:
    """Image id -> its detections, in the order of the images' numbers: parts of the same arrays, not copies.

    Args:
        codes: (N,) the number of each detection's image.
        names: of the images that the numbers count; those without detections are left out.
        boxes: N detections of all images, which keep their order.
    """
    ordered = boxes if (codes[1:] >= codes[:-1]).all() else boxes[np.argsort(codes, kind="stable")]
    ends = np.cumsum(np.bincount(codes, minlength=len(names))).tolist()
    return {name: ordered[start:end] for name, start, end in zip(names, [0, *ends], ends, strict=False)
            if start < end}


def label_set_of(predictions: PredictionSet, what: str = "predictions") -> LabelSet:
    """The one label set of all images' detections; images without any say nothing.

    Args:
        predictions: image id -> detections.
        what: names them in the error.

    Raises:
        InputError: two sets are mixed.
    """
    filled = [boxes.label_set for boxes in predictions.values() if len(boxes)]
    return same_label_set(filled or [boxes.label_set for boxes in predictions.values()], what)


def no_finding(score: float = 1.0, label_set: LabelSet = VINBIGDATA) -> Predictions:
    """The one-row prediction ``14 score 0 0 1 1``; empty for a set in which "no finding" is no class."""
    if label_set.no_finding_id is None:
        return Predictions(label_set=label_set)
    return Predictions(np.array([NO_FINDING_BOX]), np.array([score]), np.array([label_set.no_finding_id]),
                       label_set)


def with_no_finding(predictions: PredictionSet) -> dict[str, Predictions]:
    """"No finding" for detections without a classifier: 1 - the highest box score of each image.

    A detector has no such class of its own. Rows of it that are there are replaced. Detections of a label
    set in which it is no class stay as they are.
    """
    boxes = {image_id: predicted.findings() for image_id, predicted in predictions.items()}
    return {image_id: kept + no_finding(1 - float(kept.scores.max(initial=0.0)), kept.label_set)
            for image_id, kept in boxes.items()}


def drop_degenerate(
    boxes: NDArray, scores: NDArray, labels: NDArray, label_set: LabelSet = VINBIGDATA
) -> Predictions:
    """Predictions without boxes or scores that are not finite, or boxes that are empty."""
    good = np.isfinite(boxes).all(axis=1) & np.isfinite(scores)
    good &= (boxes[:, 2] > boxes[:, 0]) & (boxes[:, 3] > boxes[:, 1])
    return Predictions(boxes[good], np.clip(scores[good], 0, 1), labels[good], label_set)


def _first(values: NDArray, mask: Any) -> object:
    return values[np.flatnonzero(mask)[0]].tolist()
