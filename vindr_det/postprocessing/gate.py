"""The classifier's word on the whole image, added to the detector's boxes.

Class 14 is a class of the metric like the others, so the probability of "no finding" goes into
every image's row as ``14 (1-p) 0 0 1 1`` with p = P(abnormal). The popular notebook writes p
itself, which ranks the images the wrong way round.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass

import numpy as np
import pandas as pd

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions, PredictionSet, no_finding, with_no_finding

log = logging.getLogger(__name__)

#: What a gate does with boxes b and p = P(abnormal); see :meth:`Gate.image`.
FORMS = ("none", "append", "hard", "scale", "rescore")


@dataclass(frozen=True)
class Gate:
    """A form and its parameters.

    Attributes:
        form: ``none``: 1 - the highest box score stands in for the classifier; ``append``: boxes stay, class
            14 is added; ``hard``: below ``low`` the image says no finding alone, from ``high`` on boxes
            alone, between them both; ``scale``: box scores are multiplied by p where p is below ``low``;
            ``rescore``: each box's score s becomes s^(1-power) * P(its finding)^power.
        low: of hard and scale.
        high: of hard.
        power: of rescore, 0..1.

    Raises:
        InputError: unknown form, or parameters out of order.
    """

    form: str = "append"
    low: float = 0.0
    high: float = 1.0
    power: float = 0.0

    def __post_init__(self) -> None:
        if self.form not in FORMS:
            raise InputError(f"gate form {self.form!r}, expected one of {', '.join(FORMS)}")
        if not 0 <= self.low <= 1 or not self.low <= self.high or not 0 <= self.power <= 1:
            raise InputError(f"gate low {self.low}, high {self.high}, power {self.power}: expected "
                             "0 <= low <= high and 0 <= power <= 1")

    def apply(
        self, predictions: PredictionSet, outputs: Mapping[str, ClassifierOutput]
    ) -> dict[str, Predictions]:
        """Gate every image.

        Args:
            predictions: image id -> detections; class 14 rows in them are replaced.
            words: image id -> what the classifier says; ``none`` needs none.

        Raises:
            InputError: an image has no word, or rescore has no probabilities of findings.
        """
        if self.form == "none":
            return with_no_finding(predictions)
        missing = predictions.keys() - outputs.keys()
        if missing:
            raise InputError(f"no probability for image {min(missing)}, expected one for each image")
        return {image_id: self.image(found.findings(), outputs[image_id])
                for image_id, found in predictions.items()}

    def image(self, boxes: Predictions, output: ClassifierOutput) -> Predictions:
        """Gate one image's boxes, none of them of class 14."""
        p = output.p_abnormal
        if self.form == "hard":
            if p < self.low:
                return no_finding()
            return boxes if p >= self.high else boxes + no_finding(1 - p)
        if self.form == "scale" and p < self.low:
            boxes = Predictions(boxes.boxes, boxes.scores * p, boxes.labels)
        if self.form == "rescore":
            if output.findings is None:
                raise InputError("a gate of form rescore needs a probability of each finding, expected "
                                 "columns p_<finding>")
            scores = boxes.scores ** (1 - self.power) * output.findings[boxes.labels] ** self.power
            boxes = Predictions(boxes.boxes, scores, boxes.labels).by_score()
        return boxes + no_finding(1 - p)


def soft_append(
    predictions: PredictionSet, p_abnormal: Mapping[str, float]
) -> dict[str, Predictions]:
    """Add ``14 (1-p) 0 0 1 1`` to every image; the boxes stay as they are.

    Args:
        predictions: image id -> detections; class 14 rows in them are replaced.
        p_abnormal: image id -> P(the image shows any finding), 0..1.

    Raises:
        InputError: an image has no probability.
    """
    return Gate("append").apply(predictions, {i: ClassifierOutput(p) for i, p in p_abnormal.items()})


#: Spearman's rho * sqrt(images - 1) is about normal where two rankings have nothing to do with each other;
#: chance goes lower once in 740 times.
_CLEARLY_INVERTED = -3.0
#: With no more images the two rankings cannot differ so much.
_TOO_FEW = 10


def check_agreement(outputs: Mapping[str, ClassifierOutput], predictions: PredictionSet, source: str) -> float:
    """Hold a classifier against the boxes, where there are no labels.

    Args:
        words: image id -> what the classifier says.
        predictions: image id -> boxes of a detector; class 14 is not looked at.
        source: names the classifier in errors.

    Returns:
        Spearman's rank correlation of P(abnormal) and the highest box score over the images that both have;
        NaN where one of them is the same everywhere.

    Raises:
        InputError: they disagree more than chance explains: P(no finding) was given as P(abnormal).
    """
    ids = [image_id for image_id in predictions if image_id in outputs]
    p = np.array([outputs[image_id].p_abnormal for image_id in ids])
    best = np.array([predictions[image_id].findings().scores.max(initial=0.0) for image_id in ids])
    if not ids or np.ptp(p) == 0 or np.ptp(best) == 0:
        return float("nan")
    rho = float(np.corrcoef(pd.Series(p).rank(), pd.Series(best).rank())[0, 1])
    if rho * np.sqrt(len(ids) - 1) < _CLEARLY_INVERTED:
        raise InputError(f"{source}: its P(abnormal) is low where the boxes score high (rank correlation "
                         f"{rho:+.2f} on {len(ids)} images): its labels are inverted; expected P(abnormal), "
                         "not P(no finding) (--allow-inverted)")
    return rho


class AgreementCheck:
    """:func:`check_agreement` while predictions come in, so that a long run with inverted labels ends early.

    Args:
        source: names the classifier in errors.
    """

    def __init__(self, source: str) -> None:
        self.source, self.due = source, 64

    def __call__(
        self, outputs: Mapping[str, ClassifierOutput], predictions: PredictionSet, finished: bool = False
    ) -> None:
        """Look at 64 images, 128, 256 and so on, and at all when finished: each look is a chance of error."""
        if finished or len(outputs) >= self.due:
            self.due = 2 * len(outputs)
            rho = check_agreement(outputs, predictions, self.source)
            count = len(outputs.keys() & predictions.keys())
            if finished and (np.isnan(rho) or count <= _TOO_FEW):
                log.warning("%s: its sign could not be told from the boxes of %d images, expected more than "
                            "%d with different scores", self.source, count, _TOO_FEW)
