"""What is measured after each epoch: a row of ``fold<k>_history.csv``, and the weights if they are asked for.

The held-out fold's measures are reported and choose nothing: neither the epoch nor anything else.
"""

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vindr_det.classification.losses import Loss
from vindr_det.classification.model import predict_batch
from vindr_det.metrics.classification import auc, curve, measurable
from vindr_det.tables import write_csv
from vindr_det.training.progress import bar

#: Keeps the logit of a probability of 0 or 1 finite.
_SMALLEST = 1e-7


def predict(network: nn.Module, loader: DataLoader, device: torch.device, flip: bool) -> NDArray[np.float64]:
    """(N, K) probabilities of a loader's images; the network's training mode is restored."""
    training = network.training
    network.eval()
    with torch.inference_mode():
        parts = [predict_batch(network, images.to(device), flip).float().cpu()
                 for images, _ in bar(loader, "predict")]
    network.train(training)
    return torch.cat(parts).double().numpy()


def label_aucs(targets: NDArray, probabilities: NDArray) -> NDArray[np.float64]:
    """(K,) AUC of each label; NaN without enough positive and negative images.

    Args:
        targets: (N, K) 0..1; NaN where unknown.
        probabilities: (N, K).
    """
    areas = np.full(targets.shape[1], np.nan)
    for place, (label, p) in enumerate(zip(targets.T, probabilities.T, strict=True)):
        known = ~np.isnan(label)
        if measurable(label[known] >= 0.5):
            areas[place] = auc(curve(label[known] >= 0.5, p[known]))[0]
    return areas


def mean_auc(targets: NDArray, probabilities: NDArray) -> float:
    """Mean of :func:`label_aucs` over the labels that have one; NaN where none has."""
    areas = label_aucs(targets, probabilities)
    return float(np.nanmean(areas)) if np.isfinite(areas).any() else float("nan")


def accuracy(targets: NDArray, probabilities: NDArray) -> float:
    """Share of known labels that the threshold .5 calls right; NaN without any.

    Args:
        targets: (N, K) 0..1; NaN where unknown.
        probabilities: (N, K).
    """
    known = ~np.isnan(targets)
    right = (targets >= 0.5) == (probabilities >= 0.5)
    return float(right[known].mean()) if known.any() else float("nan")


def measures(targets: NDArray, probabilities: NDArray, loss: Loss) -> dict[str, float]:
    """``loss``, ``auc`` and ``accuracy`` of predictions, over all labels.

    Args:
        targets: (N, K) 0..1; NaN where unknown.
        probabilities: (N, K).
        loss: of the training.
    """
    p = torch.tensor(probabilities).clamp(_SMALLEST, 1 - _SMALLEST)
    value = loss(p.logit().float(), torch.tensor(targets).float())
    return {"loss": float(value), "auc": mean_auc(targets, probabilities),
            "accuracy": accuracy(targets, probabilities)}


@dataclass
class HeldOut:
    """The held-out fold, measured after each epoch.

    Attributes:
        loader: of the images.
        targets: (N, K) of theirs.
        columns: (K,) of the labels' probabilities.
    """

    loader: DataLoader
    targets: NDArray[np.float32]
    columns: Sequence[str]

    def measure(self, probabilities: NDArray[np.float64], loss: Loss) -> dict[str, float]:
        """:func:`measures`, and where there are several labels the AUC of each."""
        values = measures(self.targets, probabilities, loss)
        if len(self.columns) > 1:
            aucs = label_aucs(self.targets, probabilities)
            values |= {f"auc/{column}": float(area) for column, area in zip(self.columns, aucs, strict=True)}
        return values


@dataclass
class History:
    """A fold's rows, an epoch each; a state to resume from carries them.

    Attributes:
        path: of the CSV, which is rewritten after each epoch.
        held_out: None leaves the held-out fold out.
        rows: so far.
    """

    path: Path
    held_out: HeldOut | None = None
    rows: list[dict[str, float]] = field(default_factory=list)

    def add(self, row: Mapping[str, float]) -> None:
        """Add an epoch."""
        self.rows.append(dict(row))

    def write(self) -> None:
        """Write all epochs so far."""
        write_csv(self.path, pd.DataFrame(self.rows))


@dataclass(frozen=True)
class EpochWeights:
    """Saves the weights of every n-th epoch.

    Attributes:
        every: n; 0 saves none.
        save: called with the epoch, from 1, and its weights.
    """

    every: int
    save: Callable[[int, Mapping[str, Tensor]], Any]

    def keep(self, epoch: int, weights: Mapping[str, Tensor]) -> None:
        """Save them if it is their turn."""
        if self.every and epoch % self.every == 0:
            self.save(epoch, weights)
