"""How detections are written as a submission: this file alone; ``repair`` formats what it changes by it.

The competition's form exists for VinBigData's label set; detections of another one are a table with a row per
box (:mod:`vindr_det.submission.long_table`).
"""

import csv
import io
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pandas as pd

from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.structures.detections import Predictions, PredictionSet, label_set_of
from vindr_det.structures.label_sets import NO_FINDING_BOX, NO_FINDING_ID, VINBIGDATA
from vindr_det.submission.check import check_detections, check_rows
from vindr_det.submission.coco_results import coco_results_text, is_coco_results
from vindr_det.submission.long_table import long_table_text
from vindr_det.submission.parse import HEADER, NO_FINDING_STRING

#: Significant digits of scores and coordinates.
_NUMBER_FORMAT = ".6g"


def format_number(value: float) -> str:
    """A score or coordinate as a submission has it."""
    return format(value, _NUMBER_FORMAT)


def format_predictions(predictions: Predictions) -> str:
    """A PredictionString, best score first; no detections give ``14 1 0 0 1 1``.

    Raises:
        InputError: detections of another label set than VinBigData's, whose class ids the string has.
    """
    if len(predictions) and predictions.label_set != VINBIGDATA:
        raise InputError(f"a PredictionString of the label set {predictions.label_set.name}, expected "
                         f"{VINBIGDATA.name}")
    groups = []
    ordered = predictions.by_score()
    for label, score, box in zip(
        ordered.labels.tolist(), ordered.scores.tolist(), ordered.boxes.tolist(), strict=True
    ):
        x0, y0, x1, y1 = map(format_number, NO_FINDING_BOX if label == NO_FINDING_ID else box)
        if float(x0) < float(x1) and float(y0) < float(y1):  # rounding can make a thin box empty
            groups.append(f"{label} {format_number(score)} {x0} {y0} {x1} {y1}")
    return " ".join(groups) or NO_FINDING_STRING


def write_submission(
    path: str | Path, predictions: PredictionSet, image_ids: Iterable[str] | None = None,
    sizes: pd.DataFrame | None = None, unread: Collection[str] = (),
) -> None:
    """Write :func:`submission_text` to ``path``, whole or not at all; for the arguments see there.

    Raises:
        InputError: as there, or the path cannot be written.
    """
    write_text(path, submission_text(path, predictions, image_ids, sizes, unread))


def submission_text(
    path: str | Path, predictions: PredictionSet, image_ids: Iterable[str] | None = None,
    sizes: pd.DataFrame | None = None, unread: Collection[str] = (),
) -> str:
    """The content of a submission, checked: one with errors is never returned.

    Args:
        path: of the CSV that it is for, named in errors; of a ``.json`` the content is COCO results, in which
            images that are ``unread`` have no entry. Detections of another label set than VinBigData's are
            a table with a row per box.
        predictions: image id -> detections in original pixels; an image without any becomes "no finding".
        image_ids: one row each, in this order. None takes the ids of ``predictions``, then ``unread``.
        sizes: of the originals; boxes must lie inside. None checks only that none is negative.
        unread: images that could not be read. Kaggle requires a row for them too, and only "no finding" has
            no box; in any other table they are failures, not normal images.

    Raises:
        InputError: a prediction belongs to none of ``image_ids``, one of these has no prediction and is not
            ``unread`` either, or a row has an error.
    """
    ids = list([*predictions, *unread] if image_ids is None else image_ids)
    _check_same_images(path, ids, predictions, unread)
    in_order = {image_id: predictions[image_id] for image_id in ids if image_id in predictions}
    as_json, label_set = is_coco_results(path), label_set_of(predictions)
    if as_json or label_set != VINBIGDATA:
        issues = check_detections(predictions, None if sizes is None else with_unread(sizes, unread))
        if issues:
            raise InputError(f"{path}: not written; {issues[0].message}")
        return coco_results_text(in_order) if as_json else long_table_text(in_order)
    rows = [list(HEADER), *([image_id, format_predictions(predictions.get(image_id, Predictions()))]
                            for image_id in ids)]
    for issue in check_rows(rows, ids, None if sizes is None else with_unread(sizes, unread)).issues:
        if issue.error:
            raise InputError(f"{path}: not written; {str(issue).removeprefix('error: ')}")
    return csv_text(rows)


def _check_same_images(
    path: str | Path, ids: Sequence[str], predictions: PredictionSet, unread: Collection[str]
) -> None:
    unknown = set(predictions).difference(ids)
    if unknown:
        raise InputError(f"{path}: predictions for {min(unknown)}, which is none of the image ids")
    missing = set(ids).difference(predictions, unread)
    if missing:
        raise InputError(f"{path}: not written; image {min(missing)} has no prediction ({len(missing)} in "
                         "all); an image without one is not a normal one")


def csv_text(rows: Iterable[Sequence[str]]) -> str:
    """Rows as CSV with a newline at the end of each."""
    buffer = io.StringIO()
    csv.writer(buffer, lineterminator="\n").writerows(rows)
    return buffer.getvalue()


def with_unread(sizes: pd.DataFrame, unread: Iterable[str]) -> pd.DataFrame:
    """The table of sizes with the unread images added: their rows have no box to check, so any size does."""
    return sizes.reindex([*sizes.index, *set(unread).difference(sizes.index)], fill_value=1)
