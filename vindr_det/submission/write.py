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
from vindr_det.imaging.sizes import shapes_of
from vindr_det.structures.detections import Predictions, PredictionSet, label_set_of
from vindr_det.structures.label_sets import NO_FINDING_BOX, NO_FINDING_ID, VINBIGDATA, LabelSet
from vindr_det.submission.check import ScaleCheck, check_detections, check_rows
from vindr_det.submission.coco_results import coco_entries, is_coco_results
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
    parts = SubmissionParts(path, label_set_of(predictions))
    return parts.add(ids, predictions, sizes, unread) + parts.end()


class SubmissionParts:
    """:func:`submission_text` of a run, some images at a time.

    Args:
        path: as there.
        label_set: of all detections.
    """

    def __init__(self, path: str | Path, label_set: LabelSet) -> None:
        self._path, self._as_json = path, is_coco_results(path)
        self._in_rows_of_boxes = self._as_json or label_set != VINBIGDATA
        self._scale, self._rows, self._begun = ScaleCheck(), 1, False

    def add(
        self, ids: Sequence[str], predictions: PredictionSet, sizes: pd.DataFrame | None,
        unread: Collection[str] = (),
    ) -> str:
        """What follows for more images.

        Args:
            ids: theirs, which no other part has.
            predictions: as of :func:`submission_text`, like ``sizes`` and ``unread``.
            sizes: likewise.
            unread: likewise.

        Raises:
            InputError: as of :func:`submission_text`.
        """
        _check_same_images(self._path, ids, predictions, unread)
        if sizes is not None:
            sizes = with_unread(sizes, unread)
            self._scale.add(predictions, shapes_of(sizes))
        in_order = {image_id: predictions[image_id] for image_id in ids if image_id in predictions}
        return self._boxes(in_order, sizes) if self._in_rows_of_boxes else self._strings(ids, in_order, sizes)

    def end(self) -> str:
        """What stands after the last image.

        Raises:
            InputError: the boxes of all images look like those of smaller ones.
        """
        for issue in self._scale.issues():
            raise InputError(f"{self._path}: not written; {issue.message}")
        if not self._as_json:
            return ""
        return "]\n" if self._begun else "[]\n"

    def _boxes(self, predictions: PredictionSet, sizes: pd.DataFrame | None) -> str:
        for issue in check_detections(predictions, sizes, whole=False):
            raise InputError(f"{self._path}: not written; {issue.message}")
        if not self._as_json:
            text = long_table_text(predictions, header=not self._begun)
            self._begun = True
            return text
        entries = coco_entries(predictions)
        begin = (",\n" if self._begun else "[") if entries else ""
        self._begun = self._begun or bool(entries)
        return begin + entries

    def _strings(
        self, ids: Sequence[str], predictions: PredictionSet, sizes: pd.DataFrame | None
    ) -> str:
        rows = [list(HEADER), *([image_id, format_predictions(predictions.get(image_id, Predictions()))]
                                for image_id in ids)]
        lines = [1, *range(self._rows + 1, self._rows + len(rows))]
        for issue in check_rows(rows, ids, sizes, lines, whole=False).issues:
            if issue.error:
                raise InputError(f"{self._path}: not written; {str(issue).removeprefix('error: ')}")
        text = csv_text(rows[1:] if self._begun else rows)
        self._rows, self._begun = self._rows + len(ids), True
        return text


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
