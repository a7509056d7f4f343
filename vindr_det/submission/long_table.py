"""Detections as a table with a row per box, for every label set: what other sets than VinBigData's have
instead of the competition's form, which knows its class ids alone.

Columns are ``image_id``, ``label_set``, ``class_name``, ``score`` and the box, ``x_min,y_min,x_max,y_max`` in
original pixels; of more columns, as ``S.predictions.csv`` has them, only ``class_id`` is read: it must be
the class's in the set. "No finding", where it is a class, has the box ``0 0 1 1``. An image without boxes has
no row: whether it was read is in the status table beside the file. In ``S.predictions.csv`` it has a row
without class, score and box, and its status tells whether it failed.
"""

import difflib
from collections.abc import Collection
from pathlib import Path

import numpy as np
import pandas as pd

from vindr_det.exceptions import InputError
from vindr_det.files import read_bytes
from vindr_det.imaging.status import FAILED
from vindr_det.metrics.matching import Table
from vindr_det.structures.detections import Predictions, PredictionSet, by_image, label_set_of
from vindr_det.structures.label_sets import LABEL_SETS, NO_FINDING_BOX, LabelSet, shipped_label_set
from vindr_det.submission.check import check_detections
from vindr_det.submission.parse import is_box_header
from vindr_det.tables import (
    as_numbers,
    header_of,
    read_csv,
    refuse_first,
    require_columns,
    require_texts,
    to_numbers,
)

_EDGES = ("x_min", "y_min", "x_max", "y_max")
#: Stands for the score and the box of a row without one until it is left out.
_NO_BOX = (0, 0, 0, 1, 1)
COLUMNS = ("image_id", "label_set", "class_name", "score", *_EDGES)
_ID = "class_id"
# A class's name and its id, where the file has one.
_Class = tuple[str, float | None]


def is_long_table(path: str | Path) -> bool:
    """Whether a CSV is a table with a row per box, by its header."""
    return is_box_header(header_of(path))


def long_table_text(predictions: PredictionSet, header: bool = True) -> str:
    """The table, best score first within an image.

    Args:
        predictions: image id -> detections in original pixels, of one label set.
        header: of the columns; without it more rows of a table.
    """
    label_set = label_set_of(predictions)
    table = Table.of([boxes.by_score() for boxes in predictions.values()], label_set)
    ids = np.array([*predictions, ""], dtype=object)
    frame = pd.DataFrame(table.box(), columns=list(_EDGES))
    frame.insert(0, "image_id", ids[table.image])
    frame.insert(1, "label_set", label_set.name)
    frame.insert(2, "class_name", np.array([*label_set.classes, ""], dtype=object)[table.label])
    frame.insert(3, "score", table.score)
    return frame.to_csv(index=False, lineterminator="\n", header=header)


def stated_label_set(
    path: str | Path, stated: str, expected: LabelSet | None, classes: Collection[_Class] = ()
) -> LabelSet | None:
    """The label set of a prediction file; None where nothing tells it.

    Args:
        path: of the file, for errors.
        stated: its name in the file; empty where it has none.
        expected: of the annotations; None without them.
        classes: name and class id (None where the file has none) of those in the file.

    Raises:
        InputError: a set of one's own whose findings are not known, since no annotations have it, or several
            sets that have these classes.
    """
    shipped = shipped_label_set(stated)
    if shipped is not None:
        return shipped
    if stated:
        if expected is None or expected.name in LABEL_SETS:
            raise InputError(f"{path}: label set {stated!r} is none of {', '.join(LABEL_SETS)}, expected "
                             "annotations (COCO .json) of the same set")
        return expected
    if not classes or (expected is not None and _fits(expected, classes)):
        return expected
    fitting = [of for of in LABEL_SETS.values() if _fits(of, classes)]
    if len(fitting) > 1:
        raise InputError(f"{path}: its classes are of {' and of '.join(of.name for of in fitting)}, expected "
                         "a column label_set with one of them, or annotations (COCO .json) of the same set")
    return fitting[0] if fitting else expected


def _fits(label_set: LabelSet, classes: Collection[_Class]) -> bool:
    """Whether a set has all classes, with these ids where they are given."""
    return all((own := label_set.id_of(name)) is not None and label in (own, None) for name, label in classes)


def read_long_table(
    path: str | Path, sizes: pd.DataFrame | None = None, expected: LabelSet | None = None
) -> tuple[dict[str, Predictions], LabelSet]:
    """Read a table: image id -> detections in original pixels of the images with boxes, and the label set.

    Args:
        path: of the CSV.
        sizes: of the originals; boxes must lie inside. None checks only that none is negative.
        expected: label set of the annotations; None without them.

    Raises:
        InputError: a column is missing, two label sets, an unknown class, a score outside 0 to 1, or a box
            that is not four numbers with positive sides inside its image, or a class_id of another class.
    """
    if b"\n" not in read_bytes(path).strip():  # a run may detect nothing
        return {}, _required(path, stated_label_set(path, "", expected))
    frame = read_csv(path, ["image_id", "score", *_EDGES])
    require_columns(path, frame, ["class_name"])
    has_box = frame[["class_name", "score", *_EDGES]].notna().any(axis=1)
    require_texts(path, frame.assign(class_name=frame["class_name"].where(has_box, "-")), ["class_name"])
    label_set = _label_set(path, frame, expected)
    labels = _labels(path, frame, label_set)
    numbers = np.column_stack([to_numbers(frame[name]) for name in ("score", *_EDGES)])
    numbers[~has_box] = _NO_BOX
    _check(path, frame, numbers)
    boxes = _by_image(path, frame[has_box], numbers[has_box], labels[has_box], label_set, sizes)
    failed = frame["status"] == FAILED if "status" in frame else np.zeros(len(frame), bool)
    nothing = Predictions(label_set=label_set)
    ids = map(str, frame["image_id"][has_box | ~failed].unique())
    return {image_id: boxes.get(image_id, nothing) for image_id in ids}, label_set


def _by_image(
    path: str | Path, frame: pd.DataFrame, numbers: np.ndarray, labels: np.ndarray, label_set: LabelSet,
    sizes: pd.DataFrame | None,
) -> dict[str, Predictions]:
    """Image id -> its boxes, checked."""
    boxes = numbers[:, 1:]
    boxes[labels == label_set.no_finding_id] = NO_FINDING_BOX
    codes, ids = pd.factorize(frame["image_id"])
    predictions = by_image(codes, list(map(str, ids)), Predictions(boxes, numbers[:, 0], labels, label_set))
    issues = check_detections(predictions, sizes)
    if issues:
        more = f" (and {len(issues) - 1} more errors)" if len(issues) > 1 else ""
        raise InputError(f"{path}: {issues[0].message}{more}")
    return predictions


def _label_set(path: str | Path, frame: pd.DataFrame, expected: LabelSet | None) -> LabelSet:
    codes, kinds = pd.factorize(frame["label_set"].fillna("").astype(str) if "label_set" in frame
                                else np.full(len(frame), "", object))
    stated = np.array([kind.strip() for kind in kinds], object)[codes]
    refuse_first(path, stated != stated[0], lambda row:
                 f"label_set {stated[row]!r}, expected {stated[0]!r} as in the first row")
    numbers = as_numbers(frame[_ID]) if _ID in frame else np.nan
    known = frame[["class_name"]].assign(number=numbers).drop_duplicates()
    classes = {(name, None if np.isnan(label) else label)
               for name, label in known.itertuples(index=False) if isinstance(name, str)}
    return _required(path, stated_label_set(path, str(stated[0]), expected, classes))


def _required(path: str | Path, label_set: LabelSet | None) -> LabelSet:
    if label_set is None:
        raise InputError(f"{path}: its label set is not known, expected a column label_set with one of "
                         f"{', '.join(LABEL_SETS)}, or annotations (COCO .json) of the same set")
    return label_set


def _labels(path: str | Path, frame: pd.DataFrame, label_set: LabelSet) -> np.ndarray:
    """(N,) class ids of the names."""
    names = frame["class_name"].fillna(label_set.classes[0])  # of a row without a box
    known = {name: label_set.id_of(name) for name in names.unique()}

    def problem(row: int) -> str:
        near = difflib.get_close_matches(names.iloc[row], label_set.classes, 1, 0.5) or label_set.classes
        return f"class_name {names.iloc[row]!r} is no class of {label_set.name}, expected such as {near[0]!r}"

    refuse_first(path, names.map(lambda name: known[name] is None).to_numpy(), problem)
    labels = names.map(known).to_numpy(np.int64)
    if _ID in frame:
        given = frame[_ID]
        refuse_first(path, given.notna() & (as_numbers(given) != labels), lambda row:
                     f"class_id {given.iloc[row]} for {names.iloc[row]!r}, expected {labels[row]} as in "
                     f"{label_set.name}")
    return labels


def _check(path: str | Path, frame: pd.DataFrame, numbers: np.ndarray) -> None:
    """Scores and boxes, (N, 5)."""
    score, box = numbers[:, 0], numbers[:, 1:]
    refuse_first(path, ~((score >= 0) & (score <= 1)), lambda row:
                 f"score {frame['score'].iloc[row]}, expected 0 to 1")
    fine = np.isfinite(box).all(axis=1) & (box[:, 2:] > box[:, :2]).all(axis=1)
    refuse_first(path, ~fine, lambda row:
                 f"box {' '.join(map(str, frame[list(_EDGES)].iloc[row]))}, expected four numbers with "
                 "x_min < x_max and y_min < y_max")
