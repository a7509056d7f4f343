"""The best value of a metric so far, and when to stop waiting for a better one."""

import logging
import math
from collections.abc import Mapping

log = logging.getLogger(__name__)


class EarlyStopping:
    """Whether a validation is the best so far.

    Args:
        metric: its name; higher is better.
        patience: validations without a new best before training stops; 0 never stops it.
    """

    def __init__(self, metric: str, patience: int = 0) -> None:
        self.metric, self.patience = metric, patience
        self.value, self.waited = -math.inf, 0
        self._told = False

    def update(self, metrics: Mapping[str, float]) -> bool:
        """Take a validation in; True for a new best. A metric that was not measured is none."""
        value = metrics.get(self.metric, math.nan)
        if math.isnan(value) and not self._told:
            self._told = True
            log.warning("VINDR.BEST_METRIC %s was not measured: the validation images have no such finding; "
                        "there is no model_best.pth without it", self.metric)
        if value > self.value:  # False for NaN
            self.value, self.waited = value, 0
            return True
        self.waited += 1
        return False

    @property
    def exhausted(self) -> bool:
        """No new best for ``patience`` validations."""
        return 0 < self.patience <= self.waited

    def state_dict(self) -> dict[str, float]:
        """What a checkpoint must carry, so that a resume does not forget the best."""
        return {"value": self.value, "waited": self.waited}

    def load_state_dict(self, state: Mapping[str, float]) -> None:
        """Go on from a checkpoint."""
        self.value, self.waited = state["value"], int(state["waited"])
