"""One model's training with Lightning: steps, optimizer and schedule, and which epoch's weights are kept."""

import logging
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from tabulate import tabulate
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vindr_det.classification.history import EpochWeights, History, mean_auc, measures, predict
from vindr_det.classification.losses import Loss
from vindr_det.classification.progress import FoldProgress
from vindr_det.device import resolve_device
from vindr_det.files import atomic_path
from vindr_det.metrics.metric import format_value
from vindr_det.training.acceleration import compile_or_not, lay_out
from vindr_det.training.early_stopping import EarlyStopping
from vindr_det.training.ema import ema_weights
from vindr_det.training.ema_module import EMAModule
from vindr_det.training.finite import FiniteCheck, sent
from vindr_det.training.optimizer import build_optimizer, groups_by_dimension
from vindr_det.training.schedule import ScheduleOptions, build_lr_scheduler

log = logging.getLogger(__name__)

AUC = "auc"
#: What the warm-up starts from, as a factor of SOLVER.LR, where SOLVER.LR_START is 0.
_WARMUP_FACTOR = 0.05


class ClassifierModule(EMAModule):
    """SOLVER's optimizer, schedule and loss.

    Args:
        cfg: the config.
        network: (B, 1, S, S) images to (B, K) logits.
        loss: of logits and targets.
        steps: per epoch.
    """

    def __init__(self, cfg: Any, network: nn.Module, loss: Loss, steps: int) -> None:
        super().__init__(network, cfg.SOLVER.EMA_DECAY)
        self.cfg, self.loss, self.steps = cfg, loss, steps
        half = None if cfg.SOLVER.PRECISION == "32-true" else torch.bfloat16
        lay_out(network, cfg.SOLVER.CHANNELS_LAST, resolve_device(cfg.DEVICE), half)
        if cfg.SOLVER.COMPILE:
            compile_or_not(network, "SOLVER.COMPILE")
        self._trained_on: list[tuple[Tensor, Tensor]] = []
        self.finite = FiniteCheck()
        self._summed, self._images = torch.zeros(()), 0

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        """Loss of one batch.

        Raises:
            DivergedError: it is not finite; on a GPU that of the batch before.
        """
        logits = self.network(batch[0])
        value = self.loss(logits, batch[1])
        self.finite.add(self.global_step, [f"batch {number}"], sent({"loss": value}))
        self._summed = self._summed + value.detach() * len(batch[0])
        self._images += len(batch[0])
        self._trained_on.append((logits.detach(), batch[1]))
        return value

    def training_loss(self) -> float:
        """Mean loss of this process's images since the last call; NaN without any.

        Raises:
            DivergedError: a loss is not finite.
        """
        self.finite.settle()
        mean = float(self._summed) / self._images if self._images else math.nan
        self._summed, self._images = torch.zeros(()), 0
        return mean

    def training_auc(self) -> float:
        """Mean AUC of this process's images as they were trained on since the last call, augmented."""
        if not self._trained_on:
            return math.nan
        logits, targets = (torch.cat(parts).float().cpu().numpy()
                           for parts in zip(*self._trained_on, strict=True))
        self._trained_on.clear()
        return mean_auc(targets, logits)

    def predict_with_ema(self, loader: DataLoader) -> NDArray[np.float64]:
        """(N, K) probabilities of a loader's images by the model EMA, where there is one."""
        with ema_weights(self.network, self.ema):
            return predict(self.network, loader, self.device, self.cfg.TEST_FLIP)

    def on_train_batch_end(self, *_: Any) -> None:
        """Update the model EMA."""
        if self.ema is not None:
            self.ema.update(self.network)

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimizer and SOLVER.SCHEDULE, which is stepped after each batch."""
        solver = self.cfg.SOLVER
        without_decay: set[str] = getattr(self.network, "no_weight_decay", set)()
        groups = groups_by_dimension(self.network, solver.WEIGHT_DECAY, without_decay)
        optimizer = build_optimizer(solver.OPTIMIZER, groups, solver.LR)
        schedule = build_lr_scheduler(optimizer, solver.SCHEDULE, schedule_options(solver, self.steps))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """States of earlier versions hold a SequentialLR, of which the position is all that matters."""
        super().on_load_checkpoint(checkpoint)
        checkpoint["lr_schedulers"] = [
            {"last_epoch": state["last_epoch"], "_last_lr": state["_last_lr"],
             "lr_lambdas": [None] * len(state["_last_lr"])} if "_schedulers" in state else state
            for state in checkpoint.get("lr_schedulers", [])]


def schedule_options(solver: Any, steps: int) -> ScheduleOptions:
    """SOLVER's epochs in steps.

    Args:
        solver: the config's SOLVER.
        steps: per epoch.
    """
    # cosine and hold warm up for a step at least.
    warmup = max(solver.SCHEDULE != "constant", round(solver.WARMUP_EPOCHS * steps))
    # A warm-up that is longer than the training is cut off, not compressed.
    return ScheduleOptions(
        total=max(solver.EPOCHS * steps, warmup), warmup=warmup,
        warmup_factor=solver.LR_START / solver.LR or _WARMUP_FACTOR, end=solver.LR_MIN / solver.LR,
        hold=max(1, round(solver.HOLD_EPOCHS * steps)),
        gamma=solver.DECAY ** (1 / steps))


@dataclass
class EpochSelection:
    """Validation on images that are neither trained on nor in the held-out fold; it selects the epoch.

    Attributes:
        loader: of the images.
        targets: (N, K) of theirs.
        best: the best epoch so far, and when to stop.
        latest: measures of the latest epoch.
    """

    loader: DataLoader
    targets: NDArray[np.float32]
    best: EarlyStopping
    latest: dict[str, float] = field(default_factory=dict)

    def validate(self, module: ClassifierModule) -> float:
        """SOLVER.SELECT_BY of the model EMA, higher for better: the mean AUC, or the negative loss."""
        self.latest = measures(self.targets, module.predict_with_ema(self.loader), module.loss)
        return self.shown(self.latest[self.best.metric])

    def shown(self, value: float) -> float:
        """A value of :meth:`validate` in the usual sign, and the reverse."""
        return value if self.best.metric == AUC else -value

    def best_metrics(self) -> dict[str, float]:
        """The best value under its name, such as ``inner_auc``."""
        return {f"inner_{self.best.metric}": self.shown(self.best.value)}


class KeepWeights(L.Callback):
    """Keep the last or the best epoch's weights; after each epoch measure, and save a state to resume from.

    Args:
        state: file of the state.
        history: gets a row per epoch.
        selection: finds the best epoch; None keeps the last.
        epochs: saves the weights of some epochs; None of none.
        progress: is told each epoch; None for none.

    Attributes:
        kept: state dict of the epoch that is kept.
    """

    def __init__(
        self, state: Path, history: History, selection: EpochSelection | None = None,
        epochs: EpochWeights | None = None, progress: FoldProgress | None = None,
    ) -> None:
        self.state, self.history, self.selection, self.epochs = state, history, selection, epochs
        self.progress = progress
        self.kept: dict[str, Tensor] = {}
        self._rate = math.nan

    @property
    def state_key(self) -> str:
        """Its key in a state, as in states of earlier versions."""
        return "EndOfEpoch"

    def on_train_batch_start(self, trainer: L.Trainer, *_: Any) -> None:
        """Note the learning rate of the step."""
        self._rate = trainer.optimizers[0].param_groups[0]["lr"]

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Validate, keep the weights if they are to be kept, save the state, and stop early."""
        assert isinstance(module, ClassifierModule)
        epoch = trainer.current_epoch + 1
        times = self.progress.times() if self.progress else {}
        row = {"epoch": epoch, **times, "lr": self._rate,
               "loss": module.training_loss(), AUC: module.training_auc()}
        keep = epoch == trainer.max_epochs
        if self.selection is not None:
            # All processes validate (their batch norms could differ), the first decides.
            value = trainer.strategy.broadcast(self.selection.validate(module), 0)
            improved = self.selection.best.update({self.selection.best.metric: value})
            keep = improved or math.isnan(value) or not self.kept  # the last, where nothing is measurable
            agreed = {self.selection.best.metric: self.selection.shown(value)}
            row |= {f"inner_{name}": each for name, each in (self.selection.latest | agreed).items()}
        weights = module.weights()
        if keep:
            self.kept = {key: weight.detach().cpu().clone() for key, weight in weights.items()}
        if trainer.is_global_zero:
            self._report(module, row, int(trainer.max_epochs or epoch))
            if self.epochs is not None:
                self.epochs.keep(epoch, weights)
        if self.selection is not None and self.selection.best.exhausted:
            log.info("early stopping: no better %s in %d epochs", self.selection.best.metric,
                     self.selection.best.waited)
            trainer.should_stop = True
        self._save(trainer)
        if trainer.is_global_zero:
            self.history.write()

    def _report(self, module: ClassifierModule, row: dict[str, float], epochs: int) -> None:
        """Add the epoch to history and log, with the held-out fold's measures, which choose nothing."""
        held_out = self.history.held_out
        if held_out is not None:
            p = module.predict_with_ema(held_out.loader)
            if self.progress and row["epoch"] == epochs:
                self.progress.add_predictions(held_out.loader.dataset, p, epochs)
            values = held_out.measure(p, module.loss)
            row |= {f"held_out_{name}": value for name, value in values.items()}
        self.history.add(row)
        line = f"epoch {row['epoch']}/{epochs}  loss {row['loss']:.4f}"
        for part, name in (("inner", "images set aside"), ("held_out", "held-out fold")):
            if f"{part}_{AUC}" in row:
                line += f"  AUC of the {name} {row[f'{part}_{AUC}']:.4f}"
        if self.progress:
            line += f"  {self.progress.add_epoch(row, epochs)}"
        log.info("%s%s", line, _aucs_text(row))

    def _save(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.state)  # collective: the first process alone writes
            return
        with atomic_path(self.state) as temporary:
            trainer.save_checkpoint(temporary)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must carry."""
        return {"best": self.selection.best.state_dict() if self.selection else {}, "kept": self.kept,
                "history": self.history.rows}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        if self.selection is not None:
            self.selection.best.load_state_dict(state["best"])
        self.kept = state["kept"]
        self.history.rows = list(state.get("history", []))  # states of earlier versions have none


def _aucs_text(row: Mapping[str, float]) -> str:
    """A table of the labels' AUC in the held-out fold, where there are several; else empty."""
    start = f"held_out_{AUC}/p_"
    rows = [[key.removeprefix(start), format_value(value)] for key, value in row.items()
            if key.startswith(start)]
    return "\n" + tabulate(rows, ["label", "AUC, held out"], disable_numparse=True,
                           colalign=("left", "right")) if rows else ""
