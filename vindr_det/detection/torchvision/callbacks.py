"""metrics.json, the progress line, and the three checkpoints."""

import json
import logging
import math
import statistics
import time
from collections import deque
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch

from vindr_det.detection.checkpoint import metadata
from vindr_det.detection.torchvision.module import DetectorModule
from vindr_det.files import atomic_path

log = logging.getLogger(__name__)

#: Lightning's own checkpoint, from which a training resumes.
LAST = "last.ckpt"
_PERIOD = 20


class MetricsFile(L.Callback):
    """Append a JSON object a line to metrics.json, in Detectron2's format, and log a line."""

    def __init__(self, folder: str | Path) -> None:
        self.path = Path(folder) / "metrics.json"
        self._times: deque[float] = deque(maxlen=_PERIOD)
        self._losses: deque[dict[str, float]] = deque(maxlen=_PERIOD)
        self._since = time.perf_counter()

    def on_train_start(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """A training from the start begins a new file; a resumed one goes on in the old."""
        if trainer.is_global_zero and trainer.global_step == 0:
            self.path.unlink(missing_ok=True)

    def on_train_batch_start(self, *_: Any) -> None:
        """Start the clock."""
        self._since = time.perf_counter()

    def on_train_batch_end(
        self, trainer: L.Trainer, module: L.LightningModule, outputs: Any, *_: Any
    ) -> None:
        """Write medians of the last 20 iterations, every 20 and at the end, as Detectron2 does."""
        self._times.append(time.perf_counter() - self._since)
        self._losses.append({key: float(value) for key, value in trainer.callback_metrics.items()})
        done = trainer.global_step
        if not trainer.is_global_zero or (done % _PERIOD and done != trainer.max_steps):
            return
        median = statistics.median
        pace = median(self._times)
        rate = trainer.optimizers[0].param_groups[0]["lr"]
        losses = {key: median(part[key] for part in self._losses) for key in self._losses[0]}
        self.write({"iteration": done - 1, "lr": rate, "time": pace, **losses})
        left = time.strftime("%H:%M:%S", time.gmtime(pace * (trainer.max_steps - done)))
        log.info("iteration %d/%d  loss %.4f  lr %.5f  %.3f s/iteration  eta %s", done,
                 trainer.max_steps, losses["total_loss"], rate, pace, left)

    def on_validated(self, trainer: L.Trainer, module: DetectorModule) -> None:
        """Write what was measured."""
        if trainer.is_global_zero:
            self.write({"iteration": trainer.global_step - 1, **module.latest})
            log.info("validation: %s", "  ".join(
                f"{key} {value:.4f}" for key, value in module.latest.items()
                if key in ("validation_loss", "vindr/mAP40", "coco/AP", "coco/AP50")))

    def write(self, values: dict[str, Any]) -> None:
        """Append one line."""
        self.path.parent.mkdir(parents=True, exist_ok=True)
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values, sort_keys=True) + "\n")


class Validation(L.Callback):
    """Validate every ``period`` iterations and after the last one.

    Args:
        period: iterations; 0 validates at the end alone.
        loader: this rank's share of the validation images.
        listeners: called with (trainer, module) after each validation.
    """

    def __init__(
        self, period: int, loader: Any, listeners: Sequence[Callable[[L.Trainer, Any], None]]
    ) -> None:
        self.period, self.loader, self.listeners = period, loader, listeners

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Look whether it is time."""
        done = trainer.global_step
        if done == trainer.max_steps or (self.period > 0 and done % self.period == 0):
            assert isinstance(module, DetectorModule)
            module.validate(self.loader)
            for listener in self.listeners:
                listener(trainer, module)


class BestAndFinal(L.Callback):
    """model_best.pth whenever the metric improves, model_final.pth at the end, last.ckpt to resume.

    The best value is part of the state that Lightning saves, so a resume does not forget it.
    """

    def __init__(self, cfg: Any) -> None:
        self.cfg, self.best = cfg, -math.inf

    def on_validated(self, trainer: L.Trainer, module: DetectorModule) -> None:
        """Compare and save."""
        metric = self.cfg.VINDR.BEST_METRIC
        value = module.latest.get(metric, math.nan)  # a class without ground truth is not measured
        if value > self.best:  # False for NaN
            self.best = value
            self._save(trainer, module, "model_best.pth")
            log.info("best model so far: %s %.4f at iteration %d", metric, self.best,
                     trainer.global_step)

    def on_train_batch_end(self, trainer: L.Trainer, module: L.LightningModule, *_: Any) -> None:
        """Every CHECKPOINT_PERIOD iterations."""
        if trainer.global_step % self.cfg.SOLVER.CHECKPOINT_PERIOD == 0:
            self._save_last(trainer)

    def on_train_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """The last state, best or not."""
        assert isinstance(module, DetectorModule)
        self._save(trainer, module, "model_final.pth")
        self._save_last(trainer)

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must carry."""
        return {"best": self.best}

    def load_state_dict(self, state: dict[str, float]) -> None:
        """Go on from a checkpoint."""
        self.best = state["best"]

    def _save(self, trainer: L.Trainer, module: DetectorModule, name: str) -> None:
        if trainer.is_global_zero:
            data = {"model": module.network.state_dict(),
                    "vindr": metadata(self.cfg, trainer.global_step, module.latest)}
            with atomic_path(Path(self.cfg.OUTPUT_DIR) / name) as temporary:
                torch.save(data, temporary)

    def _save_last(self, trainer: L.Trainer) -> None:
        with atomic_path(Path(self.cfg.OUTPUT_DIR) / LAST) as temporary:
            trainer.save_checkpoint(temporary)
