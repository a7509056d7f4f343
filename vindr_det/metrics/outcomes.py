"""Predicted and true boxes of one image, judged as the metrics judge them."""

from collections.abc import Sequence

import numpy as np

from vindr_det.metrics.matching import IOU_THRESHOLD, match
from vindr_det.structures.detections import Predictions
from vindr_det.structures.outcomes import Outcome


def judge(
    predicted: Predictions | None, truth: Predictions | None, unknown: Sequence[int] = ()
) -> tuple[Predictions, list[Outcome]]:
    """All boxes of an image, and what each is by the matching of :func:`vindr_det.metrics.matching.match`.

    A detection below a score takes no true box from one above it: left out or not, the others stay what they
    are.

    Args:
        predicted: findings in original pixels; None where nothing is known, as of an image that was not read.
        truth: true boxes, likewise.
        unknown: class ids for which the annotations are incomplete.

    Returns:
        The predicted boxes, best first, and then the true ones, of N in all; and N outcomes.

    Raises:
        InputError: the label sets differ.
    """
    detections, boxes = (Predictions() if part is None else part.findings() for part in (predicted, truth))
    detections = detections.by_score()
    if predicted is None or truth is None:
        return detections + boxes, [Outcome.PREDICTED] * len(detections) + [Outcome.TRUE] * len(boxes)
    matches = match_rows(detections, boxes, unknown)
    outcomes = [Outcome.NOT_JUDGED if label in unknown else
                Outcome.TRUE_POSITIVE if match >= 0 else Outcome.FALSE_POSITIVE
                for label, match in zip(detections.labels.tolist(), matches, strict=True)]
    outcomes += [Outcome.TRUE if label in unknown else Outcome.DETECTED if row in matches else Outcome.MISSED
                 for row, label in enumerate(boxes.labels.tolist())]
    return detections + boxes, outcomes


def match_rows(detections: Predictions, boxes: Predictions, unknown: Sequence[int] = ()) -> list[int]:
    """Per detection the row of the true box that it is matched with; -1 for none.

    Args:
        detections: findings in original pixels, best first.
        boxes: true boxes, likewise.
        unknown: class ids for which the annotations are incomplete; their boxes are matched with nothing.

    Raises:
        InputError: the label sets differ.
    """
    rows, true_rows = (np.flatnonzero(~np.isin(part.labels, list(unknown))) for part in (detections, boxes))
    matches = np.full(len(detections), -1)
    if len(true_rows):
        truth_of = match({"": detections[rows]}, {"": boxes[true_rows]}, IOU_THRESHOLD).truth_of
        matches[rows] = np.where(truth_of >= 0, true_rows[truth_of], -1)
    return matches.tolist()
