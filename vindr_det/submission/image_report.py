"""Everything that is known about each image of a run as JSON, for whom Kaggle's form tells too little.

``S.predictions.json`` has an object per input with its file, its DICOM UIDs, its status and the reason, the
size of the original, the classifier's probabilities, the score of "no finding" and the boxes. Of an image
that failed nothing is known: its boxes are null, never an empty list, which would read as a normal image.
"""

import json
import math
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from vindr_det.exceptions import InputError
from vindr_det.files import read_json
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.imaging.status import FAILED, FLAGGED, OK, Status
from vindr_det.structures.detections import Predictions, PredictionSet, label_set_of

_EDGES = ("x_min", "y_min", "x_max", "y_max")
#: Of the form of the file.
VERSION = 1


def image_report(
    status: Status, detections: Predictions | None, probabilities: Mapping[str, float] | None,
    short: bool = False,
) -> dict[str, Any]:
    """An image as plain values.

    Args:
        status: its row of the status table.
        detections: after the gate, original pixels; None where nothing was predicted.
        probabilities: of the classifier by name; empty or None without one.
        short: as of :func:`box_rows`.

    Returns:
        Of an image that failed ``probabilities``, ``no_finding`` and ``boxes`` are None.
    """
    read = status.status != FAILED
    return {"image_id": status.image_id, "file": status.file, "status": status.status,
            "reason": status.reason, **{name: status.uids.get(name, "") for name in UIDS},
            "height": status.height, "width": status.width,
            "probabilities": dict(probabilities or {}) if read else None,
            "no_finding": _no_finding(detections, short) if read else None,
            "boxes": box_rows(detections, short) if read and detections is not None else None}


def box_rows(detections: Predictions, short: bool = False) -> list[dict[str, Any]]:
    """The findings' boxes as plain values, best first; "no finding" is no box.

    Args:
        detections: of an image.
        short: six digits of the score and hundredths of pixels, as the files of a run have them.
    """
    boxes = detections.findings().by_score()
    scores, corners = boxes.scores.tolist(), (boxes.boxes.round(2) if short else boxes.boxes).tolist()
    return [{"class_id": label, "class_name": boxes.label_set.findings[label],
             "score": _score(score, short), **dict(zip(_EDGES, corner, strict=True))}
            for label, score, corner in zip(boxes.labels.tolist(), scores, corners, strict=True)]


def report_text(
    predictions: PredictionSet, statuses: Sequence[Status],
    probabilities: Mapping[str, Mapping[str, float]] | None = None,
) -> str:
    """The JSON file, an image per line.

    Args:
        predictions: image id -> detections in original pixels.
        statuses: one per input.
        probabilities: image id -> those of the classifier by name; None without one.
    """
    label_set = label_set_of(predictions).name if predictions else None
    return (report_head(label_set) + report_images(predictions, statuses, probabilities)
            + report_end(bool(statuses)))


def report_head(label_set: str | None) -> str:
    """What :func:`report_text` has before the images of a label set; None where nothing was predicted."""
    head = {"version": VERSION, "label_set": label_set,
            "box_format": "x_min, y_min, x_max, y_max in pixels of the original"}
    return json.dumps(head)[:-1] + ', "images": ['


def report_images(
    predictions: PredictionSet, statuses: Sequence[Status],
    probabilities: Mapping[str, Mapping[str, float]] | None, first: bool = True,
) -> str:
    """The images of :func:`report_text`, or more of them after the ``first``."""
    lines = [json.dumps(image_report(status, predictions.get(status.image_id),
                                     (probabilities or {}).get(status.image_id), short=True))
             for status in statuses]
    return ("\n" if first else ",\n") + ",\n".join(lines) if lines else ""


def report_end(filled: bool) -> str:
    """What :func:`report_text` has after the images, if there are any."""
    return "\n]}\n" if filled else "]}\n"


def _no_finding(detections: Predictions | None, short: bool) -> float | None:
    """The score of "no finding"; None where it is no class, or the gate left it out."""
    if detections is None or detections.label_set.no_finding_id is None:
        return None
    scores = detections.scores[detections.labels == detections.label_set.no_finding_id]
    return _score(float(scores[0]), short) if len(scores) else None


def _score(score: float, short: bool) -> float:
    return float(f"{score:.6g}") if short else score


def read_reports(path: str | Path) -> list[dict[str, Any]]:
    """The images of a JSON file that :func:`report_text` wrote, each as :func:`image_report` gives it.

    Raises:
        InputError: no such file, of another version, or an image that is not as it was written.
    """
    head = read_json(path)
    is_report = isinstance(head, dict) and isinstance(head.get("images"), list)
    if not is_report or head.get("version") != VERSION:
        raise InputError(f"{path}: no S.predictions.json of version {VERSION}, expected what vindr-det "
                         "predict writes beside its submission")
    for number, image in enumerate(head["images"]):
        if wrong := _problem(image):
            raise InputError(f"{path}: images[{number}]: {wrong}")
    return head["images"]


def _problem(image: Any) -> str:
    """What is wrong with an image's report; empty if nothing."""
    if not isinstance(image, dict):
        return f"{image!r}, expected an object"
    texts = ("image_id", "file", "status", "reason", *UIDS)
    for key in texts:
        if not isinstance(image.get(key), str):
            return f"{key} {image.get(key)!r}, expected a text"
    if image["status"] not in (OK, FLAGGED, FAILED):
        return f"status {image['status']!r}, expected {OK}, {FLAGGED} or {FAILED}"
    boxes = image.get("boxes")
    if not (boxes is None or isinstance(boxes, list)):
        return f"boxes {boxes!r}, expected a list, or null where nothing is known"
    if image["status"] == FAILED and boxes is not None:
        return "boxes of an image that failed, expected null"
    return next((f"box {box!r}, expected class_id, class_name, score and {', '.join(_EDGES)} in order"
                 for box in boxes or () if not _is_box(box)), "")


def _is_box(box: Any) -> bool:
    if not isinstance(box, dict) or not isinstance(box.get("class_name"), str):
        return False
    label, numbers = box.get("class_id"), [box.get(key) for key in ("score", *_EDGES)]
    if isinstance(label, bool) or not isinstance(label, int) or label < 0:
        return False
    if not all(isinstance(value, int | float) and math.isfinite(value) for value in numbers):
        return False
    score, x0, y0, x1, y1 = numbers
    return bool(0 <= score <= 1 and x0 < x1 and y0 < y1)  # type: ignore[operator]
