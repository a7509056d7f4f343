"""K-fold training with Lightning: one checkpoint a fold, out-of-fold predictions, metrics."""

import logging
import math
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch
from sklearn.metrics import roc_auc_score
from torch import Tensor, nn
from torch.utils.data import DataLoader

from vindr_det.augment import Augment
from vindr_det.classification.data import LabelledDataset, LabelledImage, read_labelled
from vindr_det.classification.model import build_model, save_checkpoint
from vindr_det.errors import InputError
from vindr_det.files import write_csv, write_json, write_text
from vindr_det.gating import P_ABNORMAL

log = logging.getLogger(__name__)


class ClassifierModule(L.LightningModule):
    """Binary cross-entropy and AdamW with a linear warm-up and a cosine."""

    def __init__(self, cfg: Any, model: nn.Module, steps: int) -> None:
        super().__init__()
        self.cfg, self.model, self.steps = cfg, model, steps

    def training_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """Loss of one batch."""
        images, labels = batch
        return nn.functional.binary_cross_entropy_with_logits(self.model(images)[:, 0], labels)

    def predict_step(self, batch: tuple[Tensor, Tensor], _: int) -> Tensor:
        """P(abnormal), (B,)."""
        return self.model(batch[0])[:, 0].sigmoid()

    def on_train_epoch_end(self) -> None:
        """One line an epoch."""
        log.info("epoch %d/%d  loss %.4f", self.current_epoch + 1, self.cfg.SOLVER.EPOCHS,
                 float(self.trainer.callback_metrics.get("loss", math.nan)))

    def on_train_batch_end(self, outputs: Any, *_: Any) -> None:
        """Feed the mean over the epoch."""
        self.log("loss", outputs["loss"], on_step=False, on_epoch=True,
                 batch_size=self.cfg.SOLVER.BATCH_SIZE)

    def configure_optimizers(self) -> dict[str, Any]:
        """AdamW; the rate rises over WARMUP_EPOCHS and falls to 0."""
        solver = self.cfg.SOLVER
        optimizer = torch.optim.AdamW(self.model.parameters(), solver.LR,
                                      weight_decay=solver.WEIGHT_DECAY)
        warmup = max(1, round(solver.WARMUP_EPOCHS * self.steps / solver.EPOCHS))
        rise = torch.optim.lr_scheduler.LinearLR(optimizer, 0.05, total_iters=warmup)
        fall = torch.optim.lr_scheduler.CosineAnnealingLR(optimizer, max(1, self.steps - warmup))
        schedule = torch.optim.lr_scheduler.SequentialLR(optimizer, [rise, fall], [warmup])
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": schedule, "interval": "step"}}


def train(cfg: Any, folds: Sequence[int] | None = None) -> dict[str, float]:
    """Train one model a fold and write ``oof_predictions.csv`` and ``metrics.json``.

    Args:
        cfg: the config.
        folds: which to train; None takes all that the data has.

    Returns:
        ``auc`` over all out-of-fold predictions and ``auc/fold{k}``.

    Raises:
        InputError: a fold does not exist, or a side of a split has but one class.
    """
    images, out = read_labelled(cfg), Path(cfg.OUTPUT_DIR)
    known = sorted({image.fold for image in images})
    folds = known if folds is None else list(folds)
    for fold in folds:
        if fold not in known:
            raise InputError(f"--fold {fold}: expected one of {known} (of {cfg.DATA.FOLDS})")
    write_text(out / "config.yaml", cfg.dump())
    tables, metrics = [], {}
    for fold in folds:
        table = _train_fold(cfg, images, fold, out)
        metrics[f"auc/fold{fold}"] = _auc(table)
        tables.append(table)
        log.info("fold %d: AUC of %s %.4f on %d images", fold, P_ABNORMAL,
                 metrics[f"auc/fold{fold}"], len(table))
    together = pd.concat(tables, ignore_index=True)
    metrics["auc"] = _auc(together)
    write_csv(out / "oof_predictions.csv", together)
    write_json(out / "metrics.json", metrics)
    return metrics


def _train_fold(cfg: Any, images: Sequence[LabelledImage], fold: int, out: Path) -> pd.DataFrame:
    learn = [image for image in images if image.fold != fold]
    held_out = [image for image in images if image.fold == fold]
    for name, part in (("training", learn), ("validation", held_out)):
        if len({image.abnormal for image in part}) < 2:
            raise InputError(f"fold {fold}: its {name} images are all of one class, expected normal "
                             "and abnormal ones")
    L.seed_everything(cfg.SEED + fold, workers=True, verbose=False)
    steps = math.ceil(len(learn) / cfg.SOLVER.BATCH_SIZE) * cfg.SOLVER.EPOCHS
    module = ClassifierModule(cfg, build_model(cfg), steps)
    augment = Augment(list(cfg.INPUT.AUGMENT), seed=cfg.SEED) if cfg.INPUT.AUGMENT else None
    trainer = _trainer(cfg)
    loader = _loader(cfg, LabelledDataset(learn, cfg.INPUT.SIZE, augment), shuffle=True)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(module, loader)
        rest = _loader(cfg, LabelledDataset(held_out, cfg.INPUT.SIZE), shuffle=False)
        parts = trainer.predict(module, rest)
    table = pd.DataFrame({
        "image_id": [image.image_id for image in held_out], "fold": fold,
        "abnormal": [image.abnormal for image in held_out],
        P_ABNORMAL: np.round(torch.cat(parts).float().numpy().astype(float), 6),
    })
    save_checkpoint(out / f"fold{fold}.pth", module.model, cfg, {"auc": _auc(table)})
    return table


def _loader(cfg: Any, dataset: LabelledDataset, shuffle: bool) -> DataLoader:
    return DataLoader(dataset, cfg.SOLVER.BATCH_SIZE, shuffle=shuffle,
                      num_workers=cfg.NUM_WORKERS, drop_last=False)


def _trainer(cfg: Any) -> L.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return L.Trainer(
        accelerator=cfg.DEVICE, devices=1, max_epochs=cfg.SOLVER.EPOCHS,
        precision=cfg.SOLVER.PRECISION, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )


def _auc(table: pd.DataFrame) -> float:
    return float(roc_auc_score(table["abnormal"], table[P_ABNORMAL]))
