"""Pictures of a detector's training, of either engine: what it trains on, what it detects, and how well."""

import logging
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.config_schema import label_set_of_config
from vindr_det.data.splits import validation_records
from vindr_det.detection.samples import Pixels
from vindr_det.detection.validation import annotation_numbers
from vindr_det.files import write_png
from vindr_det.imaging.drawing import draw
from vindr_det.imaging.montage import grid_of
from vindr_det.metrics.metric import MatchedPredictions
from vindr_det.metrics.outcomes import judge
from vindr_det.metrics.plots import CONFUSION_FILE, PR_FILE, write_pictures
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.outcomes import Outcome
from vindr_det.structures.records import Record
from vindr_det.submission.coco_results import read_coco_results
from vindr_det.training.plots import plot_after_training
from vindr_det.training.states import BEST_PREDICTIONS

log = logging.getLogger(__name__)

Picture = NDArray[np.uint8]

TRAIN_BATCH, VAL_PREDICTIONS = "train_batch0.png", "val_predictions.png"
#: Longest side of an image on a sheet, pixels.
_CELL = 420
_COLUMNS = 4
#: Of a validation image at most so many detections are drawn, from this score on.
_MOST_BOXES, _MIN_SCORE = 10, 0.1


class TrainingImages:
    """The first images as the network gets them, augmented, on a sheet with their boxes.

    Args:
        label_set: of the boxes.
        count: images on the sheet.
    """

    def __init__(self, label_set: LabelSet, count: int = 8) -> None:
        self.label_set, self.count = label_set, count
        self._cells: list[Picture] = []

    @property
    def full(self) -> bool:
        """Whether it has all of its images."""
        return len(self._cells) >= self.count

    def add(self, image: NDArray, boxes: NDArray[np.float64], labels: NDArray[np.int64], title: str) -> None:
        """Add an image, unless the sheet is full.

        Args:
            image: (H, W) gray values, 0..255.
            boxes: (N, 4) xyxy in its pixels.
            labels: (N,) class ids.
            title: its id.
        """
        if self.full:
            return
        truth = Predictions(boxes, np.ones(len(boxes)), labels, self.label_set)
        pixels = np.clip(np.rint(image), 0, 255).astype(np.uint8)
        self._cells.append(draw(pixels, truth, [Outcome.TRUE] * len(truth), longest=_CELL, title=title,
                                legend=False))

    def write(self, out: Path) -> Picture | None:
        """Write ``train_batch0.png`` into a folder; returns it, None where that failed or it is empty."""
        return _written(out / TRAIN_BATCH, lambda: grid_of(self._cells, _COLUMNS)) if self._cells else None


def validation_sheet(
    predictions: PredictionSet, items: Sequence[tuple[Record, Path]], pairs: int = 8, packed: str | Path = ""
) -> Picture:
    """Validation images in pairs: the truth, and beside it what is detected and whether it is right.

    Args:
        predictions: image id -> detections.
        items: the images with their folders, of which a few are taken at even distances, abnormal ones first.
        pairs: images on the sheet.
        packed: VINDR.PACKED, which has the images; empty for their own files.

    Returns:
        (H, W, 3) uint8, RGB.
    """
    pixels = Pixels(packed)
    cells = [cell for record, folder in _spread(items, pairs)
             for cell in _pair(record, pixels(folder / record.file_name, (record.height, record.width)),
                               predictions.get(record.image_id, Predictions()))]
    return grid_of(cells, _COLUMNS)


def _spread(items: Sequence[tuple[Record, Path]], count: int) -> list[tuple[Record, Path]]:
    """Three quarters abnormal images where there are enough, the rest normal."""
    kinds = [[item for item in items if item[0].normal == normal] for normal in (False, True)]
    normals = min(len(kinds[1]), max(count // 4, count - len(kinds[0])))
    return [kind[place] for kind, share in zip(kinds, (count - normals, normals), strict=True)
            for place in np.unique(np.linspace(0, len(kind) - 1, share, dtype=int)) if kind]


def _pair(record: Record, image: Picture, detections: Predictions) -> list[Picture]:
    frame = record.height, record.width
    detected = detections.findings()
    judged, outcomes = judge(detected[detected.scores >= _MIN_SCORE], record.truth, record.unknown)
    rows = _shown(outcomes, len(outcomes) - len(record.truth.findings()))
    options: dict[str, Any] = {"frame": frame, "longest": _CELL}
    return [draw(image, record.truth, [Outcome.TRUE] * len(record.truth), title=f"{record.image_id}: true",
                 **options),
            draw(image, judged[np.array(rows, int)], [outcomes[row] for row in rows],
                 title=_title(len(outcomes) - len(record.truth.findings())), **options)]


def _shown(outcomes: Sequence[Outcome], detected: int) -> list[int]:
    """Rows of the best detections, which come first, and of the true boxes that all detections miss."""
    return [row for row, outcome in enumerate(outcomes)
            if (row < _MOST_BOXES if row < detected else outcome is not Outcome.DETECTED)]


def _title(detected: int) -> str:
    some = f", best {_MOST_BOXES} of {detected}" if detected > _MOST_BOXES else ""
    return f"detected from {_MIN_SCORE:g} on{some}"


def draw_validation(cfg: Any, predictions: PredictionSet) -> Picture | None:
    """Write ``val_predictions.png`` of the best validation so far; returns it, None where that failed."""
    return _written(Path(cfg.OUTPUT_DIR) / VAL_PREDICTIONS,
                    lambda: validation_sheet(predictions, validation_records(cfg), packed=cfg.VINDR.PACKED))


def _written(path: Path, make: Callable[[], Picture]) -> Picture | None:
    """An RGB sheet, written as PNG; a failure is a warning, since it must not cost the training."""
    try:
        sheet = make()
        write_png(path, np.ascontiguousarray(sheet[..., ::-1]))
    except Exception as error:
        log.warning("%s was not drawn (%s: %s); the training goes on", path, type(error).__name__, error)
        return None
    return sheet


def draw_after_training(cfg: Any) -> None:
    """``results.csv``, ``results.png``, and of model_best.pth ``pr_curve.png`` and ``confusion_matrix.png``.

    A failure is a warning: it must not cost the training.
    """
    out = Path(cfg.OUTPUT_DIR)
    plot_after_training(out)
    if not (out / BEST_PREDICTIONS).is_file():
        for name in (VAL_PREDICTIONS, PR_FILE, CONFUSION_FILE):  # of an earlier training in this folder
            (out / name).unlink(missing_ok=True)
        return
    try:
        records = [record for record, _ in validation_records(cfg)]
        write_pictures(out, MatchedPredictions(_kept_predictions(cfg), records).voc)
    except Exception as error:
        log.warning("%s: the pictures of the best model were not drawn (%s: %s)", out,
                    type(error).__name__, error)


def _kept_predictions(cfg: Any) -> PredictionSet:
    """Of :func:`vindr_det.detection.validation.keep_predictions`."""
    numbers = annotation_numbers(cfg) or {}
    return read_coco_results(Path(cfg.OUTPUT_DIR) / BEST_PREDICTIONS, None,
                             {number: name for name, number in numbers.items()} or None, None,
                             label_set_of_config(cfg))
