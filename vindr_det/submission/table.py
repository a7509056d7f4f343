"""A submission's file to rows with their line numbers, and what is wrong with the file itself."""

import csv
import io
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

from vindr_det.exceptions import InputError
from vindr_det.files import GZIP_MAGIC, existing_file, read_bytes

#: Line of the file, and its fields.
Rows = list[tuple[int, list[str]]]


@dataclass(frozen=True)
class Issue:
    """Something wrong with a submission.

    Attributes:
        row: line of the file, the header being 1; 0 for the file as a whole.
        message: what is wrong and what was expected.
        error: True where the file must not be used; False for a remark.
    """

    row: int
    message: str
    error: bool = True

    def __str__(self) -> str:
        where = f"row {self.row}: " if self.row else ""
        return f"{'error' if self.error else 'note'}: {where}{self.message}"


class Table(NamedTuple):
    """Attributes:
        rows: the header first; a quoted field may reach over several lines.
        faults: of the file as a whole, each with what is done about it where the file is written anew.
    """

    rows: Rows
    issues: list[tuple[Issue, str]]


def read_table(path: str | Path) -> Table:
    """Read a file as it is, whatever its rows say.

    Raises:
        InputError: the file is missing or is no CSV.
    """
    data = read_bytes(path)
    try:
        text = data.decode("utf-8-sig")
        rows = _rows(text)
    except UnicodeDecodeError as error:
        raise InputError(f"{path}: not a text file ({error})") from error
    except csv.Error as error:
        raise InputError(f"{path}: not a readable CSV ({error})") from error
    if "\0" in text:
        row = text.count("\n", 0, text.index("\0")) + 1
        raise InputError(f"{path}, row {row}: a NUL byte, expected text")
    return Table(rows, [*_compression(path), *_ends(data, text)])


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
    found, wanted = ("gzip data", "plain text") if zipped else ("plain text", "gzip data")
    message = f"the file holds {found}, expected {wanted} in one of this name"
    return [(Issue(0, message), f"{found} becomes what the name of the new file says")]


def _ends(data: bytes, text: str) -> list[tuple[Issue, str]]:
    found = []
    if data.startswith(b"\xef\xbb\xbf"):
        found.append((Issue(0, "a byte order mark before the header", error=False), "no byte order mark"))
    if "\r" in text.replace("\r\n", ""):
        found.append((Issue(0, "a carriage return without a newline, expected lines that end in a newline"),
                      "lines end in a newline alone"))
    elif "\r" in text:
        found.append((Issue(0, "lines end in a carriage return and a newline", error=False),
                      "lines end in a newline alone"))
    if text and not text.endswith("\n"):
        found.append((Issue(0, "no newline at the end of the file", error=False), "a newline at the end"))
    return found
