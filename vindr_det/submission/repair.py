"""Faults of a submission whose meaning is certain, put right.

Certain are the header's names and its repetition, empty lines, line ends, blanks, the order of the rows, a
class id such as ``3.0``, the same row or the same box twice, a box that reaches out of its image, and the box
of class 14. An empty string is written as "no finding", which is what it means in the files that there are,
and counted, since it may as well be an image that nobody looked at. Nothing else is touched: which of two
different rows counts, what a seventh number means, by how much boxes were scaled, or what is in an image all
of whose boxes lie outside, nobody can tell.
"""

import csv
import io
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
import pandas as pd

from vindr_det.imaging.sizes import Shapes, shapes_of
from vindr_det.structures.label_sets import NO_FINDING_BOX, NO_FINDING_ID
from vindr_det.submission.check import (
    CLASS_IDS,
    HEADER,
    NO_FINDING_STRING,
    ParsedSubmission,
    check_rows,
    is_blank,
    is_number,
    looks_larger,
    odd_blanks,
)
from vindr_det.submission.table import Issue, Rows, read_table

#: What a first column is called; anything else with nothing behind it is an image.
_ID_NAMES = ("id", "image", "image_id", "imageid", "image id", "name", "file", "filename")


@dataclass(frozen=True)
class Repaired:
    """Attributes:
        text: the file as it should be.
        changes: what was changed and where; rows are those of the file as it was.
        left: what is wrong with ``text``; rows, likewise, are those of the file as it was.
        normal: images that ``text`` calls normal for want of a string.
    """

    text: str
    changes: list[Issue]
    left: ParsedSubmission
    normal: Sequence[str] = ()

    @property
    def guess(self) -> str:
        """What was taken for granted about ``normal``, in words; none where there are none."""
        return (f"{len(self.normal)} images are called normal for their empty strings, the first is "
                f"{self.normal[0]}; nothing tells that they were looked at") if self.normal else ""


def repair_submission(
    path: str | Path, sample_ids: Sequence[str] | None = None, sizes: pd.DataFrame | None = None
) -> Repaired:
    """Mend a submission.

    Args:
        path: of the CSV.
        sample_ids: the ids in the order wanted; None keeps the file's.
        sizes: original sizes; without them boxes are not clipped.

    Raises:
        InputError: the file is missing or is no CSV.
    """
    table = read_table(path)
    changes = [_change(issue.row, repair) for issue, repair in table.issues]
    body = _header(_without_blank(table.rows, changes), sample_ids or (), changes)
    shapes = {} if sizes is None else shapes_of(sizes)
    if looks_larger(check_rows([list(HEADER), *(row for _, row in body)], None, sizes), shapes):
        shapes = {}  # by how much boxes were scaled is open: no cut is certain
    normal = [row[0].strip() for _, row in body if len(row) == 2 and not row[1].strip()]
    body = [(number, _row(number, row, shapes, changes)) for number, row in body]
    body = _once(body, changes)
    body = _ordered(body, sample_ids, changes)
    repaired = [(1, list(HEADER)), *body] if table.rows else []
    rows, lines = [row for _, row in repaired], [line for line, _ in repaired]
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return Repaired(buffer.getvalue(), changes, check_rows(rows, sample_ids, sizes, lines), normal)


def _change(row: int, what: str) -> Issue:
    return Issue(row, what, error=False)


def _without_blank(rows: Rows, changes: list[Issue]) -> Rows:
    changes += [_change(line, "an empty line; it goes") for line, row in rows if is_blank(row)]
    return [(line, row) for line, row in rows if not is_blank(row)]


def _header(rows: Rows, sample_ids: Sequence[str], changes: list[Issue]) -> Rows:
    """The rows below the header; a first row of no known image, with words and without a number, is one."""
    if not rows:
        return []
    (line, first), *body = rows
    text = " ".join(first[1:])
    image = any(map(_means_number, text.split())) or (not text.strip() and first[0].lower() not in _ID_NAMES)
    if tuple(first) != HEADER and first[0] not in sample_ids and not image:
        changes.append(_change(line, f"header {','.join(first)!r} becomes {','.join(HEADER)!r}"))
    elif tuple(first) != HEADER:
        changes.append(_change(line, f"a header {','.join(HEADER)!r} above it"))
        body = rows
    changes += [_change(line, "the header again; it goes") for line, row in body if tuple(row) == HEADER]
    return [(line, row) for line, row in body if tuple(row) != HEADER]


def _row(number: int, row: list[str], shapes: Shapes, changes: list[Issue]) -> list[str]:
    """The row with what is certain about its id and its string put right."""
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
    # Boxes that differ can be the same once they are cut.
    return [image_id, " ".join(token for group in _distinct(number, groups, changes) for token in group)]


def _class_ids(number: int, groups: list[list[str]], changes: list[Issue]) -> list[list[str]]:
    """``3.0``, as ensemble-boxes returns labels, and other spellings of a class id as it is written."""
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
        changes.append(_change(number, f"{len(groups) - len(best)} boxes stand twice; the best score stays"))
    return list(best.values())


def _clipped(
    number: int, groups: list[list[str]], size: tuple[int, int], changes: list[Issue]
) -> list[list[str]]:
    """Boxes as far as they lie in the image; a row of which none does stays as it is, and an error."""
    (height, width), kept, cut, gone = size, [], 0, 0
    for group in groups:
        edges = np.array(group[2:], dtype=float)
        inside = np.clip(edges, 0, [width, height, width, height])
        if float(group[0]) == NO_FINDING_ID or np.array_equal(edges, inside) or not _ordered_box(edges):
            kept.append(group)
        elif _ordered_box(inside):
            kept.append([*group[:2], *(f"{edge:.6g}" for edge in inside)])
            cut += 1
        else:
            gone += 1
    if gone and all(float(label) == NO_FINDING_ID for label, *_ in kept):
        return groups
    if cut:
        changes.append(_change(number, f"{cut} boxes are cut at the image's edge"))
    if gone:
        changes.append(_change(number, f"{gone} boxes wholly outside the image go"))
    return kept


def _ordered_box(edges: np.ndarray) -> bool:
    return bool(np.isfinite(edges).all() and (edges[:2] < edges[2:]).all())


def _whole_image(number: int, group: list[str], changes: list[Issue]) -> list[str]:
    """Class 14 has one box; any other means the same."""
    box = tuple(map(float, group[2:]))
    if float(group[0]) != NO_FINDING_ID or box == NO_FINDING_BOX or not np.isfinite(box).all():
        return group
    changes.append(_change(number, f"{' '.join(group)!r}: class 14 gets the box 0 0 1 1"))
    return [*group[:2], "0", "0", "1", "1"]


def _once(body: Rows, changes: list[Issue]) -> Rows:
    """Rows that stand twice, word for word, once."""
    seen: set[tuple[str, ...]] = set()
    kept = []
    for number, row in body:
        if tuple(row) in seen:
            changes.append(_change(number, "the same row again; it goes"))
        else:
            kept.append((number, row))
            seen.add(tuple(row))
    return kept


def _ordered(body: Rows, sample_ids: Sequence[str] | None, changes: list[Issue]) -> Rows:
    if sample_ids is None:
        return body
    place = {image_id: at for at, image_id in enumerate(sample_ids)}
    ordered = sorted(body, key=lambda item: place.get(item[1][0] if item[1] else "", len(place)))
    if ordered != body:
        changes.append(_change(0, "rows stand in the sample's order"))
    return ordered


def _means_number(token: str) -> bool:
    """Also one that no parser but Python's reads: its row is no header."""
    return token.lstrip("+-.")[:1].isdigit() or token.lower().lstrip("+-") in ("nan", "inf", "infinity")
