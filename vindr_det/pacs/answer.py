"""What is told of an image, and the UIDs of the objects that tell it.

A UID depends on the image's own UID and on what is told, so that the same answer is the same object however
often it is made and sent, and another model's answer is another object.
"""

import hashlib
import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cached_property
from typing import Any

import numpy as np

from vindr_det import __version__
from vindr_det.exceptions import InputError
from vindr_det.imaging.status import FLAGGED, OK
from vindr_det.pacs.original import Original
from vindr_det.pacs.text import fitted
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import LabelSet

#: In every object: what it may not be used for.
STATEMENT = "Research and teaching only: not for the care of a patient"
MANUFACTURER = "vindr_det"
_EDGES = ("x_min", "y_min", "x_max", "y_max")


@dataclass(frozen=True)
class Algorithm:
    """What found the boxes.

    Attributes:
        name: of the model, such as that of its bundle.
        version: which tells it from every other model, such as the bundle's hash.
    """

    name: str = MANUFACTURER
    version: str = __version__


@dataclass(frozen=True)
class Box:
    """A finding with its place.

    Attributes:
        class_id: in the model's label set, for its color.
        finding: its name.
        score: 0 to 1.
        corners: xyxy in the original's pixels.
    """

    class_id: int
    finding: str
    score: float
    corners: tuple[float, float, float, float]

    @property
    def outline(self) -> list[list[float]]:
        """The closed polyline (5, 2) of x and y; 0, 0 is the first pixel's outer corner (PS3.3 C.18.6.1)."""
        x0, y0, x1, y1 = self.corners
        return [[x0, y0], [x1, y0], [x1, y1], [x0, y1], [x0, y0]]


@dataclass(frozen=True)
class Answer:
    """What is told of an image.

    Attributes:
        original: the image.
        report: its entry in ``S.predictions.json``, of
            :func:`vindr_det.submission.image_report.image_report`.
        score: boxes with a lower score are not told.
        algorithm: what found them.
        created: when; the objects' dates, and a part of their UIDs, so that the same UID has the same bytes.
    """

    original: Original
    report: Mapping[str, Any]
    score: float
    algorithm: Algorithm
    created: datetime

    @property
    def is_read(self) -> bool:
        """Whether anything is known about the image."""
        return self.report["status"] in (OK, FLAGGED) and self.report["boxes"] is not None

    @property
    def remark(self) -> str:
        """Why the image is flagged or was not read; empty where it is ok."""
        reason = fitted(self.report["reason"] or "", "ST")
        if not self.is_read:
            return f"NOT READ, nothing is known about this image: {reason or 'no prediction'}"
        reasons = [reason] if self.report["status"] == FLAGGED else []
        if self._left_out:
            reasons.append(self._left_out)
        return f"Look at it before you trust it: {'; '.join(reasons)}" if reasons else ""

    @property
    def comments(self) -> Sequence[str]:
        """What every object should say in words: its limits, the remark, notes on the image's header."""
        return [text for text in (STATEMENT, self.remark, *self.original.notes) if text]

    @property
    def notes(self) -> Sequence[str]:
        """What the report of the run does not know: of the boxes and the image's header."""
        return [text for text in (self._left_out, *self.original.notes) if text]

    @property
    def _left_out(self) -> str:
        outside = len(self._told) - len(self.boxes)
        return f"{outside} box{'es' * (outside > 1)} outside the image left out" if outside else ""

    @cached_property
    def boxes(self) -> Sequence[Box]:
        """Those that are told, best first, within the image; none where nothing is known."""
        return [box for box in self._told
                if box.corners[0] < box.corners[2] and box.corners[1] < box.corners[3]]

    @cached_property
    def _told(self) -> Sequence[Box]:
        """Those with the score, cut to the image; of one outside it nothing is left."""
        width, height = (float(self.original.header.get(key, 0)) for key in ("Columns", "Rows"))
        return [Box(int(box["class_id"]), fitted(box["class_name"], "ST") or "unnamed", float(box["score"]),
                    _within([float(box[edge]) for edge in _EDGES], width, height))
                for box in (self.report["boxes"] or [] if self.is_read else [])
                if box["score"] >= self.score]

    @property
    def predictions(self) -> Predictions:
        """The boxes, to be drawn."""
        names = {box.class_id: box.finding for box in self.boxes}
        label_set = LabelSet("answer", tuple(names.get(label, "")
                                             for label in range(max(names, default=0) + 1)))
        return Predictions(np.array([box.corners for box in self.boxes]).reshape(-1, 4),
                           np.array([box.score for box in self.boxes]),
                           np.array([box.class_id for box in self.boxes], np.int64), label_set)

    def uid(self, what: str) -> str:
        """A UID of this answer.

        Args:
            what: tells it from the answer's other UIDs.
        """
        told = [self.created.isoformat(), self.algorithm.name, self.algorithm.version, self.score,
                *map(self.report.get, ("status", "reason", "boxes", "probabilities", "no_finding"))]
        return uid_of(what, self.original.uid, json.dumps(told, sort_keys=True))

    def series_uid(self, kind: str) -> str:
        """The UID of the series that answers of a kind to the image's series are in."""
        return uid_of("series", kind, str(self.original.header.SeriesInstanceUID), self.algorithm.name,
                      self.algorithm.version)

    def common(self, kind: str, number: int) -> dict[str, Any]:
        """What highdicom wants of every object.

        Args:
            kind: of the object, for its UIDs.
            number: of its series.
        """
        name, version = (fitted(text, "LO") for text in (self.algorithm.name, self.algorithm.version))
        return {"series_instance_uid": self.series_uid(kind), "series_number": number,
                "sop_instance_uid": self.uid(kind), "instance_number": self._instance_number,
                "manufacturer": MANUFACTURER, "manufacturer_model_name": name,
                "software_versions": [__version__, version], "device_serial_number": version,
                "content_date": self.moment.date(), "content_time": self.moment.time()}

    @property
    def moment(self) -> datetime:
        """When, by the image's time zone, which holds for all times of an object (PS3.3 C.12.1.1.8)."""
        offset = self.original.header.get("TimezoneOffsetFromUTC")
        return self.created.astimezone(datetime.strptime(offset, "%z").tzinfo) if offset else self.created

    @property
    def _instance_number(self) -> int:
        """The image's own, as it is the only image with its UID in its series."""
        try:
            return max(1, int(self.original.header.get("InstanceNumber") or 1))
        except (TypeError, ValueError):
            return 1


def uid_of(*parts: str) -> str:
    """The UID of some texts: ``2.25.`` and 120 bits of their hash (PS3.5 B.2)."""
    digest = hashlib.sha256("\0".join(parts).encode()).digest()
    return f"2.25.{int.from_bytes(digest[:15], 'big')}"


def _within(corners: list[float], width: float, height: float) -> tuple[float, float, float, float]:
    x0, y0, x1, y1 = corners
    return (min(max(x0, 0), width), min(max(y0, 0), height), min(max(x1, 0), width),
            min(max(y1, 0), height))


def require_algorithm(algorithm: Algorithm) -> None:
    """Check ``--algorithm`` and ``--algorithm-version``.

    Raises:
        InputError: one is empty, or objects could not have it as it is.
    """
    for option, text in (("--algorithm", algorithm.name), ("--algorithm-version", algorithm.version)):
        if not text or fitted(text, "LO") != text:
            raise InputError(f"{option} {text!r}: expected 1 to 64 characters in one line, without \\")


def require_score(score: float) -> None:
    """Check ``--score``.

    Raises:
        InputError: it is not from 0 to 1.
    """
    if not 0 <= score <= 1:
        raise InputError(f"--score {score}: expected a number from 0 to 1")
