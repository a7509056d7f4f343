"""Records to COCO JSON and back.

COCO images carry our string id as the stem of ``file_name``; their own ids are 1..N in the order
of the sorted image ids. Category ids are VinDr's class ids 0..13. Annotation ids start at 1, since
pycocotools takes id 0 for "not matched". Boxes are xywh in the original image's pixels, whatever
the size of the file that is trained on.
"""

from collections import defaultdict
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vindr_det import boxes as box_ops
from vindr_det.categories import FINDINGS
from vindr_det.errors import InputError
from vindr_det.files import read_json
from vindr_det.predictions import Predictions
from vindr_det.records import Record

CATEGORIES = [{"id": i, "name": name, "supercategory": "finding"} for i, name in enumerate(FINDINGS)]


def to_coco(records: Sequence[Record]) -> dict[str, Any]:
    """Records to a COCO "instances" dictionary; ``agreement`` is the share of agreeing readers."""
    images: list[dict[str, Any]] = []
    annotations: list[dict[str, Any]] = []
    for number, record in enumerate(records, start=1):
        images.append({"id": number, "file_name": record.file_name,
                       "height": record.height, "width": record.width})
        xywh = np.round(box_ops.xyxy_to_xywh(record.truth.boxes), 3).tolist()
        for box, label, share in zip(
            xywh, record.truth.labels.tolist(), record.truth.scores.tolist(), strict=True
        ):
            annotations.append({
                "id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": box,
                "area": round(box[2] * box[3], 3), "iscrowd": 0, "agreement": round(share, 4),
            })
    info = {"description": "VinDr-CXR consensus boxes, original pixels"}
    return {"info": info, "images": images, "annotations": annotations, "categories": CATEGORIES}


def read_coco(path: str | Path) -> list[Record]:
    """A COCO file with VinDr's 14 categories (matched by name) as records.

    Raises:
        InputError: not COCO, an unknown category, an annotation without image, or a bad box.
    """
    data = read_json(path)
    lists = ("images", "annotations", "categories")
    if not isinstance(data, dict) or any(not isinstance(data.get(k), list) for k in lists):
        raise InputError(f"{path}: not a COCO file, expected lists {', '.join(lists)}")
    try:
        label_of = _labels(path, data["categories"])
        grouped = _group(path, data, label_of)
        return [_record(path, image, grouped[image["id"]]) for image in data["images"]]
    except KeyError as error:
        raise InputError(f"{path}: key {error} is missing in a COCO entry") from error


def _labels(path: str | Path, categories: list[dict]) -> dict[Any, int]:
    labels = {}
    for category in categories:
        if category["name"] not in FINDINGS:
            raise InputError(f"{path}: category {category['name']!r} is not one of the 14 findings")
        labels[category["id"]] = FINDINGS.index(category["name"])
    return labels


def _group(path: str | Path, data: dict, label_of: dict[Any, int]) -> dict[Any, list]:
    known = {image["id"] for image in data["images"]}
    grouped: dict[Any, list] = defaultdict(list)
    for annotation in data["annotations"]:
        if annotation["image_id"] not in known:
            raise InputError(f"{path}: annotation {annotation.get('id')} belongs to image "
                             f"{annotation['image_id']}, which is not in the file")
        if annotation["category_id"] not in label_of:
            raise InputError(f"{path}: annotation {annotation.get('id')} has category_id "
                             f"{annotation['category_id']}, expected one of {list(label_of)}")
        label = label_of[annotation["category_id"]]
        grouped[annotation["image_id"]].append(
            (annotation["bbox"], annotation.get("agreement", 1.0), label))
    return grouped


def _record(path: str | Path, image: dict, rows: list) -> Record:
    boxes, scores, labels = zip(*rows, strict=True) if rows else ((), (), ())
    try:
        truth = Predictions(box_ops.xywh_to_xyxy(list(boxes)), np.array(scores, dtype=float),
                            np.array(labels, dtype=np.int64))
    except ValueError as error:
        raise InputError(f"{path}: image {image['file_name']}: {error}") from error
    name = image["file_name"]
    return Record(Path(name).stem, name, int(image["height"]), int(image["width"]), truth)
