"""Original sizes of images, from a table whose column names vary."""

from collections.abc import Mapping, Sequence
from pathlib import Path

import pandas as pd

from vindr_det.exceptions import InputError
from vindr_det.limits import LARGEST_SIDE
from vindr_det.tables import as_numbers, letters_of, read_csv, refuse_first

# Names of the two columns in published size tables; the order of the columns does not matter.
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
    frame = read_csv(path, ["image_id"])
    sides = [_side(path, frame, names) for names in (_HEIGHT_NAMES, _WIDTH_NAMES)]
    sizes = frame.set_index("image_id")[sides].set_axis(["height", "width"], axis=1)
    refuse_first(path, sizes.index.duplicated(), lambda i: f"image_id {sizes.index[i]} is repeated")
    numbers = sizes.apply(as_numbers)
    bad = ~(numbers.ge(1) & numbers.le(LARGEST_SIDE) & (numbers % 1 == 0)).all(axis=1).to_numpy()
    refuse_first(path, bad, lambda i: f"image {sizes.index[i]} has size "
                 f"[{', '.join(map(str, sizes.iloc[i]))}], expected two positive whole numbers")
    return numbers.astype(int)


def _side(path: str | Path, frame: pd.DataFrame, names: Sequence[str]) -> str:
    """The column of the height or the width; columns of its other names must hold the same values."""
    known = [letters_of(str(name)) for name in frame.columns]
    for name in names:
        if known.count(name) > 1:
            raise InputError(f"{path}: column {name} is there {known.count(name)} times, expected once")
    columns = [str(frame.columns[known.index(name)]) for name in names if name in known]
    if not columns:
        raise InputError(f"{path}: column {names[0]} is missing; it has {', '.join(map(str, frame))}")
    for other in columns[1:]:
        _require_same(path, frame, columns[0], other)
    return columns[0]


def _require_same(path: str | Path, frame: pd.DataFrame, column: str, other: str) -> None:
    refuse_first(path, as_numbers(frame[column]) != as_numbers(frame[other]), lambda i:
                 f"image {frame['image_id'].iloc[i]} has {column} {frame[column].iloc[i]} and {other} "
                 f"{frame[other].iloc[i]}, expected one of the two columns, or the same in both")


def shapes_of(sizes: pd.DataFrame) -> dict[str, tuple[int, int]]:
    """A table of :func:`read_sizes` as image id -> (height, width)."""
    return {i: (int(height), int(width)) for i, height, width in sizes.itertuples()}
