"""A submission's rows to detections: strict where the meaning is open, tolerant where it is certain."""

import logging
from pathlib import Path

import pandas as pd

from vindr_det.exceptions import InputError
from vindr_det.imaging.status import read_failed, status_path
from vindr_det.structures.detections import PredictionSet
from vindr_det.submission.check import parse_submission
from vindr_det.submission.repair import repair_submission
from vindr_det.submission.write import with_unread

log = logging.getLogger(__name__)


def read_submission(path: str | Path, sizes: pd.DataFrame | None = None) -> PredictionSet:
    """Read a submission, without the images that ``<stem>.status.csv`` beside it says were not read.

    Their rows say "no finding" for Kaggle's sake alone; a gate, a fusion or a score must not take that for a
    prediction. :func:`vindr_det.imaging.status.read_failed` tells which they are. What
    :func:`vindr_det.submission.repair.repair_submission` is sure of is put right, with a warning.

    Args:
        path: of the CSV.
        sizes: as of :func:`vindr_det.imaging.sizes.read_sizes`; with it boxes must lie inside.

    Raises:
        InputError: names the first fault that is left and how many there are.
    """
    failed = read_failed(path)
    found = _read(path, sizes if sizes is None else with_unread(sizes, failed))
    unread = found.keys() & failed.keys()
    if unread:
        log.warning("%s: %d of %d images were not read, so that their rows do not count; the first is %s "
                    "(%s)", path, len(unread), len(found), min(unread), status_path(path))
    return {image_id: one for image_id, one in found.items() if image_id not in unread}


def _read(path: str | Path, sizes: pd.DataFrame | None) -> PredictionSet:
    parsed = parse_submission(path, sizes=sizes)
    if not any(issue.error for issue in parsed.issues):
        return parsed.predictions
    repaired = repair_submission(path, sizes=sizes)
    errors = [issue for issue in repaired.left.issues if issue.error]
    if errors:
        more = f" (and {len(errors) - 1} more faults)" if len(errors) > 1 else ""
        raise InputError(f"{path}: {str(errors[0]).removeprefix('error: ')}{more}")
    log.warning("%s: mended in %d places, the first: %s", path, len(repaired.changes), repaired.changes[0])
    if repaired.guess:
        log.warning("%s: %s", path, repaired.guess)
    return repaired.left.predictions
