"""An annotated image: its size and its true boxes."""

from collections.abc import Iterable
from dataclasses import dataclass, field, replace

from vindr_det.structures.detections import Predictions, PredictionSet


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
    """

    image_id: str
    file_name: str
    height: int
    width: int
    truth: Predictions = field(default_factory=Predictions)
    readers: tuple[tuple[str, ...], ...] = ()

    @property
    def normal(self) -> bool:
        """Whether the image has no finding."""
        return len(self.truth) == 0


def truth_of(records: Iterable[Record]) -> PredictionSet:
    """Image id -> true boxes, as the metrics take them."""
    return {record.image_id: record.truth for record in records}


def agreed_by(record: Record, count: int) -> Record:
    """The record with only the boxes on which at least ``count`` readers agree."""
    keep = [row for row, names in enumerate(record.readers) if len(names) >= count]
    names = tuple(record.readers[row] for row in keep)
    return replace(record, truth=record.truth[keep] if keep else Predictions(), readers=names)
