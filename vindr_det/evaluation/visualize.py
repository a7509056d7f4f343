"""Images with true and predicted boxes drawn on them, and a config's augmentation on a grid."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.files import write_png
from vindr_det.imaging.read import read_image
from vindr_det.parallel import Failure, guarded
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import FINDINGS
from vindr_det.structures.records import Record

log = logging.getLogger(__name__)

TRUE_COLOR = (90, 220, 90)  # BGR
PREDICTED_COLOR = (60, 170, 255)
_STRIP = 22


def overlay(
    image: NDArray[np.uint8], truth: Predictions | None, predicted: Predictions | None,
    height: int, width: int, longest: int = 900,
) -> NDArray[np.uint8]:
    """Draw boxes on a copy of an image.

    Args:
        image: (H, W) uint8, any size.
        truth: boxes (xyxy) in pixels of the original; None where they are not known.
        predicted: likewise; drawn with their scores.
        height: of the original.
        width: of the original.
        longest: longest side of the picture.

    Returns:
        (H', W', 3) uint8, BGR, with a legend below.
    """
    factor = longest / max(height, width)
    size = (round(width * factor), round(height * factor))
    picture = cv2.cvtColor(cv2.resize(image, size, interpolation=cv2.INTER_AREA), cv2.COLOR_GRAY2BGR)
    for boxes, color, below in ((truth, TRUE_COLOR, False), (predicted, PREDICTED_COLOR, True)):
        if boxes is not None:
            _draw(picture, boxes, factor, color, below, scores=below)
    return _with_legend(picture, truth is not None, predicted is not None)


def write_overlays(
    out: str | Path, items: Sequence[tuple[Record, Path]], predictions: PredictionSet,
    sizes: Mapping[str, tuple[int, int]], min_score: float,
) -> int:
    """Write ``<image_id>.png`` with true and predicted boxes; an image that cannot be read is only logged.

    Args:
        out: folder.
        items: records, each with its image's path.
        predictions: image id -> detections; an image may be missing.
        sizes: image id -> (height, width) of the original, for images that were made smaller.
        min_score: predictions below are left out.

    Returns:
        The number of pictures.
    """
    written = 0
    for record, path in items:
        image = guarded(read_image, path)
        if isinstance(image, Failure):
            log.warning("no picture: %s", image.reason)
            continue
        height, width = sizes.get(record.image_id, (image.height, image.width))
        predicted = predictions.get(record.image_id)
        shown = predicted[predicted.scores >= min_score] if predicted is not None else None
        picture = overlay(image.pixels, record.truth, shown, height, width)
        write_png(Path(out) / f"{record.image_id}.png", picture)
        written += 1
    return written


def augmentation_grid(
    cfg: Any, items: Sequence[tuple[Record, Path]], columns: int = 5, cell: int = 300
) -> NDArray[np.uint8]:
    """What a config's augmentation makes of images: one row per image, plain and then augmented.

    Args:
        cfg: a detector's config.
        items: records, each with its image's path.
        columns: augmented samples per row.
        cell: longest side of a sample in pixels.

    Raises:
        InputError: there is no image.
    """
    from vindr_det.detection.samples import SampleReader

    if not items:
        raise InputError("there is no annotated image to augment")
    plain, augmented = (SampleReader.from_config(cfg, is_train) for is_train in (False, True))
    rows = []
    for row, (record, path) in enumerate(items):
        readers = [plain] + [augmented] * columns
        cells = [_sample_cell(reader, record, path, row * columns + column, cell)
                 for column, reader in enumerate(readers)]
        rows.append(np.concatenate(cells, axis=1))
    return np.concatenate(rows)


def _sample_cell(reader: Any, record: Record, path: Path, seed: int, cell: int) -> NDArray[np.uint8]:
    """One sample with its boxes, padded to the size of a cell of the grid."""
    truth = record.truth
    sample = reader(path, record.height, record.width, truth.boxes, truth.labels, seed)
    boxes = Predictions(sample.boxes, np.ones(len(sample.boxes)), sample.labels)
    height, width = sample.image.shape
    picture = overlay(sample.image, boxes, None, height, width, longest=cell)
    return np.pad(picture, ((0, cell + _STRIP - picture.shape[0]), (0, cell + 8 - picture.shape[1]), (0, 0)))


def _draw(
    picture: NDArray[np.uint8], predictions: Predictions, factor: float,
    color: tuple[int, int, int], below: bool, scores: bool,
) -> None:
    shown = predictions.findings()
    for box, score, label in zip(
        box_ops.scale(shown.boxes, factor, factor), shown.scores, shown.labels, strict=True
    ):
        x0, y0, x1, y1 = (round(v) for v in box.tolist())
        cv2.rectangle(picture, (x0, y0), (x1, y1), color, 2, cv2.LINE_AA)
        text = FINDINGS[label] + (f" {score:.2f}" if scores else "")
        _label(picture, text, (x0, y1 + 14 if below else y0 - 5), color)


def _label(
    picture: NDArray[np.uint8], text: str, at: tuple[int, int], color: tuple[int, int, int]
) -> None:
    font, size = cv2.FONT_HERSHEY_SIMPLEX, 0.45
    (wide, high), _ = cv2.getTextSize(text, font, size, 1)
    x = int(np.clip(at[0], 0, max(0, picture.shape[1] - wide)))
    y = int(np.clip(at[1], high + 2, picture.shape[0] - 4))
    cv2.rectangle(picture, (x, y - high - 2), (x + wide, y + 3), (0, 0, 0), -1)
    cv2.putText(picture, text, (x, y), font, size, color, 1, cv2.LINE_AA)


def _with_legend(picture: NDArray[np.uint8], truth: bool, predicted: bool) -> NDArray[np.uint8]:
    strip = np.zeros((_STRIP, picture.shape[1], 3), np.uint8)
    x = 6
    for shown, text, color in ((truth, "true", TRUE_COLOR),
                                (predicted, "predicted", PREDICTED_COLOR)):
        if shown:
            cv2.putText(strip, text, (x, 15), cv2.FONT_HERSHEY_SIMPLEX, 0.5, color, 1, cv2.LINE_AA)
            x += 18 + 10 * len(text)
    return np.concatenate([picture, strip])
