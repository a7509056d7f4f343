"""How frequent positives and negatives are among the training images, before and after the loss's weights."""

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
import torch

from vindr_det.classification import plots, run_folder
from vindr_det.classification.losses import build_loss
from vindr_det.classification.splits import Split, trained_on
from vindr_det.figures import try_figure
from vindr_det.tables import write_csv


def frequencies(cfg: Any, splits: Mapping[int, Split]) -> pd.DataFrame:
    """Shares of positive and negative labels that each fold's model is trained on.

    Args:
        cfg: the config.
        splits: fold -> its images.

    Returns:
        A row per fold and label: fold, label, images with a known label, positive, negative,
        weighted_positive and weighted_negative: the shares times the weight that SOLVER.LOSS gives to them
        (empty for the asymmetric loss, whose weights depend on the prediction). Soft targets count by their
        part.
    """
    rows = []
    for fold, split in splits.items():
        table = trained_on(split.train, cfg)
        targets = torch.from_numpy(table.targets)
        weights = build_loss(cfg, targets).weights(targets)
        for place, name in enumerate(table.names):
            truth, weight = (part[:, place][~targets[:, place].isnan()].double().numpy()
                             for part in (targets, weights))
            shares = {"positive": truth, "negative": 1 - truth, "weighted_positive": truth * weight,
                      "weighted_negative": (1 - truth) * weight}
            rows.append({"fold": fold, "label": name, "images": len(truth),
                         **{key: np.mean(part) if len(part) else np.nan for key, part in shares.items()}})
    return pd.DataFrame(rows)


def write_frequencies(cfg: Any, out: Path, splits: Mapping[int, Split]) -> None:
    """Write ``frequencies.csv`` and ``frequencies.png``."""
    table = frequencies(cfg, splits)
    write_csv(out / run_folder.FREQUENCIES_FILE, table)
    picture = (out / run_folder.FREQUENCIES_FILE).with_suffix(".png")
    try_figure(picture, lambda: plots.frequency_figure(table))
