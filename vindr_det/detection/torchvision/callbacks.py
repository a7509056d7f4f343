"""What happens after each iteration: model EMA, metrics.json, validation, checkpoints."""

import json
import logging
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from vindr_det.config_schema import label_set_of_config
from vindr_det.detection.checkpoint import metadata
from vindr_det.detection.pictures import TrainingImages, draw_validation
from vindr_det.detection.torchvision.data import Batch
from vindr_det.detection.torchvision.lightning_module import DetectorModule
from vindr_det.detection.torchvision.model import first_label
from vindr_det.detection.validation import keep_predictions, validation_text
from vindr_det.files import atomic_path
from vindr_det.training import states
from vindr_det.training.early_stopping import EarlyStopping
from vindr_det.training.finite import Losses
from vindr_det.training.interruption import Interruption
from vindr_det.training.loggers import Loggers
from vindr_det.training.progress import DataTimer, LoaderWatch, progress_line
from vindr_det.training.results import write_results
from vindr_det.training.schedule import is_due

log = logging.getLogger(__name__)

#: Iterations between two lines of metrics.json, as in Detectron2.
_PERIOD = 20
STATE_SUFFIX = states.SUFFIXES["torchvision"]


class AfterStep(L.Callback):
    """Acts after each step of the optimizer, which may take several batches."""

    _done = 0

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Begin at the number of steps that a resumed training has."""
        self._done = trainer.global_step

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Call :meth:`after_step` if this batch ended a step."""
        assert isinstance(module, DetectorModule)
        self.after_batch(trainer)
        if trainer.global_step != self._done:
            self._done = trainer.global_step
            self.after_step(trainer, module, self._done)

    def after_batch(self, trainer: L.Trainer) -> None:
        """After each batch, step or not."""

    def after_step(self, trainer: L.Trainer, module: DetectorModule, done: int) -> None:
        """After each step; ``done`` steps are finished."""


class UpdateEMA(AfterStep):
    """Update the model EMA after each step."""

    def after_step(self, trainer: L.Trainer, module: DetectorModule, done: int) -> None:
        """Update it."""
        if module.ema is not None:
            module.ema.update(module.network)


class MetricsFile(AfterStep):
    """Append a JSON object per line to metrics.json, in Detectron2's format, and log the progress.

    Args:
        folder: OUTPUT_DIR.
        timer: of the trainer; None measures no waiting for data.
        loggers: get the same numbers.
    """

    def __init__(
        self, folder: str | Path, timer: DataTimer | None = None, loggers: Loggers | None = None
    ) -> None:
        self.path = Path(folder) / "metrics.json"
        self.timer, self.loggers = timer or DataTimer(), loggers or Loggers([], folder)
        self._times: deque[float] = deque(maxlen=_PERIOD)
        self._waits: deque[float] = deque(maxlen=_PERIOD)
        self._losses: deque[Losses] = deque(maxlen=_PERIOD)
        self._since = time.perf_counter()
        self._watch = LoaderWatch("DATALOADER.NUM_WORKERS")

    def on_train_batch_start(self, *_: Any) -> None:
        """Start timing the batch."""
        self._since = time.perf_counter()

    def after_batch(self, trainer: L.Trainer) -> None:
        """Keep the time and the losses of the batch."""
        self._waits.append(self.timer.taken())
        self._times.append(time.perf_counter() - self._since + self._waits[-1])
        module: Any = trainer.lightning_module
        self._losses.append(module.losses)

    def after_step(self, trainer: L.Trainer, module: DetectorModule, done: int) -> None:
        """Write medians of the last 20 batches, every 20 steps and at the end, as Detectron2 does."""
        if not is_due(done, _PERIOD, trainer.max_steps):
            return
        module.finite.settle()
        parts = self._means_of_ranks(trainer)
        if not trainer.is_global_zero:
            return
        median, batches = statistics.median, trainer.accumulate_grad_batches
        seconds, waited = median(self._times) * batches, median(self._waits) * batches
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        losses = {key: median(part[key] for part in parts) for key in parts[0]}
        values = {"lr": rate, "time": seconds, "data_time": waited, **losses}
        self._watch.add(sum(self._times), sum(self._waits))
        self.write({"iteration": done - 1, **values})
        self.loggers.numbers(values, done)
        log.info("%s", progress_line(done, trainer.max_steps, losses, rate, seconds, waited))

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Tell whether the training waited for its images."""
        self._watch.tell()

    def _means_of_ranks(self, trainer: L.Trainer) -> list[dict[str, float]]:
        """Each batch's losses; a collective call of all ranks."""
        own = [losses.read() for losses in self._losses]
        if trainer.world_size == 1:
            return own
        rows = torch.tensor([list(part.values()) for part in own], device=trainer.strategy.root_device)
        means = trainer.strategy.reduce(rows, reduce_op="mean")
        return [dict(zip(own[0], row, strict=True)) for row in means.tolist()]

    def on_validated(self, trainer: L.Trainer, module: DetectorModule) -> None:
        """Write the metrics of a validation."""
        if trainer.is_global_zero:
            self.write({"iteration": trainer.global_step - 1, **module.latest})
            self.loggers.numbers(module.latest, trainer.global_step)
            log.info("%s", validation_text(trainer.global_step, module.latest, module.records))
            write_results(self.path.parent)

    def write(self, values: dict[str, Any]) -> None:
        """Append a line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values, sort_keys=True) + "\n")


class Validation(AfterStep):
    """Validate every ``period`` iterations and after the last one.

    Args:
        period: iterations; 0 validates at the end alone.
        loader: this rank's share of the validation images.
        listeners: called with (trainer, module) after each validation.
        interruption: ends a validation when a signal comes; a resume then begins with that validation.
    """

    def __init__(
        self, period: int, loader: Any, listeners: Sequence[Callable[[L.Trainer, Any], None]],
        interruption: Interruption,
    ) -> None:
        self.period, self.loader, self.listeners = period, loader, listeners
        self.interruption, self.pending = interruption, False

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Repeat a validation that was interrupted."""
        super().on_train_start(trainer, module)
        if self.pending:
            self._run(trainer, module)
            trainer.should_stop |= self.pending

    def after_step(self, trainer: L.Trainer, module: DetectorModule, done: int) -> None:
        """Validate if it is time."""
        if is_due(done, self.period, trainer.max_steps):
            self._run(trainer, module)

    def _run(self, trainer: L.Trainer, module: Any) -> None:
        module.finite.settle()
        self.pending = not module.validate(self.loader, self.interruption)
        for listener in () if self.pending else self.listeners:
            listener(trainer, module)

    def on_save_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Whether a resume begins with a validation."""
        checkpoint.setdefault("vindr", {})["pending"] = self.pending

    def on_load_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Resume from a checkpoint."""
        self.pending = checkpoint["vindr"].get("pending", False)


class DrawBatches(L.Callback):
    """Write ``train_batch0.png``, the first images of a training that begins, with their boxes.

    Args:
        cfg: the config.
        loggers: get the same picture.
    """

    def __init__(self, cfg: Any, loggers: Loggers) -> None:
        self.cfg, self.loggers = cfg, loggers
        self.images = TrainingImages(label_set_of_config(cfg))
        self._begun = self._written = False

    def on_train_batch_start(
        self, trainer: L.Trainer, module: L.LightningModule, batch: Batch, batch_idx: int
    ) -> None:
        """Add the batch."""
        self._begun |= trainer.global_step == 0
        if self._written or not (self._begun and trainer.is_global_zero):
            return
        for image, target, image_id in zip(*batch, strict=True):
            self.images.add(image[0].cpu().numpy(), target["boxes"].double().cpu().numpy(),
                            (target["labels"] - first_label(self.cfg)).cpu().numpy(), image_id)
        if self.images.full:
            self._write()

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Write what there is after a training of few images."""
        if self._begun and not self._written and trainer.is_global_zero:
            self._write()

    def _write(self) -> None:
        self._written = True
        picture = self.images.write(Path(self.cfg.OUTPUT_DIR))
        if picture is not None:
            self.loggers.picture("train_batch0", picture, 1)


class SaveModels(AfterStep):
    """model_best.pth whenever the metric improves, model_final.pth at the end, states to resume from.

    The best value is part of the state that Lightning saves, so a resume does not forget it.

    Args:
        cfg: the config.
        interruption: ends the training after a step; a state is saved then, but no final model.
        loggers: get the picture of the best model's detections.
    """

    def __init__(self, cfg: Any, interruption: Interruption, loggers: Loggers | None = None) -> None:
        self.cfg, self.interruption = cfg, interruption
        self.loggers = loggers or Loggers([], cfg.OUTPUT_DIR)
        self.best = EarlyStopping(cfg.VINDR.BEST_METRIC, cfg.VINDR.PATIENCE)

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Stop at once where early stopping or a signal ended the training that is resumed."""
        super().on_train_start(trainer, module)
        trainer.should_stop |= self.best.exhausted or self.interruption.agreed() > 0

    def on_validated(self, trainer: L.Trainer, module: DetectorModule) -> None:
        """Save the model if it is the best so far; stop early after VINDR.PATIENCE validations without."""
        self.compare(module, trainer.global_step, trainer.is_global_zero)
        if self.best.exhausted and trainer.global_step < trainer.max_steps:
            self.best.log_stop(trainer.global_step)
            trainer.should_stop = True

    def compare(self, module: DetectorModule, done: int, writes: bool = True) -> None:
        """Save the model if it is the best so far."""
        if self.best.update(module.latest):
            self.best.log_best(done)
            if writes:
                self.save(module, done, "model_best.pth")
                keep_predictions(self.cfg, module.predictions)
                picture = draw_validation(self.cfg, module.predictions)
                if picture is not None:
                    self.loggers.picture("val_predictions", picture, done)

    def after_step(self, trainer: L.Trainer, module: DetectorModule, done: int) -> None:
        """Save a state every CHECKPOINT_PERIOD iterations, and when a signal came."""
        interrupted = self.interruption.agreed() > 0
        if interrupted or is_due(done, self.cfg.SOLVER.CHECKPOINT_PERIOD):
            self._save_state(trainer)
        trainer.should_stop |= interrupted

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Save the final model and the last state, unless a signal ended the training."""
        assert isinstance(module, DetectorModule)
        if self.interruption.ends:
            return
        if trainer.is_global_zero:
            self.save(module, trainer.global_step, "model_final.pth")
        if not is_due(trainer.global_step, self.cfg.SOLVER.CHECKPOINT_PERIOD):
            self._save_state(trainer)

    @property
    def state_key(self) -> str:
        """Its key in a state, as in states of earlier versions."""
        return "BestAndFinal"

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must carry."""
        return self.best.state_dict()

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Resume from a checkpoint."""
        self.best.load_state_dict(state)

    def on_save_checkpoint(
        self, trainer: L.Trainer, module: L.LightningModule, checkpoint: dict[str, Any]
    ) -> None:
        """Add the entry that :mod:`vindr_det.training.resume` checks."""
        assert isinstance(module, DetectorModule)
        entry = checkpoint.setdefault("vindr", {})
        entry.update(metadata(self.cfg, trainer.global_step, module.latest), waited=self.best.waited)

    def save(self, module: DetectorModule, done: int, name: str) -> None:
        """Write a model to predict with: EMA weights where VINDR.EMA_DECAY is above 0."""
        module.finite.settle()
        data = {"model": module.weights(), "vindr": metadata(self.cfg, done, module.latest)}
        with atomic_path(Path(self.cfg.OUTPUT_DIR) / name) as temporary:
            torch.save(data, temporary)

    def _save_state(self, trainer: L.Trainer) -> None:
        module: Any = trainer.lightning_module
        module.finite.settle()
        done, folder = trainer.global_step, Path(self.cfg.OUTPUT_DIR)
        target = folder / f"{states.name_of(done)}{STATE_SUFFIX}"
        if not trainer.is_global_zero:
            trainer.save_checkpoint(target)  # takes part, but writes nothing
            return
        with atomic_path(target) as temporary:
            trainer.save_checkpoint(temporary)
        states.keep_latest(folder, STATE_SUFFIX, done, self.cfg.VINDR.KEEP_CHECKPOINTS)
