"""Probabilities from any file against a table of labels."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from vindr_det.classification.labels import ABNORMAL, read_table
from vindr_det.errors import InputError
from vindr_det.gating import check_sign, read_probabilities
from vindr_det.metrics.bootstrap import Bootstrap, Measured
from vindr_det.metrics.classification import measure


@dataclass(frozen=True)
class Scored:
    """What each column is worth, and the mean of several.

    Attributes:
        images: with a label.
        abnormal: of them.
        found: column -> ``auc`` and ``ap``; empty where there is too little of one side.
    """

    images: int
    abnormal: int
    found: Mapping[str, Mapping[str, Measured]]

    def text(self) -> str:
        """A table for people."""
        rows = [[name, *(str(values.get(kind, "not measurable")) for kind in ("auc", "ap"))]
                for name, values in self.found.items()]
        table = tabulate(rows, ["P(abnormal) of", "AUC [95 %]", "AP [95 %]"], disable_numparse=True)
        return f"{self.images} images, {self.abnormal} abnormal\n\n{table}"

    def as_json(self) -> dict[str, Any]:
        """``auc/<column>`` and ``auc/<column>/ci95``."""
        flat: dict[str, Any] = {}
        for name, values in self.found.items():
            for kind, one in values.items():
                flat |= {f"{kind}/{name}": one.value, f"{kind}/{name}/ci95": [one.low, one.high]}
        return flat


def score(
    predictions: str | Path, labels: str | Path, columns: Sequence[str] | None, says: str, resampled: int
) -> Scored:
    """Score one or several columns of a file.

    Raises:
        InputError: a faulty file, or a swapped sign; see :func:`vindr_det.gating.check_sign`.
    """
    table = read_table(labels, ABNORMAL)
    wanted: Sequence[str | None] = columns or [None]
    parts = {name or "the file": read_probabilities(predictions, name, says) for name in wanted}
    known = dict(zip(table.image_ids.tolist(), range(len(table)), strict=True))
    first = next(iter(parts.values()))
    ids = [image_id for image_id in first if image_id in known]
    if not ids:
        raise InputError(f"{predictions}: none of its {len(first)} images is in {labels}")
    rows = [known[image_id] for image_id in ids]
    truth, groups = table.targets[rows, 0] >= 0.5, table.groups[rows]
    abnormal = dict(zip(ids, truth.tolist(), strict=True))
    for name, part in parts.items():
        check_sign(part, abnormal, f"{predictions}, {name}")
    values = {name: np.array([part[image_id] for image_id in ids]) for name, part in parts.items()}
    if len(values) > 1:
        values["their mean"] = np.mean(list(values.values()), axis=0)
    bootstrap = Bootstrap.of(groups, resampled)
    return Scored(len(ids), int(truth.sum()),
                  {name: measure(truth, one, bootstrap) for name, one in values.items()})
