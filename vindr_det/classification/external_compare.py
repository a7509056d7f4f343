"""The difference of two classifiers on the images that both predict, label by label."""

import logging
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np

from vindr_det.classification.operating_points import LabelPredictions
from vindr_det.exceptions import InputError
from vindr_det.metrics.bootstrap import Estimate
from vindr_det.metrics.classification import MIN_COUNT, measurable
from vindr_det.metrics.comparison import DeLong, delong, paired

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class LabelDifference:
    """The second classifier minus the first, on the images of both.

    Attributes:
        by_patient: ``auc`` and ``ap``, intervals by bootstrap of whole patients.
        by_image: of the AUC, by DeLong; images of one patient count as independent.
        images: that both predict.
    """

    by_patient: Mapping[str, Estimate]
    by_image: DeLong
    images: int


@dataclass(frozen=True)
class ClassifierFile:
    """One of the two files.

    Attributes:
        path: of the file, for errors.
        labels: its predictions.
        abnormal: columns among them that hold P(abnormal), whatever their names are.
    """

    path: str
    labels: Sequence[LabelPredictions]
    abnormal: Collection[str]

    @property
    def columns(self) -> list[str]:
        """Of the predictions."""
        return [label.column for label in self.labels]


def compare(first: ClassifierFile, second: ClassifierFile) -> dict[str, LabelDifference]:
    """Column of the first file -> how the second differs, for the columns that both have.

    Raises:
        InputError: nothing can be compared.
    """
    pairs = _pairs(first, second)
    differences = {ours.column: _difference(ours, theirs) for ours, theirs in pairs}
    measured = {column: value for column, value in differences.items() if value is not None}
    if not measured:
        raise InputError(f"{second.path}: nothing in it can be compared with {first.path}: it has "
                         f"{', '.join(second.columns)}, expected one of {', '.join(first.columns)}, with "
                         f"{MIN_COUNT} or more common images of either class")
    compared = {theirs.column for _, theirs in pairs}
    skipped = dict.fromkeys([*(column for column in first.columns if column not in differences),
                             *(column for column in second.columns if column not in compared)])
    if skipped:
        log.warning("not compared: %s (in one of the files alone)", ", ".join(skipped))
    return measured


def _pairs(first: ClassifierFile, second: ClassifierFile) -> list[tuple[LabelPredictions, LabelPredictions]]:
    """By column name; a file's only P(abnormal) is compared with the other's, whatever they are called."""
    by_column = {label.column: label for label in second.labels}
    pairs = [(label, by_column[label.column]) for label in first.labels if label.column in by_column]
    ours, theirs = ([label for label in file.labels if label.column in file.abnormal]
                    for file in (first, second))
    if len(ours) == len(theirs) == 1 and ours[0].column != theirs[0].column:
        pairs.append((ours[0], theirs[0]))
    return pairs


def _difference(first: LabelPredictions, second: LabelPredictions) -> LabelDifference | None:
    _, rows, other_rows = np.intersect1d(first.ids, second.ids, return_indices=True)
    truth = first.truth[rows]
    if not measurable(truth):
        return None
    bootstrap = replace(first.bootstrap, group_of=first.bootstrap.group_of[rows])
    p, other_p = first.p[rows], second.p[other_rows]
    return LabelDifference(paired(truth, other_p, p, bootstrap), delong(truth, other_p, p), len(truth))
