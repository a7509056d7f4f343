"""A folder of images to a table of probabilities, decisions and warnings."""

from pathlib import Path
from typing import Any

import pandas as pd
from tqdm import tqdm

from vindr_det.classification.checks import warnings_of
from vindr_det.classification.model import Classifier
from vindr_det.classification.points import read_points
from vindr_det.errors import InputError
from vindr_det.files import list_images
from vindr_det.images import read_image


def classify(
    model: str | Path, images: str | Path, point: str = "youden", recursive: bool = False
) -> pd.DataFrame:
    """A row an image: image_id, ``p_...``, ``says_...`` 0 or 1 at an operating point, calibrated, warnings.

    Args:
        model: folder of a finished train_classifier.py.
        images: folder of DICOM, PNG or JPEG files.
        point: name of the operating point; labels without one have no ``says_...``.
        recursive: also folders within.

    Raises:
        InputError: no model, no images, or no label has such a point.
    """
    classifier, points = Classifier(model), read_points(model)
    thresholds = {column: one.thresholds[point] for column, one in points.items() if point in one.thresholds}
    if not thresholds:
        known = sorted({name for one in points.values() for name in one.thresholds})
        raise InputError(f"--point {point}: the model has {', '.join(known) or 'none'}")
    paths = list_images(images, recursive)
    rows = [_row(classifier, image_id, path, thresholds)
            for image_id, path in tqdm(paths.items(), desc="classify", unit="image", disable=None)]
    return pd.DataFrame(rows)


def _row(
    classifier: Classifier, image_id: str, path: Path, thresholds: dict[str, float]
) -> dict[str, Any]:
    try:
        image = read_image(path)
    except InputError as error:
        return {"image_id": image_id, "warnings": f"unreadable: {error}"}
    values = classifier.probabilities([image.pixels])[0].round(6).tolist()
    row: dict[str, Any] = {"image_id": image_id, **dict(zip(classifier.columns, values, strict=True))}
    for column, threshold in thresholds.items():
        row[column.replace("p_", "says_", 1)] = int(row[column] >= threshold)
    return row | {"calibrated": int(bool(classifier.calibrations)), "warnings": "; ".join(warnings_of(image))}
