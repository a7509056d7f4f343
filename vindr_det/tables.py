"""CSV tables: read and checked, with errors that name the row, and written whole or not at all."""

import csv
import io
import logging
import re
from collections import Counter
from collections.abc import Callable, Sequence
from decimal import Decimal
from itertools import islice
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, read_bytes, read_text

log = logging.getLogger(__name__)

#: Columns that are always text: an image may be called NA, 0012 or 1e5.
TEXT_COLUMNS = ("image_id", "image", "Image Index", "patient", "patient_id", "Patient ID", "rad_id",
                "class_name", "Finding Label", "Finding Labels")
# What programs write for a missing number.
_MISSING = ("", "NA", "N/A", "n/a", "#N/A", "<NA>", "nan", "NaN", "-nan", "NULL", "null", "None")
# 61.0, 6.1e+01; neither 1e5, which may be a name, nor what would fill the memory.
_DECIMAL = re.compile(r"[0-9]+\.[0-9]*(?:[eE]\+?[0-9]{1,2})?|[0-9]+[eE]\+[0-9]{1,2}")
# Bytes of the empty lines that spreadsheets leave below a table.
_NO_VALUES = b"\r\n,;\t "
# In place of NUL, at which Python 3.10's csv ends.
_NO_TEXT = "\ufffd"


def write_csv(path: str | Path, frame: pd.DataFrame) -> None:
    """Write a table without its index, whole or not at all."""
    with atomic_path(path) as temporary:
        frame.to_csv(temporary, index=False, lineterminator="\n")


def read_csv(
    path: str | Path, columns: Sequence[str] = (), dtype: dict[str, Any] | type | None = None,
    texts: Sequence[str] = (),
) -> pd.DataFrame:
    """Read a table: CSV, also gzipped or zipped, with commas, semicolons or tabs between the values.

    Known columns are matched by their letters and digits: ``rad_ID`` and ``Rad ID`` are ``rad_id``. Those of
    :data:`TEXT_COLUMNS` and of ``texts`` are text without surrounding spaces, NaN only where empty; the
    others are numbers if all of their values are.

    Args:
        path: the file.
        columns: required; those that are text must be filled in on every row.
        dtype: of the columns that are not text, or of some of them.
        texts: those of ``columns`` that are text in this table, beside :data:`TEXT_COLUMNS`.

    Raises:
        InputError: the file is missing, is not a table or has no row, or lacks a column or a text.
    """
    data = read_bytes(path)
    separator, given = _header(data)
    names = _column_names(path, given, columns)
    known = {*TEXT_COLUMNS, *texts}
    texts = [name for name in given if names[name] in known]
    numbers = [name for name in given if name not in texts]
    kinds = dtype if isinstance(dtype, dict) else dict.fromkeys(numbers, dtype) if dtype else {}
    frame = _parsed(path, data, sep=separator, dtype={**kinds, **dict.fromkeys(texts, str)},
                    keep_default_na=False, na_values=dict.fromkeys(numbers, _MISSING)).rename(columns=names)
    require_columns(path, frame, columns)
    if frame.empty:
        raise InputError(f"{path}: has a header and no row below it")
    for name in (names[name] for name in texts):
        frame[name] = _stripped(frame[name])
    require_texts(path, frame, [name for name in columns if name in known])
    return frame


def _stripped(texts: pd.Series) -> pd.Series:
    """Without surrounding spaces, NaN where nothing is left; each text once, since most are repeated."""
    codes, kinds = pd.factorize(texts)
    stripped = pd.Series(kinds).str.strip()
    return stripped.mask(stripped == "").reindex(codes).set_axis(texts.index)


def header_of(path: str | Path) -> list[str]:
    """The names of a table's columns as the file has them, which :func:`read_csv` may replace by known ones.

    Raises:
        InputError: the file is missing.
    """
    return _header(read_bytes(path))[1]


def _header(data: bytes) -> tuple[str, list[str]]:
    """The separator of the values, and the columns' names."""
    first = re.split(rb"[\r\n]", io.BytesIO(data).readline(), maxsplit=1)[0]
    line = first.decode("utf-8-sig", "replace").replace("\0", _NO_TEXT)
    separator = max(",;\t", key=line.count)
    return separator, next(csv.reader([line], delimiter=separator, skipinitialspace=True), [])


def _parsed(path: str | Path, data: bytes, **options: Any) -> pd.DataFrame:
    try:
        # An empty line keeps its place, so that rows are counted as an editor does.
        frame = pd.read_csv(io.BytesIO(data.rstrip(_NO_VALUES)), encoding="utf-8-sig", low_memory=False,
                            float_precision="round_trip", skip_blank_lines=False, skipinitialspace=True,
                            **options)
    except (pd.errors.ParserError, pd.errors.EmptyDataError, UnicodeDecodeError) as error:
        raise InputError(f"{path}: not a readable CSV ({str(error).strip()})") from error
    except ValueError as error:
        raise InputError(f"{path}: {error}") from error
    if not isinstance(frame.index, pd.RangeIndex):
        raise InputError(f"{path}, row 2: has more values than the header has columns")
    return frame


def read_names(values: Sequence[str]) -> list[str]:
    """Names of images: the values themselves, or the first column of those that are .txt or .csv files.

    A file has a name in each line, such as published lists have; a header and repeats are left out.

    Raises:
        InputError: a file is missing, is no text, or holds no name.
    """
    names: list[str] = []
    for value in values:
        is_file = value.removesuffix(".gz").lower().endswith((".txt", ".csv"))
        names += _names_in(value) if is_file else [value]
    return list(dict.fromkeys(names))


def _names_in(path: str) -> list[str]:
    try:
        lines = [line for line in read_text(path).splitlines() if line.strip()]
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: is no text, expected a name in each line") from error
    names = [re.split(r"[,;\t]" if re.search(r"[,;\t]", line) else r"\s", line.strip())[0].strip(' "')
             for line in lines]
    if names and letters_of(names[0]) in ("image", "imageid", "imageindex"):
        names = names[1:]
    if not names:
        raise InputError(f"{path}: holds no name, expected one in each line")
    return names


def read_own_csv(path: str | Path, columns: Sequence[str]) -> list[dict[str, str]]:
    """The rows of a table that an earlier run wrote, all values as text.

    Raises:
        InputError: the file is missing, is no table, or lacks a column.
    """
    try:
        reader = csv.DictReader(io.StringIO(read_text(path), newline=""), restval="")
        rows, names = list(reader), reader.fieldnames or []
    except (UnicodeDecodeError, csv.Error) as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from error
    missing = [name for name in columns if name not in names]
    if missing:
        raise InputError(f"{path}: column {missing[0]} is missing; it has {', '.join(names) or 'none'}")
    return rows


def _column_names(path: str | Path, given: Sequence[str], columns: Sequence[str]) -> dict[str, str]:
    """The header's names -> canonical names."""
    wanted = {letters_of(name): name for name in columns}
    alike = {letters_of(name): name for name in TEXT_COLUMNS} | {name: name for name in TEXT_COLUMNS}
    names = {name: wanted.get(letters_of(name)) or alike.get(name) or alike.get(letters_of(name), name)
             for name in given}
    for name, count in Counter(names[name] for name in given if name.strip()).items():
        if count > 1:
            raise InputError(f"{path}: column {name} is there {count} times, expected once")
    return names


def letters_of(name: str) -> str:
    """A column's name without case and punctuation: its letters and digits in lower case."""
    return re.sub(r"[\W_]", "", name).casefold()


def require_texts(path: str | Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise an InputError that names the first row with an empty value in ``columns``, and the column."""
    empty = frame[list(columns)].isna()
    refuse_first(path, empty.any(axis=1), lambda i: f"{empty.columns[empty.iloc[i]][0]} is empty, expected a "
                 "value")


def require_columns(path: str | Path, frame: pd.DataFrame, columns: Sequence[str]) -> None:
    """Raise an InputError that names the missing columns and those that are there."""
    missing = [name for name in columns if name not in frame.columns]
    if missing:
        raise InputError(
            f"{path}: column {', '.join(missing)} is missing; it has {', '.join(map(str, frame))}"
        )


def refuse_first(
    path: str | Path, bad: Any, describe: Callable[[int], str], header: bool = True
) -> None:
    """Raise an InputError for the first flagged row.

    Args:
        path: the table.
        bad: (N,) flags.
        describe: position of a row -> its problem and what was expected.
        header: whether the table has a header, which counts as a line.
    """
    if np.any(bad):
        first = int(np.flatnonzero(bad)[0])
        raise InputError(f"{path}, row {line_of(path, first) if header else first + 1}: {describe(first)}")


def without_repeats(path: str | Path, frame: pd.DataFrame) -> pd.DataFrame:
    """A table without repeated rows, which are logged.

    A box that is listed twice would count twice, and weigh twice in a mean of boxes.
    """
    repeated = frame.duplicated().to_numpy()
    if repeated.any():
        log.warning("%s: %d repeated rows count once; the first of them is row %d", path,
                    repeated.sum(), line_of(path, int(np.flatnonzero(repeated)[0])))
    return frame[~repeated].reset_index(drop=True)


def csv_row(position: int) -> int:
    """The line of the frame's row ``position`` in an editor (header = line 1)."""
    return int(position) + 2


def line_of(path: str | Path, position: int) -> int:
    """As :func:`csv_row`, also where quoted values before it have line breaks."""
    data = read_bytes(path)
    if b'"' not in data:
        return csv_row(position)
    text = io.StringIO(data.decode("utf-8-sig", "replace").replace("\0", _NO_TEXT), newline="")
    reader = csv.reader(text, delimiter=_header(data)[0], skipinitialspace=True)
    for _ in islice(reader, position + 1):
        pass
    return reader.line_num + 1


def as_numbers(values: pd.Series) -> pd.Series:
    """Floats; NaN for what is no number, infinite for a number that is too large."""
    try:
        return pd.to_numeric(values, errors="coerce").astype(float)
    except OverflowError:  # pandas keeps integers of hundreds of digits as Python's
        return pd.to_numeric(values.astype(str), errors="coerce").astype(float)


def to_numbers(column: pd.Series) -> NDArray[np.float64]:
    """The array (N,) of :func:`as_numbers`."""
    return as_numbers(column).to_numpy()


def whole_number(text: str) -> str:
    """The integer that a text writes as a decimal number, such as 61 for 61.0 and 6.1e+01; else the text."""
    if not _DECIMAL.fullmatch(text):
        return text
    value = Decimal(text)
    return str(int(value)) if value == value.to_integral_value() else text
