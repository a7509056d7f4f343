"""A LightningModule that keeps an average of its weights, and resumes as if nothing had happened."""

from typing import Any

import lightning as L
from torch import Tensor, nn

from vindr_det.detection import random_state
from vindr_det.detection.ema import Averaged


class AveragedModule(L.LightningModule):
    """Carries the average and the random state through Lightning's checkpoints.

    Args:
        network: what is trained.
        decay: see :class:`vindr_det.detection.ema.Averaged`; 0 keeps no average.
    """

    def __init__(self, network: nn.Module, decay: float) -> None:
        super().__init__()
        self.network, self.decay = network, decay
        self.averaged: Averaged | None = None
        self._resumed: dict[str, Any] = {}

    def on_train_start(self) -> None:
        """Make the average, and put back what a resumed training had."""
        if self.decay > 0:
            self.averaged = Averaged(self.network, self.decay)
            if self._resumed.get("averaged"):
                self.averaged.load_state_dict(self._resumed["averaged"])
        if self._resumed:
            random_state.restore(self._resumed["random_state"])
            self._resumed = {}

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """What Lightning does not save by itself."""
        averaged = self.averaged.state_dict() if self.averaged is not None else None
        checkpoint["vindr"] = {"averaged": averaged, "random_state": random_state.capture()}

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep it until the weights are where they belong."""
        self._resumed = checkpoint["vindr"]

    def weights(self) -> dict[str, Tensor]:
        """The weights to predict with: their average where one is kept."""
        return self.network.state_dict() if self.averaged is None else self.averaged.state
