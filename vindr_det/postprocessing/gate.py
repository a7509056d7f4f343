"""The classifier's word on the whole image, added to the detector's boxes.

Class 14 is a class of the metric like the others, so the probability of "no finding" goes into
every image's row as ``14 (1-p) 0 0 1 1`` with p = P(abnormal). The popular notebook writes p
itself, which ranks the images the wrong way round.
"""

import logging
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.files import csv_row, read_csv
from vindr_det.metrics.classification import auc, curve
from vindr_det.numbers import to_numbers
from vindr_det.structures.detections import Predictions, PredictionSet, no_finding
from vindr_det.structures.label_sets import FINDINGS, column_of

log = logging.getLogger(__name__)

#: Columns that classifiers write; the sign is in their names.
P_ABNORMAL, P_NO_FINDING = SIGNS = ("p_abnormal", "p_no_finding")
#: What a gate does with boxes b and p = P(abnormal); see :meth:`Gate.image`.
FORMS = ("none", "append", "hard", "scale", "rescore")


@dataclass(frozen=True)
class Word:
    """What a classifier says about one image.

    Attributes:
        p_abnormal: P(the image shows any finding).
        findings: (14,) P of each finding; None where the classifier does not tell them.
    """

    p_abnormal: float
    findings: NDArray[np.float64] | None = None


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
        self, predictions: PredictionSet, words: Mapping[str, Word]
    ) -> dict[str, Predictions]:
        """Gate every image.

        Args:
            predictions: image id -> detections; class 14 rows in them are replaced.
            words: image id -> what the classifier says; ``none`` needs none.

        Raises:
            InputError: an image has no word, or rescore has no probabilities of findings.
        """
        if self.form == "none":
            return without_classifier(predictions)
        missing = predictions.keys() - words.keys()
        if missing:
            raise InputError(f"no probability for image {min(missing)}, expected one for each image")
        return {image_id: self.image(found.findings(), words[image_id])
                for image_id, found in predictions.items()}

    def image(self, boxes: Predictions, word: Word) -> Predictions:
        """Gate one image's boxes, none of them of class 14."""
        p = word.p_abnormal
        if self.form == "hard":
            if p < self.low:
                return no_finding()
            return boxes if p >= self.high else boxes + no_finding(1 - p)
        if self.form == "scale" and p < self.low:
            boxes = Predictions(boxes.boxes, boxes.scores * p, boxes.labels)
        if self.form == "rescore":
            if word.findings is None:
                raise InputError("a gate of form rescore needs a probability of each finding, expected "
                                 "columns p_<finding>")
            scores = boxes.scores ** (1 - self.power) * word.findings[boxes.labels] ** self.power
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
    return Gate("append").apply(predictions, {i: Word(p) for i, p in p_abnormal.items()})


def without_classifier(predictions: PredictionSet) -> dict[str, Predictions]:
    """:func:`soft_append` with the highest box score standing in for P(abnormal)."""
    best = {i: float(found.findings().scores.max(initial=0.0)) for i, found in predictions.items()}
    return soft_append(predictions, best)


class Column(NamedTuple):
    """A column of probabilities.

    Attributes:
        column: its name in the file.
        says: what its values are, p_abnormal or p_no_finding.
    """

    column: str
    says: str


def column_in(
    path: str | Path, column: str | None = None, says: str | None = None, allow_inverted: bool = False
) -> Column:
    """Which column of a file holds the probabilities, and what they mean.

    Args:
        path: the file; its header alone is looked at.
        column: None takes p_abnormal or else p_no_finding, whatever ``says`` is.
        says: what the values of ``column`` are; None takes what its name says, and P(abnormal) where that
            says nothing. Other people's files do not tell, and both are in use.
        allow_inverted: take a meaning that contradicts the column's own name.

    Raises:
        InputError: no such column, an unknown meaning, or one that the column's name contradicts.
    """
    found = _column(path, read_csv(path, ["image_id"]), column, says)
    if found.column in SIGNS and found.says != found.column and not allow_inverted:
        raise InputError(f"{path}: column {found.column} is taken for {found.says}, expected {found.column} "
                         "as its name says (--allow-inverted)")
    return found


def read_words(
    path: str | Path, column: str | None = None, says: str | None = None
) -> dict[str, Word]:
    """image id -> what a classifier's file says: :func:`read_probabilities`, and findings where all are told.

    Raises:
        InputError: as there; or a probability of a finding is not in [0, 1].
    """
    frame = read_csv(path, ["image_id"], dtype={"image_id": str})
    p_abnormal = _probabilities(path, frame, column, says)
    names = [column_of(name) for name in FINDINGS]
    if not set(names) <= set(frame.columns):
        return {image_id: Word(p) for image_id, p in p_abnormal.items()}
    values = np.column_stack([to_numbers(frame[name]) for name in names])
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)).all(axis=1))
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{path}, row {csv_row(row)}: findings of image {frame['image_id'].iloc[row]} are "
                         f"{values[row].tolist()}, expected 0 to 1")
    return {image_id: Word(p_abnormal[image_id], one)
            for image_id, one in zip(frame["image_id"], values, strict=True)}


def read_probabilities(
    path: str | Path, column: str | None = None, says: str | None = None
) -> dict[str, float]:
    """image id -> P(abnormal) from a CSV with a column image_id and one of probabilities.

    Args:
        path: the file.
        column: as of :func:`column_in`.
        says: likewise; hold other people's files against labels with :func:`check_sign`, or against boxes
            with :func:`check_agreement`.

    Raises:
        InputError: a column is missing, an image is repeated, or a value is not in [0, 1].
    """
    return _probabilities(path, read_csv(path, ["image_id"], dtype={"image_id": str}), column, says)


def _column(path: str | Path, frame: pd.DataFrame, name: str | None, says: str | None) -> Column:
    if name is None:
        name = next((known for known in SIGNS if known in frame), P_ABNORMAL)
        says = name
    if says is None:
        says = name if name in SIGNS else P_ABNORMAL
    if says not in SIGNS:
        raise InputError(f"sign {says!r}, expected {' or '.join(SIGNS)}")
    if name not in frame:
        raise InputError(f"{path}: has no column {name!r}, expected {' or '.join(SIGNS)} or a name")
    return Column(name, says)


def _probabilities(
    path: str | Path, frame: pd.DataFrame, column: str | None, says: str | None
) -> dict[str, float]:
    name, meaning = _column(path, frame, column, says)
    values = to_numbers(frame[name])
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)) | frame["image_id"].duplicated().to_numpy())
    if len(bad):
        row = int(bad[0])
        raise InputError(f"{path}, row {csv_row(row)}: image {frame['image_id'].iloc[row]} with {name} "
                         f"{frame[name].iloc[row]}, expected each image once and 0 to 1")
    values = values if meaning == P_ABNORMAL else 1 - values
    return dict(zip(frame["image_id"], values.tolist(), strict=True))


def check_sign(
    p_abnormal: Mapping[str, float], abnormal: Mapping[str, bool], source: str, allow_inverted: bool = False
) -> float:
    """AUC of the probabilities against labels, where both know an image.

    Raises:
        InputError: it is below 0.5, which inverted labels explain better than a bad classifier, and
            ``allow_inverted`` is not set; or no image is known to both, or all are of one kind.
    """
    ids = [image_id for image_id in p_abnormal if image_id in abnormal]
    truth = [abnormal[image_id] for image_id in ids]
    if not 0 < sum(truth) < len(truth):
        raise InputError(f"{source}: {len(ids)} of its images have labels, {sum(truth)} of them abnormal; "
                         "expected both kinds, to hold its sign against")
    found = float(auc(curve(truth, [p_abnormal[image_id] for image_id in ids]))[0])
    if found < 0.5 and not allow_inverted:
        raise InputError(f"{source}: AUC of P(abnormal) is {found:.4f} on {len(ids)} labelled images; its "
                         "sign is swapped, expected P(abnormal) where it says p_abnormal")
    return found


#: Spearman's rho * sqrt(images - 1) is about normal where two rankings have nothing to do with each other;
#: chance goes lower once in 740 times.
_CLEARLY_INVERTED = -3.0
#: With no more images the two rankings cannot differ so much.
_TOO_FEW = 10


def check_agreement(words: Mapping[str, Word], predictions: PredictionSet, source: str) -> float:
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
    ids = [image_id for image_id in predictions if image_id in words]
    p = np.array([words[image_id].p_abnormal for image_id in ids])
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
        self, words: Mapping[str, Word], predictions: PredictionSet, finished: bool = False
    ) -> None:
        """Look at 64 images, 128, 256 and so on, and at all when finished: each look is a chance of error."""
        if finished or len(words) >= self.due:
            self.due = 2 * len(words)
            rho = check_agreement(words, predictions, self.source)
            count = len(words.keys() & predictions.keys())
            if finished and (np.isnan(rho) or count <= _TOO_FEW):
                log.warning("%s: its sign could not be told from the boxes of %d images, expected more than "
                            "%d with different scores", self.source, count, _TOO_FEW)
