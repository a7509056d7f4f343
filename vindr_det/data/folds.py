"""Seeded, stratified K-fold splits that keep a patient's images together, and a check for shared patients."""

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from iterstrat.ml_stratifiers import MultilabelStratifiedKFold
from numpy.typing import ArrayLike, NDArray

from vindr_det.exceptions import InputError
from vindr_det.limits import require_seed
from vindr_det.structures.records import Record, label_set_of_records

#: Numbers of images with a finding by which patients are stratified.
_STEPS = np.array([1, 2, 4, 8])


def label_matrix(records: Sequence[Record]) -> NDArray[np.int64]:
    """(N, findings + 1) zeros and ones: the findings on each image; the last column marks normal images."""
    findings = len(label_set_of_records(records))
    matrix = np.zeros((len(records), findings + 1), np.int64)
    for row, record in enumerate(records):
        matrix[row, record.truth.labels] = 1
        matrix[row, findings] = record.normal
    return matrix


def assign_folds(
    labels: NDArray[np.int64], count: int, seed: int, groups: ArrayLike | None = None
) -> NDArray[np.int64]:
    """Validation fold (N,) of every row, each label spread evenly (Sechidis et al., 2011).

    Patients are stratified, not images: by which findings they have, on how many images, and by
    how many images they have.

    Args:
        labels: (N, K) zeros and ones.
        count: number of folds.
        seed: same seed, same folds.
        groups: (N,) the patient of each row; None takes each row for a patient.

    Raises:
        InputError: fewer than two folds, more folds than patients, or a seed of more than 32 bits.
    """
    require_seed(seed)
    _, group_of = np.unique(np.arange(len(labels)) if groups is None else np.asarray(groups),
                            return_inverse=True)
    sizes = np.bincount(group_of)
    what = "images" if groups is None else "patients"
    if len(sizes) < 2:
        raise InputError(f"--folds {count}: {what} to split: {len(sizes)}, expected at least 2")
    if not 2 <= count <= len(sizes):
        raise InputError(f"--folds {count}: expected 2 to {len(sizes)} (the number of {what})")
    counts = np.zeros((len(sizes), labels.shape[1] + 1), np.int64)
    np.add.at(counts, group_of, np.column_stack([labels, np.ones(len(labels), np.int64)]))
    steps = (counts[:, :, None] >= _STEPS).reshape(len(sizes), -1)
    # Columns that are the same for all patients are useless; the library needs at least two columns.
    useful = steps[:, steps.any(axis=0) & ~steps.all(axis=0)].astype(np.int64)
    useful = np.column_stack([useful, np.zeros((len(sizes), max(0, 2 - useful.shape[1])), np.int64)])
    splitter = MultilabelStratifiedKFold(n_splits=count, shuffle=True, random_state=seed)
    folds = np.full(len(sizes), -1, np.int64)
    for fold, (_, held_out) in enumerate(splitter.split(useful, useful)):
        folds[held_out] = fold
    return folds[group_of]


def check_disjoint_patients(parts: Mapping[str, Iterable], what: str = "image") -> None:
    """Refuse parts that share a patient, or an image.

    Args:
        parts: name of a part -> its patients or images.
        what: "patient" or "image", for the error.

    Raises:
        InputError: names the image or patient and the two parts.
    """
    seen: dict = {}
    for name, members in parts.items():
        for member in set(members):
            if member in seen:
                raise InputError(f"leak: {what} {member} is in {seen[member]} and in {name}")
            seen[member] = name
