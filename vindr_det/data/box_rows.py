"""Boxes of a release, a row each, to one record per image; boxes outside their image are refused."""

import logging
from collections.abc import Callable, Iterable, Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.data.image_frames import ImageFrames
from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import LABEL_SETS, LabelSet, nearest_name
from vindr_det.structures.records import Record
from vindr_det.tables import line_of

EDGES = ["x_min", "y_min", "x_max", "y_max"]
# Pixels by which a scaled and rounded corner may exceed the image.
_ROUNDING = 0.5
# Of so many boxes some reach beyond this share of their image: of VinBigData's, at most 85 % of any finding's
# end within two thirds.
_MANY, _SMALLER = 100, 0.65

log = logging.getLogger(__name__)

#: Position of a row -> where it stands, for an error.
Place = Callable[[int], str]


def row_of(path: str | Path) -> Place:
    """The place of a table's rows."""
    return lambda i: f"{path}, row {line_of(path, i)}"


def refuse_row(place: Place, bad: Any, describe: Callable[[int], str]) -> None:
    """Raise an InputError for the first flagged row, with its place, problem and what was expected."""
    if np.any(bad):
        first = int(np.flatnonzero(bad)[0])
        raise InputError(f"{place(first)}: {describe(first)}")


def refuse_smaller_frame(path: str | Path, rows: pd.DataFrame, frames: ImageFrames) -> None:
    """Refuse boxes that all lie in one corner of their images, as those of reduced images do.

    Args:
        path: names the table in the error.
        rows: of :func:`to_records`, or of several readers.
        frames: sizes of the images.

    Raises:
        InputError: so many boxes cannot all lie there by chance.
    """
    ends = frames.sizes.reindex(rows["image_id"])[["width", "height"]].to_numpy(float)
    problem = smaller_frame(rows[EDGES[2:]].to_numpy(float) / ends)
    if problem:
        raise InputError(f"{path}: {problem}")


def smaller_frame(reach: NDArray[np.float64]) -> str:
    """Why boxes cannot all be in the frame of their images; empty where they can.

    Args:
        reach: (N, 2) where boxes end, as shares of their image's width and height; rows of NaN are left out.
    """
    reach = reach[np.isfinite(reach).all(axis=1)]
    if len(reach) < _MANY or (furthest := reach.max()) >= _SMALLER:
        return ""
    return (f"all {len(reach)} boxes end within {furthest:.0%} of the width and height of their images, as "
            "in a smaller frame; expected boxes in the originals' pixels")


def with_empty_images(rows: pd.DataFrame, images: Iterable[str]) -> pd.DataFrame:
    """The rows of :func:`to_records` and one without a box for each image."""
    return pd.concat([rows, pd.DataFrame({"image_id": list(images), "class_id": -1})])


def class_ids(place: Place, names: pd.Series, label_set: LabelSet, aliases: Mapping[str, str] | None = None
              ) -> NDArray[np.int64]:
    """(N,) class ids of classes' names, whatever their case.

    Args:
        place: of the rows.
        names: (N,).
        label_set: in which they must be.
        aliases: another spelling, in lower case -> the set's name.

    Raises:
        InputError: a blank class, or one outside the label set, with the nearest of its names.
    """
    blank = names.isna() | (names.astype(str).str.strip() == "")
    refuse_row(place, blank, lambda i: f"class is empty, expected one of the {len(label_set)} findings of "
               f"{label_set.name}")
    codes, kinds = pd.factorize(names.astype(str))
    lower = aliases or {}
    ids = [label_set.id_of(lower.get(str(kind).strip().casefold(), str(kind))) for kind in kinds]
    known = np.array([-1 if label is None else label for label in ids], np.int64)[codes]
    refuse_row(place, known < 0, lambda i: f"class {names.iloc[i]!r} is not one of the {len(label_set)} "
               f"findings of {label_set.name}, expected {nearest_name(str(names.iloc[i]), label_set)!r} or "
               f"another{_of_another_set(kinds, label_set)}")
    return known


def _of_another_set(names: Any, label_set: LabelSet) -> str:
    """The set that has all of the names, as an addition to an error."""
    others = [other.name for other in LABEL_SETS.values() if other is not label_set
              and all(other.id_of(str(name)) is not None for name in names)]
    return f"; {others[0]} has all classes of this file" if others else ""


def to_records(
    place: Place, rows: pd.DataFrame, frames: ImageFrames, label_set: LabelSet,
    unknown: Mapping[str, tuple[int, ...]] | None = None, suffix: str = ".png", clip: float = _ROUNDING,
) -> list[Record]:
    """One :class:`Record` per image, sorted by image id.

    Args:
        place: of the rows.
        rows: ``image_id``, ``class_id`` and the corners ``x_min`` .. ``y_max`` (original pixels) of a box
            each; an image without boxes has a row with class -1. The index is the row's position in its file.
        frames: sizes and files; images that are absent there are left out.
        label_set: of the class ids.
        unknown: image id -> findings that may be there without a box.
        suffix: of the files where no folder of images is given.
        clip: pixels by which a corner may lie outside its image; it is moved to the edge.

    Raises:
        InputError: a box that is incomplete, empty or outside its image.
    """
    corners = _corners(lambda i: place(int(rows.index[i])), rows, frames, clip)
    rows = rows.assign(**dict(zip(EDGES, corners.T, strict=True)))
    rows = _without_repeats(place, rows)
    rows = rows[~rows["image_id"].isin(frames.absent)]
    boxes, labels = rows[EDGES].to_numpy(float), rows["class_id"].to_numpy(np.int64)
    size_of = dict(zip(frames.sizes.index, frames.sizes.to_numpy().tolist(), strict=True))
    records = []
    for name, members in sorted(rows.groupby("image_id", sort=False).indices.items()):
        drawn = members[labels[members] >= 0]
        truth = Predictions(boxes[drawn], np.ones(len(drawn)), labels[drawn], label_set)
        file_name = frames.names.get(name, f"{name}{suffix}")
        height, width = size_of[name]
        records.append(Record(name, file_name, height, width, truth, (), (unknown or {}).get(name, ())))
    return records


def _without_repeats(place: Place, rows: pd.DataFrame) -> pd.DataFrame:
    """The rows without repeated boxes, which are logged."""
    repeated = (rows.duplicated() & (rows["class_id"] >= 0)).to_numpy()
    if repeated.any():
        first = int(rows.index[repeated.argmax()])
        log.warning("%s: the first of %d repeated boxes, which count once", place(first), repeated.sum())
    return rows[~repeated]


def _corners(
    place: Place, rows: pd.DataFrame, frames: ImageFrames, margin: float
) -> NDArray[np.float64]:
    """(N, 4) checked corners, moved to the image's edge where they exceed it a little."""
    corners, names = rows[EDGES].to_numpy(float), rows["image_id"]
    boxed = (rows["class_id"].ge(0) & ~names.isin(frames.absent)).to_numpy()
    ends = frames.sizes.reindex(names)[["width", "height"]].to_numpy(float)[:, [0, 1, 0, 1]]
    refuse_row(place, boxed & ~np.isfinite(corners).all(axis=1), lambda i:
               f"box {corners[i].tolist()} of image {names.iloc[i]}, expected four finite numbers")
    outside = (corners < -margin) | (corners > ends + margin)
    refuse_row(place, boxed & outside.any(axis=1), lambda i: f"box {corners[i].tolist()} (corners) leaves "
               f"image {names.iloc[i]} of width {ends[i, 0]:g} and height {ends[i, 1]:g}; expected boxes in "
               "the original image's pixels")
    inside = np.clip(corners, 0, ends)
    refuse_row(place, boxed & ~((inside[:, :2] < inside[:, 2:]).all(axis=1)), lambda i:
               f"box {corners[i].tolist()} (corners) of image {names.iloc[i]} has no area")
    return inside
