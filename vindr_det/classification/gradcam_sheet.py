"""A sheet of Grad-CAM maps: for each label the images that a classifier is most confident of."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from vindr_det.classification.gradcam import Explainer, blend
from vindr_det.classification.label_table import columns_of, read_table
from vindr_det.classification.predict import Classifier
from vindr_det.classification.run_folder import METRICS_FILE
from vindr_det.exceptions import InputError
from vindr_det.files import read_json
from vindr_det.imaging import image_run
from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.image_run import ImageRun
from vindr_det.imaging.montage import grid_of, title_strip
from vindr_det.imaging.resize import Target
from vindr_det.imaging.status import Status
from vindr_det.parallel import Failure, guarded
from vindr_det.tables import read_csv, refuse_first, to_numbers

log = logging.getLogger(__name__)

#: Frames (BGR) of images that have the label, that do not, and of which it is not known.
FRAMES: Mapping[bool | None, tuple[int, int, int]] = {
    True: (90, 200, 90), False: (60, 60, 230), None: (90, 90, 90)}
#: Longest side of a picture, and width of its frame, pixels.
SIDE, _FRAME = 240, 4
_SHOWN, _LINE = Target(SIDE, keep_aspect=True), 20


@dataclass(frozen=True)
class Cell:
    """A picture of the sheet.

    Attributes:
        column: of the label, such as ``p_effusion``.
        image_id: the image.
        probability: of the label.
        right: whether the image has the label; None where that is not known.
    """

    column: str
    image_id: str
    probability: float
    right: bool | None = None


def best_labels(folder: str | Path, columns: Sequence[str], count: int) -> list[str]:
    """The labels of highest out-of-fold AUC, by ``metrics.json`` of a training, best first.

    Args:
        folder: OUTPUT_DIR of the training.
        columns: of the classifier.
        count: number of labels.

    Raises:
        InputError: the file is missing, or has the AUC of fewer labels.
    """
    path = Path(folder) / METRICS_FILE
    metrics = read_json(path)
    metrics = metrics if isinstance(metrics, dict) else {}
    values = {column: metrics.get(f"auc/{column}") for column in columns}
    known = [column for column in columns if isinstance(values[column], int | float)]
    if not 1 <= count <= len(known):
        raise InputError(f"--best {count}: expected 1 to {len(known)}, the labels with an AUC in {path}")
    return sorted(known, key=lambda column: -float(values[column] or 0))[:count]


def read_predictions(path: str | Path, columns: Sequence[str]) -> pd.DataFrame:
    """A table of ``vindr-det classify``: image_id and the columns.

    Raises:
        InputError: a column is missing, an image is repeated, or a value is no probability.
    """
    frame = read_csv(path, ["image_id", *columns], dtype={"image_id": str})
    values = np.column_stack([to_numbers(frame[column]) for column in columns])
    refuse_first(path, ~((values >= 0) & (values <= 1)).all(axis=1), lambda i: f"image "
                 f"{frame['image_id'].iloc[i]} has probabilities {values[i].tolist()}, expected 0 to 1")
    refuse_first(path, frame["image_id"].duplicated(),
                 lambda i: f"image {frame['image_id'].iloc[i]} is repeated")
    return frame[["image_id"]].join(pd.DataFrame(values, columns=list(columns)))


def read_right(path: str | Path, classifier: Classifier) -> dict[tuple[str, str], bool]:
    """(column, image id) -> whether the image has the label, where that is known.

    Raises:
        InputError: the table is faulty, or lacks a label of the classifier.
    """
    table = read_table(path, classifier.cfg.DATA.TARGET)
    return {(column, image_id): bool(value >= 0.5)
            for column, values in zip(columns_of(table.names), table.targets.T, strict=True)
            for image_id, value in zip(table.image_ids.tolist(), values, strict=True) if not np.isnan(value)}


def most_confident(
    predictions: pd.DataFrame, columns: Sequence[str], count: int, right: Mapping[tuple[str, str], bool]
) -> list[list[Cell]]:
    """A row per label: the images with its highest probabilities, highest first.

    Args:
        predictions: image_id and the columns.
        columns: of the labels.
        count: images per label.
        right: of :func:`read_right`; empty where no labels are known.
    """
    rows = []
    for column in columns:
        order = np.lexsort((predictions["image_id"], -predictions[column]))[:count]
        chosen = predictions.iloc[order]
        rows.append([Cell(column, image_id, float(p), right.get((column, image_id)))
                     for image_id, p in zip(chosen["image_id"], chosen[column], strict=True)])
    return rows


def draw_sheet(
    explainer: Explainer, run: ImageRun, rows: Sequence[Sequence[Cell]], workers: int | None = None
) -> tuple[NDArray[np.uint8], list[Status]]:
    """The sheet, (H, W, 3) BGR, and a status for each of its images.

    Args:
        explainer: of the classifier.
        run: of :func:`vindr_det.imaging.image_run.find`.
        rows: of :func:`most_confident`, of images of the run.
        workers: processes that read; None takes one per core.

    Raises:
        InputError: there is no cell.
    """
    wanted = {cell.image_id for row in rows for cell in row}
    if not wanted:
        raise InputError("--sheet: none of the predicted images is among --images")
    part = replace(run, inputs=[source for source in run.inputs if source.image_id in wanted])
    results = {result.status.image_id: result for result in image_run.read_all(
        part, explainer.classifier.target, workers, also=[_SHOWN])}
    cells = []
    for cell in tqdm([cell for row in rows for cell in row], desc="explain", unit="map", disable=None):
        image = results[cell.image_id].image
        picture = None if image is None else guarded(partial(_map, explainer, cell.column), image)
        if isinstance(picture, Failure):
            log.warning("image %s was read, but not explained: %s", cell.image_id, picture.reason)
        drawn = picture if isinstance(picture, np.ndarray) else np.zeros((SIDE, SIDE, 3), np.uint8)
        cells.append(_framed(drawn, cell))
    return grid_of(cells, len(rows[0])), [result.status for result in results.values()]


def _map(explainer: Explainer, column: str, image: DecodedImage) -> NDArray[np.uint8]:
    label = explainer.classifier.columns.index(column)
    return blend(image.at(_SHOWN), explainer.heat_map(image.pixels, label), SIDE)


def _framed(picture: NDArray[np.uint8], cell: Cell) -> NDArray[np.uint8]:
    """A picture in its frame, below the label with its probability, and the image's id."""
    framed = cv2.copyMakeBorder(picture, *[_FRAME] * 4, cv2.BORDER_CONSTANT, value=FRAMES[cell.right])
    label = cell.column.removeprefix("p_").replace("_", " ")
    titles = [title_strip(text, framed.shape[1], _LINE) for text in (f"{label} {cell.probability:.2f}",
                                                                      cell.image_id)]
    return np.concatenate([*titles, framed])
