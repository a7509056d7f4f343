"""A classifier compared with the detector's boxes: finds inverted labels where there are no annotations."""

import logging
from collections.abc import Mapping
from dataclasses import replace

import numpy as np
import pandas as pd

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions, PredictionSet

log = logging.getLogger(__name__)

#: Spearman's rho * sqrt(images - 1) is about normal where two rankings have nothing to do with each other;
#: chance goes lower once in 740 times.
_CLEARLY_INVERTED = -3.0
#: With no more images the two rankings cannot differ so much.
TOO_FEW = 10
#: Images at the first check of a run; each further check waits for twice as many.
_FIRST_CHECK = 64


def check_agreement(
    outputs: Mapping[str, ClassifierOutput], predictions: PredictionSet, source: str
) -> float:
    """Compare P(abnormal) with the highest box score of each image.

    Args:
        outputs: image id -> classifier output.
        predictions: image id -> a detector's boxes; class 14 is left out.
        source: names the classifier in errors.

    Returns:
        Spearman's rank correlation over the images that both have; NaN where either is constant.

    Raises:
        InputError: they disagree more than chance explains: P(no finding) was given as P(abnormal).
    """
    ids = [image_id for image_id in predictions if image_id in outputs]
    p = np.array([outputs[image_id].p_abnormal for image_id in ids])
    highest = np.array([predictions[image_id].findings().scores.max(initial=0.0) for image_id in ids])
    if not ids or np.ptp(p) == 0 or np.ptp(highest) == 0:
        return float("nan")
    rho = float(np.corrcoef(pd.Series(p).rank(), pd.Series(highest).rank())[0, 1])
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
        self.source, self.due = source, _FIRST_CHECK

    def __call__(
        self, outputs: Mapping[str, ClassifierOutput], predictions: PredictionSet, finished: bool = False
    ) -> None:
        """Check at 64 images, 128, 256 and so on, and at all when finished: each check may err by chance."""
        if not finished and len(outputs) < self.due:
            return
        self.due = 2 * len(outputs)
        rho = check_agreement(outputs, predictions, self.source)
        count = len(outputs.keys() & predictions.keys())
        if finished and (np.isnan(rho) or count <= TOO_FEW):
            log.warning("%s: whether its labels are inverted could not be determined from the boxes of %d "
                        "images, expected more than %d with different scores", self.source, count, TOO_FEW)


class RunCheck:
    """:class:`AgreementCheck` of a run, of which it keeps each image's best box and P(abnormal) alone.

    Args:
        source: names the classifier in errors.
    """

    def __init__(self, source: str) -> None:
        self._check = AgreementCheck(source)
        self._outputs, self._best = dict[str, ClassifierOutput](), dict[str, Predictions]()

    def add(self, images: Mapping[str, tuple[ClassifierOutput | None, Predictions]]) -> None:
        """Check with more images, of which those without an output are left out."""
        for image_id, (output, boxes) in images.items():
            if output is not None:
                self._outputs[image_id] = replace(output, findings=None, columns={})
                self._best[image_id] = boxes.findings().by_score()[:1]
        self._check(self._outputs, self._best)

    def finish(self) -> None:
        """Check all."""
        self._check(self._outputs, self._best, finished=True)
