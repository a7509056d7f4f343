"""train.csv to checked readers' boxes, and those to one consensus an image.

The readers disagree; boxes of one class that overlap are fused into one (weighted boxes fusion,
Solovyev et al., 2021), one list of boxes a reader, so that a fused box's score is the share of
the readers that drew it.
"""

from collections.abc import Sequence
from itertools import pairwise
from pathlib import Path

import numpy as np
import pandas as pd

from vindr_det.categories import CLASS_NAMES, NO_FINDING_ID
from vindr_det.errors import InputError
from vindr_det.files import csv_row, read_csv
from vindr_det.fusion import fuse
from vindr_det.predictions import Predictions
from vindr_det.records import Record

EDGES = ("x_min", "y_min", "x_max", "y_max")
FUSIONS = ("wbf", "nms", "none")

# What other people call the two columns of a size table; the order of the columns never counts.
_HEIGHT_NAMES = ("dim0", "height", "rows", "h")
_WIDTH_NAMES = ("dim1", "width", "columns", "w")


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


def consensus(
    readers: Sequence[Predictions], height: int, width: int, fusion: str = "wbf",
    iou_thr: float = 0.4, min_readers: int = 1,
) -> Predictions:
    """One image's readers' boxes fused, class by class.

    Args:
        readers: one list of boxes a reader, all scores 1; readers without boxes count too.
        height: of the original image.
        width: of the original image.
        fusion: ``wbf``, ``nms`` or ``none`` (every reader's boxes as they are).
        iou_thr: boxes that overlap more are one.
        min_readers: keep boxes that at least so many readers drew; wbf only.

    Returns:
        Boxes whose scores are, for ``wbf``, the share of readers that agreed; else 1.
    """
    if not any(len(reader) for reader in readers):
        return Predictions()
    if fusion == "none":
        return sum(readers, Predictions())
    # "box_and_model_avg" counts a reader who drew twice once, which makes the score a share.
    fused = fuse(readers, height, width, method=fusion, iou_thr=iou_thr, skip_box_thr=0.0,
                 conf_type="box_and_model_avg")
    return fused[fused.scores * len(readers) > min_readers - 0.5] if fusion == "wbf" else fused


def to_records(
    frame: pd.DataFrame, sizes: pd.DataFrame, fusion: str = "wbf", iou_thr: float = 0.4,
    min_readers: int = 1,
) -> list[Record]:
    """Annotations to one :class:`Record` an image, sorted by image id, files ``<image_id>.png``.

    Raises:
        InputError: ``fusion`` is unknown, or ``min_readers`` goes with another fusion than wbf.
    """
    if fusion not in FUSIONS:
        raise InputError(f"--fusion {fusion}: expected one of {', '.join(FUSIONS)}")
    if min_readers != 1 and fusion != "wbf":
        raise InputError(f"--min-readers {min_readers}: only --fusion wbf counts readers")
    readers_of = _readers_boxes(frame)
    size_of = dict(zip(sizes.index, sizes[["height", "width"]].to_numpy().tolist(), strict=True))
    records = []
    for image_id in sorted(readers_of):
        height, width = size_of[image_id]
        truth = consensus(readers_of[image_id], height, width, fusion, iou_thr, min_readers)
        records.append(Record(image_id, f"{image_id}.png", height, width, truth))
    return records


def _readers_boxes(frame: pd.DataFrame) -> dict[str, list[Predictions]]:
    """image id -> one list of boxes a reader, readers in the order of their names.

    The order matters: all scores are equal, so fusion takes the boxes as they come.
    """
    ordered = frame.sort_values(["image_id", "rad_id"], kind="stable")
    images, readers = ordered["image_id"].to_numpy(), ordered["rad_id"].to_numpy()
    boxes, labels = ordered[list(EDGES)].to_numpy(), ordered["class_id"].to_numpy()
    changed = (images[1:] != images[:-1]) | (readers[1:] != readers[:-1])
    bounds = [0, *(np.flatnonzero(changed) + 1).tolist(), len(ordered)]
    result: dict[str, list[Predictions]] = {}
    for start, stop in pairwise(bounds):
        drawn = slice(start, stop) if labels[start] != NO_FINDING_ID else slice(start, start)
        one = Predictions(boxes[drawn], np.ones(len(labels[drawn])), labels[drawn])
        result.setdefault(str(images[start]), []).append(one)
    return result
