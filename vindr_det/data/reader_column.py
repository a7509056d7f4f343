"""Whether a table without ``rad_id`` is a consensus, or the readers' names are in a column of another name.

In a consensus an image is marked normal once, and a finding has one box. Rows that repeat each other come
from several readers; taken for a consensus, each of their boxes would count as agreed by all.
"""

import re
from collections.abc import Iterator
from pathlib import Path

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.label_sets import NO_FINDING_ID
from vindr_det.tables import as_numbers, refuse_first

_EDGES = ["x_min", "y_min", "x_max", "y_max"]
_KNOWN = ("image_id", "class_id", "class_name", "rad_id", *_EDGES)
_NAME = re.compile(r"(rad|radiologist|reader|annotator|doctor)([ _-]?(id|no|name))?", re.IGNORECASE)
# Boxes of one class with a higher IoU are the same finding, as in the metric.
_IOU_THR = 0.4
# In VinBigData's consensus .8 % of the boxes overlap another that much, of its readers' boxes most do.
_MOST_OVERLAPPING = 0.1
# A column with more values, or with fractions, holds numbers or measures and no readers.
_MOST_READERS = 100


def refuse_unnamed_readers(path: str | Path, frame: pd.DataFrame) -> None:
    """Raise if the rows are of several readers.

    Args:
        path: names the table in the error.
        frame: without a column ``rad_id``; class_id are numbers, class 14 has no box (NaN).

    Raises:
        InputError: names the columns that may hold the readers.
    """
    extra = [name for name in frame if name not in _KNOWN]
    named = [name for name in extra if _NAME.fullmatch(str(name))]
    rows = _repeating(frame)
    suspects = named or [name for name in extra if _tells_apart(frame[name], rows)]
    if suspects:
        listed = ", ".join(repr(name) for name in suspects)
        raise InputError(f"{path}: column {listed} seems to name readers, expected it as rad_id, or no such "
                         "column where the boxes are a consensus")
    normal = frame["class_id"] == NO_FINDING_ID
    refuse_first(path, normal & frame["image_id"].where(normal).duplicated(), lambda i:
                 f"class 14 (No finding) is on image {frame['image_id'].iloc[i]} twice, expected once, "
                 "as in a consensus, or the readers as rad_id")


def _tells_apart(column: pd.Series, groups: list[NDArray[np.int64]]) -> bool:
    codes, values = pd.factorize(column)
    names = len(values) <= _MOST_READERS and not (as_numbers(column) % 1 > 0).any()
    return names and any(np.ptp(codes[rows]) > 0 for rows in groups)


def _repeating(frame: pd.DataFrame) -> list[NDArray[np.int64]]:
    """Positions of rows that repeat each other; of boxes none where few overlap, as in a consensus."""
    labels, boxes = frame["class_id"].to_numpy(), frame[_EDGES].to_numpy(float)
    normal: list[NDArray[np.int64]] = []
    pairs: list[NDArray[np.int64]] = []
    for rows in frame.groupby("image_id", sort=False).indices.values():
        if len(rows) > 1:
            normal.append(rows[labels[rows] == NO_FINDING_ID])
            pairs += _overlaps(rows, boxes[rows], labels[rows])
    overlapping = len({row for pair in pairs for row in pair.tolist()})
    many = overlapping > _MOST_OVERLAPPING * (labels != NO_FINDING_ID).sum()
    return [rows for rows in normal if len(rows) > 1] + (pairs if many else [])


def _overlaps(
    rows: NDArray[np.int64], boxes: box_ops.Boxes, labels: NDArray[np.int64]
) -> Iterator[NDArray[np.int64]]:
    """Pairs of rows whose boxes are of one class and overlap."""
    same = (box_ops.box_iou_batch(boxes, boxes) > _IOU_THR) & (labels[:, None] == labels)
    for pair in np.argwhere(np.triu(same, 1)):
        yield rows[pair]
