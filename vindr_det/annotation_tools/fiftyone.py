"""FiftyOne's ``COCODetectionDataset``: a folder ``data`` of pictures and ``labels.json``, out and in.

https://docs.voxel51.com/user_guide/import_datasets.html#cocodetectiondataset has the form. Boxes have scores,
which FiftyOne shows as confidences.
"""

from collections.abc import Sequence
from pathlib import Path, PurePosixPath
from typing import Any

from vindr_det.annotation_tools.tasks import Annotated, Annotation, Drawn, Task, number
from vindr_det.exceptions import InputError
from vindr_det.files import read_json, write_json
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.label_sets import LabelSet

PICTURES = "data"


def write(folder: Path, tasks: Sequence[Task], label_set: LabelSet) -> None:
    """Write ``labels.json``, boxes in the pictures' pixels.

    Args:
        folder: an existing one.
        tasks: the images.
        label_set: of their boxes.
    """
    images = [{"id": place, "file_name": task.picture, "height": task.shown_height,
               "width": task.shown_width, "text_id": task.image_id} for place, task in enumerate(tasks, 1)]
    annotations: list[dict[str, Any]] = []
    for place, task in enumerate(tasks, 1):
        boxes = box_ops.xyxy_to_xywh(task.shown).tolist()
        for label, score, box in zip(task.boxes.labels.tolist(), task.boxes.scores.tolist(), boxes,
                                     strict=True):
            annotations.append({"id": len(annotations) + 1, "image_id": place, "bbox": box,
                                "category_id": label, "area": box[2] * box[3], "iscrowd": 0, "score": score})
    categories = [{"id": label, "name": name} for label, name in enumerate(label_set.findings)]
    write_json(folder / "labels.json", {"info": {"label_set": label_set.name}, "images": images,
                                        "annotations": annotations, "categories": categories})


def read(path: str | Path, tasks: Sequence[Task]) -> Annotated:
    """The boxes of a ``labels.json`` that FiftyOne exported, which does not tell what was looked at.

    Args:
        path: the file.
        tasks: that were given to FiftyOne; its form tells all that is needed.

    Raises:
        InputError: not such a file.
    """
    data = read_json(path)
    try:
        pictures = {image["id"]: PurePosixPath(image["file_name"]).name for image in data["images"]}
        names = {category["id"]: category["name"] for category in data["categories"]}
        drawn: dict[str, list[Drawn]] = {picture: [] for picture in pictures.values()}
        for annotation in data["annotations"]:
            picture = pictures[annotation["image_id"]]
            x, y, width, height = (number(path, picture, value) for value in annotation["bbox"])
            drawn[picture].append(Drawn(names[annotation["category_id"]], (x, y, x + width, y + height)))
    except (KeyError, TypeError, ValueError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: expected FiftyOne's COCODetectionDataset ({error!r})") from error
    return {picture: Annotation(boxes) for picture, boxes in drawn.items()}
