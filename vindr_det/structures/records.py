"""An annotated image: its size and its true boxes."""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace

import numpy as np

from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import LabelSet, same_label_set


@dataclass(frozen=True)
class Record:
    """An annotated image.

    Attributes:
        image_id: the file's stem.
        file_name: relative to the folder of images.
        height: of the original image, in pixels.
        width: of the original image, in pixels.
        truth: the true boxes (xyxy, original pixels); ``scores`` are the shares of readers that
            agreed, 1 where that is not known. A normal image has no box.
        readers: the names of the readers behind each box; empty where they are not known.
        unknown: class ids of findings that may be on the image without a box: annotations are incomplete for
            them there. Training takes no negative from the image for these, and metrics leave the image out
            for them.
        patient: whose image it is; None where that is not known.
    """

    image_id: str
    file_name: str
    height: int
    width: int
    truth: Predictions = field(default_factory=Predictions)
    readers: tuple[tuple[str, ...], ...] = ()
    unknown: tuple[int, ...] = ()
    patient: str | None = None

    @property
    def normal(self) -> bool:
        """Whether the image is known to have no finding."""
        return len(self.truth) == 0 and not self.unknown

    @property
    def label_set(self) -> LabelSet:
        """What the class ids mean."""
        return self.truth.label_set


def truth_of(records: Iterable[Record]) -> PredictionSet:
    """Image id -> true boxes, as the metrics take them."""
    return {record.image_id: record.truth for record in records}


def agreed_by(record: Record, count: int) -> Record:
    """The record with only the boxes on which at least ``count`` readers agree."""
    keep = [row for row, names in enumerate(record.readers) if len(names) >= count]
    names = tuple(record.readers[row] for row in keep)
    return replace(record, truth=record.truth[keep], readers=names)


def label_set_of_records(records: Iterable[Record], what: str = "annotations") -> LabelSet:
    """The one label set of annotated images; VinBigData's of none.

    Raises:
        InputError: two sets are mixed.
    """
    return same_label_set((record.label_set for record in records), what)


def known_part(predictions: PredictionSet, records: Iterable[Record]) -> dict[str, Predictions]:
    """The predictions without detections of findings that are unknown on their image, nor of "no finding" on
    an image of which that is unknown: one without boxes, with unknown findings."""
    return without_classes(predictions, unknown_of(records))


def unknown_of(records: Iterable[Record]) -> dict[str, list[int]]:
    """Image id -> class ids that are unknown there, "no finding" among them on an image without boxes; of
    images with any."""
    return {record.image_id: _unknown_ids(record) for record in records if record.unknown}


def _unknown_ids(record: Record) -> list[int]:
    no_finding = record.label_set.no_finding_id
    return [*record.unknown, *([no_finding] if no_finding is not None and not len(record.truth) else [])]


def without_classes(
    predictions: PredictionSet, classes: Mapping[str, Sequence[int]]
) -> dict[str, Predictions]:
    """The predictions without detections of these class ids of an image."""
    return {image_id: boxes[~np.isin(boxes.labels, classes[image_id])] if image_id in classes else boxes
            for image_id, boxes in predictions.items()}
