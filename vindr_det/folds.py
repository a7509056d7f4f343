"""Seeded K-fold split, stratified by findings."""

from collections.abc import Sequence

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from numpy.typing import NDArray

from vindr_det.categories import CLASS_NAMES, NO_FINDING_ID
from vindr_det.errors import InputError
from vindr_det.records import Record


def label_matrix(records: Sequence[Record]) -> NDArray[np.int64]:
    """(N, 15) zeros and ones: the findings on each image; column 14 marks normal images."""
    matrix = np.zeros((len(records), len(CLASS_NAMES)), np.int64)
    for row, record in enumerate(records):
        matrix[row, record.truth.labels if len(record.truth) else NO_FINDING_ID] = 1
    return matrix


def assign_folds(labels: NDArray[np.int64], count: int, seed: int) -> NDArray[np.int64]:
    """Validation fold (N,) of every row, each label spread evenly (Sechidis et al., 2011).

    Args:
        labels: (N, K) zeros and ones.
        count: number of folds.
        seed: same seed, same folds.

    Raises:
        InputError: fewer than two folds, or more folds than images.
    """
    if not 2 <= count <= len(labels):
        raise InputError(f"--folds {count}: expected 2 to {len(labels)} (the number of images)")
    splitter = MultilabelStratifiedKFold(n_splits=count, shuffle=True, random_state=seed)
    folds = np.full(len(labels), -1, np.int64)
    for fold, (_, held_out) in enumerate(splitter.split(labels, labels)):
        folds[held_out] = fold
    return folds
