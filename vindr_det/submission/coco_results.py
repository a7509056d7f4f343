"""Detections in COCO's results format: a JSON list of ``{image_id, category_id, bbox, score}``.

``bbox`` is xywh in original pixels, ``category_id`` the class id of our COCO files, from 0; in files of
other tools it is the id of a category of the annotations, where these are given, matched by name.
``image_id`` is the image's text id, or its number in an annotation file, then with ``text_id`` beside it, so
that COCO's tools take the file and ours need no annotations. Class 14, "no finding", is an entry with the box
``0 0 1 1``, which COCO's tools leave out, since it is no category of the annotations. Entries of another
label set than VinBigData's have its name as ``label_set``.
"""

import json
import sys
from collections import defaultdict
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vindr_det.exceptions import InputError
from vindr_det.files import image_id_of, read_json
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet, label_set_of, no_finding
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet
from vindr_det.submission.check import check_detections
from vindr_det.submission.coco_columns import NO_FINDING_XYWH, ResultColumns, read_columns

#: Of a results file.
Entries = Sequence[Any] | ResultColumns
KEYS = ("image_id", "category_id", "bbox", "score")
_NEEDED = frozenset(KEYS)


def is_coco_results(path: str | Path) -> bool:
    """Whether a file to write is one of COCO results: ``.json`` or ``.json.gz``."""
    return Path(path).name.removesuffix(".gz").endswith(".json")


def coco_results_text(predictions: PredictionSet, numbers: Mapping[str, int] | None = None) -> str:
    """A results file, best score first within an image; an image without detections has one of "no finding",
    or no entry where the label set has no such class.

    Args:
        predictions: image id -> detections in original pixels.
        numbers: image id -> its number in an annotation file; None writes the text ids.
    """
    return "[" + coco_entries(predictions, numbers) + "]\n"


def coco_entries(predictions: PredictionSet, numbers: Mapping[str, int] | None = None) -> str:
    """What :func:`coco_results_text` has between the brackets."""
    entries: list[str] = []
    label_set = label_set_of(predictions)
    of_set = {} if label_set == VINBIGDATA else {"label_set": label_set.name}
    for image_id, detections in predictions.items():
        best = detections.by_score() if len(detections) else no_finding(label_set=label_set)
        name: dict[str, Any] = {"image_id": image_id}
        if numbers is not None:
            name = {"image_id": numbers[image_id], "text_id": image_id}
        name |= of_set
        boxes = box_ops.xyxy_to_xywh(best.boxes)
        rows = zip(best.labels.tolist(), boxes.tolist(), best.scores.tolist(), strict=True)
        entries += [json.dumps(name | {"category_id": label, "bbox": box, "score": score})
                    for label, box, score in rows]
    return ",\n".join(entries)


def read_coco_results(
    path: str | Path, sizes: pd.DataFrame | None = None, names: Mapping[Any, str] | None = None,
    labels: Mapping[Any, int] | None = None, label_set: LabelSet = VINBIGDATA,
) -> dict[str, Predictions]:
    """Read a results file: image id -> detections in original pixels.

    Args:
        path: of the JSON.
        sizes: of the originals; boxes must lie inside. None checks only that none is negative.
        names: ``image_id`` of an annotation file -> text id, of :func:`vindr_det.data.coco.image_names`.
        labels: ``category_id`` of an annotation file -> class id, of :func:`vindr_det.data.coco.class_ids`;
            files that this project wrote have class ids all the same.
        label_set: what the class ids mean; of :func:`label_set_name` where the file has one.

    Raises:
        InputError: no results file, or an entry without its keys, with an unknown image, a category that is
            no class id, a box that is not four numbers with positive sides, or a score outside 0 to 1.
    """
    return detections_of_entries(path, read_entries(path), sizes, names, labels, label_set)


def detections_of_entries(
    path: str | Path, entries: Entries, sizes: pd.DataFrame | None, names: Mapping[Any, str] | None,
    labels: Mapping[Any, int] | None, label_set: LabelSet,
) -> dict[str, Predictions]:
    """:func:`read_coco_results` of the entries of :func:`read_entries`."""
    predictions = None
    if isinstance(entries, ResultColumns):
        predictions = entries.detections(
            lambda given: _image_id({"image_id": given}, names), labels, label_set)
        entries = _entries(path) if predictions is None else ()
    if predictions is None:
        predictions = _of_each(path, entries, names, labels, label_set)
    issues = check_detections(predictions, sizes)
    if issues:
        more = f" (and {len(issues) - 1} more errors)" if len(issues) > 1 else ""
        raise InputError(f"{path}: {issues[0].message}{more}")
    return predictions


def _of_each(
    path: str | Path, entries: Sequence[Any], names: Mapping[Any, str] | None,
    labels: Mapping[Any, int] | None, label_set: LabelSet,
) -> dict[str, Predictions]:
    """Entry by entry, which tells what is wrong with the first that is."""
    labels = None if any(_is_our_own(entry, label_set) for entry in entries) else labels
    rows: dict[str, list[tuple[list[float], float, int]]] = defaultdict(list)
    for number, entry in enumerate(entries, start=1):
        if not isinstance(entry, dict) or not entry.keys() >= _NEEDED:
            raise InputError(f"{path}, entry {number}: {str(entry)[:80]!r}, expected {', '.join(KEYS)}")
        try:
            box, score, label = _box(entry["bbox"]), _score(entry), _label(entry, labels, label_set)
            image_id = _image_id(entry, names)
            if label >= 0:  # or "no finding", where that is no class of the set
                rows[image_id].append(
                    (NO_FINDING_XYWH if label == label_set.no_finding_id else box, score, label))
        except ValueError as error:
            raise InputError(f"{path}, entry {number}: {error}") from error
    return {image_id: _detections(path, image_id, of_image, label_set) for image_id, of_image in rows.items()}


def label_set_name(path: str | Path, entries: Entries) -> str:
    """The name of the label set that the entries of a results file state; empty where they state none.

    Raises:
        InputError: they name two.
    """
    stated = entries.label_sets if isinstance(entries, ResultColumns) else {
        str(entry.get("label_set", "")) for entry in entries if isinstance(entry, dict)}
    if len(stated) > 1:
        raise InputError(f"{path}: label sets {', '.join(map(repr, sorted(stated)))}, expected a single one")
    return next(iter(stated), "")


def read_entries(path: str | Path) -> Entries:
    """The entries of a results file, not yet checked; as columns where all of them are plain.

    Raises:
        InputError: no results file.
    """
    columns = read_columns(path)
    return _entries(path) if columns is None else columns


def _entries(path: str | Path) -> list[Any]:
    entries = read_json(path)
    if isinstance(entries, dict) and {"version", "box_format", "images"} <= entries.keys():
        raise InputError(f"{path}: the report of a prediction run, which tells each image's status to other "
                         "programs; expected its table with the same boxes, "
                         f"{Path(path).name.removesuffix('.json')}.csv, or its submission")
    if not isinstance(entries, list):
        raise InputError(f"{path}: not a COCO results file, expected a list of {{{', '.join(KEYS)}}}")
    return entries


def _detections(
    path: str | Path, image_id: str, rows: list[tuple[list[float], float, int]], label_set: LabelSet
) -> Predictions:
    boxes, scores, labels = zip(*rows, strict=True)
    try:
        return Predictions(box_ops.xywh_to_xyxy(list(boxes)), np.array(scores), np.array(labels), label_set)
    except ValueError as error:  # of a width that is nothing beside the corner
        raise InputError(f"{path}: image {image_id}: {error}") from error


def _image_id(entry: Mapping[str, Any], names: Mapping[Any, str] | None) -> str:
    text, given = entry.get("text_id"), entry["image_id"]
    if isinstance(text, str) and text.strip():
        return text
    if names is not None and isinstance(given, int | str) and given in names:
        return names[given]
    if isinstance(given, str) and given.strip():
        return image_id_of(given)
    expected = ("a text, or a number with --annotations, whose images it numbers" if names is None
                else "the id of an image of the annotations")
    raise ValueError(f"image_id {given!r}, expected {expected}")


def _is_our_own(entry: Any, label_set: LabelSet) -> bool:
    """Whether only this project writes such an entry: with a text beside the number, a label set, or "no
    finding"."""
    return isinstance(entry, dict) and ("text_id" in entry or "label_set" in entry or (
        entry.get("category_id"), entry.get("bbox")) == (label_set.no_finding_id, NO_FINDING_XYWH))


def _label(entry: Mapping[str, Any], labels: Mapping[Any, int] | None, label_set: LabelSet) -> int:
    label = entry["category_id"]
    if labels is not None:
        if type(label) is not int or label not in labels:
            raise ValueError(f"category_id {label!r}, expected one of the annotations' categories "
                             f"{', '.join(map(str, labels))}")
        return labels[label]
    if type(label) is not int or not 0 <= label < len(label_set.classes):
        raise ValueError(f"category_id {label!r}, expected a class id 0..{len(label_set.classes) - 1}")
    if label == label_set.no_finding_id and entry["bbox"] != NO_FINDING_XYWH:
        raise ValueError(f"category_id {label} with the box {entry['bbox']}, expected class ids "
                         f"0..{len(label_set) - 1} of boxes; ids that begin at 1 must be lowered by 1")
    return label


def _box(values: Any) -> list[float]:
    if (not isinstance(values, list) or len(values) != 4 or not all(map(_is_number, values))
            or min(values[2:]) <= 0):
        raise ValueError(f"bbox {values!r}, expected x, y, and a positive width and height")
    return values


def _score(entry: Mapping[str, Any]) -> float:
    score = entry["score"]
    if not _is_number(score) or not 0 <= score <= 1:
        raise ValueError(f"score {score!r}, expected 0 to 1")
    return float(score)


def _is_number(value: Any) -> bool:
    return type(value) in (int, float) and abs(value) <= sys.float_info.max
