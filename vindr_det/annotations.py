"""train.csv to checked readers' boxes, and those to one record an image."""

from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from vindr_det.categories import CLASS_NAMES, NO_FINDING_ID
from vindr_det.consensus import Consensus, check_options, fuse_readers
from vindr_det.errors import InputError
from vindr_det.files import csv_row, read_csv
from vindr_det.records import Record

EDGES = ("x_min", "y_min", "x_max", "y_max")

# What other people call the two columns of a size table; the order of the columns never counts.
_HEIGHT_NAMES = ("dim0", "height", "rows", "h")
_WIDTH_NAMES = ("dim1", "width", "columns", "w")

#: image id -> (height, width) of the original.
Shapes = Mapping[str, tuple[int, int]]


def read_sizes(path: str | Path) -> pd.DataFrame:
    """Original sizes: index ``image_id``, columns ``height`` and ``width`` (int).

    dim0 is the height and dim1 the width, whichever comes first in the file.

    Raises:
        InputError: a column is missing, an id is repeated, or a size is not positive.
    """
    frame = read_csv(path, ["image_id"], dtype={"image_id": str})
    columns = {str(name).lower(): name for name in frame.columns}
    found = []
    for names in (_HEIGHT_NAMES, _WIDTH_NAMES):
        match = [columns[name] for name in names if name in columns]
        if not match:
            raise InputError(f"{path}: column {names[0]} is missing; it has "
                             f"{', '.join(map(str, frame))}")
        found.append(match[0])
    sizes = frame.set_index("image_id")[found].set_axis(["height", "width"], axis=1)
    _refuse_first(path, sizes.index.duplicated(), lambda i: f"image_id {sizes.index[i]} is repeated")
    numbers = sizes.apply(pd.to_numeric, errors="coerce")
    bad = ~((numbers > 0) & (numbers % 1 == 0)).all(axis=1).to_numpy()
    _refuse_first(path, bad, lambda i: f"image {sizes.index[i]} has size "
                  f"{sizes.iloc[i].tolist()}, expected two positive whole numbers")
    return numbers.astype(int)


def read_annotations(path: str | Path, sizes: pd.DataFrame | None = None) -> pd.DataFrame:
    """A VinBigData table, checked.

    Args:
        path: CSV with image_id, class_id, x_min, y_min, x_max, y_max, and rad_id where several
            readers drew; without rad_id the table is taken for a consensus.
        sizes: as of :func:`read_sizes`; None skips the checks that need them.

    Returns:
        One row a box or "no finding" mark: image_id, class_id (int), rad_id, x_min .. y_max
        (float, original pixels; NaN for class 14).

    Raises:
        InputError: names the row, the value and what was expected.
    """
    frame = read_csv(path, ["image_id", "class_id", *EDGES],
                     dtype={"image_id": str, "rad_id": str})
    if "rad_id" not in frame:
        frame = frame.assign(rad_id="consensus")
    _check_classes(path, frame)
    for edge in EDGES:
        frame[edge] = pd.to_numeric(frame[edge], errors="coerce")
    _check_boxes(path, frame)
    if sizes is not None:
        _check_inside(path, frame, sizes)
    return frame[["image_id", "class_id", "rad_id", *EDGES]].astype({"class_id": int})


def _refuse_first(path: str | Path, bad, describe, row: bool = True) -> None:
    """Raise for the first flagged row."""
    if np.any(bad):
        first = int(np.flatnonzero(bad)[0])
        raise InputError(f"{path}, row {csv_row(first)}: {describe(first)}")


def _check_classes(path: str | Path, frame: pd.DataFrame) -> None:
    ids = pd.to_numeric(frame["class_id"], errors="coerce")
    _refuse_first(path, ~ids.isin(range(len(CLASS_NAMES))), lambda i:
                  f"class_id {frame['class_id'].iloc[i]} is unknown, expected 0..14")
    if "class_name" in frame:
        expected = ids.astype(int).map(dict(enumerate(CLASS_NAMES)))
        _refuse_first(path, frame["class_name"] != expected, lambda i:
                      f"class_name {frame['class_name'].iloc[i]!r} does not belong to class_id "
                      f"{int(ids.iloc[i])}, expected {expected.iloc[i]!r}")
    frame["class_id"] = ids.astype(int)


def _check_boxes(path: str | Path, frame: pd.DataFrame) -> None:
    finding = frame["class_id"] != NO_FINDING_ID
    corners = frame[list(EDGES)]
    _refuse_first(path, finding & corners.isna().any(axis=1), lambda i:
                  f"box {corners.iloc[i].tolist()} is incomplete, expected four numbers")
    crossed = (corners["x_min"] >= corners["x_max"]) | (corners["y_min"] >= corners["y_max"])
    _refuse_first(path, finding & crossed, lambda i:
                  f"box {corners.iloc[i].tolist()} has x_min >= x_max or y_min >= y_max")


def _check_inside(path: str | Path, frame: pd.DataFrame, sizes: pd.DataFrame) -> None:
    unknown = ~frame["image_id"].isin(sizes.index)
    _refuse_first(path, unknown, lambda i: f"image_id {frame['image_id'].iloc[i]} has no size in "
                  "the size table")
    finding = frame["class_id"] != NO_FINDING_ID
    height = frame["image_id"].map(sizes["height"])
    width = frame["image_id"].map(sizes["width"])
    outside = (frame["x_min"] < 0) | (frame["y_min"] < 0)
    outside |= (frame["x_max"] > width) | (frame["y_max"] > height)
    _refuse_first(path, finding & outside, lambda i:
                  f"box {frame[list(EDGES)].iloc[i].tolist()} leaves image "
                  f"{frame['image_id'].iloc[i]} of width {width.iloc[i]} and height "
                  f"{height.iloc[i]}")


def shapes_of(sizes: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """A table of :func:`read_sizes` as image id -> (height, width)."""
    return {i: (int(height), int(width)) for i, height, width in sizes.itertuples()}


def furthest_corners(frame: pd.DataFrame) -> pd.DataFrame:
    """Sizes that hold all boxes, where the real ones are not known; as of :func:`read_sizes`."""
    reach = frame.groupby("image_id")[["y_max", "x_max"]].max().fillna(1)
    return np.ceil(reach).astype(int).set_axis(["height", "width"], axis=1)


def to_records(
    frame: pd.DataFrame, sizes: pd.DataFrame, fusion: str = "wbf", iou_thr: float = 0.4,
    min_readers: int = 1,
) -> list[Record]:
    """Annotations to one :class:`Record` an image, sorted by image id, files ``<image_id>.png``.

    Readers are taken in the order of their names, so that the order of the rows does not matter:
    all boxes weigh the same, and fusion takes them as they come.

    Raises:
        InputError: an option is out of range; see :func:`vindr_det.consensus.fuse_readers`.
    """
    check_options(fusion, iou_thr, min_readers)
    ordered = frame.sort_values(["image_id", "rad_id"], kind="stable")
    images, readers = ordered["image_id"].to_numpy(str), ordered["rad_id"].to_numpy(str)
    boxes, labels = ordered[list(EDGES)].to_numpy(float), ordered["class_id"].to_numpy()
    size_of = dict(zip(sizes.index, sizes[["height", "width"]].to_numpy().tolist(), strict=True))
    bounds = [0, *(np.flatnonzero(images[1:] != images[:-1]) + 1).tolist(), len(images)]
    records = []
    for start, stop in pairwise(bounds if len(images) else []):
        image_id, of = str(images[start]), len(set(readers[start:stop].tolist()))
        drawn = start + np.flatnonzero(labels[start:stop] != NO_FINDING_ID)
        fused = fuse_readers(boxes[drawn], labels[drawn], readers[drawn].tolist(), of, fusion,
                             iou_thr, min_readers) if len(drawn) else Consensus()
        height, width = size_of[image_id]
        records.append(Record(image_id, f"{image_id}.png", height, width, *fused))
    return records
