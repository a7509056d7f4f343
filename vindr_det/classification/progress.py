"""What a person sees of a fold's training: a bar, the time that is left, pictures, and loggers."""

import logging
import time
from collections.abc import Mapping, Sequence
from itertools import islice
from pathlib import Path
from typing import Any, cast

import cv2
import lightning as L
import numpy as np
from numpy.typing import NDArray
from torch.utils.data import DataLoader
from tqdm import tqdm

from vindr_det.classification.data import LabeledDataset
from vindr_det.classification.label_table import LabelTable
from vindr_det.classification.run_folder import misclassified_file, train_batch_file
from vindr_det.files import write_png
from vindr_det.imaging.montage import grid_of, title_strip
from vindr_det.training.loggers import Loggers
from vindr_det.training.progress import DataTimer, LoaderWatch, duration

log = logging.getLogger(__name__)

Picture = NDArray[np.uint8]

#: Side of an image on a sheet in pixels, images in a row, and on a sheet at most.
_CELL, _COLUMNS, _IMAGES = 260, 4, 12
_TITLE = 20


class FoldProgress(L.Callback):
    """Shows a fold's training in the first process.

    Args:
        out: OUTPUT_DIR.
        fold: its number.
        names: of the labels.
        loggers: of :class:`vindr_det.training.loggers.Loggers`.
    """

    def __init__(self, out: Path, fold: int, names: tuple[str, ...], loggers: Loggers) -> None:
        self.out, self.fold, self.names, self.loggers = out, fold, names, loggers
        self.timer = DataTimer()
        self._begun, self._epochs, self._steps = time.perf_counter(), 0, 0
        self._since = self._begun
        self._bar: Any = None
        self._watch = LoaderWatch("NUM_WORKERS")

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Begin to measure the time of an epoch."""
        self._begun = time.perf_counter()

    def on_train_epoch_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """A bar of the epoch's steps, where there is a terminal."""
        self._since, self._steps = time.perf_counter(), 0
        self._bar = tqdm(total=trainer.num_training_batches, desc=f"fold {self.fold}, epoch "
                         f"{trainer.current_epoch + 1}/{trainer.max_epochs}", unit="step", leave=False,
                         disable=None if trainer.is_global_zero else True)

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Any, batch_idx: int
    ) -> None:
        """Write the first batch of a training that begins."""
        if trainer.global_step == 0 and trainer.is_global_zero:
            images, targets = (part.detach().float().cpu().numpy() for part in batch)
            self._show(train_batch_file(self.out, self.fold), 1,
                       lambda: batch_sheet(images, targets, self.names, _first_ids(trainer.train_dataloader)))

    def on_train_batch_end(self, *_: Any) -> None:
        """Move the bar."""
        self._steps += 1
        self._bar.update()

    def times(self) -> dict[str, float]:
        """Seconds per step of the epoch so far, and of these what it waited for its batches."""
        self._bar.close()
        steps = max(1, self._steps)
        seconds, waited = time.perf_counter() - self._since, self.timer.taken()
        self._watch.add(seconds, waited)
        return {"time": seconds / steps, "data_time": waited / steps}

    def add_epoch(self, row: Mapping[str, float], epochs: int) -> str:
        """Log an epoch's numbers; returns the time that is left as text, after an epoch of ``epochs``."""
        self._epochs += 1
        numbers = {key: value for key, value in row.items() if key != "epoch" and np.isfinite(value)}
        self.loggers.numbers(numbers, int(row["epoch"]))
        left = (time.perf_counter() - self._begun) / self._epochs * (epochs - row["epoch"])
        return f"eta {duration(left)}"

    def add_predictions(self, dataset: LabeledDataset, p: NDArray[np.float64], epoch: int) -> None:
        """Write the held-out images that are misclassified, if there are any.

        Args:
            dataset: the images.
            p: (N, K) probabilities.
            epoch: after which they are predicted.
        """
        if misclassified(dataset.table, p):
            self._show(misclassified_file(self.out, self.fold), epoch,
                       lambda: misclassified_sheet(dataset, p))

    def _show(self, path: Path, step: int, make: Any) -> None:
        try:
            sheet = make()
            write_png(path, sheet)
        except Exception as error:
            log.warning("%s was not drawn (%s: %s); the training goes on", path, type(error).__name__, error)
            return
        self.loggers.picture(path.stem.partition("_")[2], np.ascontiguousarray(sheet[..., ::-1]), step)


def _first_ids(loader: DataLoader) -> list[str]:
    """Image ids of the first images that a loader's dataset gives, in the order of its sampler."""
    ids = cast(LabeledDataset, loader.dataset).table.image_ids
    return [str(ids[key.row]) for key in islice(iter(loader.sampler), _IMAGES)]


def batch_sheet(images: NDArray, targets: NDArray, names: tuple[str, ...], ids: Sequence[str]) -> Picture:
    """A batch as the network gets it, with its positive labels; (H, W, 3) uint8.

    Args:
        images: (B, C, S, S), normalized; gray values are spread over the range of each.
        targets: (B, K) 0..1; NaN where unknown.
        names: (K,) of the labels.
        ids: of the images, of at least as many as the sheet shows.
    """
    cells = []
    for image, target, image_id in zip(images[:_IMAGES, 0], targets, ids, strict=False):
        pixels = (image - image.min()) / max(float(np.ptp(image)), 1e-9) * 255
        positive = [name for name, value in zip(names, target, strict=True) if value >= 0.5]
        cells.append(_cell(pixels.astype(np.uint8), image_id, ", ".join(positive) or "none"))
    return grid_of(cells, _COLUMNS)


def misclassified_sheet(dataset: LabeledDataset, p: NDArray[np.float64]) -> Picture:
    """The first of :func:`misclassified`, with their probability and label; (H, W, 3) uint8."""
    cells = []
    for row, label in misclassified(dataset.table, p)[:_IMAGES]:
        name, image_id = dataset.table.names[label], str(dataset.table.image_ids[row])
        truth = "positive" if dataset.table.targets[row, label] >= 0.5 else "negative"
        cells.append(_cell(dataset.pixels[image_id], image_id, f"{name} {p[row, label]:.2f}, is {truth}"))
    return grid_of(cells, _COLUMNS)


def misclassified(table: LabelTable, p: NDArray[np.float64]) -> list[tuple[int, int]]:
    """(row, label) of the images with a known label that is wrong by more than .5, the largest errors first.

    Args:
        table: the images.
        p: (N, K) probabilities.
    """
    errors = np.nan_to_num(np.abs(table.targets - p))
    largest, labels = errors.max(axis=1), errors.argmax(axis=1)
    order = np.argsort(-largest, kind="stable")
    return [(int(row), int(labels[row])) for row in order if largest[row] > 0.5]


def _cell(image: Picture, *titles: str) -> Picture:
    shown = cv2.resize(image, (_CELL, _CELL), interpolation=cv2.INTER_AREA)
    strips = [title_strip(title, _CELL, _TITLE) for title in titles]
    return np.concatenate([*strips, cv2.cvtColor(shown, cv2.COLOR_GRAY2BGR)])
