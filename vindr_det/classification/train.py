"""K-fold training: a checkpoint a fold, out-of-fold and test predictions, what they are worth."""

import logging
import warnings
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import lightning as L
import numpy as np
import pandas as pd
import torch

from vindr_det.classification import report
from vindr_det.classification.data import plain_loader, train_loader
from vindr_det.classification.labels import LabelTable, Tables, columns_of, read_tables, thin_normal
from vindr_det.classification.losses import build_loss
from vindr_det.classification.model import build_model, load_one, save_checkpoint
from vindr_det.classification.module import AUC, ClassifierModule, EndOfEpoch, mean_auc, predict
from vindr_det.detection.best import Best
from vindr_det.detection.engine import best_device
from vindr_det.errors import InputError
from vindr_det.files import read_csv, write_csv, write_json, write_text

log = logging.getLogger(__name__)

OOF_FILE, TEST_FILE = "oof_predictions.csv", "test_predictions.csv"


def train(cfg: Any, folds: Sequence[int] | None = None, resume: bool = False) -> dict[str, Any]:
    """Train one model a fold; OUTPUT_DIR gets the models, their predictions and what these are worth.

    Folds can be trained one by one, also by several processes: what is reported is of all folds that are
    finished by then.

    Args:
        cfg: the config.
        folds: which to train; None takes all that the data has.
        resume: keep folds that are finished, and go on with the one that was interrupted.

    Returns:
        What metrics.json holds; see :func:`vindr_det.classification.report.as_json`.

    Raises:
        InputError: a fold does not exist, a side of a split has but one class, a patient is on both.
    """
    out, tables = Path(cfg.OUTPUT_DIR), read_tables(cfg)
    splits = _splits(tables, cfg)
    wanted = _wanted(splits, folds, cfg)
    _keep_config(cfg, out, [] if resume else wanted)
    for fold in wanted:
        _one_fold(cfg, out, fold, *splits[fold], tables.test)
    finished = [fold for fold in splits if _files(out, fold, "oof")[1].is_file()]
    frames = [_read_oof(out, fold, splits[fold][1]) for fold in finished]
    oof = pd.concat(frames, ignore_index=True)
    write_csv(out / OOF_FILE, oof)
    names = tables.table.names
    resamples = report.resamples_of(oof)
    found = report.measured(oof, names, resamples)
    log.info("out of fold\n%s", report.text(oof, found))
    points = report.choose_points(oof, names)
    report.save_points(out, points, oof)
    metrics = report.as_json(found) | _by_fold(frames, names) | {
        "calibration": report.calibration(oof, names, out / "reliability.png"),
        "operating_points": report.applied(oof, names, points, resamples)}
    if tables.test is not None:
        metrics["test"] = _test(out, tables.test, finished, points)
    write_json(out / "metrics.json", metrics)
    return metrics


def _splits(tables: Tables, cfg: Any) -> dict[int, tuple[LabelTable, LabelTable]]:
    """fold -> (images to train on, images to hold out)."""
    table = tables.table
    if tables.validation is not None:
        held = replace(tables.validation, folds=np.zeros(len(tables.validation), np.int64))
        return {0: (table, held)}
    return {int(fold): (table[table.folds != fold], table[table.folds == fold])
            for fold in np.unique(table.folds)}


def _wanted(
    splits: Mapping[int, tuple[LabelTable, LabelTable]], folds: Sequence[int] | None, cfg: Any
) -> list[int]:
    wanted = sorted(splits) if folds is None else list(folds)
    for fold in wanted:
        if fold not in splits:
            raise InputError(f"--fold {fold}: expected one of {sorted(splits)} (of {cfg.DATA.LABELS})")
        for name, part in zip(("training", "validation"), splits[fold], strict=True):
            if part.normal.all() or not part.normal.any():
                raise InputError(f"fold {fold}: its {name} images are all of one class, expected normal "
                                 "and abnormal ones")
    return wanted


def _files(out: Path, fold: int, kind: str) -> tuple[Path, Path]:
    """A fold's model, and its predictions of ``oof`` or ``test`` images."""
    return out / f"fold{fold}.pth", out / f"fold{fold}_{kind}.csv"


def _keep_config(cfg: Any, out: Path, anew: Sequence[int]) -> None:
    """Make room for the folds that are trained anew; the others must be of the same config."""
    for fold in anew:
        for old in (*_files(out, fold, "oof"), *_files(out, fold, "test"), out / f"fold{fold}.ckpt"):
            old.unlink(missing_ok=True)
    path = out / "config.yaml"
    others = [*out.glob("fold*.pth"), *out.glob("fold*.ckpt")]
    if others and path.is_file() and path.read_text(encoding="utf-8") != cfg.dump():
        raise InputError(f"{path}: {others[0].name} was trained with this config, which differs from the one "
                         "now; expected the same, or another OUTPUT_DIR")
    write_text(path, cfg.dump())


def _one_fold(
    cfg: Any, out: Path, fold: int, learn: LabelTable, held_out: LabelTable, test: LabelTable | None
) -> None:
    """A model and its predictions of the images held out from it, and of the test images."""
    target = out / f"fold{fold}.pth"
    if not target.is_file():
        _fit(cfg, out, fold, learn, held_out)
    device = torch.device("cpu" if cfg.DEVICE == "cpu" else best_device())
    network = load_one(target)[0].to(device)
    for kind, table in (("oof", held_out), ("test", test)):
        path = _files(out, fold, kind)[1]
        if table is not None and not path.is_file():
            found = predict(network, plain_loader(cfg, table), device, cfg.TEST_FLIP)
            write_csv(path, report.prediction_frame(table, found))


def _read_oof(out: Path, fold: int, held_out: LabelTable) -> pd.DataFrame:
    """A finished fold's predictions, if they are of the images that this table holds out."""
    path = _files(out, fold, "oof")[1]
    frame = read_csv(path, dtype={"image_id": str, "patient": str})
    if frame["image_id"].tolist() != held_out.image_ids.tolist():
        raise InputError(f"{path}: its images are not those of fold {fold} now, so its model has seen others "
                         "than it should; train it anew, or take another OUTPUT_DIR")
    return frame


def _fit(cfg: Any, out: Path, fold: int, learn: LabelTable, held_out: LabelTable) -> None:
    """Train, and write fold{k}.pth."""
    L.seed_everything(cfg.SEED + fold, workers=True, verbose=False)
    learn = thin_normal(learn, cfg.DATA.KEEP_NORMAL, cfg.SEED)
    loader = train_loader(cfg, learn, cfg.SEED + fold)
    loss = build_loss(cfg, torch.from_numpy(learn.targets))
    state = out / f"fold{fold}.ckpt"
    module = ClassifierModule(cfg, build_model(cfg), loss, len(loader))
    ending = EndOfEpoch(plain_loader(cfg, held_out), held_out.targets, Best(AUC, cfg.SOLVER.PATIENCE), state)
    trainer = _trainer(cfg, ending)
    log.info("fold %d: %d images to train on, %d held out", fold, len(learn), len(held_out))
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        trainer.fit(module, loader, ckpt_path=state if state.is_file() else None, weights_only=True)
    save_checkpoint(out / f"fold{fold}.pth", ending.kept, cfg, {AUC: ending.best.value})
    state.unlink(missing_ok=True)


def _trainer(cfg: Any, ending: EndOfEpoch) -> L.Trainer:
    for name in ("lightning.pytorch", "lightning.fabric"):
        logging.getLogger(name).setLevel(logging.WARNING)
    return L.Trainer(
        accelerator=cfg.DEVICE, devices=1, max_epochs=cfg.SOLVER.EPOCHS, callbacks=[ending],
        precision=cfg.SOLVER.PRECISION, logger=False, enable_checkpointing=False,
        enable_progress_bar=False, enable_model_summary=False, log_every_n_steps=1,
    )


def _by_fold(frames: Sequence[pd.DataFrame], names: Sequence[str]) -> dict[str, float | None]:
    result: dict[str, float | None] = {}
    for frame in frames:
        value = mean_auc(frame[list(names)].to_numpy(), frame[columns_of(names)].to_numpy())
        result[f"auc/fold{frame['fold'].iloc[0]}"] = None if np.isnan(value) else value
    return result


def _test(
    out: Path, table: LabelTable, folds: Sequence[int], points: Mapping[str, Any]
) -> dict[str, Any]:
    """The mean of all models on the test images, at points that were chosen without them."""
    columns = columns_of(table.names)
    stack = np.stack([read_csv(_files(out, fold, "test")[1])[columns].to_numpy(float) for fold in folds])
    frame = report.prediction_frame(table, stack.mean(axis=0), stack.std(axis=0))
    write_csv(out / TEST_FILE, frame)
    resamples = report.resamples_of(frame)
    found = report.measured(frame, table.names, resamples)
    log.info("test, mean of %d models\n%s", len(stack), report.text(frame, found))
    return report.as_json(found) | {
        "operating_points": report.applied(frame, table.names, points, resamples)}
