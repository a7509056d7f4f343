"""One fold's model, trained by one process or by several together, and its predictions."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.plugins.environments import LightningEnvironment
from torch import nn
from torch.nn.modules.batchnorm import _BatchNorm

from vindr_det.classification import report
from vindr_det.classification.data import Share, plain_loader, train_loader
from vindr_det.classification.labels import LabelTable, subsample_normals
from vindr_det.classification.launch import free_port, join_group, run
from vindr_det.classification.lightning_module import AUC, Chooser, ClassifierModule, EndOfEpoch, predict
from vindr_det.classification.losses import build_loss
from vindr_det.classification.model import build_model, load_one, normalization, save_checkpoint
from vindr_det.classification.splits import Split
from vindr_det.exceptions import InputError
from vindr_det.tables import write_csv
from vindr_det.training.early_stopping import EarlyStopping

log = logging.getLogger(__name__)

_ALONE = Share()


def files(out: Path, fold: int, kind: str) -> tuple[Path, Path]:
    """A fold's model, and its predictions of ``oof``, ``test`` or ``calibration`` images."""
    return out / f"fold{fold}.pth", out / f"fold{fold}_{kind}.csv"


def one_fold(
    cfg: Any, out: Path, fold: int, split: Split, others: Mapping[str, LabelTable], where: Sequence[str]
) -> None:
    """A model and its predictions, not calibrated; what is there is not done again.

    Args:
        cfg: the config.
        out: folder of the files.
        fold: its number.
        split: its images.
        others: kind -> images that all models predict.
        where: devices; on several its steps are shared.
    """
    target = out / f"fold{fold}.pth"
    if not target.is_file():
        if len(where) == 1:
            fit(cfg, out, fold, split, where)
        else:
            port = free_port()
            run(_fit_shared, [(cfg, out, fold, split, where, Share(rank, len(where)), port)
                              for rank in range(len(where))])
    device, loaded = torch.device(where[0]), load_one(target)
    network = loaded.network.to(device)
    for kind, table in {"oof": split.held_out, **others}.items():
        path = files(out, fold, kind)[1]
        if not path.is_file():
            found = predict(network, plain_loader(cfg, table, loaded.normalize), device, cfg.TEST_FLIP)
            write_csv(path, report.prediction_frame(table, found))


def several_folds(
    cfg: Any, out: Path, splits: Mapping[int, Split], others: Mapping[str, LabelTable], where: Sequence[str]
) -> None:
    """One fold after the other; see :func:`one_fold`."""
    for fold, split in splits.items():
        one_fold(cfg, out, fold, split, others, where)


def _fit_shared(
    cfg: Any, out: Path, fold: int, split: Split, where: Sequence[str], share: Share, port: int
) -> None:
    join_group(share.rank, share.world, port)
    fit(cfg, out, fold, split, where, share)


def fit(
    cfg: Any, out: Path, fold: int, split: Split, where: Sequence[str], share: Share = _ALONE
) -> None:
    """Train, and write fold{k}.pth; the images held out are not looked at.

    Args:
        cfg: the config.
        out: folder of the files.
        fold: its number.
        split: its images.
        where: devices of all processes that train it.
        share: this one's.
    """
    L.seed_everything(cfg.SEED + fold, workers=True, verbose=False)
    learn = subsample_normals(split.learn, cfg.DATA.KEEP_NORMAL, cfg.SEED)
    network = build_model(cfg)
    normalize = normalization(network)
    log.info("fold %d: %d images to train on, %d held out; gray images normalized by mean %.3f and deviation "
             "%.3f, the means of the network's colors", fold, len(learn), len(split.held_out), normalize.mean,
             normalize.std)
    loader = train_loader(cfg, learn, cfg.SEED + fold, normalize, share)
    _require_batch(network, loader.batch_size or 1)
    chooser = None if split.inner is None else Chooser(
        plain_loader(cfg, split.inner, normalize), split.inner.targets, EarlyStopping(AUC, cfg.SOLVER.PATIENCE))
    state = out / f"fold{fold}.ckpt"
    ending = EndOfEpoch(state, chooser)
    module = ClassifierModule(cfg, network, build_loss(cfg, torch.from_numpy(learn.targets)), len(loader))
    trainer = _trainer(cfg, out, ending, where)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(module, loader, ckpt_path=state if state.is_file() else None, weights_only=True)
    if trainer.is_global_zero:
        estimate = {f"inner_{AUC}": chooser.best.value} if chooser else {}
        save_checkpoint(out / f"fold{fold}.pth", ending.kept, cfg, normalize, estimate)
        state.unlink(missing_ok=True)


def _require_batch(network: nn.Module, images: int) -> None:
    """A batch norm has no statistics of one image."""
    if images < 2 and any(isinstance(module, _BatchNorm) for module in network.modules()):
        raise InputError(f"SOLVER.BATCH_SIZE is {images}, expected 2 or more per process: the network has "
                         "batch norm, which one image cannot train")


def _trainer(cfg: Any, out: Path, ending: EndOfEpoch, where: Sequence[str]) -> L.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    gpus = [int(one.partition(":")[2]) for one in where if one != "cpu"]
    co_occurrence: dict[str, Any] = {"strategy": "ddp", "sync_batchnorm": bool(gpus)} if len(where) > 1 else {}
    return L.Trainer(
        accelerator="gpu" if gpus else "cpu", devices=gpus or len(where), max_epochs=cfg.SOLVER.EPOCHS,
        callbacks=[ending], precision=cfg.SOLVER.PRECISION, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
        # Under SLURM Lightning would begin with a state that another training left in its folder.
        plugins=[LightningEnvironment()], default_root_dir=out / "lightning",
        use_distributed_sampler=False, **co_occurrence,
    )
