"""What all annotation tools get: a picture and the boxes of each image; and what comes back from them."""

import logging
import math
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np

from vindr_det.exceptions import InputError
from vindr_det.files import read_json, write_json
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import LabelSet, label_set_named, nearest_name
from vindr_det.structures.records import Record

log = logging.getLogger(__name__)

#: In the folder of the tasks: what the pictures are of. It is written last.
INDEX = "images.json"
#: Pixels of a picture; CVAT writes two decimals.
_UNMOVED = 0.05


@dataclass(frozen=True)
class Task:
    """An image to annotate.

    Attributes:
        image_id: of the original.
        picture: name of its PNG file in the folder of pictures.
        height: of the original, pixels.
        width: of the original, pixels.
        shown_height: of the picture.
        shown_width: of the picture.
        boxes: original pixels; empty where there is none.
    """

    image_id: str
    picture: str
    height: int
    width: int
    shown_height: int
    shown_width: int
    boxes: Predictions

    @property
    def shown(self) -> list[list[float]]:
        """(M, 4) xyxy of the boxes in the picture's pixels."""
        return box_ops.scale(self.boxes.boxes, self.shown_width / self.width,
                             self.shown_height / self.height).tolist()

    def rows(self) -> list[tuple[str, float, list[float]]]:
        """(finding, score, xyxy in the picture's pixels) of each box."""
        findings = self.boxes.label_set.findings
        names = [findings[label] for label in self.boxes.labels.tolist()]
        return list(zip(names, self.boxes.scores.tolist(), self.shown, strict=True))


class Drawn(NamedTuple):
    """A box that a tool's file has.

    Attributes:
        name: of the finding.
        box: xyxy in the picture's pixels.
    """

    name: str
    box: Sequence[float]


class Annotation(NamedTuple):
    """A picture in a tool's file.

    Attributes:
        boxes: that it has there.
        reviewed: whether the file tells that somebody looked at it, so that boxes nobody changed are right.
    """

    boxes: Sequence[Drawn]
    reviewed: bool = False


#: Name of the picture -> what the file has of it; a picture that nobody annotated may be left out.
Annotated = Mapping[str, Annotation]


def write_index(folder: Path, tasks: Sequence[Task], label_set: LabelSet) -> None:
    """Write what the pictures are of."""
    images = [{"image_id": task.image_id, "picture": task.picture, "height": task.height, "width": task.width,
               "shown_height": task.shown_height, "shown_width": task.shown_width,
               "boxes": task.boxes.boxes.tolist(), "labels": task.boxes.labels.tolist()} for task in tasks]
    write_json(folder / INDEX, {"label_set": label_set.name, "findings": list(label_set.findings),
                                "images": images})


def read_index(folder: str | Path) -> tuple[list[Task], LabelSet]:
    """The tasks of a folder, their boxes without scores, and their label set.

    Raises:
        InputError: the folder was not written by ``vindr-det annotate to``, or not to its end.
    """
    path = Path(folder) / INDEX
    data = read_json(path)
    try:
        label_set = label_set_named(data["label_set"], data["findings"])
        tasks = [_task(image, label_set) for image in data["images"]]
    except (KeyError, TypeError, ValueError) as error:
        again = "; earlier versions have none, run it again for the same images" * ("boxes" in str(error))
        raise InputError(f"{path}: expected what vindr-det annotate to writes ({error}{again})") from error
    return tasks, label_set


def _task(image: Mapping[str, Any], label_set: LabelSet) -> Task:
    given = {key: value for key, value in image.items() if key != "labels"}
    boxes = Predictions(image["boxes"], np.ones(len(image["boxes"])), image["labels"], label_set)
    return Task(**given | {"boxes": boxes})


def records_of(
    path: str | Path, annotated: Annotated, tasks: Sequence[Task], label_set: LabelSet
) -> list[tuple[Record, bool]]:
    """Corrected boxes in the originals' pixels; images that are not in the file have no record.

    Args:
        path: the tool's file, for errors.
        annotated: what it has.
        tasks: of :func:`read_index`.
        label_set: likewise.

    Returns:
        Each with whether somebody is known to have looked at it: the file says so, or a box was changed,
        added or removed.

    Raises:
        InputError: a picture or finding that was not given to the tool, or a box that is none.
    """
    known = {task.picture for task in tasks}
    if unknown := sorted(annotated.keys() - known):
        raise InputError(f"{path}: picture {unknown[0]} is not among the {len(known)} of the tasks; expected "
                         "the folder that was given to the tool (--tasks)")
    records: list[tuple[Record, bool]] = []
    for task in tasks:
        if (annotation := annotated.get(task.picture)) is not None:
            record = _record(path, task, annotation.boxes, label_set)
            records.append((record, annotation.reviewed or not _is_untouched(task, record.truth)))
    return records


def _is_untouched(task: Task, truth: Predictions) -> bool:
    """Whether a picture has the boxes that the tool was given."""
    if len(task.boxes) != len(truth):
        return False
    given = box_ops.clip(task.boxes.boxes, task.height, task.width)
    moved = np.abs(given[:, None] - truth.boxes) * (task.shown_width / task.width)
    same = (moved <= _UNMOVED).all(axis=2) & (task.boxes.labels[:, None] == truth.labels)
    return bool(same.any(axis=0).all() and same.any(axis=1).all())


def _record(path: str | Path, task: Task, drawn: Sequence[Drawn], label_set: LabelSet) -> Record:
    labels = [_label(path, task, row.name, label_set) for row in drawn]
    for row in drawn:
        _require_box(path, task, row)
    scaled = box_ops.scale(np.array([row.box for row in drawn], float).reshape(-1, 4),
                           task.width / task.shown_width, task.height / task.shown_height)
    boxes = box_ops.clip(scaled, task.height, task.width)
    truth = Predictions(boxes, np.ones(len(boxes)), np.array(labels, dtype=np.int64), label_set)
    return Record(task.image_id, f"{task.image_id}.png", task.height, task.width, truth)


def _label(path: str | Path, task: Task, name: str, label_set: LabelSet) -> int:
    label = label_set.id_of(name)
    if label is None or label >= len(label_set):
        raise InputError(f"{path}: picture {task.picture} has a box of {name!r}, expected a finding of "
                         f"{label_set.name}, such as {nearest_name(name, label_set)}")
    return label


def _require_box(path: str | Path, task: Task, row: Drawn) -> None:
    finite = all(math.isfinite(value) for value in row.box)
    x0, y0, x1, y1 = row.box
    inside = finite and x0 < x1 and y0 < y1 and x0 < task.shown_width and y0 < task.shown_height \
        and x1 > 0 and y1 > 0
    if not inside:
        raise InputError(f"{path}: picture {task.picture} has a box {row.name} {[*row.box]}, expected x_min "
                         f"< x_max and y_min < y_max in its {task.shown_width} x {task.shown_height} pixels")


def is_rotated(path: str | Path, picture: str, degrees: Any) -> bool:
    """Whether an angle is other than whole turns; None is none.

    Raises:
        InputError: it is no number.
    """
    return number(path, picture, degrees or 0) % 360 != 0


def say_ignored(path: str | Path, ignored: Counter[str]) -> None:
    """Warn of what was ignored in a tool's file, since it marks no place in a picture."""
    if ignored:
        counts = ", ".join(f"{count} {kind}" for kind, count in sorted(ignored.items()))
        log.warning("%s: what marks no place is ignored: %s", path, counts)


def number(path: str | Path, picture: str, value: Any) -> float:
    """A coordinate.

    Raises:
        InputError: it is no number.
    """
    try:
        return float(value)
    except (TypeError, ValueError) as error:
        raise InputError(f"{path}: picture {picture} has the coordinate {value!r}, expected a "
                         "number") from error
