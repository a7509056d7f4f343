"""A prediction file to detections: what has one certain meaning is repaired, anything else is an error.

The competition's form is of VinBigData's label set; COCO results and tables with a row per box are of any.
"""

import logging
from collections.abc import Collection, Iterable, Sequence
from pathlib import Path

import pandas as pd

from vindr_det.data.coco import image_names, image_sizes
from vindr_det.data.coco_categories import class_ids, label_set_of_file
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json
from vindr_det.imaging.status import FAILED, read_statuses, status_path_of
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import LABEL_SETS, VINBIGDATA, LabelSet
from vindr_det.submission.check import frame_issues, parse_submission, scale_issues
from vindr_det.submission.coco_results import Entries, detections_of_entries, label_set_name, read_entries
from vindr_det.submission.long_table import is_long_table, read_long_table, stated_label_set
from vindr_det.submission.repair import repair_submission
from vindr_det.submission.write import with_unread
from vindr_det.tables import read_csv

log = logging.getLogger(__name__)


def read_submission(
    path: str | Path, sizes: pd.DataFrame | None = None, annotations: str | Path | None = None,
    label_set: LabelSet | None = None,
) -> PredictionSet:
    """Read a submission, COCO results or a table with a row per box, without images that were not read.

    These are the ones that failed by ``<stem>.status.csv`` beside it.

    A file is known by its content, whatever its name.

    The rows of these images are "no finding" for Kaggle alone; a gate, a fusion or a score must not take them
    for predictions. :func:`vindr_det.imaging.status.read_failed` lists them. Issues that
    :func:`vindr_det.submission.repair.repair_submission` can repair are repaired, with a warning.

    Args:
        path: of the CSV or JSON.
        sizes: of :func:`vindr_det.imaging.sizes.read_sizes`; with it boxes must lie inside their images.
        annotations: of the images that were predicted. COCO results may have the numbers of a COCO JSON, and
            have no entry for an image without detections: each of these images without one is an empty
            prediction, unless it failed. The file must be of their label set.
        label_set: of COCO results or a table that does not tell it, and of no other file; None takes that of
            the annotations.

    Returns:
        image id -> detections in original pixels; an image with "no finding" has a row of that class. In a
        table with a row per box an image without boxes has none: those that were read by the status table,
        or without one all annotated images, are empty predictions.

    Raises:
        InputError: names the first error that is left and how many there are, or two label sets.
    """
    predictions, own = _read_file(path, sizes, annotations, label_set)
    expected = _label_set_of_annotations(annotations)
    if expected is not None and own.classes != expected.classes:
        raise InputError(f"{path}: predictions of the label set {own.name}, expected {expected.name} as in "
                         f"{annotations}")
    return predictions


def read_submission_of_any_set(
    path: str | Path, annotations: str | Path, label_set: LabelSet | None = None
) -> PredictionSet:
    """:func:`read_submission` of another label set than the annotations', such as one to map to theirs.

    Args:
        path: as there.
        annotations: as there, of any label set.
        label_set: of the file, if it does not tell it; None requires that COCO results tell theirs.

    Raises:
        InputError: as there, or the file tells no label set.
    """
    if label_set is None and holds_json(path):
        _require_stated(path)
    return _read_file(path, None, annotations, label_set)[0]


def _read_file(
    path: str | Path, sizes: pd.DataFrame | None, annotations: str | Path | None, label_set: LabelSet | None
) -> tuple[PredictionSet, LabelSet]:
    """The predictions of images that did not fail, and their label set."""
    statuses = read_statuses(path)
    failed = {image_id for image_id, status in statuses.items() if status.status == FAILED}
    annotated_sizes = None if annotations is None else image_sizes(annotations)
    for known in (sizes, annotated_sizes):
        if known is not None:
            refuse_other_frame(path, known)
    inside = sizes if sizes is None else with_unread(sizes, failed)
    read = [image_id for image_id in statuses if image_id not in failed]
    predictions, own = _of_its_format(path, inside, annotations, label_set, failed, read)
    if label_set is not None and own.classes != label_set.classes:
        raise InputError(f"{path}: predictions of the label set {own.name}, but --map-labels says "
                         f"{label_set.name}; expected no name, or that one")
    if sizes is None and annotated_sizes is not None:
        for issue in scale_issues(predictions, annotated_sizes):
            log.warning("%s: %s", path, issue.message)
    return _without(path, predictions, predictions.keys() & failed), own


def _of_its_format(
    path: str | Path, sizes: pd.DataFrame | None, annotations: str | Path | None, label_set: LabelSet | None,
    failed: Collection[str], read: Sequence[str],
) -> tuple[PredictionSet, LabelSet]:
    """All predictions of a file by its content, with the images that have none as empty."""
    expected = label_set or _label_set_of_annotations(annotations)
    if holds_json(path):
        entries = read_entries(path)
        own = stated_label_set(path, label_set_name(path, entries), expected) or VINBIGDATA
        predictions = _of_entries(path, entries, sizes, annotations, failed, own)
        return _with_empty(path, predictions, read, own), own
    if not is_long_table(path):
        return _read(path, sizes), VINBIGDATA
    boxes, own = read_long_table(path, sizes, expected)
    if own.no_finding and not any((of.labels == own.no_finding_id).any() for of in boxes.values()):
        log.warning("%s: has no row of %r, which counts as never predicted", path, own.no_finding)
    return _with_empty(path, boxes, read or _annotated(annotations, failed), own), own


def _without(path: str | Path, predictions: PredictionSet, unread: Collection[str]) -> PredictionSet:
    if unread:
        log.warning("%s: %d of %d images were not read, so that their rows do not count; the first is %s "
                    "(%s)", path, len(unread), len(predictions), min(unread), status_path_of(path))
    return {image_id: detections for image_id, detections in predictions.items() if image_id not in unread}


def refuse_other_frame(path: str | Path, sizes: pd.DataFrame) -> None:
    """Refuse boxes that are in pixels of another size than the originals, by the status table beside them.

    Args:
        path: of the CSV or JSON.
        sizes: of :func:`vindr_det.imaging.sizes.read_sizes`.

    Raises:
        InputError: the run took an image for one of another size.
    """
    for issue in frame_issues(read_statuses(path), sizes):
        raise InputError(f"{path}: {issue.message}")


def _of_entries(
    path: str | Path, entries: Entries, sizes: pd.DataFrame | None, annotations: str | Path | None,
    failed: Collection[str], label_set: LabelSet,
) -> PredictionSet:
    """COCO results, with the annotations' images that have no entry and did not fail, as empty."""
    if annotations is None:
        return detections_of_entries(path, entries, sizes, None, None, label_set)
    annotated = _label_set_of_annotations(annotations)
    categories = class_ids(annotations) if annotated and annotated.classes == label_set.classes else None
    predictions = detections_of_entries(path, entries, sizes, image_names(annotations), categories, label_set)
    return _with_empty(path, predictions, _annotated(annotations, failed), label_set)


def _require_stated(path: str | Path) -> None:
    """Refuse COCO results whose category ids may be of any label set."""
    entries = read_entries(path)
    if entries and not label_set_name(path, entries):
        raise InputError(f"{path}: states no label set, so that its category ids may be of any; expected "
                         f"--map-labels SET, one of {', '.join(LABEL_SETS)}")


def _label_set_of_annotations(annotations: str | Path | None) -> LabelSet | None:
    """Of a COCO JSON, where it has categories; of a table, which is VinBigData's."""
    if annotations is None:
        return None
    return label_set_of_file(annotations) if holds_json(annotations) else VINBIGDATA


def _annotated(annotations: str | Path | None, failed: Collection[str]) -> list[str]:
    """The images of the annotations that did not fail."""
    if annotations is None:
        return []
    ids = image_names(annotations).values() or read_csv(annotations, ["image_id"])["image_id"].unique()
    return [image_id for image_id in ids if image_id not in failed]


def _with_empty(
    path: str | Path, predictions: PredictionSet, ids: Iterable[str], label_set: LabelSet
) -> PredictionSet:
    """The predictions with those of these images that have none as empty."""
    empty = [image_id for image_id in ids if image_id not in predictions]
    if empty:
        log.info("%s: %d images have no entry and are empty predictions, the first is %s", path, len(empty),
                 empty[0])
    return {**predictions, **{image_id: Predictions(label_set=label_set) for image_id in empty}}


def _read(path: str | Path, sizes: pd.DataFrame | None) -> PredictionSet:
    parsed = parse_submission(path, sizes=sizes)
    if not any(issue.error for issue in parsed.issues):
        return parsed.predictions
    repaired = repair_submission(path, sizes=sizes)
    errors = [issue for issue in repaired.left.issues if issue.error]
    if errors:
        more = f" (and {len(errors) - 1} more errors)" if len(errors) > 1 else ""
        raise InputError(f"{path}: {str(errors[0]).removeprefix('error: ')}{more}")
    log.warning("%s: repaired in %d places, the first: %s", path, len(repaired.changes), repaired.changes[0])
    if repaired.guess:
        log.warning("%s: %s", path, repaired.guess)
    return repaired.left.predictions
