"""A LightningModule with a model EMA and with random numbers that a resume repeats."""

from typing import Any

import lightning as L
from torch import Tensor, nn

from vindr_det.training.acceleration import plain_format
from vindr_det.training.ema import ModelEMA
from vindr_det.training.sampler import seed_step


class EMAModule(L.LightningModule):
    """Saves the EMA in Lightning's checkpoints, and seeds each step.

    The engines update ``ema`` after a step of the optimizer.

    Args:
        network: the network that is trained.
        decay: see :class:`vindr_det.training.ema.ModelEMA`; 0 keeps no EMA.
        seed: seed of the random numbers that the network draws in training.
    """

    def __init__(self, network: nn.Module, decay: float, seed: int = 0) -> None:
        super().__init__()
        self.network, self.decay, self.seed = network, decay, seed
        self.ema: ModelEMA | None = None
        self._resumed: dict[str, Any] = {}
        self._seeded = -1

    def on_fit_start(self) -> None:
        """Begin the EMA with the weights, which are loaded by now, or with that of the checkpoint."""
        if self.decay > 0:
            self.ema = ModelEMA(self.network, self.decay)
            if self._resumed.get("averaged"):
                self.ema.load_state_dict(self._resumed["averaged"])
        self._resumed = {}

    def on_train_batch_start(self, *_: Any) -> None:
        """Seed once per step, which may take several batches."""
        if self._seeded != self.global_step:
            self._seeded = self.global_step
            seed_step(self.seed, self.global_step, self.global_rank)

    def on_save_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Add the EMA, which is not a part of the module's state dict."""
        ema = self.ema.state_dict() if self.ema is not None else None
        checkpoint.setdefault("vindr", {})["averaged"] = ema

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Keep the EMA until the network is on its device."""
        self._resumed = checkpoint["vindr"]

    def weights(self) -> dict[str, Tensor]:
        """State dict to predict with: the EMA where there is one, else the network's."""
        return plain_format(self.network.state_dict() if self.ema is None else self.ema.state)
