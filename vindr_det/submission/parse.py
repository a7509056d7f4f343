"""Parsing: a submission's file to rows, and a row's PredictionString to detections, with their issues.

The format is defined here; :mod:`vindr_det.submission.write` writes detections in it.
"""

import csv
import io
import math
import re
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import chain
from pathlib import Path
from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.files import GZIP_MAGIC, existing_file, read_bytes
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import CLASS_NAMES, NO_FINDING_BOX, NO_FINDING_ID
from vindr_det.tables import letters_of

HEADER = ("image_id", "PredictionString")
NO_FINDING_STRING = "14 1 0 0 1 1"
#: The spellings that every parser takes for a class id; ``3.0`` and ``-0`` are not among them.
CLASS_IDS = tuple(map(str, range(len(CLASS_NAMES))))
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
# What plain numbers are written with; "+" only in an exponent.
_MARKS = b"0123456789.eE+- "
_ODD_BLANK = re.compile(r"[^\S ]")
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity|[\d.]+e\+?\d+)", re.ASCII | re.IGNORECASE)
#: Line of the file, and its fields.
Rows = list[tuple[int, list[str]]]


@dataclass(frozen=True)
class Issue:
    """Something wrong with a submission.

    Attributes:
        row: line of the file, the header being 1; 0 for the file as a whole.
        message: what is wrong and what was expected.
        error: True where the file must not be used; False for a remark or a change.
    """

    row: int
    message: str
    error: bool = True

    def __str__(self) -> str:
        where = f"row {self.row}: " if self.row else ""
        return f"{'error' if self.error else 'note'}: {where}{self.message}"


class FileRows(NamedTuple):
    """A file's rows, not yet parsed.

    Attributes:
        rows: the header first; a quoted field may span several lines.
        issues: of the file as a whole, each with the repair that writing the file again makes.
    """

    rows: Rows
    issues: list[tuple[Issue, str]]


def read_rows(path: str | Path) -> FileRows:
    """Read the rows of a file, whatever their fields hold.

    Raises:
        InputError: the file is missing or is no CSV.
    """
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
        _require_no_nul(path, text)
        rows = _rows(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file ({error})") from error
    except csv.Error as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from error
    if rows and is_box_header(rows[0][1]):
        raise InputError(f"{path}: a table with a row per box, expected {','.join(HEADER)}, the form of the "
                         "competition, which exists for VinBigData's label set alone")
    return FileRows(rows, [*_compression(path), *_ends(data, text)])


def _require_no_nul(path: str | Path, text: str) -> None:
    """Before the rows are read, since Python 3.10's csv ends at a NUL with an error of its own."""
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, row {row}: a NUL byte, expected text")


def is_box_header(names: Sequence[str]) -> bool:
    """Whether a header is that of a table with a row per box, of :mod:`vindr_det.submission.long_table`."""
    return {"classname", "score", "xmin"} <= {letters_of(name) for name in names}


def _rows(text: str) -> Rows:
    reader, rows, line = csv.reader(io.StringIO(text, newline=""), strict=True), [], 1
    for row in reader:
        rows.append((line, row))
        line = reader.line_num + 1
    return rows


def _compression(path: str | Path) -> list[tuple[Issue, str]]:
    zipped = existing_file(path).read_bytes()[:2] == GZIP_MAGIC
    if zipped == str(path).endswith(".gz"):
        return []
    actual, expected = ("gzip data", "plain text") if zipped else ("plain text", "gzip data")
    message = f"the file holds {actual}, expected {expected} in a file of this name"
    return [(Issue(0, message), f"{actual} becomes the format that the new file's name states")]


def _ends(data: bytes, text: str) -> list[tuple[Issue, str]]:
    issues = []
    if data.startswith(b"\xef\xbb\xbf"):
        issues.append((Issue(0, "a byte order mark before the header", error=False), "no byte order mark"))
    if "\r" in text.replace("\r\n", ""):
        issues.append((Issue(0, "a carriage return without a newline, expected lines that end in a newline"),
                       "lines end in a newline alone"))
    elif "\r" in text:
        issues.append((Issue(0, "lines end in a carriage return and a newline", error=False),
                       "lines end in a newline alone"))
    if text and not text.endswith("\n"):
        issues.append((Issue(0, "no newline at the end of the file", error=False), "a newline at the end"))
    return issues


def is_blank(row: Sequence[str]) -> bool:
    """Whether a line is empty: without even a comma."""
    return len(row) < 2 and not "".join(row).strip()


def parse_string(number: int, text: str, issues: list[Issue]) -> Predictions:
    """A PredictionString to detections.

    Args:
        number: line of the row.
        text: groups of six values.
        issues: those of the string are added here.

    Returns:
        The groups without errors; none where the values are not in groups of six.
    """
    tokens = text.split()
    if not tokens:
        issues.append(Issue(number, f"empty PredictionString, expected {NO_FINDING_STRING!r}"))
        return Predictions()
    odd = odd_blanks(text)
    if odd:
        issues.append(Issue(number, f"{odd[0]!r} between values, expected a space"))
    if len(tokens) % 6:
        issues.append(Issue(number, f"{len(tokens)} values, expected groups of six"))
        return Predictions()
    groups = []
    for start in range(0, len(tokens), 6):
        group = tokens[start : start + 6]
        values, problem = _parse_group(group)
        if problem:
            issues.append(Issue(number, f"{' '.join(group)!r}: {problem}"))
        else:
            groups.append(values)
    table = np.array(groups, dtype=float).reshape(-1, 6)
    _note_repeats(number, table, issues)
    return Predictions(table[:, 2:], table[:, 1], table[:, 0])


def plain_predictions(texts: Sequence[str]) -> list[Predictions | None]:
    """What :func:`parse_string` makes of each text of which it has nothing to say; None for the others.

    All of a file at once, as parts of the same arrays: number by number takes most of the time of a score.

    Args:
        texts: groups of six values, each.
    """
    values = list(map(_plain_values, texts))
    counts = np.array([len(of_text) // 6 for of_text in values], dtype=np.int64)
    table = np.fromiter(chain.from_iterable(values), np.float64, 6 * counts.sum()).reshape(-1, 6)
    text_of = np.repeat(np.arange(len(texts)), counts)

    def many(groups: NDArray[np.bool_]) -> NDArray[np.int64]:
        """Per text, how many of these groups it has."""
        return np.bincount(text_of[groups], minlength=len(texts))

    whole = table[:, 0] == NO_FINDING_ID
    contradicted = (many(whole & (table[:, 1] == 1)) > 0) & (many(whole) < counts)
    fine = (counts > 0) & ~contradicted & (many(_is_odd(table)) == 0)
    kept = table[fine[text_of]]
    boxes = Predictions(np.ascontiguousarray(kept[:, 2:]), kept[:, 1], kept[:, 0])
    ends = np.cumsum(np.where(fine, counts, 0))
    return [boxes[end - count:end] if good else None
            for good, count, end in zip(fine.tolist(), counts.tolist(), ends.tolist(), strict=True)]


def _plain_values(text: str) -> list[float]:
    """The numbers of groups of six that differ; none where a character, a class id or a number is odd."""
    if not text.isascii() or text.encode().translate(None, _MARKS) or text[:1] == "+" or " +" in text:
        return []
    tokens = text.split()
    if len(tokens) % 6 or not set(tokens[::6]) <= set(CLASS_IDS):
        return []
    try:
        values = list(map(float, tokens))
    except ValueError:
        return []
    boxes = set(zip(*(values[column::6] for column in (0, 2, 3, 4, 5)), strict=True))
    return values if len(boxes) == len(tokens) // 6 else []


def _is_odd(table: NDArray[np.float64]) -> NDArray[np.bool_]:
    """(N,) which of (N, 6) groups :func:`_parse_group` finds something wrong with."""
    label, score, box = table[:, 0], table[:, 1], table[:, 2:]
    fine = np.isfinite(table).all(axis=1) & (score >= 0) & (score <= 1)
    fine &= (box[:, :2] < box[:, 2:]).all(axis=1)
    return ~fine | ((label == NO_FINDING_ID) & (box != NO_FINDING_BOX).any(axis=1))


def odd_blanks(text: str) -> list[str]:
    """White space other than spaces, which Python splits at and other parsers may not."""
    return _ODD_BLANK.findall(text)


def is_number(token: str) -> bool:
    """Whether every parser reads a finite number: not ``1_00``, ``+1``, ``0x1p3``, or digits beyond ASCII."""
    return bool(_NUMBER.fullmatch(token)) and math.isfinite(float(token))


def _parse_group(group: list[str]) -> tuple[list[float], str]:
    """Six numbers, or what is wrong with them."""
    odd = [token for token in group if not is_number(token)]
    if odd:
        return [], "not finite" if _NOT_FINITE.fullmatch(odd[0]) else f"not six numbers: {odd[0]!r}"
    values = [float(token) for token in group]
    _, score, x0, y0, x1, y1 = values
    if group[0] not in CLASS_IDS:
        return values, f"unknown class id {group[0]!r}, expected 0..14"
    if not 0 <= score <= 1:
        return values, f"score {score:g}, expected 0 to 1"
    if not (x0 < x1 and y0 < y1):
        return values, "expected x_min < x_max and y_min < y_max"
    if values[0] == NO_FINDING_ID and tuple(values[2:]) != NO_FINDING_BOX:
        return values, "class 14 has the box 0 0 1 1"
    return values, ""


def _note_repeats(number: int, table: np.ndarray, issues: list[Issue]) -> None:
    repeats = len(table) - len({(row[0], *row[2:]) for row in table.tolist()})
    if repeats:
        issues.append(Issue(number, f"{repeats} boxes are repeated", error=False))
    whole = table[table[:, 0] == NO_FINDING_ID]
    if len(whole) and len(whole) < len(table) and whole[:, 1].max() == 1:
        issues.append(
            Issue(number, "class 14 with score 1 beside boxes contradicts them", error=False))
