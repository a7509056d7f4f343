"""Prediction files. The competition's submission: parsed, checked, read, written, repaired.

In: a CSV file, or detections per image in original pixels. Out: detections, issues, or the file. One row per
image: ``image_id,PredictionString``, the string in groups of six, ``class_id score x_min y_min x_max y_max``;
``14 1 0 0 1 1`` is "no finding". This form is of VinBigData's label set alone; ``long_table`` has a row per
box, of any label set. The names below are what most other modules need; besides these, ``outputs`` writes the
tables beside a submission, ``coco_results`` COCO's JSON, and ``check.frame_issues`` compares boxes with image
sizes. Imports ``data``, ``imaging``, ``metrics`` and ``structures``.
"""

from vindr_det.submission.check import ParsedSubmission, parse_submission
from vindr_det.submission.parse import Issue
from vindr_det.submission.read import read_submission, read_submission_of_any_set, refuse_other_frame
from vindr_det.submission.repair import Repaired, repair_submission
from vindr_det.submission.write import format_predictions, submission_text, write_submission

__all__ = [
    "Issue",
    "ParsedSubmission",
    "Repaired",
    "format_predictions",
    "parse_submission",
    "read_submission",
    "read_submission_of_any_set",
    "refuse_other_frame",
    "repair_submission",
    "submission_text",
    "write_submission",
]
