"""Training hooks: a validation loss that means something, and a best model that survives a resume."""

import logging
import math
from collections import defaultdict
from collections.abc import Callable, Mapping
from typing import Any

import detectron2.utils.comm as comm
import torch
from detectron2.engine import HookBase
from detectron2.utils.events import EventStorage
from torch import nn

from vindr_det.detection.modes import training_mode_aside

log = logging.getLogger(__name__)


class ValidationLoss(HookBase):
    """Write the losses of the validation set to the storage as ``validation_loss...``.

    The model computes them in training mode, so that they are the training's own losses, but
    without gradients, with batch norm's statistics left alone, and with the random state and the
    event storage of the training put back afterwards.

    Args:
        period: iterations between two measurements; 0 measures at the end alone.
        loader: a finite iterable of batches whose dicts have ``instances``.
    """

    def __init__(self, period: int, loader: Any) -> None:
        self.period, self.loader = period, loader

    def after_step(self) -> None:
        """Measure every ``period`` iterations and after the last."""
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self.period > 0 and done % self.period == 0):
            losses = mean_losses(self.trainer.model, self.loader)
            self.trainer.storage.put_scalars(
                validation_loss=sum(losses.values()), smoothing_hint=False,
                **{f"validation_{key}": value for key, value in losses.items()},
            )


@torch.no_grad()
def mean_losses(model: nn.Module, loader: Any) -> dict[str, float]:
    """Mean of each of the model's losses over the images of ``loader``, over all ranks."""
    total: dict[str, float] = defaultdict(float)
    images = 0
    with training_mode_aside(model), EventStorage():
        for batch in loader:
            for key, value in model(batch).items():
                total[key] += float(value) * len(batch)
            images += len(batch)
    parts = comm.all_gather((dict(total), images))
    count = max(sum(part[1] for part in parts), 1)
    keys = {key for part in parts for key in part[0]}
    return {key: sum(part[0].get(key, 0.0) for part in parts) / count for key in sorted(keys)}


class BestModel(HookBase):
    """Save ``model_best`` whenever a metric beats its best value, also across a resume.

    Detectron2's ``BestCheckpointer`` forgets its best value when training resumes, and overwrites
    the best model with the first one evaluated after that.

    Args:
        metric: name in the storage, higher is better.
        save: called with the metric's value when it is a new best.
        latest: returns the metrics of the last evaluation and the iteration they belong to.
    """

    def __init__(
        self, metric: str, save: Callable[[], None],
        latest: Callable[[], tuple[Mapping[str, float], int]],
    ) -> None:
        self.metric, self.save, self.latest = metric, save, latest
        self.best = -math.inf
        self.seen = -1

    def after_step(self) -> None:
        """Look whether there was an evaluation since the last look."""
        self._check()

    def after_train(self) -> None:
        """The last evaluation happens after the last step."""
        self._check()

    def _check(self) -> None:
        metrics, iteration = self.latest()
        if iteration == self.seen or not metrics:
            return
        self.seen = iteration
        value = metrics.get(self.metric, math.nan)  # a class without ground truth is not measured
        if value > self.best:  # False for NaN
            self.best = value
            self.save()
            log.info("best model so far: %s %.4f at iteration %d", self.metric, value, iteration)

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must carry."""
        return {"best": self.best, "seen": self.seen}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint."""
        self.best, self.seen = state["best"], int(state["seen"])
