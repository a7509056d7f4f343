"""The classifier's word on the whole image, added to the detector's boxes.

Class 14 is a class of the metric like the others, so the probability of "no finding" goes into
every image's row as ``14 (1-p) 0 0 1 1`` with p = P(abnormal). The popular notebook writes p
itself, which ranks the images the wrong way round.
"""

from collections.abc import Mapping
from pathlib import Path

import numpy as np

from vindr_det.errors import InputError
from vindr_det.files import csv_row, read_csv
from vindr_det.predictions import Predictions, PredictionSet, no_finding

#: The column that classifiers write; the sign is in its name.
P_ABNORMAL = "p_abnormal"


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
    missing = set(predictions).difference(p_abnormal)
    if missing:
        raise InputError(f"no probability for image {min(missing)}, expected one for each image")
    return {
        image_id: found.findings() + no_finding(1 - p_abnormal[image_id])
        for image_id, found in predictions.items()
    }


def without_classifier(predictions: PredictionSet) -> dict[str, Predictions]:
    """:func:`soft_append` with the highest box score standing in for P(abnormal)."""
    best = {i: float(found.findings().scores.max(initial=0.0)) for i, found in predictions.items()}
    return soft_append(predictions, best)


def read_probabilities(path: str | Path) -> dict[str, float]:
    """image id -> P(abnormal) from a CSV with columns image_id and p_abnormal.

    Raises:
        InputError: a column is missing, or a value is not in [0, 1].
    """
    frame = read_csv(path, ["image_id", P_ABNORMAL], dtype={"image_id": str})
    values = frame[P_ABNORMAL].to_numpy(dtype=float)
    bad = np.flatnonzero(~((values >= 0) & (values <= 1)))
    if len(bad):
        raise InputError(f"{path}, row {csv_row(bad[0])}: {P_ABNORMAL} {values[bad[0]]}, expected "
                         "0 to 1")
    return dict(zip(frame["image_id"], values.tolist(), strict=True))
