"""A LightningModule that keeps an average of its weights, and resumes as if nothing had happened."""

from typing import Any

import lightning as L
from torch import Tensor, nn

from vindr_det.training import random_state
from vindr_det.training.ema import ModelEMA


class EMAModule(L.LightningModule):
    """Carries the average through Lightning's checkpoints, and seeds each step.

    Args:
        network: what is trained.
        decay: see :class:`vindr_det.training.ema.ModelEMA`; 0 keeps no average.
        seed: of what the network draws while it trains.
    """

    def __init__(self, network: nn.Module, decay: float, seed: int = 0) -> None:
        super().__init__()
        self.network, self.decay, self.seed = network, decay, seed
        self.ema: ModelEMA | None = None
        self._resumed: dict[str, Any] = {}
        self._seeded = -1

    def on_fit_start(self) -> None:
        """Make the average of the weights, which are loaded by now, and put back what a resume had."""
        if self.decay > 0:
            self.ema = ModelEMA(self.network, self.decay)
            if self._resumed.get("averaged"):
                self.ema.load_state_dict(self._resumed["averaged"])
        self._resumed = {}

    def on_train_batch_start(self, *_: Any) -> None:
        """Seed once per step, which may take several batches."""
        if self._seeded != self.global_step:
            self._seeded = self.global_step
            random_state.reseed(self.seed, self.global_step, self.global_rank)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What Lightning does not save by itself."""
        ema = self.ema.state_dict() if self.ema is not None else None
        checkpoint.setdefault("vindr", {})["averaged"] = ema

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep it until the weights are where they belong."""
        self._resumed = checkpoint["vindr"]

    def weights(self) -> dict[str, Tensor]:
        """The weights to predict with: their average where one is kept."""
        return self.network.state_dict() if self.ema is None else self.ema.state
