"""One fold: its model, trained by one process or by several together, and its predictions."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vindr_det.classification import report
from vindr_det.classification.data import Normalization, predict_loader, train_loader
from vindr_det.classification.history import EpochWeights, HeldOut, History, predict
from vindr_det.classification.label_table import LabelTable, columns_of
from vindr_det.classification.launch import free_port, join_group, run
from vindr_det.classification.lightning_module import (
    ClassifierModule,
    EpochSelection,
    KeepWeights,
)
from vindr_det.classification.losses import build_loss
from vindr_det.classification.model import (
    build_model,
    choose_normalization,
    load_checkpoint,
    save_checkpoint,
)
from vindr_det.classification.progress import FoldProgress
from vindr_det.classification.run_folder import (
    epoch_file,
    history_file,
    model_file,
    predictions_file,
    state_file,
)
from vindr_det.classification.sampler import SINGLE_PROCESS, Shard
from vindr_det.classification.splits import Split, trained_on
from vindr_det.exceptions import InputError
from vindr_det.tables import write_csv
from vindr_det.training.early_stopping import EarlyStopping
from vindr_det.training.lightning_setup import quiet, trainer_options
from vindr_det.training.loggers import Loggers, runs_file

log = logging.getLogger(__name__)


def train_folds(
    cfg: Any, out: Path, splits: Mapping[int, Split], others: Mapping[str, LabelTable], devices: Sequence[str]
) -> None:
    """Train folds one after the other; see :func:`train_fold`."""
    for fold, split in splits.items():
        train_fold(cfg, out, fold, split, others, devices)


def train_fold(
    cfg: Any, out: Path, fold: int, split: Split, others: Mapping[str, LabelTable], devices: Sequence[str]
) -> None:
    """Write a fold's model and its predictions, not calibrated; files that exist are kept.

    Args:
        cfg: the config.
        out: folder of the files.
        fold: its number.
        split: its images.
        others: ``test`` or ``calibration`` -> images that all models predict.
        devices: several share its steps.
    """
    path = model_file(out, fold)
    if not path.is_file():
        if len(devices) == 1:
            _fit(cfg, out, fold, split, devices, SINGLE_PROCESS)
        else:
            port = free_port()
            run(_fit_shared, [(cfg, out, fold, split, devices, Shard(rank, len(devices)), port)
                              for rank in range(len(devices))])
    device, trained = torch.device(devices[0]), load_checkpoint(path)
    network = trained.network.to(device)
    for part, table in {"oof": split.held_out, **others}.items():
        path = predictions_file(out, fold, part)
        if not path.is_file():
            loader = predict_loader(cfg, table, trained.normalize)
            p = predict(network, loader, device, cfg.TEST_FLIP)
            write_csv(path, report.prediction_frame(table, p))


def _fit_shared(
    cfg: Any, out: Path, fold: int, split: Split, devices: Sequence[str], shard: Shard, port: int
) -> None:
    join_group(shard.rank, shard.world_size, port)
    _fit(cfg, out, fold, split, devices, shard)


def _fit(cfg: Any, out: Path, fold: int, split: Split, devices: Sequence[str], shard: Shard) -> None:
    """Train this process's shard of a fold; the first process writes the model."""
    L.seed_everything(cfg.SEED + fold, workers=True, verbose=False)
    table = trained_on(split.train, cfg)
    network = build_model(cfg)
    normalize = choose_normalization(cfg, network, table)
    log.info("fold %d: %d images to train on, %d held out; gray images normalized by %s", fold, len(table),
             len(split.held_out), normalize)
    loader = train_loader(cfg, table, cfg.SEED + fold, normalize, shard)
    _check_batch_size(network, loader.batch_size or 1)
    selection = None if split.inner is None else EpochSelection(
        predict_loader(cfg, split.inner, normalize), split.inner.targets,
        EarlyStopping(cfg.SOLVER.SELECT_BY, cfg.SOLVER.PATIENCE))
    state = state_file(out, fold)
    if shard.rank == 0 and not state.is_file():
        runs_file(out, f"fold{fold}").unlink(missing_ok=True)
    loggers = Loggers(cfg.LOGGERS if shard.rank == 0 else (), out, f"fold{fold}", cfg.dump())
    progress = FoldProgress(out, fold, tuple(table.names), loggers)
    keep = KeepWeights(state, _history(cfg, out, fold, split, normalize), selection,
                       _epoch_weights(cfg, out, fold, normalize), progress)
    module = ClassifierModule(cfg, network, build_loss(cfg, torch.from_numpy(table.targets)), len(loader))
    with quiet():
        trainer = _trainer(cfg, out, [progress, keep], devices)
        try:
            trainer.fit(module, loader, ckpt_path=state if state.is_file() else None, weights_only=True)
        finally:
            loggers.close()
    if trainer.is_global_zero:
        metrics = selection.best_metrics() if selection else {}
        save_checkpoint(model_file(out, fold), keep.kept, cfg, normalize, metrics)
        state.unlink(missing_ok=True)


def _history(cfg: Any, out: Path, fold: int, split: Split, normalize: Normalization) -> History:
    held_out = split.held_out
    reported = HeldOut(predict_loader(cfg, held_out, normalize), held_out.targets,
                       columns_of(held_out.names)) if cfg.SOLVER.REPORT_HELD_OUT else None
    return History(history_file(out, fold), reported)


def _epoch_weights(cfg: Any, out: Path, fold: int, normalize: Normalization) -> EpochWeights:
    def save(epoch: int, weights: Mapping[str, torch.Tensor]) -> None:
        save_checkpoint(epoch_file(out, fold, epoch), weights, cfg, normalize, {})

    return EpochWeights(cfg.SOLVER.KEEP_EPOCHS, save)


def _check_batch_size(network: nn.Module, images: int) -> None:
    """Batch norm needs two images."""
    if images < 2 and any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise InputError(f"SOLVER.BATCH_SIZE is {images}, expected 2 or more per process: the network has "
                         "batch norm, which one image cannot train")


def _trainer(cfg: Any, out: Path, callbacks: list[Any], devices: Sequence[str]) -> L.Trainer:
    gpus = [int(device.partition(":")[2]) for device in devices if device != "cpu"]
    distributed: dict[str, Any] = {}
    if len(devices) > 1:
        distributed = {"strategy": "ddp", "sync_batchnorm": bool(gpus)}
    return L.Trainer(
        accelerator="gpu" if gpus else "cpu", devices=gpus or len(devices), max_epochs=cfg.SOLVER.EPOCHS,
        callbacks=callbacks, precision=cfg.SOLVER.PRECISION, logger=False, log_every_n_steps=1,
        profiler=callbacks[0].timer,
        **distributed, **trainer_options(out))
