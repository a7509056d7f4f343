"""Every fault of a submission, with its row."""

import math
import re
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from vindr_det.imaging.sizes import Shapes, shapes_of
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import CLASS_NAMES, NO_FINDING_BOX, NO_FINDING_ID
from vindr_det.submission.table import Issue, Rows, read_table

HEADER = ("image_id", "PredictionString")
NO_FINDING_STRING = "14 1 0 0 1 1"
#: As they are written: ``3.0`` and ``-0`` are no class ids to every parser.
CLASS_IDS = tuple(map(str, range(len(CLASS_NAMES))))
_NUMBER = re.compile(r"-?(\d+\.?\d*|\.\d+)([eE][-+]?\d+)?", re.ASCII)
_NOT_FINITE = re.compile(r"[-+]?(nan|inf|infinity|[\d.]+e\+?\d+)", re.ASCII | re.IGNORECASE)
#: With at least so many images with boxes, boxes that never reach the images' far half are
#: taken for boxes of a smaller copy of the images.
_ENOUGH_IMAGES = 20
#: So far beyond the edge, as a multiple of the image's size, no detector's rounding goes.
_BEYOND = 1.1
#: With such a share of images whose boxes do, all boxes are taken for those of larger images.
_MANY = 0.05


@dataclass
class ParsedSubmission:
    """A submission and all that is wrong with it.

    Attributes:
        predictions: image id -> what its row says, of rows without errors.
        stated: likewise, with what can be read of rows with errors.
        faults: all of them, by row.
    """

    predictions: dict[str, Predictions] = field(default_factory=dict)
    stated: dict[str, Predictions] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)


def parse_submission(
    path: str | Path, sample_ids: Sequence[str] | None = None, sizes: pd.DataFrame | None = None
) -> ParsedSubmission:
    """Read a submission and list every fault.

    Args:
        path: of the CSV.
        sample_ids: the ids that must have exactly one row each; None skips that check.
        sizes: original sizes; None skips the checks that need them.

    Raises:
        InputError: the file is missing or is no CSV.
    """
    table = read_table(path)
    result = check_rows([row for _, row in table.rows], sample_ids, sizes, [line for line, _ in table.rows])
    result.issues[:0] = [issue for issue, _ in table.issues]
    return result


def check_rows(
    rows: list[list[str]], sample_ids: Sequence[str] | None, sizes: pd.DataFrame | None,
    lines: Sequence[int] | None = None,
) -> ParsedSubmission:
    """:func:`parse_submission` of what is read already.

    Args:
        rows: the header first.
        sample_ids: as there.
        sizes: as there.
        lines: where each row stood; None counts from 1.
    """
    result = ParsedSubmission()
    shapes = None if sizes is None else shapes_of(sizes)
    if not rows:
        result.issues.append(Issue(0, f"the file is empty, expected a header {','.join(HEADER)}"))
        return result
    (first, header), *body = zip(lines or range(1, len(rows) + 1), rows, strict=True)
    if tuple(header) != HEADER:
        result.issues.append(
            Issue(first, f"header {','.join(header)!r}, expected {','.join(HEADER)!r}"))
    body = _of_images(result, body)
    for number, row in body:
        _parse_row(result, number, row, shapes)
    _check_repeats(result, body)
    if sample_ids is not None:
        _check_ids(result, body, sample_ids)
    if shapes is not None:
        _check_scale(result, shapes)
    result.issues.sort(key=lambda issue: issue.row)
    return result


def _of_images(result: ParsedSubmission, body: Rows) -> Rows:
    """The rows that mean to be an image's."""
    kept = []
    for number, row in body:
        if is_blank(row):
            result.issues.append(Issue(number, "an empty line, expected 2 columns"))
        elif tuple(row) == HEADER:
            result.issues.append(Issue(number, "the header again, expected an image"))
        else:
            kept.append((number, row))
    return kept


def _parse_row(
    result: ParsedSubmission, number: int, row: list[str], sizes: Shapes | None
) -> None:
    if len(row) != 2:
        result.issues.append(Issue(number, f"{len(row)} columns, expected 2"))
        return
    image_id, text = row
    issues: list[Issue] = []
    if not image_id or image_id != image_id.strip() or not image_id.isprintable():
        issues.append(Issue(number, f"image_id {image_id!r}, expected an id without blanks around it and "
                                    "without control characters"))
    predictions = _parse_string(number, text, issues)
    _check_inside(number, image_id, predictions, sizes, issues)
    result.issues += issues
    result.stated.setdefault(image_id, predictions)
    if not any(issue.error for issue in issues):
        result.predictions.setdefault(image_id, predictions)


def is_blank(row: Sequence[str]) -> bool:
    """Whether a line holds nothing, not even a comma."""
    return len(row) < 2 and not "".join(row).strip()


def _check_repeats(result: ParsedSubmission, body: Rows) -> None:
    """An image's second row, also where its first one is faulty."""
    seen = set()
    for number, row in body:
        if row and row[0] in seen:
            result.issues.append(Issue(number, f"image_id {row[0]} has a second row"))
        seen.update(row[:1])


def _parse_string(number: int, text: str, issues: list[Issue]) -> Predictions:
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


def odd_blanks(text: str) -> list[str]:
    """White space that Python splits at and others may not: tabs, newlines, no-break spaces."""
    return [char for char in text if char.isspace() and char != " "]


def is_number(token: str) -> bool:
    """Whether any parser reads a finite number: not ``1_00``, ``+1``, ``0x1p3``, or digits beyond ASCII."""
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
        issues.append(Issue(number, f"{repeats} boxes stand twice", error=False))
    whole = table[table[:, 0] == NO_FINDING_ID]
    if len(whole) and len(whole) < len(table) and whole[:, 1].max() == 1:
        issues.append(
            Issue(number, "class 14 with score 1 beside boxes contradicts them", error=False))


def _check_inside(
    number: int, image_id: str, predictions: Predictions, sizes: Shapes | None, issues: list[Issue]
) -> None:
    boxes = predictions.findings().boxes
    if sizes is None:  # what lies before the image is outside of any
        issues += [Issue(number, f"box {_words(box)} leaves image {image_id}, expected 0 or more")
                   for box in boxes[(boxes < -0.5).any(axis=1)]]
        return
    if image_id not in sizes:
        issues.append(Issue(number, f"image_id {image_id} has no size in the size table"))
        return
    height, width = sizes[image_id]
    # Half a pixel of grace: rounding to whole pixels may go up.
    outside = (boxes < -0.5).any(axis=1) | (boxes[:, 2] > width + 0.5) | (boxes[:, 3] > height + 0.5)
    for box in boxes[outside]:
        issues.append(Issue(number, f"box {_words(box)} leaves image {image_id} of width {width} and height "
                                    f"{height}"))


def _words(box: np.ndarray) -> str:
    return " ".join(f"{value:g}" for value in box)


def _check_ids(result: ParsedSubmission, body: Rows, sample_ids: Sequence[str]) -> None:
    expected = set(sample_ids)
    found = set()
    for number, row in body:
        if row:
            found.add(row[0])
            if row[0] not in expected:
                result.issues.append(Issue(number, f"image_id {row[0]!r} is not in the sample"))
    missing = [image_id for image_id in sample_ids if image_id not in found]
    if missing:
        result.issues.append(Issue(0, f"{len(missing)} images have no row, the first is {missing[0]}"))


def _check_scale(result: ParsedSubmission, sizes: Shapes) -> None:
    """Boxes of a resized copy lie inside the image, but never reach its far half; or go far beyond it."""
    if looks_larger(result, sizes):
        result.issues.append(Issue(0, "boxes look like those of larger images: they reach far beyond many "
                                      "images; expected original pixels"))
    reach = _reach(result.predictions, sizes)
    if len(reach) >= _ENOUGH_IMAGES and np.median(reach) < 0.5:
        largest = max(found.findings().boxes.max(initial=0) for found in result.predictions.values())
        result.issues.append(Issue(0, "boxes look unscaled: their far corners lie at "
                                      f"{np.median(reach):.0%} of the images (median) and none is "
                                      f"beyond {largest:g}; expected original pixels"))


def looks_larger(result: ParsedSubmission, sizes: Shapes) -> bool:
    """Whether the boxes, also of rows with errors, are in the pixels of larger images than ``sizes`` has."""
    reach = np.array(_reach(result.stated, sizes))
    return len(reach) >= _ENOUGH_IMAGES and bool(np.mean(reach > _BEYOND) > _MANY)


def _reach(predictions: PredictionSet, sizes: Shapes) -> list[float]:
    """Of each image with boxes its furthest right or lower edge, as a share of the image."""
    reach = []
    for image_id, found in predictions.items():
        boxes = found.findings().boxes
        if len(boxes) and image_id in sizes:
            height, width = sizes[image_id]
            reach.append(max(boxes[:, 2].max() / width, boxes[:, 3].max() / height))
    return reach
