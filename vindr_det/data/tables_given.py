"""Whether the tables that a conversion is given are those of its release; else, of which release they are."""

from collections.abc import Iterable, Mapping, Sequence
from pathlib import Path

from vindr_det.data.release import Release, Table
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json
from vindr_det.tables import header_of, letters_of


def require_own_tables(
    release: Release, tables: Mapping[str, str | Path | None], releases: Iterable[Release]
) -> None:
    """Refuse a file that lacks columns of the release's table, and say what it looks like.

    Args:
        release: of the conversion.
        tables: name -> path, as of the release's ``read``.
        releases: those that a file may be of instead.

    Raises:
        InputError: names the columns, and the release and format that the file seems to be of.
    """
    for name, expected in release.tables.items():
        path = tables.get(name)
        others = [other for other in releases if other is not release]
        if path is not None and expected[0].columns:
            _require(path, expected, others, release)
        elif path is not None and Path(path).is_file() and not holds_json(path):
            _refuse_table(path, expected, others, release)


def _require(
    path: str | Path, expected: Sequence[Table], releases: Sequence[Release], release: Release
) -> None:
    if holds_json(path):
        raise InputError(f"{path}: is JSON, expected {_titles(expected)}; COCO files are of the format coco")
    header = header_of(path)
    letters = {letters_of(name) for name in header}
    if any(_fits(table, letters) for table in expected):
        return
    missing = [column for column in expected[0].columns if letters_of(column) not in letters]
    problem = (f"column {', '.join(missing)} is missing; it has {', '.join(header) or 'none'}" if missing
               else f"has a column {expected[0].without[0]}")
    raise InputError(f"{path}: {problem}; "
                     f"{_likeness(letters, releases, release) or f'expected {_titles(expected)}'}")


def _refuse_table(
    path: str | Path, expected: Sequence[Table], releases: Sequence[Release], release: Release
) -> None:
    """Refuse a known table in the place of a file that is none."""
    likeness = _likeness({letters_of(name) for name in header_of(path)}, releases, release)
    if likeness:
        raise InputError(f"{path}: is a table, expected {_titles(expected)}; {likeness}")


def _likeness(letters: set[str], releases: Sequence[Release], release: Release) -> str:
    """What a table looks like, by the most columns, and what it is for."""
    uses = [(f"--{name.replace('_', '-')}", table) for name, tables in release.tables.items()
            for table in tables]
    uses += [(f"format {other.name}", table) for other in releases for tables in other.tables.values()
             for table in tables]
    likely = [(use, table) for use, table in uses if table.columns and _fits(table, letters)]
    if not likely:
        return ""
    use, table = max(likely, key=lambda pair: (_columns_there(pair[1], letters), pair[0].startswith("--")))
    return f"it looks like {table.title} ({use})"


def _columns_there(table: Table, letters: set[str]) -> int:
    return sum(letters_of(column) in letters for column in (*table.columns, *table.usual))


def _fits(table: Table, letters: set[str]) -> bool:
    return ({letters_of(column) for column in table.columns} <= letters
            and not {letters_of(column) for column in table.without} & letters)


def _titles(tables: Sequence[Table]) -> str:
    return " or ".join(table.title for table in tables)
