"""Label Studio's JSON: tasks with predictions out, its JSON export in; coordinates are percent.

https://labelstud.io/guide/predictions and https://labelstud.io/guide/task_format have the form.
"""

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path, PurePosixPath
from typing import Any
from xml.sax.saxutils import quoteattr

from vindr_det.annotation_tools.tasks import (
    Annotated,
    Annotation,
    Drawn,
    Task,
    is_rotated,
    number,
    say_ignored,
)
from vindr_det.exceptions import InputError
from vindr_det.files import read_json, write_json, write_text
from vindr_det.imaging.palette import code_of
from vindr_det.structures.label_sets import LabelSet

_KIND = "rectanglelabels"
#: What is said about a whole picture, or about a region that is there by itself.
_OF_NO_PLACE = ("choices", "datetime", "number", "pairwise", "ranker", "rating", "relation", "taxonomy",
                "textarea")
PICTURES = "images"


def write(folder: Path, tasks: Sequence[Task], label_set: LabelSet) -> None:
    """Write ``tasks.json``, to be imported, and ``labels.xml``, the project's labeling interface.

    The pictures are read as local files below the folder that holds ``images``.

    Args:
        folder: an existing one.
        tasks: the images.
        label_set: of their boxes.
    """
    write_json(folder / "tasks.json", [_task(task) for task in tasks])
    labels = "\n".join(f"    <Label value={quoteattr(name)} background={quoteattr(code_of(label))}/>"
                       for label, name in enumerate(label_set.findings))
    write_text(folder / "labels.xml",
               '<View>\n  <Image name="image" value="$image" zoom="true" zoomControl="true"/>\n'
               f'  <RectangleLabels name="label" toName="image">\n{labels}\n  </RectangleLabels>\n</View>\n')


def _task(task: Task) -> dict[str, Any]:
    rows = task.rows()
    result = [_region(task, place, *row) for place, row in enumerate(rows)]
    prediction = {"model_version": "vindr_det", "score": max((score for _, score, _ in rows), default=0.0),
                  "result": result}
    return {"data": {"image": f"/data/local-files/?d={PICTURES}/{task.picture}", "image_id": task.image_id},
            "predictions": [prediction]}


def _region(task: Task, place: int, name: str, score: float, box: Sequence[float]) -> dict[str, Any]:
    x0, y0, x1, y1 = box
    width, height = task.shown_width, task.shown_height
    value = {"x": 100 * x0 / width, "y": 100 * y0 / height, "width": 100 * (x1 - x0) / width,
             "height": 100 * (y1 - y0) / height, "rotation": 0, _KIND: [name]}
    return {"id": f"box{place}", "type": _KIND, "from_name": "label", "to_name": "image",
            "original_width": width, "original_height": height, "image_rotation": 0, "score": score,
            "value": value}


def read(path: str | Path, tasks: Sequence[Task]) -> Annotated:
    """The annotations of Label Studio's JSON export; skipped tasks have none.

    Args:
        path: the export.
        tasks: that were given to Label Studio.

    Raises:
        InputError: another form, an image with several annotations, or a region that is no upright box.
    """
    entries = read_json(path)
    if not isinstance(entries, list) or not all(isinstance(entry, dict) and "data" in entry
                                                for entry in entries):
        raise InputError(f"{path}: expected Label Studio's JSON export, a list of tasks with data and "
                         "annotations")
    sizes = {task.picture: (task.shown_width, task.shown_height) for task in tasks}
    annotated: dict[str, Annotation] = {}
    ignored: Counter[str] = Counter()
    for entry in entries:
        picture = PurePosixPath(str(entry["data"].get("image", ""))).name
        given = [part for part in entry.get("annotations") or () if not part.get("was_cancelled")]
        if len(given) > 1 or (given and picture in annotated):
            raise InputError(f"{path}: picture {picture} has several annotations, expected one; remove the "
                             "others, or export them one by one")
        if given:
            size = sizes.get(picture, (1, 1))  # of no task, which is refused later
            regions = given[0].get("result") or ()
            ignored.update(region["type"] for region in regions if not _has_place(region))
            drawn = _drawn(path, picture, filter(_has_place, regions), size)
            annotated[picture] = Annotation(list(drawn), _is_submitted(given[0]))
    say_ignored(path, ignored)
    return annotated


def _has_place(region: Mapping[str, Any]) -> bool:
    return region.get("type") not in _OF_NO_PLACE


def _is_submitted(annotation: Mapping[str, Any]) -> bool:
    """Whether somebody pressed Submit; the action "Create Annotations From Predictions" takes no time."""
    return annotation.get("parent_prediction") is None or bool(annotation.get("lead_time"))


def _drawn(
    path: str | Path, picture: str, regions: Iterable[Mapping[str, Any]], size: tuple[int, int]
) -> Iterable[Drawn]:
    for region in regions:
        value = region.get("value") or {}
        names = value.get(_KIND)
        if region.get("type") != _KIND or not isinstance(names, list) or len(names) != 1:
            raise InputError(f"{path}: picture {picture} has a region of type {region.get('type')!r} with "
                             f"labels {names!r}, expected {_KIND} with a label")
        if any(is_rotated(path, picture, degrees)
               for degrees in (value.get("rotation"), region.get("image_rotation"))):
            raise InputError(f"{path}: picture {picture} has a rotated region, expected upright boxes")
        x, y, width, height = (number(path, picture, value.get(key)) / 100
                               for key in ("x", "y", "width", "height"))
        yield Drawn(str(names[0]), (x * size[0], y * size[1], (x + width) * size[0], (y + height) * size[1]))
