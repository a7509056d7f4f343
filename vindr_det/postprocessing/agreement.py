"""A classifier compared with the detector's boxes: finds inverted labels where there are no annotations."""

import logging
from array import array
from collections.abc import Iterable, Mapping, Sequence

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
    return _check([outputs[image_id].p_abnormal for image_id in ids],
                  [_best_score(predictions[image_id]) for image_id in ids], source)


def _best_score(boxes: Predictions) -> float:
    return float(boxes.findings().scores.max(initial=0.0))


def _check(p_abnormal: Sequence[float], best_scores: Sequence[float], source: str) -> float:
    """:func:`check_agreement` of (N,) numbers."""
    p, highest = np.array(p_abnormal), np.array(best_scores)
    if not len(p) or np.ptp(p) == 0 or np.ptp(highest) == 0:
        return float("nan")
    rho = float(np.corrcoef(pd.Series(p).rank(), pd.Series(highest).rank())[0, 1])
    if rho * np.sqrt(len(p) - 1) < _CLEARLY_INVERTED:
        raise InputError(f"{source}: its P(abnormal) is low where the boxes score high (rank correlation "
                         f"{rho:+.2f} on {len(p)} images): its labels are inverted; expected P(abnormal), "
                         "not P(no finding) (--allow-inverted)")
    return rho


class AgreementCheck:
    """:func:`check_agreement` while predictions come in, so that a long run with inverted labels ends early.

    Of each image it keeps P(abnormal) and the best box's score alone.

    Args:
        source: names the classifier in errors.
    """

    def __init__(self, source: str) -> None:
        self.source, self.due = source, _FIRST_CHECK
        self._p_abnormal, self._best_scores = array("d"), array("d")

    def add(self, images: Iterable[tuple[ClassifierOutput | None, Predictions]]) -> None:
        """Check with more images, at 64, 128, 256 and so on: each check may err by chance.

        Args:
            images: output of the classifier and boxes of each; those without an output are left out.
        """
        for output, boxes in images:
            if output is not None:
                self._p_abnormal.append(output.p_abnormal)
                self._best_scores.append(_best_score(boxes))
        if len(self._p_abnormal) >= self.due:
            self.due = 2 * len(self._p_abnormal)
            _check(self._p_abnormal, self._best_scores, self.source)

    def finish(self) -> None:
        """Check all."""
        rho = _check(self._p_abnormal, self._best_scores, self.source)
        count = len(self._p_abnormal)
        if np.isnan(rho) and count > TOO_FEW:  # of fewer images nothing can be told
            log.warning("%s: whether its labels are inverted could not be determined from the boxes of %d "
                        "images, expected more than %d with different scores", self.source, count, TOO_FEW)
