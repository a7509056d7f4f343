"""Does an image or a patient stand in two of the parts that must not share any?"""

import logging
from collections.abc import Mapping

import numpy as np

from vindr_det.classification.label_table import LabelTable
from vindr_det.data.folds import check_disjoint_patients

log = logging.getLogger(__name__)


def check_disjoint(tables: Mapping[str, LabelTable], by_fold: bool) -> None:
    """Images always, patients as far as the tables know them.

    Args:
        tables: name -> images; the first is trained on.
        by_fold: the first table's folds are parts too.

    Raises:
        InputError: names the image or patient and the two parts.
    """
    parts = _parts(tables, by_fold)
    check_disjoint_patients({name: part.image_ids for name, part in parts.items()}, "image")
    knowing = {name: part for name, part in parts.items() if part.what == "patient"}
    check_disjoint_patients({name: part.groups for name, part in knowing.items()}, "patient")
    # One table may write 00000005 and another 5.
    check_disjoint_patients({name: [_without_zeros(group) for group in set(part.groups)] for name, part in tables.items()
                  if part.what == "patient"}, "patient")
    unknown = [name for name, part in tables.items() if part.what != "patient"]
    if unknown:
        log.warning("%s %s no column of patients (patient, patient_id): a patient in two parts, such as "
                    "training and test, would not be seen", " and ".join(unknown),
                    "has" if len(unknown) == 1 else "have")


def _parts(tables: Mapping[str, LabelTable], by_fold: bool) -> dict[str, LabelTable]:
    if not by_fold:
        return dict(tables)
    table = next(iter(tables.values()))
    folds = {f"fold {fold}": table[table.folds == fold] for fold in np.unique(table.folds)}
    return folds | dict(list(tables.items())[1:])


def _without_zeros(patient: str) -> str:
    return patient.lstrip("0") or "0" if patient.isdigit() else patient
