"""The boxes of a COCO file against the frames of their images: whether both are of the same size."""

import logging
from collections.abc import Sequence
from pathlib import Path
from typing import Any, NamedTuple

import numpy as np
from numpy.typing import NDArray

from vindr_det.data.box_rows import smaller_frame
from vindr_det.exceptions import InputError
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.label_sets import LABEL_SETS
from vindr_det.structures.records import Record, label_set_of_records

# A box may leave its image by so many pixels, or this share of the side, as hand-drawn and scaled boxes do.
_PIXELS, _SHARE = 2, 0.01
# So many boxes of a file, and this share of them, leave their images by no slip of a hand.
_MANY, _LARGE_SHARE = 3, 0.1

log = logging.getLogger(__name__)


class DrawnBox(NamedTuple):
    """An annotation of a COCO file.

    Attributes:
        number: its id in the file.
        box: xywh in pixels.
        share: of the readers who agree.
        label: class id.
        readers: names of those who drew it.
    """

    number: Any
    box: list[float]
    share: float
    label: int
    readers: tuple[str, ...]


def refuse_other_frame(
    path: str | Path, records: Sequence[Record], drawn: Sequence[Sequence[DrawnBox]], strict: bool
) -> None:
    """Refuse boxes that are not in the pixels of their images.

    Args:
        path: of the COCO file, for errors.
        records: its N images.
        drawn: (N,) the annotations of each as the file has them.
        strict: refuse a single box that leaves its image by more than a pixel or two, or has a negative side.

    Raises:
        InputError: such a box; or in any case many of them, or boxes that all lie in one corner of their
            images, which some sets of findings may do, but none of the shipped.
    """
    rows = [row for group in drawn for row in group]
    if not rows:
        return
    owners = np.repeat(np.arange(len(records)), [len(group) for group in drawn])
    raw = box_ops.xywh_to_xyxy([row.box for row in rows])
    ends = np.array([(record.width, record.height) for record in records], float)[owners]
    bad = _outside(raw, ends)
    if bad.any():
        _refuse_outside(path, bad, rows[bad.argmax()], records[owners[bad.argmax()]], strict)
    problem = smaller_frame(raw[:, 2:] / ends)
    if problem and label_set_of_records(records) in LABEL_SETS.values():
        raise InputError(f"{path}: {problem}")
    if problem:
        log.warning("%s: %s", path, problem)


def _outside(raw: box_ops.Boxes, ends: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) whether boxes (N, 4) leave images of these widths and heights (N, 2), or have a negative side."""
    over = np.maximum(-raw[:, :2], raw[:, 2:] - ends)
    # The other two corners exceed the image where a box lies beyond it, or has a negative side.
    over = np.maximum(over, np.maximum(-raw[:, 2:], raw[:, :2] - ends))
    bad = (over > np.maximum(_PIXELS, _SHARE * ends)) | (raw[:, 2:] < raw[:, :2])
    return np.asarray(bad.any(axis=1))


def _refuse_outside(
    path: str | Path, bad: NDArray[np.bool_], first: DrawnBox, record: Record, strict: bool
) -> None:
    where = f"annotation {first.number} of image {record.image_id}: box {first.box}"
    size = f"the image of width {record.width} and height {record.height}"
    expected = "expected x, y, width, height in the pixels of that size"
    if bad.sum() >= _MANY and bad.mean() > _LARGE_SHARE:
        raise InputError(f"{path}: {bad.sum()} of {len(bad)} boxes leave their images, the first is {where} "
                         f"in {size}; {expected}")
    if strict:
        raise InputError(f"{path}: {where} leaves {size}, or has a negative side; {expected}")
