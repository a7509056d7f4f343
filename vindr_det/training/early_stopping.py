"""The best value of a metric so far, and when to stop waiting for a better one."""

import logging
import math
from collections.abc import Mapping

log = logging.getLogger(__name__)


class EarlyStopping:
    """The best validation so far, and whether to wait for a better one.

    Args:
        metric: name of the metric to watch; higher is better.
        patience: validations without a new best before training stops; 0 never stops it.
    """

    def __init__(self, metric: str, patience: int = 0) -> None:
        self.metric, self.patience = metric, patience
        self.value, self.waited = -math.inf, 0
        self._warned = False

    def update(self, metrics: Mapping[str, float]) -> bool:
        """Count a validation; True for a new best. Without the metric, or with NaN, it is not the best."""
        value = metrics.get(self.metric, math.nan)
        if math.isnan(value) and not self._warned:
            self._warned = True
            log.warning("%s was not measured: the validation images have no such finding; no best model is "
                        "chosen without it", self.metric)
        if value > self.value:  # False for NaN
            self.value, self.waited = value, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """Whether there was no new best for ``patience`` validations."""
        return 0 < self.patience <= self.waited

    def log_best(self, iteration: int) -> None:
        """Report a new best value after ``iteration`` iterations."""
        log.info("best model so far: %s %.4f at iteration %d", self.metric, self.value, iteration)

    def log_stop(self, iteration: int) -> None:
        """Report that training stops after ``iteration`` iterations, because it is :attr:`exhausted`."""
        log.info("stopping at iteration %d: no better %s in %d validations", iteration, self.metric,
                 self.waited)

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must carry, so that a resumed training knows the best value."""
        return {"value": self.value, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Resume from a checkpoint."""
        self.value, self.waited = state["value"], int(state["waited"])
