"""What all annotation tools get: a picture and the boxes of each image; and what comes back from them."""

import math
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

#: In the folder of the tasks: what the pictures are of. It is written last.
INDEX = "images.json"


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


#: Name of the picture -> its boxes; a picture that nobody annotated is not there.
Annotated = Mapping[str, Sequence[Drawn]]


def write_index(folder: Path, tasks: Sequence[Task], label_set: LabelSet) -> None:
    """Write what the pictures are of."""
    images = [{"image_id": task.image_id, "picture": task.picture, "height": task.height, "width": task.width,
               "shown_height": task.shown_height, "shown_width": task.shown_width} for task in tasks]
    write_json(folder / INDEX, {"label_set": label_set.name, "findings": list(label_set.findings),
                                "images": images})


def read_index(folder: str | Path) -> tuple[list[Task], LabelSet]:
    """The tasks of a folder, without boxes, and their label set.

    Raises:
        InputError: the folder was not written by ``vindr-det annotate to``, or not to its end.
    """
    path = Path(folder) / INDEX
    data = read_json(path)
    try:
        label_set = label_set_named(data["label_set"], data["findings"])
        tasks = [Task(**image, boxes=Predictions(label_set=label_set)) for image in data["images"]]
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: expected what vindr-det annotate to writes ({error})") from error
    return tasks, label_set


def records_of(
    path: str | Path, annotated: Annotated, tasks: Sequence[Task], label_set: LabelSet
) -> list[Record]:
    """Corrected boxes in the originals' pixels; images that nobody annotated have no record.

    Args:
        path: the tool's file, for errors.
        annotated: what it has.
        tasks: of :func:`read_index`.
        label_set: likewise.

    Raises:
        InputError: a picture or finding that was not given to the tool, or a box that is none.
    """
    known = {task.picture for task in tasks}
    if unknown := sorted(annotated.keys() - known):
        raise InputError(f"{path}: picture {unknown[0]} is not among the {len(known)} of the tasks; expected "
                         "the folder that was given to the tool (--tasks)")
    return [_record(path, task, annotated[task.picture], label_set) for task in tasks
            if task.picture in annotated]


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
