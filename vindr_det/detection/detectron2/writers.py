"""What a training of the Detectron2 engine shows: the line of progress, loggers, tables, pictures."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventWriter, get_event_storage

from vindr_det.config_schema import label_set_of_config
from vindr_det.detection.detectron2.hooks import Validation
from vindr_det.detection.pictures import TrainingImages, draw_validation
from vindr_det.detection.validation import validation_text
from vindr_det.structures.detections import PredictionSet
from vindr_det.structures.records import Record
from vindr_det.training.loggers import Loggers
from vindr_det.training.progress import TOTAL, LoaderWatch, progress_line
from vindr_det.training.results import is_component, write_results

log = logging.getLogger(__name__)

#: Iterations that the line's medians are of, as of metrics.json.
_WINDOW = 20


def build_writers(cfg: Any, max_iter: int) -> list[EventWriter]:
    """The line of progress and the writer of VINDR.LOGGERS, TensorBoard's among them.

    Args:
        cfg: the config.
        max_iter: iterations of the training.
    """
    names = list(cfg.VINDR.LOGGERS)
    loggers = [LoggersWriter(Loggers(names, cfg.OUTPUT_DIR, config=cfg.dump()))] if names else []
    return [ProgressWriter(max_iter), *loggers]


class ProgressWriter(EventWriter):
    """Logs :func:`vindr_det.training.progress.progress_line`, as the torchvision engine does.

    Args:
        max_iter: iterations of the training.
    """

    def __init__(self, max_iter: int) -> None:
        self.max_iter, self._written = max_iter, -1
        self._watch = LoaderWatch("DATALOADER.NUM_WORKERS")

    def write(self) -> None:
        """Log the medians of the last iterations, unless there was none since the last call."""
        storage = get_event_storage()
        iteration = storage.latest().get(TOTAL, (0.0, -1))[1]
        if iteration <= self._written:
            return
        self._written = iteration
        values = {key: history.median(_WINDOW) for key, history in storage.histories().items()
                  if key in (TOTAL, "time", "data_time") or is_component(key)}
        seconds, waited = values.pop("time", 0.0), values.pop("data_time", 0.0)
        rate = storage.history("lr").latest()
        if "time" in storage.histories():  # not before the fourth iteration
            self._watch.add(*(storage.history(key).avg(_WINDOW) for key in ("time", "data_time")))
        log.info("%s", progress_line(iteration + 1, self.max_iter, values, rate, seconds, waited))

    def close(self) -> None:
        """Tell whether the training waited for its images."""
        self._watch.tell()


class LoggersWriter(EventWriter):
    """Hands the storage's numbers, pictures and histograms to Lightning's loggers, steps counted from 1.

    It writes for all of them, since the storage has its pictures for a single writer, which clears them.

    Args:
        loggers: closed with the writer.
    """

    def __init__(self, loggers: Loggers) -> None:
        self.loggers = loggers
        self._written = -1

    def write(self) -> None:
        """Log what is new since the last call."""
        storage = get_event_storage()
        new: dict[int, dict[str, float]] = {}
        for key, (value, iteration) in storage.latest_with_smoothing_hint(_WINDOW).items():
            if iteration > self._written:
                new.setdefault(iteration, {})[key] = value
        for iteration, values in sorted(new.items()):
            self.loggers.numbers(values, iteration + 1)
        self._written = max(new, default=self._written)
        for title, picture, iteration in storage._vis_data:
            pixels = torch.as_tensor(picture).movedim(0, -1).contiguous().cpu().numpy()
            self.loggers.picture(title, pixels, iteration + 1)
        storage.clear_images()
        for histogram in storage._histograms:
            self.loggers.histogram(**{**histogram, "global_step": histogram["global_step"] + 1})
        storage.clear_histograms()

    def close(self) -> None:
        """End the runs."""
        self.loggers.close()


class ShowTraining(HookBase):
    """Pictures and tables on the first rank, beside the writers.

    Args:
        cfg: the config.
        validation: the hook that validates.
        records: the images of VINDR.VALIDATION.
    """

    def __init__(self, cfg: Any, validation: Validation, records: Sequence[Record]) -> None:
        self.cfg, self.validation, self.records = cfg, validation, records
        self.images = TrainingImages(label_set_of_config(cfg))
        self._begun = self._written = False

    def add_batch(self, batch: Sequence[Mapping[str, Any]]) -> None:
        """Add a batch of a training that begins to ``train_batch0.png``."""
        self._begun |= self.trainer.iter == 0
        if self._written or not self._begun:
            return
        for image in batch:
            boxes = image["instances"]  # as VindrMapper makes them
            self.images.add(image["image"][0].cpu().numpy(), boxes.gt_boxes.tensor.double().cpu().numpy(),
                            boxes.gt_classes.cpu().numpy(), str(image["image_id"]))
        if self.images.full:
            self._write()

    def after_step(self) -> None:
        """After a validation log its table, and write results.csv."""
        if self.validation.iteration != self.trainer.iter:
            return
        storage = self.trainer.storage
        losses = {key: value for key, (value, at) in storage.latest().items()
                  if key.startswith("validation_") and at == self.trainer.iter}
        log.info("%s", validation_text(self.trainer.iter + 1, {**losses, **self.validation.metrics},
                                       self.records))
        write_results(self.cfg.OUTPUT_DIR)

    def after_train(self) -> None:
        """Write the images of a training of few."""
        if self._begun and not self._written:
            self._write()

    def draw_best(self, predictions: PredictionSet) -> None:
        """``val_predictions.png`` of the best validation."""
        self._show("val_predictions", draw_validation(self.cfg, predictions))

    def _write(self) -> None:
        self._written = True
        self._show("train_batch0", self.images.write(Path(self.cfg.OUTPUT_DIR)))

    def _show(self, title: str, picture: Any) -> None:
        if picture is not None:
            self.trainer.storage.put_image(title, picture.transpose(2, 0, 1))
