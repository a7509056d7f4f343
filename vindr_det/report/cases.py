"""The case browser's data: per image its boxes, with the true box that each detection is matched with."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any

from vindr_det.imaging.palette import code_of
from vindr_det.imaging.status import FLAGGED, OK
from vindr_det.metrics.matching import IOU_THRESHOLD
from vindr_det.metrics.outcomes import match_rows
from vindr_det.report.sources import NO_PREDICTION, NOT_READ, Sources
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record

#: Boxes of an image that the page holds, best first.
MAX_BOXES = 100
#: Instead of the row of a true box: a detection of a finding that is unknown on the image.
NOT_JUDGED = -2
_NEVER_SEEN = "nothing tells that it was read when it was predicted without boxes"


@dataclass(frozen=True)
class Case:
    """An image of the case browser, without its pixels.

    Attributes:
        image_id: its id.
        height: of the original, pixels.
        width: of the original, pixels.
        data: what the page knows of it, see :func:`case_of`.
        maps: label -> number of its map among the page's pictures.
    """

    image_id: str
    height: int
    width: int
    data: Mapping[str, Any] = field(default_factory=dict)
    maps: Mapping[str, int] = field(default_factory=dict)

    def without_picture(self, reason: str) -> "Case":
        """The case of an image whose file is not shown; whatever was predicted of it stays."""
        return replace(self, data={**self.data, "noPicture": reason})

    def with_notice(self, notice: str) -> "Case":
        """The case with what is odd about its picture."""
        return replace(self, data={**self.data, "notice": notice})

    def unread(self, reason: str) -> "Case":
        """The case of an image that cannot be read now; whatever was predicted of it stays.

        It has a notice where neither a row in the status table nor a predicted finding tells that it was read
        when it was predicted.
        """
        seen = self.data["status"] in (OK, FLAGGED) or self.data["predicted"] or self.data["leftOut"]
        case = self.without_picture(reason)
        return case if seen or self.data["predicted"] is None else case.with_notice(_NEVER_SEEN)

    def as_json(self) -> dict[str, Any]:
        """The data with id and size."""
        return {"id": self.image_id, "height": self.height, "width": self.width, "maps": dict(self.maps),
                **self.data}


def case_of(sources: Sources, image_id: str, height: int, width: int) -> Case:
    """The boxes of an image.

    Returns:
        A case with ``predicted``, rows of [class id, score, x_min, y_min, x_max, y_max, row of the true box
        that it is matched with, -1 for a false positive, -2 for not judged], best first, None where nothing
        was predicted; ``truth``, rows of [class id, x_min, ..., row of its detection or -1, -2, score of that
        detection or None], where the row may be one that is left out; ``readers``, name -> rows of [class id,
        x_min, ...]; ``normal``, ``status``, ``reason``, ``state`` (see
        :meth:`vindr_det.report.sources.Sources.state`), ``noPicture`` (why there is none), ``notice`` (of the
        picture), ``leftOut`` (boxes beyond :data:`MAX_BOXES`) and ``noFinding``, the score of that class.
    """
    record, status = sources.records_by_id.get(image_id), sources.statuses.get(image_id)
    state = sources.state(image_id)
    data: dict[str, Any] = {
        "status": status.status if status else "", "reason": status.reason if status else "",
        "state": state, "noPicture": "", "notice": "",
        "normal": None if record is None else record.normal, "readers": _readers(sources, image_id)}
    boxes = None if sources.predictions is None else sources.predictions.get(image_id)
    data |= _boxes(None if state in (NOT_READ, NO_PREDICTION) else boxes, record)
    return Case(image_id, height, width, data)


def _boxes(predicted: Predictions | None, record: Record | None) -> dict[str, Any]:
    every = Predictions() if predicted is None else predicted.findings().by_score()
    kept = every[:MAX_BOXES]
    truth = None if record is None else record.truth.findings()
    unknown = () if record is None else record.unknown
    matches = [-1] * len(every) if truth is None else match_rows(every, truth, unknown)
    rows = [
        [label, score, *box, NOT_JUDGED if label in unknown else match]
        for label, score, box, match in zip(
            kept.labels.tolist(),
            kept.scores.tolist(),
            kept.boxes.round(1).tolist(),
            matches[:len(kept)],
            strict=True,
        )
    ]
    return {"predicted": None if predicted is None else rows, "leftOut": len(every) - len(kept),
            "truth": None if truth is None else _true_rows(truth, matches, every.scores.tolist(), unknown),
            "noFinding": _no_finding_score(predicted)}


def _true_rows(
    truth: Predictions, matches: Sequence[int], scores: Sequence[float], unknown: Sequence[int]
) -> list[list[Any]]:
    found_by = {row: (at, scores[at]) for at, row in enumerate(matches) if row >= 0}
    return [[label, *box, *((NOT_JUDGED, None) if label in unknown else found_by.get(row, (-1, None)))]
            for row, (label, box) in enumerate(zip(truth.labels.tolist(), truth.boxes.round(1).tolist(),
                                                   strict=True))]


def _no_finding_score(predicted: Predictions | None) -> float | None:
    if predicted is None or predicted.label_set.no_finding_id is None:
        return None
    scores = predicted.scores[predicted.labels == predicted.label_set.no_finding_id]
    return round(float(scores.max()), 4) if len(scores) else None


def _readers(sources: Sources, image_id: str) -> dict[str, list[list[Any]]]:
    return {name: [[label, *box] for label, box in zip(boxes[image_id].labels.tolist(),
                                                       boxes[image_id].boxes.round(1).tolist(), strict=True)]
            for name, boxes in sources.readers.items() if image_id in boxes}


def browser_json(
    cases: Sequence[Case], label_set: LabelSet | None, score: float, side: int
) -> dict[str, Any]:
    """What the page's script reads.

    Args:
        cases: in order.
        label_set: of the boxes.
        score: that its slider begins at.
        side: longest of the pictures, pixels.
    """
    names = label_set.findings if label_set else ()
    return {
        "classes": [{"name": name, "color": code_of(at)} for at, name in enumerate(names)],
        "score": score,
        "iou": IOU_THRESHOLD,
        "side": side,
        "cases": [case.as_json() for case in cases],
    }
