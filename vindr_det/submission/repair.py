"""Repair of the issues of a submission that have one certain meaning.

Certain are the header's names and its repetition, empty lines, line ends, blanks, the order of the rows, a
class id such as ``3.0``, the same row or the same box twice, a box that reaches out of its image, and the box
of class 14. An empty string is written as "no finding", its usual meaning, and counted, since the image may
be one without any prediction. Nothing else is repaired: which of two different rows counts, what a seventh
number means, by how much boxes were scaled, or what is in an image all of whose boxes lie outside cannot be
known.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vindr_det.imaging.sizes import Shapes, shapes_of
from vindr_det.structures.label_sets import NO_FINDING_BOX, NO_FINDING_ID
from vindr_det.submission.check import ParsedSubmission, check_rows, looks_larger
from vindr_det.submission.parse import (
    CLASS_IDS,
    HEADER,
    NO_FINDING_STRING,
    Issue,
    Rows,
    is_blank,
    is_number,
    odd_blanks,
    read_rows,
)
from vindr_det.submission.write import csv_text, format_number

#: Names of the first column; a row with another first field and nothing after it is an image's.
_ID_NAMES = ("id", "image", "image_id", "imageid", "image id", "name", "file", "filename")


@dataclass(frozen=True)
class Repaired:
    """The result of a repair.

    Attributes:
        text: the content of the repaired file.
        changes: what was changed; rows are those of the original file.
        left: ``text`` parsed, with the issues that it still has; rows are those of the original file.
        normal: images with an empty string, which became "no finding".
    """

    text: str
    changes: list[Issue]
    left: ParsedSubmission
    normal: Sequence[str] = ()

    @property
    def guess(self) -> str:
        """A sentence about ``normal``; empty where there are none."""
        return (f"{len(self.normal)} images with an empty string became \"no finding\", the first is "
                f"{self.normal[0]}; whether they were looked at is unknown") if self.normal else ""


def repair_submission(
    path: str | Path, sample_ids: Sequence[str] | None = None, sizes: pd.DataFrame | None = None
) -> Repaired:
    """Repair a submission.

    Args:
        path: of the CSV.
        sample_ids: the ids in the order of the repaired file; None keeps the file's order.
        sizes: original sizes; None leaves boxes unclipped.

    Raises:
        InputError: the file is missing or is no CSV.
    """
    table = read_rows(path)
    changes = [_change(issue.row, repair) for issue, repair in table.issues]
    body = _header(_without_blank(table.rows, changes), sample_ids or (), changes)
    shapes = {} if sizes is None else shapes_of(sizes)
    if looks_larger(check_rows([list(HEADER), *(row for _, row in body)], None, sizes), shapes):
        shapes = {}  # the boxes' scale is unknown, so clipping would be a guess
    normal = [row[0].strip() for _, row in body if len(row) == 2 and not row[1].strip()]
    body = [(number, _repaired_row(number, row, shapes, changes)) for number, row in body]
    body = _without_repeats(body, changes)
    body = _in_sample_order(body, sample_ids, changes)
    repaired = [(1, list(HEADER)), *body] if table.rows else []
    rows, lines = [row for _, row in repaired], [line for line, _ in repaired]
    return Repaired(csv_text(rows), changes, check_rows(rows, sample_ids, sizes, lines), normal)


def _change(row: int, message: str) -> Issue:
    return Issue(row, message, error=False)


def _without_blank(rows: Rows, changes: list[Issue]) -> Rows:
    changes += [_change(line, "an empty line is removed") for line, row in rows if is_blank(row)]
    return [(line, row) for line, row in rows if not is_blank(row)]


def _header(rows: Rows, sample_ids: Sequence[str], changes: list[Issue]) -> Rows:
    """The rows below the header: a first row that is of no known image and has text but no number."""
    if not rows:
        return []
    (line, first), *body = rows
    text = " ".join(first[1:])
    image = any(map(_means_number, text.split())) or (not text.strip() and first[0].lower() not in _ID_NAMES)
    if tuple(first) != HEADER and first[0] not in sample_ids and not image:
        changes.append(_change(line, f"header {','.join(first)!r} becomes {','.join(HEADER)!r}"))
    elif tuple(first) != HEADER:
        changes.append(_change(line, f"a header {','.join(HEADER)!r} is added above it"))
        body = rows
    changes += [_change(line, "a repeated header is removed") for line, row in body if tuple(row) == HEADER]
    return [(line, row) for line, row in body if tuple(row) != HEADER]


def _repaired_row(number: int, row: list[str], shapes: Shapes, changes: list[Issue]) -> list[str]:
    """The row with its id and its string repaired where their meaning is certain."""
    if len(row) != 2:
        return row
    image_id, tokens = row[0].strip(), row[1].split()
    if image_id != row[0]:
        changes.append(_change(number, f"image_id {row[0]!r} becomes {image_id!r}"))
    if not tokens:
        changes.append(_change(number, f"an empty string becomes {NO_FINDING_STRING!r}"))
        return [image_id, NO_FINDING_STRING]
    if odd_blanks(row[1]):
        changes.append(_change(number, f"{odd_blanks(row[1])[0]!r} between values becomes a space"))
    if len(tokens) % 6 or not all(is_number(token) for token in tokens):
        return [image_id, " ".join(tokens)]
    groups = _class_ids(number, [tokens[start:start + 6] for start in range(0, len(tokens), 6)], changes)
    if image_id in shapes:
        groups = _clipped(number, groups, shapes[image_id], changes)
    groups = [_whole_image(number, group, changes) for group in groups]
    # Different boxes can be the same once they are clipped.
    return [image_id, " ".join(token for group in _distinct(number, groups, changes) for token in group)]


def _class_ids(number: int, groups: list[list[str]], changes: list[Issue]) -> list[list[str]]:
    """``3.0``, as ensemble-boxes returns labels, and other spellings become the usual class id."""
    plain = {token: str(int(float(token))) for token, *_ in groups
             if token not in CLASS_IDS and float(token) in range(len(CLASS_IDS))}
    if plain:
        old, new = next(iter(plain.items()))
        changes.append(_change(number, f"class id {old!r} becomes {new!r}"))
    return [[plain.get(token, token), *rest] for token, *rest in groups]


def _distinct(number: int, groups: list[list[str]], changes: list[Issue]) -> list[list[str]]:
    """Each box of a class once, with its best score."""
    best: dict[tuple[float, ...], list[str]] = {}
    for group in groups:
        label, score, *box = map(float, group)
        key = (label, *box)
        if key not in best or score > float(best[key][1]):
            best[key] = group
    if len(best) < len(groups):
        repeats = len(groups) - len(best)
        changes.append(_change(number, f"{repeats} boxes are repeated; the best score is kept"))
    return list(best.values())


def _clipped(
    number: int, groups: list[list[str]], size: tuple[int, int], changes: list[Issue]
) -> list[list[str]]:
    """Boxes clipped to the image; where no box lies inside, the row is unchanged and stays an error."""
    (height, width), kept, cut, gone = size, [], 0, 0
    for group in groups:
        edges = np.array(group[2:], dtype=float)
        inside = np.clip(edges, 0, [width, height, width, height])
        if float(group[0]) == NO_FINDING_ID or np.array_equal(edges, inside) or not _has_area(edges):
            kept.append(group)
        elif _has_area(inside):
            kept.append([*group[:2], *map(format_number, inside)])
            cut += 1
        else:
            gone += 1
    if gone and all(float(label) == NO_FINDING_ID for label, *_ in kept):
        return groups
    if cut:
        changes.append(_change(number, f"{cut} boxes are clipped to the image"))
    if gone:
        changes.append(_change(number, f"{gone} boxes wholly outside the image are removed"))
    return kept


def _has_area(edges: np.ndarray) -> bool:
    return bool(np.isfinite(edges).all() and (edges[:2] < edges[2:]).all())


def _whole_image(number: int, group: list[str], changes: list[Issue]) -> list[str]:
    """Class 14 with the one box that it may have; any other box means the same."""
    box = tuple(map(float, group[2:]))
    if float(group[0]) != NO_FINDING_ID or box == NO_FINDING_BOX or not np.isfinite(box).all():
        return group
    changes.append(_change(number, f"{' '.join(group)!r}: class 14 gets the box 0 0 1 1"))
    return [*group[:2], *map(format_number, NO_FINDING_BOX)]


def _without_repeats(body: Rows, changes: list[Issue]) -> Rows:
    """Each row once, where it is repeated exactly."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for number, row in body:
        if tuple(row) in seen:
            changes.append(_change(number, "a repeated row is removed"))
        else:
            kept.append((number, row))
            seen.add(tuple(row))
    return kept


def _in_sample_order(body: Rows, sample_ids: Sequence[str] | None, changes: list[Issue]) -> Rows:
    if sample_ids is None:
        return body
    place = {image_id: at for at, image_id in enumerate(sample_ids)}
    ordered = sorted(body, key=lambda item: place.get(item[1][0] if item[1] else "", len(place)))
    if ordered != body:
        changes.append(_change(0, "rows are put in the sample's order"))
    return ordered


def _means_number(token: str) -> bool:
    """Whether a number was meant, also one that no parser but Python's reads: its row is not a header."""
    return token.lstrip("+-.")[:1].isdigit() or token.lower().lstrip("+-") in ("nan", "inf", "infinity")
