"""A submission's file to detections: what has one certain meaning is repaired, anything else is an error."""

import logging
from collections.abc import Collection
from pathlib import Path

import pandas as pd

from vindr_det.data.coco import class_ids, image_names, image_sizes
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json
from vindr_det.imaging.status import read_failed, read_statuses, status_path
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.submission.check import frame_issues, parse_submission, scale_issues
from vindr_det.submission.coco_results import read_coco_results
from vindr_det.submission.repair import repair_submission
from vindr_det.submission.write import with_unread
from vindr_det.tables import read_csv

log = logging.getLogger(__name__)


def read_submission(
    path: str | Path, sizes: pd.DataFrame | None = None, annotations: str | Path | None = None
) -> PredictionSet:
    """Read a submission or COCO results, without the images that failed by ``<stem>.status.csv`` beside it.

    A file is known by its content, whatever its name.

    The rows of these images are "no finding" for Kaggle alone; a gate, a fusion or a score must not take them
    for predictions. :func:`vindr_det.imaging.status.read_failed` lists them. Issues that
    :func:`vindr_det.submission.repair.repair_submission` can repair are repaired, with a warning.

    Args:
        path: of the CSV or JSON.
        sizes: of :func:`vindr_det.imaging.sizes.read_sizes`; with it boxes must lie inside their images.
        annotations: of the images that were predicted. COCO results may have the numbers of a COCO JSON, and
            have no entry for an image without detections: each of these images without one is an empty
            prediction, unless it failed.

    Returns:
        image id -> detections in original pixels; an image with "no finding" has a row of class 14.

    Raises:
        InputError: names the first error that is left and how many there are.
    """
    failed = read_failed(path)
    if sizes is not None:
        refuse_other_frame(path, sizes)
    if annotations is not None:
        refuse_other_frame(path, image_sizes(annotations))
    sizes = sizes if sizes is None else with_unread(sizes, failed)
    predictions = (_read_results(path, sizes, annotations, failed) if holds_json(path)
                   else _read(path, sizes))
    if sizes is None and annotations is not None:
        for issue in scale_issues(predictions, image_sizes(annotations)):
            log.warning("%s: %s", path, issue.message)
    unread = predictions.keys() & failed.keys()
    if unread:
        log.warning("%s: %d of %d images were not read, so that their rows do not count; the first is %s "
                    "(%s)", path, len(unread), len(predictions), min(unread), status_path(path))
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


def _read_results(
    path: str | Path, sizes: pd.DataFrame | None, annotations: str | Path | None, failed: Collection[str]
) -> PredictionSet:
    """COCO results, with the annotations' images that have no entry and did not fail, as empty."""
    if annotations is None:
        return read_coco_results(path, sizes)
    names = image_names(annotations)
    predictions = read_coco_results(path, sizes, names, class_ids(annotations))
    ids = names.values() if names else read_csv(annotations, ["image_id"])["image_id"].unique().tolist()
    empty = [image_id for image_id in ids if image_id not in predictions and image_id not in failed]
    if empty:
        log.info("%s: %d images of %s have no entry and are empty predictions, the first is %s", path,
                 len(empty), annotations, empty[0])
    return predictions | {image_id: Predictions() for image_id in empty}


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
