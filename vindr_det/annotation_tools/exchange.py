"""Predictions or truth to a folder for an annotation tool, and what it exports to COCO records."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from types import ModuleType

from vindr_det.annotation_tools import cvat, fiftyone, label_studio
from vindr_det.annotation_tools.tasks import Task, read_index, records_of, write_index
from vindr_det.exceptions import InputError
from vindr_det.files import make_folder, write_png
from vindr_det.imaging import image_run
from vindr_det.imaging.image_run import ImageRun
from vindr_det.imaging.resize import Target
from vindr_det.imaging.status import FAILED, Status
from vindr_det.structures.detections import Predictions, PredictionSet, label_set_of
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record

log = logging.getLogger(__name__)

#: Name -> module with ``write``, ``read`` and ``PICTURES``, the folder of its pictures.
FORMATS: Mapping[str, ModuleType] = {"label-studio": label_studio, "cvat": cvat, "fiftyone": fiftyone}

_UNTOUCHED = ("have the boxes that the tool was given, and nothing tells that somebody looked at them "
              "(--accept-untouched takes them as they are)")


def write_tasks(
    format: str, out: str | Path, run: ImageRun, boxes: PredictionSet, longest: int = 0,
    workers: int | None = None,
) -> tuple[list[Task], list[Status]]:
    """Write a picture of each image that has an entry in ``boxes``, and the files of a tool.

    Args:
        format: of :data:`FORMATS`.
        out: a folder that is new or empty.
        run: the images.
        boxes: image id -> predictions or truth, original pixels.
        longest: side of the pictures; 0 keeps the images' size.
        workers: processes that read; None takes one per core.

    Returns:
        The tasks, and the status of each image that was tried.

    Raises:
        InputError: the folder is not empty, no image has an entry, or none can be read.
    """
    folder, tool, label_set = Path(out), FORMATS[format], label_set_of(boxes)
    if folder.exists() and (not folder.is_dir() or any(folder.iterdir())):
        raise InputError(f"{folder}: is not empty, expected a new folder")
    chosen = run.of([source for source in run.inputs if source.image_id in boxes])
    if not chosen.inputs:
        raise InputError(f"none of the {len(run.inputs)} images has an entry in the predictions or the "
                         "annotations")
    pictures = folder / tool.PICTURES
    tasks: list[Task] = []
    statuses: list[Status] = []
    for result in image_run.read_all(chosen, Target(longest, keep_aspect=True), workers):
        statuses.append(result.status)
        if result.image is not None:
            name = f"{len(tasks) + 1:05}.png"
            write_png(make_folder(pictures) / name, result.image.pixels)
            tasks.append(_task(result.status, name, result.image.pixels.shape, boxes))
    if not tasks:
        raise InputError(f"none of {len(statuses)} images can be read; the first: {statuses[0].file}: "
                         f"{statuses[0].reason}")
    tool.write(folder, tasks, label_set)
    write_index(folder, tasks, label_set)
    return tasks, statuses


def _task(status: Status, name: str, shape: Sequence[int], boxes: PredictionSet) -> Task:
    assert status.status != FAILED and status.height is not None and status.width is not None
    return Task(status.image_id, name, status.height, status.width, shape[0], shape[1],
                boxes[status.image_id].findings())


def read_corrected(
    format: str, path: str | Path, folder: str | Path, accept_untouched: bool = False
) -> tuple[list[Record], LabelSet]:
    """What radiologists made of the boxes, in the originals' pixels.

    Args:
        format: of :data:`FORMATS`.
        path: the file that the tool exported.
        folder: that :func:`write_tasks` wrote.
        accept_untouched: take the given boxes for right also where nothing tells that somebody looked at
            them; else such images are left out.

    Returns:
        A record per annotated image, and the label set.

    Raises:
        InputError: a faulty file, or it is not of these tasks.
    """
    tasks, label_set = read_index(folder)
    annotated = records_of(path, FORMATS[format].read(path, tasks), tasks, label_set)
    records = [record for record, reviewed in annotated if reviewed or accept_untouched]
    untouched = len(annotated) - len(records)
    if not records:
        raise InputError(f"{path}: no image is annotated" + f"; {untouched} {_UNTOUCHED}" * bool(untouched))
    if left := len(tasks) - len(annotated):
        log.warning("%s: %d of %d images are not annotated and left out", path, left, len(tasks))
    if untouched:
        log.warning("%s: left out: %d of %d images %s", path, untouched, len(tasks), _UNTOUCHED)
    return records, label_set


def from_score(boxes: PredictionSet, score: float) -> dict[str, Predictions]:
    """The boxes of at least this score."""
    return {image_id: rows[rows.scores >= score] for image_id, rows in boxes.items()}
