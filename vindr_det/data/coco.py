"""Records to COCO JSON and back.

An image's id in this project is a text: ``text_id``, or else ``file_name`` without folders and without an
image's suffix (the last number of a UID is none). COCO's tools need whole numbers: 1..N in the order of the
records. An image and an annotation keep theirs in every file that :func:`part` makes of the whole. Category
ids are the class ids of the label set. Annotation ids start at 1, since pycocotools takes id 0 for "not
matched". Boxes are xywh in the original image's pixels, whatever the size of the file that is trained on.

Files from other tools are read too, and repaired where the meaning is certain: image ids of any kind and any
first number, categories matched by name, a category for class 14, annotations of images that are not in the
file, boxes that exceed the image or are empty, repeated annotations. A finding whose box is left out is
unknown on its image, never absent. The label set follows from the categories
(:mod:`vindr_det.data.coco_categories`). Boxes of another frame are refused
(:mod:`vindr_det.data.coco_boxes`), and crowds (``iscrowd`` 1), without which an image with findings would
count as normal.
"""

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from contextlib import suppress
from operator import itemgetter
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.coco_boxes import DrawnBox, refuse_other_frame
from vindr_det.data.coco_categories import class_ids_of, label_set_of_categories
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json, image_id_of, read_json
from vindr_det.limits import LARGEST_SIDE
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record, label_set_of_records
from vindr_det.tables import whole_number

_NO_FINDING = "{} annotations of the category No finding left out"
_UNKNOWN = "not_exhaustive_category_ids"

log = logging.getLogger(__name__)


def to_coco(records: Sequence[Record], label_set: LabelSet | None = None) -> dict[str, Any]:
    """Records to a COCO "instances" dictionary whose categories are the label set's findings, ids from 0.

    Two keys of an annotation extend COCO: ``agreement``, the share of the image's readers who agree on the
    box, and ``readers``, their names where they are known. An image has the key
    ``not_exhaustive_category_ids``, as in LVIS, where findings are unknown on it, and ``patient`` where that
    is known.

    Args:
        records: the images.
        label_set: of the records; None takes theirs, which is VinBigData's without records.

    Raises:
        InputError: records of two label sets.
    """
    own = label_set_of_records(records)
    label_set = label_set or own
    images = [_image(number, record) for number, record in enumerate(records, start=1)]
    annotations: list[dict[str, Any]] = []
    # All boxes at once: a conversion per image would take most of the time.
    xyxy = np.concatenate([box_ops.as_boxes([]), *(record.truth.boxes for record in records)])
    rows = zip(*(values.tolist() for values in boxes_and_areas(xyxy)), strict=True)
    for number, record in enumerate(records, start=1):
        truth = record.truth
        behind = record.readers or [()] * len(truth)
        for label, share, readers in zip(truth.labels.tolist(), truth.scores.tolist(), behind, strict=True):
            box, area = next(rows)
            annotation = {"id": len(annotations) + 1, "image_id": number, "category_id": label, "bbox": box,
                          "area": area, "iscrowd": 0, "agreement": round(share, 4)}
            annotations.append(annotation | ({"readers": readers} if readers else {}))
    categories = [{"id": i, "name": name, "supercategory": "finding"}
                  for i, name in enumerate(label_set.findings)]
    info = {"description": "boxes in the original images' pixels", "label_set": label_set.name}
    return {"info": info, "images": images, "annotations": annotations, "categories": categories}


def boxes_and_areas(xyxy: NDArray[np.float64]) -> tuple[NDArray[np.float64], NDArray[np.float64]]:
    """(N, 4) boxes as :func:`to_coco` writes them: (N, 4) xywh and (N,) areas, to a thousandth."""
    xywh = _rounded(box_ops.xyxy_to_xywh(xyxy))
    return xywh, _rounded(xywh[:, 2:3] * xywh[:, 3:])[:, 0]


def _rounded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """(N, K) to a thousandth, but rows whose last values that would take to nothing."""
    rounded = np.round(values, 3)
    return np.where((rounded[:, -2:] > 0).all(axis=1, keepdims=True), rounded, values)


def _image(number: int, record: Record) -> dict[str, Any]:
    image = {"id": number, "file_name": record.file_name, "height": record.height, "width": record.width}
    if {record.image_id} != {Path(record.file_name).stem, image_id_of(record.file_name)}:
        image["text_id"] = record.image_id
    if record.unknown:
        image[_UNKNOWN] = list(record.unknown)
    if record.patient is not None:
        image["patient"] = record.patient
    return image


def patient_of_image(image: Mapping[str, Any]) -> str | None:
    """The patient of a COCO image, by its key ``patient`` or ``patient_id``; None where that is not known."""
    owner = next((image[key] for key in ("patient", "patient_id") if image.get(key) is not None), "")
    return whole_number(str(owner).strip()) or None


def part(coco: Mapping[str, Any], chosen: Sequence[bool], min_readers: int = 1) -> dict[str, Any]:
    """Some images of a COCO dictionary and their annotations, with unchanged ids.

    Args:
        coco: of :func:`to_coco`.
        chosen: whether to keep each of its images.
        min_readers: leave out boxes on which fewer readers agree.
    """
    images = [image for image, kept in zip(coco["images"], chosen, strict=True) if kept]
    ids = {image["id"] for image in images}
    return {**coco, "images": images, "annotations": [
        box for box in coco["annotations"]
        if box["image_id"] in ids and (min_readers == 1 or len(box.get("readers", ())) >= min_readers)]}


def read_coco(path: str | Path, strict: bool = False) -> list[Record]:
    """The records of :func:`load_coco`; its repairs are logged."""
    records, repaired = load_coco(path, strict)
    for note in repaired:
        log.warning("%s: %s", path, note)
    return records


def load_coco(path: str | Path, strict: bool = False) -> tuple[list[Record], list[str]]:
    """A COCO file as records in the order of their ids, and its repairs, a line per kind.

    Args:
        path: of the file.
        strict: refuse a single box that leaves its image by more than a pixel or two.

    Raises:
        InputError: not COCO, an unknown or missing category, two images of the same name, values that are no
            numbers, or boxes of another frame.
    """
    data = read_json(path)
    lists = ("images", "annotations", "categories")
    if not isinstance(data, dict) or any(not isinstance(data.get(k), list) for k in lists):
        raise InputError(f"{path}: not a COCO file, expected lists {', '.join(lists)}")
    repaired: Counter[str] = Counter()
    try:
        label_set = label_set_of_categories(path, data)
        label_of = class_ids_of(path, data["categories"], label_set, repaired)
        grouped = _group(path, data, label_of, len(label_set), repaired)
        absent = _without_category(label_set, label_of, repaired)
        images = data["images"]
        with suppress(TypeError):  # ids of several kinds keep their order
            images = sorted(images, key=itemgetter("id"))  # as pycocotools takes them
        records = [_record(path, image, grouped[image["id"]], label_set, label_of, absent, repaired)
                   for image in images]
        refuse_other_frame(path, records, [grouped[image["id"]] for image in images], strict)
    except KeyError as error:
        raise InputError(f"{path}: key {error} is missing in a COCO entry") from error
    except (TypeError, AttributeError, ValueError, OverflowError) as error:
        if isinstance(error, InputError):
            raise
        raise InputError(f"{path}: a COCO entry has the wrong form ({error})") from error
    _refuse_repeated_ids(path, records)
    return records, [note.replace("{}", str(count), 1) for note, count in repaired.items() if count]


def image_names(path: str | Path) -> dict[Any, str]:
    """``id`` of each image of a COCO JSON -> its text id; empty for a file that is no JSON.

    Raises:
        InputError: not COCO.
    """
    if not holds_json(path):
        return {}
    images = read_json(path)
    try:
        return {image["id"]: image.get("text_id") or image_id_of(image["file_name"])
                for image in images["images"]}
    except (KeyError, TypeError) as error:
        raise InputError(f"{path}: not a COCO file, expected images with id and file_name "
                         f"({error!r})") from error


def image_sizes(path: str | Path) -> pd.DataFrame:
    """Sizes of a COCO JSON's images, as :func:`vindr_det.imaging.sizes.read_sizes` gives them.

    Empty for a file that is no JSON; without images that have no whole numbers there.
    """
    names, images = image_names(path), read_json(path)["images"] if holds_json(path) else []
    sizes = {names[image["id"]]: (image["height"], image["width"]) for image in images
             if all(isinstance(image.get(side), int) and image[side] > 0 for side in ("height", "width"))}
    return pd.DataFrame.from_dict(sizes, orient="index", columns=["height", "width"])


def _without_category(
    label_set: LabelSet, label_of: Mapping[Any, int], repaired: Counter[str]
) -> frozenset[int]:
    """Class ids of the findings that no category names: nobody looked for them."""
    absent = frozenset(range(len(label_set))) - set(label_of.values())
    note = f"{{}} findings of {label_set.name} have no category and are unknown on all images"
    repaired[note] += len(absent)
    return absent


def _group(
    path: str | Path, data: dict, label_of: dict[Any, int], findings: int, repaired: Counter[str]
) -> dict[Any, list[DrawnBox]]:
    """Image id -> its boxes of the first so many classes, which are findings."""
    known = {image["id"] for image in data["images"]}
    if len(known) < len(data["images"]):
        raise InputError(f"{path}: {len(data['images']) - len(known)} images share their id with another")
    grouped: dict[Any, list[DrawnBox]] = defaultdict(list)
    for annotation in data["annotations"]:
        if annotation["category_id"] not in label_of:
            raise InputError(f"{path}: annotation {annotation.get('id')} has category_id "
                             f"{annotation['category_id']}, expected one of {list(label_of)}")
        label = label_of[annotation["category_id"]]
        if annotation["image_id"] not in known:
            repaired["{} annotations of images that are not in the file left out"] += 1
        elif not 0 <= label < findings:
            repaired[_NO_FINDING] += 1
        else:
            grouped[annotation["image_id"]].append(_row(path, annotation, label))
    if data["annotations"] and not grouped and not repaired[_NO_FINDING]:
        raise InputError(f"{path}: none of its {len(data['annotations'])} annotations is of an image in "
                         f"the file; the first has image_id {data['annotations'][0]['image_id']!r}, expected "
                         f"an id such as {next(iter(known), None)!r}")
    return grouped


def _row(path: str | Path, annotation: dict, label: int) -> DrawnBox:
    number, readers = annotation.get("id"), annotation.get("readers", [])
    if annotation.get("iscrowd", 0):
        raise InputError(f"{path}: annotation {number} is a crowd (iscrowd {annotation['iscrowd']}), "
                         "expected single boxes")
    if not isinstance(readers, list) or not all(isinstance(name, str | int) for name in readers):
        raise InputError(f"{path}: annotation {number} has readers {readers!r}, expected a list of names")
    share = float(annotation.get("agreement", 1.0))
    return DrawnBox(number, annotation["bbox"], share, label, tuple(map(str, readers)))


def _without_repeats(rows: list[DrawnBox], repaired: Counter[str]) -> list[DrawnBox]:
    """Each box of a class once, unless other readers drew it."""
    unique: dict[Any, DrawnBox] = {}
    for row in rows:
        unique.setdefault((tuple(row.box), row.label, row.readers), row)
    repaired["{} repeated annotations count once"] += len(rows) - len(unique)
    return list(unique.values())


def _text(path: str | Path, image: dict, key: str) -> str:
    if not isinstance(image[key], str) or not image[key].strip():
        raise InputError(f"{path}: image {image['id']} has {key} {image[key]!r}, expected a text")
    return image[key]


def _unknown(
    path: str | Path, image: dict, label_of: Mapping[Any, int], rows: list[DrawnBox], findings: int
) -> set[int]:
    """Class ids of the findings, the first so many classes, that the file says to be unknown on the image."""
    given = image.get(_UNKNOWN, [])
    if not isinstance(given, list) or any(not isinstance(i, int | str) or i not in label_of for i in given):
        raise InputError(f"{path}: image {image['id']} has {_UNKNOWN} {given!r}, expected a list of category "
                         f"ids of {list(label_of)}")
    unknown = {label_of[number] for number in given} & set(range(findings))
    boxed = [row.label for row in rows if row.label in unknown]
    if boxed:
        raise InputError(f"{path}: image {image['id']} has boxes of class {boxed[0]}, which its {_UNKNOWN} "
                         "lists; expected one of the two")
    return unknown


def _record(
    path: str | Path, image: dict, rows: list[DrawnBox], label_set: LabelSet, label_of: Mapping[Any, int],
    absent: frozenset[int], repaired: Counter[str],
) -> Record:
    name, sides = _text(path, image, "file_name"), [float(image[side]) for side in ("height", "width")]
    if not all(1 <= side <= LARGEST_SIDE and side.is_integer() for side in sides):
        raise InputError(f"{path}: image {name} has height {image['height']} and width {image['width']}, "
                         "expected two positive whole numbers")
    height, width = map(int, sides)
    truth, kept, lost = _truth(f"{path}: image {name}", (height, width), rows, label_set, repaired)
    readers = tuple(row.readers for row in kept)
    image_id = _text(path, image, "text_id") if "text_id" in image else image_id_of(name)
    unknown = _unknown(path, image, label_of, kept, len(label_set)) | lost | absent
    return Record(image_id, name, height, width, truth, readers if any(readers) else (),
                  tuple(sorted(unknown)), patient_of_image(image))


def _truth(
    image: str, size: tuple[int, int], rows: list[DrawnBox], label_set: LabelSet, repaired: Counter[str]
) -> tuple[Predictions, list[DrawnBox], set[int]]:
    """The boxes of an image of height and width, their rows, and class ids of which a box was left out."""
    if not rows:
        return Predictions(label_set=label_set), [], set()
    rows = _without_repeats(rows, repaired)
    raw = box_ops.xywh_to_xyxy([row.box for row in rows])
    if not np.isfinite(raw).all():
        raise InputError(f"{image} has a box that is not four numbers")
    boxes = box_ops.clip(raw, *size)
    # Boxes that were scaled and rounded may exceed the image by half a pixel.
    repaired["{} boxes that exceeded the image clipped"] += int(
        (np.abs(boxes - raw).max(axis=1, initial=0) > 0.5).sum())
    whole = box_ops.area(boxes) > 0
    repaired["{} boxes without area left out"] += int((~whole).sum())
    kept = [row for row, good in zip(rows, whole, strict=True) if good]
    lost = {row.label for row in rows} - {row.label for row in kept}
    repaired["{} findings are unknown on the image of the box that was left out"] += len(lost)
    try:
        truth = Predictions(boxes[whole], np.array([row.share for row in kept]),
                            np.array([row.label for row in kept], dtype=np.int64), label_set)
    except ValueError as error:
        raise InputError(f"{image}: {error}") from error
    return truth, kept, lost


def _refuse_repeated_ids(path: str | Path, records: Sequence[Record]) -> None:
    repeated = [name for name, n in Counter(r.image_id for r in records).items() if n > 1]
    if repeated:
        raise InputError(f"{path}: image {repeated[0]} is listed twice")
