"""All issues of a submission, each with its row."""

from array import array
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

import numpy as np
import pandas as pd

from vindr_det.imaging.sizes import Shapes, shapes_of
from vindr_det.imaging.status import Status
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.submission.parse import (
    HEADER,
    Issue,
    Rows,
    is_blank,
    parse_string,
    plain_predictions,
    read_rows,
)

#: The scale of the boxes is checked from this number of images with boxes on. Boxes that never reach the
#: images' far half are taken for boxes of a smaller copy of the images.
_ENOUGH_IMAGES = 20
#: Beyond this multiple of the image's size, a box is not outside by rounding.
_BEYOND = 1.1
#: With this share of images that have such boxes, all boxes are taken for those of larger images.
_MANY = 0.05


@dataclass
class ParsedSubmission:
    """A submission and its issues.

    Attributes:
        predictions: image id -> detections, of rows without errors.
        stated: likewise, with what can be read of rows with errors.
        issues: errors and remarks, by row.
    """

    predictions: dict[str, Predictions] = field(default_factory=dict)
    stated: dict[str, Predictions] = field(default_factory=dict)
    issues: list[Issue] = field(default_factory=list)


def parse_submission(
    path: str | Path, sample_ids: Sequence[str] | None = None, sizes: pd.DataFrame | None = None
) -> ParsedSubmission:
    """Read a submission and list every issue.

    Args:
        path: of the CSV.
        sample_ids: the ids that must have exactly one row each; None skips that check.
        sizes: original sizes; None skips the checks that need them.

    Raises:
        InputError: the file is missing or is no CSV.
    """
    table = read_rows(path)
    result = check_rows([row for _, row in table.rows], sample_ids, sizes, [line for line, _ in table.rows])
    result.issues[:0] = [issue for issue, _ in table.issues]
    return result


def check_rows(
    rows: list[list[str]], sample_ids: Sequence[str] | None, sizes: pd.DataFrame | None,
    lines: Sequence[int] | None = None, whole: bool = True,
) -> ParsedSubmission:
    """:func:`parse_submission` of rows in memory.

    Args:
        rows: the fields of each, the header first.
        sample_ids: as there.
        sizes: as there.
        lines: of the file, for each row; None counts from 1.
        whole: check their scale too, which tells nothing of a part of a file.
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
    plain = plain_predictions([row[1] if len(row) == 2 else "" for _, row in body])
    for (number, row), predictions in zip(body, plain, strict=True):
        _parse_row(result, number, row, shapes, predictions)
    _check_repeats(result, body)
    if sample_ids is not None:
        _check_ids(result, body, sample_ids)
    if shapes is not None and whole:
        _check_scale(result, shapes)
    result.issues.sort(key=lambda issue: issue.row)
    return result


def check_detections(
    predictions: PredictionSet, sizes: pd.DataFrame | None, whole: bool = True
) -> list[Issue]:
    """What is wrong with the places of boxes of no CSV: outside of their images, or of another scale.

    Args:
        predictions: image id -> detections.
        sizes: of the originals; None checks only that no box is negative.
        whole: as of :func:`check_rows`.
    """
    result = ParsedSubmission(dict(predictions))
    shapes = None if sizes is None else shapes_of(sizes)
    for image_id, detections in predictions.items():
        _check_inside(0, image_id, detections, shapes, result.issues)
    if shapes is not None and whole:
        result.stated = result.predictions
        _check_scale(result, shapes)
    return result.issues


def _of_images(result: ParsedSubmission, body: Rows) -> Rows:
    """The rows without empty lines and repeated headers, which are issues."""
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
    result: ParsedSubmission, number: int, row: list[str], sizes: Shapes | None,
    predictions: Predictions | None,
) -> None:
    """Add a row's detections, which are to be parsed where they are None."""
    if len(row) != 2:
        result.issues.append(Issue(number, f"{len(row)} columns, expected 2"))
        return
    image_id, text = row
    issues: list[Issue] = []
    if not image_id or image_id != image_id.strip() or not image_id.isprintable():
        issues.append(Issue(number, f"image_id {image_id!r}, expected an id without blanks around it and "
                                    "without control characters"))
    if predictions is None:
        predictions = parse_string(number, text, issues)
    _check_inside(number, image_id, predictions, sizes, issues)
    result.issues += issues
    result.stated.setdefault(image_id, predictions)
    if not any(issue.error for issue in issues):
        result.predictions.setdefault(image_id, predictions)


def _check_repeats(result: ParsedSubmission, body: Rows) -> None:
    """An image's second row is an error, also where the first one has an error itself."""
    seen = set()
    for number, row in body:
        if row and row[0] in seen:
            result.issues.append(Issue(number, f"image_id {row[0]} has a second row"))
        seen.update(row[:1])


def _check_inside(
    number: int, image_id: str, predictions: Predictions, sizes: Shapes | None, issues: list[Issue]
) -> None:
    boxes = predictions.findings().boxes
    if sizes is None:  # negative coordinates are outside of any image
        issues += [Issue(number, f"box {_text(box)} leaves image {image_id}, expected 0 or more")
                   for box in boxes[(boxes < -0.5).any(axis=1)]]
        return
    if image_id not in sizes:
        issues.append(Issue(number, f"image_id {image_id} has no size in the size table"))
        return
    height, width = sizes[image_id]
    # Half a pixel is tolerated: coordinates may have been rounded up to whole pixels.
    outside = (boxes < -0.5).any(axis=1) | (boxes[:, 2] > width + 0.5) | (boxes[:, 3] > height + 0.5)
    for box in boxes[outside]:
        issues.append(Issue(number, f"box {_text(box)} leaves image {image_id} of width {width} and height "
                                    f"{height}"))


def _text(box: np.ndarray) -> str:
    return " ".join(f"{value:g}" for value in box)


def _check_ids(result: ParsedSubmission, body: Rows, sample_ids: Sequence[str]) -> None:
    expected, present = set(sample_ids), {row[0] for _, row in body if row}
    result.issues += [Issue(number, f"image_id {row[0]!r} is not in the sample")
                      for number, row in body if row and row[0] not in expected]
    missing = [image_id for image_id in sample_ids if image_id not in present]
    if missing:
        result.issues.append(Issue(0, f"{len(missing)} images have no row, the first is {missing[0]}"))


def _check_scale(result: ParsedSubmission, sizes: Shapes) -> None:
    """Boxes of a smaller copy never reach the image's far half; boxes of a larger one lie far beyond it."""
    if looks_larger(result, sizes):
        result.issues.append(Issue(0, "boxes look like those of larger images: they reach far beyond many "
                                      "images; expected original pixels"))
    result.issues += ScaleCheck().add(result.predictions, sizes).issues()


class ScaleCheck:
    """Whether the boxes of a run are those of a smaller copy, by a number per image."""

    def __init__(self) -> None:
        self._reach, self._largest = array("d"), 0.0

    def add(self, predictions: PredictionSet, sizes: Shapes) -> "ScaleCheck":
        """More images of the run, and (height, width) of their originals."""
        self._reach.extend(_reach(predictions, sizes))
        self._largest = max([self._largest, *(float(detections.findings().boxes.max(initial=0))
                                              for detections in predictions.values())])
        return self

    def issues(self) -> list[Issue]:
        """An issue, or none."""
        if len(self._reach) < _ENOUGH_IMAGES or np.median(self._reach) >= 0.5:
            return []
        return [Issue(0, f"boxes look unscaled: their far corners lie at {np.median(self._reach):.0%} of the "
                         f"images (median) and none is beyond {self._largest:g}; expected original pixels")]


def scale_issues(predictions: PredictionSet, sizes: pd.DataFrame) -> list[Issue]:
    """An issue where the boxes of many images look like those of smaller or larger copies.

    Args:
        predictions: image id -> detections.
        sizes: of the originals.
    """
    result = ParsedSubmission(dict(predictions), dict(predictions))
    _check_scale(result, shapes_of(sizes))
    return result.issues


def frame_issues(statuses: Mapping[str, Status], sizes: pd.DataFrame) -> list[Issue]:
    """An error where a run wrote boxes in the pixels of images of another size than the originals.

    Args:
        statuses: image id -> row of the status table beside the submission, which has the size it took.
        sizes: of the originals.
    """
    shapes = shapes_of(sizes)
    other = [(status, shapes[image_id]) for image_id, status in statuses.items()
             if image_id in shapes and status.height and (status.height, status.width) != shapes[image_id]]
    if not other:
        return []
    first, (height, width) = other[0]
    return [Issue(0, f"boxes of {len(other)} images are in pixels of another size: image {first.image_id} "
                     f"was taken for one of {first.width} x {first.height}, the original has {width} x "
                     f"{height}; predict again with --meta")]


def looks_larger(result: ParsedSubmission, sizes: Shapes) -> bool:
    """Whether the boxes, also of rows with errors, are in the pixels of larger images than ``sizes`` has."""
    reach = np.array(_reach(result.stated, sizes))
    return len(reach) >= _ENOUGH_IMAGES and bool(np.mean(reach > _BEYOND) > _MANY)


def _reach(predictions: PredictionSet, sizes: Shapes) -> list[float]:
    """Per image with boxes, the furthest right or lower edge as a share of the image's width or height."""
    reach = []
    for image_id, detections in predictions.items():
        boxes = detections.findings().boxes
        if len(boxes) and image_id in sizes:
            height, width = sizes[image_id]
            reach.append(max(boxes[:, 2].max() / width, boxes[:, 3].max() / height))
    return reach
