"""Training hooks: a validation loss that means something, and a best model that survives a resume."""

import json
import logging
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import detectron2.utils.comm as comm
import torch
from detectron2.data import build_detection_test_loader
from detectron2.engine import HookBase
from detectron2.engine.hooks import PeriodicWriter
from detectron2.utils.events import EventStorage
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from vindr_det.detection.detectron2.mapper import VindrMapper
from vindr_det.detection.precision import autocast
from vindr_det.detection.validation import LossMeans, training_mode_aside
from vindr_det.training import module_state, random_state, states
from vindr_det.training.early_stopping import EarlyStopping
from vindr_det.training.ema import ModelEMA, ema_weights
from vindr_det.training.interruption import Interruption
from vindr_det.training.sampler import batch_part

log = logging.getLogger(__name__)


def before_writers(hooks: Sequence[HookBase | None], *more: HookBase) -> list[HookBase | None]:
    """``hooks`` with ``more`` put where what they measure is still written.

    Only the first rank has writers and checkpoints, so a place counted from the end of the list is
    another place on the other ranks. Hooks that wait for all ranks (an evaluation, a validation loss)
    must come in one order everywhere, or each rank waits in another one for ever.
    """
    writers = [hook for hook in hooks if isinstance(hook, PeriodicWriter)]
    return [*(hook for hook in hooks if hook not in writers), *more, *writers]


class ValidationLoss(HookBase):
    """Write the losses of the validation set to the storage as ``validation_loss...``.

    Normal and abnormal images are measured apart, and together.

    The model computes them in training mode, so that they are the training's own losses, but
    without gradients, with batch norm's statistics left alone, and with the random state and the
    event storage of the training put back afterwards.

    Args:
        period: iterations between two measurements; 0 measures at the end alone.
        loader: a finite iterable of batches whose dicts have ``instances``.
        averaged: returns the average of the weights to measure instead of the weights, or None.
        half: type of mixed precision to measure in; None for none.
        interruption: after a signal nothing is written; ``loader`` may end early then.
    """

    def __init__(
        self, period: int, loader: Any, ema: Callable[[], ModelEMA | None] = lambda: None,
        half: torch.dtype | None = None, interruption: Interruption | None = None,
    ) -> None:
        self.period, self.loader, self.ema = period, loader, ema
        self.half, self.interruption = half, interruption or Interruption()

    @classmethod
    def from_config(cls, cfg: Any) -> "ValidationLoss":
        """Every TEST.EVAL_PERIOD iterations on VINDR.VALIDATION, which Detectron2's catalog must hold."""
        mapper = VindrMapper(cfg, is_train=False, keep_truth=True)
        return cls(cfg.TEST.EVAL_PERIOD, build_detection_test_loader(
            cfg, list(cfg.VINDR.VALIDATION), mapper=mapper,
            batch_size=batch_part(cfg, comm.get_world_size())),
            half=torch.float16 if cfg.SOLVER.AMP.ENABLED else None)  # AMPTrainer's

    def after_step(self) -> None:
        """Measure every ``period`` iterations and after the last."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self.period > 0 and done % self.period == 0):
            model = unwrapped(self.trainer.model)
            device = next(model.parameters()).device
            with ema_weights(model, self.ema()), autocast(device, self.half):
                losses = mean_losses(self.trainer.model, self.loader)
            if not self.interruption.agreed():
                self.trainer.storage.put_scalars(smoothing_hint=False, **losses)


@torch.no_grad()
def mean_losses(model: nn.Module, loader: Any) -> dict[str, float]:
    """Means of the model's losses over the images of ``loader`` and all ranks, named as
    :meth:`vindr_det.detection.validation.LossMeans.means` does.

    For a training loop of your own; :class:`ValidationLoss` calls it for Detectron2's trainers.

    Args:
        model: a Detectron2 model, also one that is wrapped for several processes.
        loader: a finite iterable of batches whose dicts have ``instances``.
    """
    means = LossMeans()
    model = unwrapped(model)  # ranks may have different numbers of batches, so none may wait for another
    with training_mode_aside(model), EventStorage():
        for batch in loader:
            for normal in (False, True):
                part = [given for given in batch if (len(given["instances"]) == 0) == normal]
                if part:
                    means.add(model(part), len(part), normal)
    return LossMeans.merged(comm.all_gather(means.parts())).means()


class BestCheckpoint(HookBase):
    """Save ``model_best`` whenever a metric beats its best value, also across a resume.

    Detectron2's ``BestCheckpointer`` forgets its best value when training resumes, and overwrites
    the best model with the first one evaluated after that.

    Args:
        best: the metric and how long to wait for a better value; ends the training after that.
        save: called when there is a new best.
        latest: returns the metrics of the last evaluation and the iteration they belong to.
    """

    def __init__(
        self, best: EarlyStopping, save: Callable[[], None],
        latest: Callable[[], tuple[Mapping[str, float], int]],
    ) -> None:
        self.best, self.save, self.latest = best, save, latest

    def after_step(self) -> None:
        """Look whether there was an evaluation after this step."""
        metrics, iteration = self.latest()
        if iteration == self.trainer.iter and metrics and self.best.update(metrics):
            self.save()
            log.info("best model so far: %s %.4f at iteration %d", self.best.metric, self.best.value,
                     iteration)

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must carry."""
        return self.best.state_dict()

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint."""
        self.best.load_state_dict(state)


class UpdateEMA(HookBase):
    """Take each step's weights into their average; ``None`` until the training begins.

    Args:
        decay: see :class:`vindr_det.training.ema.ModelEMA`; 0 keeps no average.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.ema: ModelEMA | None = None
        self._resumed: Mapping[str, Any] | None = None

    def before_train(self) -> None:
        """The weights are loaded by now."""
        if self.decay > 0:
            self.ema = ModelEMA(unwrapped(self.trainer.model), self.decay)
            if self._resumed is not None:
                self.ema.load_state_dict(self._resumed)
                self._resumed = None

    def after_step(self) -> None:
        """Take one step in."""
        if self.ema is not None:
            self.ema.update(unwrapped(self.trainer.model))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must carry."""
        return {} if self.ema is None else self.ema.state_dict()

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep it until the training begins."""
        self._resumed = state


class MetricsLines(HookBase):
    """Append a line to metrics.json every 20 iterations, and what was validated when it was.

    Detectron2's writer looks only every 20 iterations, and a validation hides the one before.

    Args:
        path: of the file.
        is_due: whether this iteration ended with a validation.
    """

    period = 20

    def __init__(self, path: Path, is_due: Callable[[], bool]) -> None:
        self.path, self.is_due = path, is_due

    def after_step(self) -> None:
        """Losses are medians of the last 20 iterations, all else is of this one."""
        done, storage = self.trainer.iter + 1, self.trainer.storage
        periodic = done % self.period == 0 or done == self.trainer.max_iter
        if not (periodic or self.is_due()):
            return
        smoothed = storage.smoothing_hints()
        values = {
            key: value
            for key, (value, of) in storage.latest_with_smoothing_hint(self.period).items()
            if of == self.trainer.iter and (periodic or not smoothed[key])
            and math.isfinite(value)  # JSON has no word for what is not
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values | {"iteration": self.trainer.iter}, sort_keys=True) + "\n")


class ModelNumbers(HookBase):
    """Keep the numbers that a model has outside of its state dict: each rank's, since each counts its own
    images. See :mod:`vindr_det.training.module_state`.

    Args:
        model: as it was built.
        period: iterations between two states.
    """

    def __init__(self, model: nn.Module, period: int) -> None:
        self.built, self.period = module_state.numbers(unwrapped(model)), period
        self.of_ranks: list[module_state.Numbers] = [{}]

    def after_step(self) -> None:
        """Look whether it is time."""
        if (self.trainer.iter + 1) % self.period == 0:
            self.gather()

    def gather(self) -> None:
        """All ranks together, since only the first one saves."""
        own = module_state.changed(unwrapped(self.trainer.model), self.built)
        self.of_ranks = comm.all_gather(own)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must carry."""
        return {"of_ranks": self.of_ranks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Go on from a checkpoint, perhaps with another number of ranks."""
        self.of_ranks = state["of_ranks"]
        own = self.of_ranks[comm.get_rank() % len(self.of_ranks)]
        module_state.set_numbers(unwrapped(self.trainer.model), own)


class SaveStates(HookBase):
    """Save a state to resume from every ``period`` iterations; keep some.

    Args:
        checkpointer: writes ``state_<iterations>.pth``.
        period: iterations.
        keep: how many of the latest.
    """

    def __init__(self, checkpointer: Checkpointer, period: int, keep: int) -> None:
        self.checkpointer, self.period, self.keep = checkpointer, period, keep

    def after_step(self) -> None:
        """Look whether it is time."""
        if (self.trainer.iter + 1) % self.period == 0:
            self.save()

    def save(self) -> None:
        """Save now."""
        done = self.trainer.iter + 1
        self.checkpointer.save(states.name_of(done))
        states.keep_latest(self.checkpointer.save_dir, ".pth", done, self.keep)


class RandomState(HookBase):
    """Seed each step, see :mod:`vindr_det.training.random_state`.

    Args:
        seed: of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_step(self) -> None:
        """Each rank draws its own numbers."""
        random_state.reseed(self.seed, self.trainer.iter, comm.get_rank())


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, where it is wrapped for several processes."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
