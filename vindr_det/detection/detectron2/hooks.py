"""Training hooks: validation, best checkpoint, model EMA, states to resume from, metrics.json."""

import json
import math
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path
from typing import Any

import detectron2.utils.comm as comm
import torch
from detectron2.data import build_detection_test_loader
from detectron2.engine import HookBase
from detectron2.engine.hooks import EvalHook, PeriodicWriter
from detectron2.utils.events import EventStorage
from fvcore.common.checkpoint import Checkpointer
from torch import nn

from vindr_det.detection.detectron2.mapper import VindrMapper
from vindr_det.detection.incomplete import NOT_EXHAUSTIVE
from vindr_det.detection.precision import autocast
from vindr_det.detection.validation import LossMeans, training_mode_aside
from vindr_det.training import module_state, states
from vindr_det.training.acceleration import plain_format
from vindr_det.training.early_stopping import EarlyStopping
from vindr_det.training.ema import ModelEMA, ema_weights
from vindr_det.training.interruption import Interruption
from vindr_det.training.sampler import batch_part, seed_step
from vindr_det.training.schedule import is_due


def before_writers(hooks: Sequence[HookBase | None], *more: HookBase) -> list[HookBase | None]:
    """``hooks`` with ``more`` inserted before the writers, so that what they measure is written.

    Only the first rank has writers and checkpoints, so an index counted from the end of the list is a
    different position on the other ranks. Hooks that wait for all ranks (an evaluation, a validation loss)
    must have the same order on every rank, or the ranks wait for each other without end.
    """
    writers = [hook for hook in hooks if isinstance(hook, PeriodicWriter)]
    return [*(hook for hook in hooks if hook not in writers), *more, *writers]


class ValidationLoss(HookBase):
    """Write the losses of the validation set to the storage as ``validation_loss...``.

    Losses of normal images, of abnormal images, and of all. The model computes them in training mode, so
    that they are the training's own losses, but without gradients and without a trace: batch norm's
    statistics, the random state and the event storage of the training stay as they are.

    Args:
        period: iterations between two measurements; 0 measures at the end alone.
        loader: a finite iterable of batches whose dicts have ``instances``.
        ema: measures its weights where it has any, instead of the model's.
        half: type of mixed precision to measure in; None for none.
        interruption: after a signal nothing is written, since ``loader`` may have ended early.
    """

    def __init__(
        self, period: int, loader: Any, ema: "UpdateEMA | None" = None,
        half: torch.dtype | None = None, interruption: Interruption | None = None,
    ) -> None:
        self.period, self.loader = period, loader
        self.ema = ema or UpdateEMA(0.0)
        self.half, self.interruption = half, interruption or Interruption()

    @classmethod
    def from_config(cls, cfg: Any) -> "ValidationLoss":
        """Measure VINDR.VALIDATION, registered in Detectron2's catalog, every TEST.EVAL_PERIOD iterations."""
        mapper = VindrMapper(cfg, is_train=False, keep_truth=True)
        return cls(cfg.TEST.EVAL_PERIOD, build_detection_test_loader(
            cfg, list(cfg.VINDR.VALIDATION), mapper=mapper,
            batch_size=batch_part(cfg, comm.get_world_size())),
            half=torch.float16 if cfg.SOLVER.AMP.ENABLED else None)  # as AMPTrainer

    def after_step(self) -> None:
        """Measure every ``period`` iterations and after the last."""
        if not is_due(self.trainer.iter + 1, self.period, self.trainer.max_iter):
            return
        model = unwrapped(self.trainer.model)
        device = next(model.parameters()).device
        with ema_weights(model, self.ema.ema), autocast(device, self.half):
            losses = mean_losses(model, self.loader)
        if not self.interruption.agreed():
            self.trainer.storage.put_scalars(smoothing_hint=False, **losses)


@torch.no_grad()
def mean_losses(model: nn.Module, loader: Any) -> dict[str, float]:
    """Means of the model's losses over the images of a loader and over all ranks.

    For a training loop of your own; :class:`ValidationLoss` calls it for Detectron2's trainers.

    Args:
        model: a Detectron2 model, also where it is wrapped for several processes.
        loader: a finite iterable of batches whose dicts have ``instances``.

    Returns:
        Name of each loss -> mean, see :meth:`vindr_det.detection.validation.LossMeans.means`.
    """
    means = LossMeans()
    model = unwrapped(model)  # no rank waits for another: they may have different numbers of batches
    with training_mode_aside(model), EventStorage():
        for batch in loader:
            for normal in (False, True):
                part = [image for image in batch if _is_normal(image) == normal]
                if part:
                    means.add(model(part), len(part), normal)
    return LossMeans.merged(comm.all_gather(means.parts())).means()


def _is_normal(image: Mapping[str, Any]) -> bool:
    return not (len(image["instances"]) or image.get(NOT_EXHAUSTIVE))


class Validation(EvalHook):
    """Detectron2's evaluation hook, but the last evaluation is a part of the last step.

    So the last checkpoint has its metrics. The random state of the training stays as it is.

    Args:
        period: iterations between two evaluations; 0 evaluates at the end alone.
        evaluate: returns metrics by name.
        interruption: the metrics of an evaluation that a signal ended are not kept.

    Attributes:
        metrics: of the latest whole evaluation.
        iteration: of that evaluation; -1 for none since the training began or was resumed.
        pending: whether a signal ended the latest evaluation.
    """

    def __init__(self, period: int, evaluate: Callable[[], Mapping[str, float]],
                 interruption: Interruption) -> None:
        super().__init__(period, self._measure, eval_after_train=False)
        self.evaluate, self.interruption = evaluate, interruption
        self.metrics: Mapping[str, float] = {}
        self.iteration, self.pending = -1, False

    def after_step(self) -> None:
        """Evaluate every ``period`` iterations and after the last."""
        if is_due(self.trainer.iter + 1, self._period, self.trainer.max_iter):
            with torch.random.fork_rng():
                self._do_eval()

    def _measure(self) -> Mapping[str, float]:
        results = self.evaluate()
        self.pending = self.interruption.ends > 0
        if not self.pending:
            self.metrics, self.iteration = results, self.trainer.iter
        return results

    def restore(self, metrics: Mapping[str, float], pending: bool) -> None:
        """Resume with the metrics of a checkpoint."""
        self.metrics, self.iteration, self.pending = metrics, -1, pending

    def latest(self) -> tuple[Mapping[str, float], int]:
        """Metrics of the latest whole evaluation and its iteration."""
        return self.metrics, self.iteration


class BestCheckpoint(HookBase):
    """Save ``model_best`` whenever a metric beats its best value, also across a resume.

    Detectron2's ``BestCheckpointer`` forgets its best value when training resumes, and overwrites
    the best model with the first one evaluated after that.

    Args:
        best: the metric, its best value, and for how many validations to wait for a better one.
        save: called when there is a new best value.
        latest: returns the metrics of the latest evaluation and the iteration that they belong to.
    """

    def __init__(
        self, best: EarlyStopping, save: Callable[[], None],
        latest: Callable[[], tuple[Mapping[str, float], int]],
    ) -> None:
        self.best, self.save, self.latest = best, save, latest

    def after_step(self) -> None:
        """Compare the metrics, if there was an evaluation after this step."""
        metrics, iteration = self.latest()
        if iteration == self.trainer.iter and metrics and self.best.update(metrics):
            self.save()
            self.best.log_best(iteration + 1)

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must carry."""
        return self.best.state_dict()

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Resume from a checkpoint."""
        self.best.load_state_dict(state)


class UpdateEMA(HookBase):
    """Update the model EMA after each step.

    Args:
        decay: see :class:`vindr_det.training.ema.ModelEMA`; 0 keeps no EMA.

    Attributes:
        ema: the EMA; None without one, and until the training begins.
    """

    def __init__(self, decay: float) -> None:
        self.decay = decay
        self.ema: ModelEMA | None = None
        self._resumed: Mapping[str, Any] | None = None

    def before_train(self) -> None:
        """Begin the EMA with the weights, which are loaded by now, or with that of the checkpoint."""
        if self.decay > 0:
            self.ema = ModelEMA(unwrapped(self.trainer.model), self.decay)
            if self._resumed is not None:
                self.ema.load_state_dict(self._resumed)
                self._resumed = None

    def after_step(self) -> None:
        """Update the EMA."""
        if self.ema is not None:
            self.ema.update(unwrapped(self.trainer.model))

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must carry."""
        return {} if self.ema is None else self.ema.state_dict()

    def weights(self) -> dict[str, torch.Tensor]:
        """State dict to predict with: the EMA where there is one, else the model's."""
        own = unwrapped(self.trainer.model).state_dict() if self.ema is None else self.ema.state
        return plain_format(own)

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Keep the EMA until the training begins."""
        self._resumed = state


class MetricsLines(HookBase):
    """Append a line to metrics.json every 20 iterations and after every validation.

    Detectron2's writer looks only every 20 iterations, and so misses all but the latest validation.

    Args:
        path: metrics.json.
        validation: the hook that validates.
    """

    period = 20

    def __init__(self, path: Path, validation: Validation) -> None:
        self.path, self.validation = path, validation

    def after_step(self) -> None:
        """Write losses as medians of the last 20 iterations, and all else as it is in this one."""
        storage = self.trainer.storage
        periodic = is_due(self.trainer.iter + 1, self.period, self.trainer.max_iter)
        if not (periodic or self.validation.iteration == self.trainer.iter):
            return
        smoothed = storage.smoothing_hints()
        values = {
            key: value
            for key, (value, iteration) in storage.latest_with_smoothing_hint(self.period).items()
            if iteration == self.trainer.iter and (periodic or not smoothed[key])
            and math.isfinite(value)  # JSON has no NaN and no infinity
        }
        with self.path.open("a", encoding="utf-8") as file:
            file.write(json.dumps(values | {"iteration": self.trainer.iter}, sort_keys=True) + "\n")


class ModelNumbers(HookBase):
    """Save the numbers that a model has outside of its state dict.

    Those of every rank, since each has seen other images; see :mod:`vindr_det.training.module_state`.

    Args:
        model: the model before its training.
        period: iterations between two states.
    """

    def __init__(self, model: nn.Module, period: int) -> None:
        self.built, self.period = module_state.numbers(unwrapped(model)), period
        self.of_ranks: list[module_state.Numbers] = [{}]

    def after_step(self) -> None:
        """Gather the numbers before a state is saved."""
        if is_due(self.trainer.iter + 1, self.period):
            self.gather()

    def gather(self) -> None:
        """Collect the numbers of all ranks on the first, which saves them; a collective call."""
        own = module_state.changed(unwrapped(self.trainer.model), self.built)
        self.of_ranks = comm.all_gather(own)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must carry."""
        return {"of_ranks": self.of_ranks}

    def load_state_dict(self, state: Mapping[str, Any]) -> None:
        """Resume from a checkpoint, perhaps with another number of ranks."""
        self.of_ranks = state["of_ranks"]
        own = self.of_ranks[comm.get_rank() % len(self.of_ranks)]
        module_state.set_numbers(unwrapped(self.trainer.model), own)


class SaveStates(HookBase):
    """Save a state to resume from every ``period`` iterations.

    Args:
        checkpointer: writes ``state_<iterations>.pth``.
        period: iterations between two states.
        keep: number of the latest states that are kept.
    """

    def __init__(self, checkpointer: Checkpointer, period: int, keep: int) -> None:
        self.checkpointer, self.period, self.keep = checkpointer, period, keep

    def after_step(self) -> None:
        """Save every ``period`` iterations."""
        if is_due(self.trainer.iter + 1, self.period):
            self.save()

    def save(self) -> None:
        """Save a state of the finished iterations, and remove older ones."""
        done = self.trainer.iter + 1
        self.checkpointer.save(states.name_of(done))
        states.keep_latest(self.checkpointer.save_dir, ".pth", done, self.keep)


class SeedSteps(HookBase):
    """Seed each step, see :func:`vindr_det.training.sampler.seed_step`.

    Args:
        seed: seed of the training.
    """

    def __init__(self, seed: int) -> None:
        self.seed = seed

    def before_step(self) -> None:
        """Seed the random numbers of this rank's step."""
        seed_step(self.seed, self.trainer.iter, comm.get_rank())


def unwrapped(model: nn.Module) -> nn.Module:
    """The model itself, also where it is wrapped for several processes."""
    return model.module if isinstance(model, nn.parallel.DistributedDataParallel) else model
