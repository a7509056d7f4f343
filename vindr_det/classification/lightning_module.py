"""One model's training with Lightning: loss, optimizer, schedule, average, the epoch that is kept."""

import logging
import math
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import torch
from numpy.typing import NDArray
from timm.optim import param_groups_weight_decay
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vindr_det.classification.losses import Loss
from vindr_det.classification.model import probabilities
from vindr_det.exceptions import DivergedError
from vindr_det.files import atomic_path
from vindr_det.metrics.classification import auc, curve, measurable
from vindr_det.training.early_stopping import EarlyStopping
from vindr_det.training.ema import ema_weights
from vindr_det.training.ema_module import EMAModule

log = logging.getLogger(__name__)

AUC = "auc"


class ClassifierModule(EMAModule):
    """AdamW with a linear warm-up and the schedule of SOLVER.

    Args:
        cfg: the config.
        network: gives (B, K) logits.
        loss: of logits and targets.
        steps: in an epoch.
    """

    def __init__(self, cfg: Any, network: nn.Module, loss: Loss, steps: int) -> None:
        super().__init__(network, cfg.SOLVER.EMA_DECAY)
        self.cfg, self.loss, self.steps = cfg, loss, steps

    def training_step(self, batch: tuple[Tensor, Tensor], number: int) -> Tensor:
        """Loss of one batch; one that is not finite stops the training."""
        value = self.loss(self.network(batch[0]), batch[1])
        if not torch.isfinite(value):
            raise DivergedError(self.global_step, [f"batch {number}"], {"loss": float(value)})
        self.log("loss", value, on_step=False, on_epoch=True, batch_size=len(batch[0]))
        return value

    def on_train_batch_end(self, *_: Any) -> None:
        """Take one step's weights in."""
        if self.ema is not None:
            self.ema.update(self.network)

    def configure_optimizers(self) -> dict[str, Any]:
        """The rate rises over WARMUP_EPOCHS, then falls as SCHEDULE says."""
        solver, lr = self.cfg.SOLVER, torch.optim.lr_scheduler
        skip: set[str] = getattr(self.network, "no_weight_decay", set)()
        groups = param_groups_weight_decay(self.network, solver.WEIGHT_DECAY, no_weight_decay_list=skip)
        optimizer = torch.optim.AdamW(groups, solver.LR)
        warmup = max(1, round(solver.WARMUP_EPOCHS * self.steps))
        parts: list[Any] = [lr.LinearLR(optimizer, 0.05, total_iters=warmup)]
        if solver.SCHEDULE == "cosine":
            ends = [warmup]
            parts.append(lr.CosineAnnealingLR(optimizer, max(1, self.steps * solver.EPOCHS - warmup)))
        else:
            ends = [warmup, warmup + max(1, round(solver.HOLD_EPOCHS * self.steps))]
            parts.append(lr.ConstantLR(optimizer, 1.0, ends[1] - warmup))
            parts.append(lr.ExponentialLR(optimizer, solver.DECAY ** (1 / self.steps)))
        schedule = lr.SequentialLR(optimizer, parts, ends)
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def predict(network: nn.Module, loader: DataLoader, device: torch.device, flip: bool) -> NDArray[np.float64]:
    """(N, K) probabilities of a loader's images; the network is left as it was."""
    training = network.training
    network.eval()
    with torch.inference_mode():
        parts = [probabilities(network, images.to(device), flip).float().cpu() for images, _ in loader]
    network.train(training)
    return torch.cat(parts).double().numpy()


def mean_auc(targets: NDArray, found: NDArray) -> float:
    """Mean over the labels with enough images on both sides; NaN where there is none."""
    areas = []
    for label, p in zip(targets.T, found.T, strict=True):
        known = ~np.isnan(label)
        if measurable(label[known] >= 0.5):
            areas.append(auc(curve(label[known] >= 0.5, p[known]))[0])
    return float(np.mean(areas)) if areas else math.nan


@dataclass
class Chooser:
    """Images that choose the epoch; the model is not trained on them, nor reported on them alone.

    Attributes:
        loader: of the images.
        targets: (N, K) of theirs.
        best: what is best so far, and when to stop.
    """

    loader: DataLoader
    targets: NDArray[np.float32]
    best: EarlyStopping

    def measure(self, module: ClassifierModule) -> float:
        """Mean AUC of the model's average."""
        with ema_weights(module.network, module.ema):
            found = predict(module.network, self.loader, module.device, module.cfg.TEST_FLIP)
        return mean_auc(self.targets, found)


class EndOfEpoch(L.Callback):
    """Keep the last or the best weights after each epoch, and a state to resume from.

    Args:
        state: file to resume from.
        chooser: looks for the best epoch; None keeps the last.
    """

    def __init__(self, state: Path, chooser: Chooser | None = None) -> None:
        self.state, self.chooser = state, chooser
        self.kept: dict[str, Tensor] = {}

    def on_train_epoch_end(self, trainer: L.Trainer, module: L.LightningModule) -> None:
        """Measure, keep, save, and stop when there is nothing more to wait for."""
        assert isinstance(module, ClassifierModule)
        told = (f"epoch {trainer.current_epoch + 1}/{trainer.max_epochs}  "
                f"loss {float(trainer.callback_metrics.get('loss', math.nan)):.4f}")
        if self.chooser is None:
            better = True
        else:
            # All processes measure (their batch norms could differ), one decides.
            value = trainer.strategy.broadcast(self.chooser.measure(module), 0)
            better = self.chooser.best.update({AUC: value}) or math.isnan(value)  # then the last
            told += f"  AUC of the images set aside {value:.4f}"
        last = trainer.current_epoch + 1 == trainer.max_epochs
        if (better or not self.kept) and (self.chooser is not None or last):
            self.kept = {key: weight.detach().cpu().clone() for key, weight in module.weights().items()}
        log.info("%s", told)
        if self.chooser is not None and self.chooser.best.exhausted:
            log.info("stopping: no better AUC in %d epochs", self.chooser.best.waited)
            trainer.should_stop = True
        self._save(trainer)

    def _save(self, trainer: L.Trainer) -> None:
        if not trainer.is_global_zero:
            trainer.save_checkpoint(self.state)  # takes part; the first process alone writes
            return
        with atomic_path(self.state) as temporary:
            trainer.save_checkpoint(temporary)

    def state_dict(self) -> dict[str, Any]:
        """What a checkpoint must carry."""
        return {"best": self.chooser.best.state_dict() if self.chooser else {}, "kept": self.kept}

    def load_state_dict(self, state: dict[str, Any]) -> None:
        """Go on from a checkpoint."""
        if self.chooser is not None:
            self.chooser.best.load_state_dict(state["best"])
        self.kept = state["kept"]
