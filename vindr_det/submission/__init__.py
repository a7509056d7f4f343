"""The competition's submission file: written, read, checked, mended.

One row an image: ``image_id,PredictionString``, the string groups of six,
``class_id score x_min y_min x_max y_max`` in original pixels; ``14 1 0 0 1 1`` says "no finding".
"""

from vindr_det.submission.check import ParsedSubmission, parse_submission
from vindr_det.submission.read import read_submission
from vindr_det.submission.repair import Repaired, repair_submission
from vindr_det.submission.table import Issue
from vindr_det.submission.write import format_predictions, submission_text, write_submission

__all__ = [
           "Issue",
           "ParsedSubmission",
           "Repaired",
           "format_predictions",
           "parse_submission",
           "read_submission",
           "repair_submission",
           "submission_text",
           "write_submission",
]
