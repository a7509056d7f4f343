"""K-fold training: a checkpoint a fold, out-of-fold and test predictions, what they are worth."""

import logging
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from pathlib import Path
from typing import Any

import filelock
import numpy as np
import pandas as pd

from vindr_det.classification import operating_points as points
from vindr_det.classification import report
from vindr_det.classification.config import check, same_training
from vindr_det.classification.fit import files, several_folds
from vindr_det.classification.labels import LabelTable, columns_of, read_tables, subsample_normals
from vindr_det.classification.launch import PARALLEL, check_precision, deal, devices, run
from vindr_det.classification.lightning_module import mean_auc
from vindr_det.classification.operating_points import Chosen, Targets
from vindr_det.classification.provenance import digests, require_same, store
from vindr_det.classification.splits import ENOUGH, Splits, split
from vindr_det.exceptions import InputError
from vindr_det.files import require_writable, write_json, write_text
from vindr_det.tables import read_csv, write_csv

log = logging.getLogger(__name__)

OOF_FILE, TEST_FILE, CALIBRATION_FILE = (
    "oof_predictions.csv", "test_predictions.csv", "calibration_predictions.csv")
_METRICS_FILE, _PICTURE = "metrics.json", "reliability.png"
_SINGLE = "single models, out of fold"
_ABOUT = {
    "auc": "out of fold: each image by the model that was not trained on it, all folds pooled",
    "operating_points": "rates out of fold of single models, each part at thresholds that the others choose",
    "calibration": "errors out of fold of single models, each part calibrated by the others",
    "ensemble": "the mean of the models on images that none was trained on, crossed likewise",
    "test": "the mean of the models as stored; the test images choose nothing",
}
_EPOCH = {"last": "the last, whatever it scores", "inner": "the best on images set aside, none of the fold"}


def train(
    cfg: Any, folds: Sequence[int] | None = None, resume: bool = False, processes: int = 1, parallel: str = ""
) -> dict[str, Any]:
    """Train one model a fold; OUTPUT_DIR gets the models, their predictions and what these are worth.

    Folds can be trained one by one, also by several processes: what is reported is of all folds that are
    finished by then.

    Args:
        cfg: the config.
        folds: which to train; None takes all that the data has.
        resume: keep folds that are finished, and go on with the one that was interrupted.
        processes: GPUs, or processes where DEVICE is cpu.
        parallel: what several of them do: ``folds`` trains one fold on each, ``ddp`` all share each fold's
            steps; empty takes folds where there are several.

    Returns:
        What metrics.json holds; see :func:`vindr_det.classification.report.as_json`.

    Raises:
        InputError: a fold does not exist, a side of a split has but one class, a patient is on both, or
            another process trains one of the folds.
    """
    check(cfg, "config")
    require_writable(Path(cfg.OUTPUT_DIR) / "config.yaml")
    where = devices(cfg.DEVICE, processes)
    check_precision(cfg.SOLVER.PRECISION, where[0])
    if parallel and parallel not in PARALLEL:
        raise InputError(f"--parallel {parallel}: expected {' or '.join(PARALLEL)}")
    out, tables = Path(cfg.OUTPUT_DIR), read_tables(cfg)
    splits = split(tables, cfg)
    wanted = _wanted(splits, folds, cfg)
    parts = {"test": tables.test, "calibration": splits.calibration}
    others = {kind: table for kind, table in parts.items() if table is not None}
    made_of = digests(tables.by_path(cfg))
    with _held(out, wanted):
        with _reporting(out):
            _keep_config(cfg, out, wanted, resume, made_of)
        shares = _shares(wanted, where, parallel)
        work = [(cfg, out, {fold: splits.folds[fold] for fold in mine}, others, own) for mine, own in shares]
        if len(work) == 1:
            several_folds(*work[0])
        else:
            run(several_folds, work)
    with _reporting(out):
        return _report(cfg, out, splits, others, made_of)


def _shares(
    folds: Sequence[int], where: Sequence[str], parallel: str
) -> list[tuple[Sequence[int], Sequence[str]]]:
    """Folds and the devices that train them, for each process that this one starts or is."""
    if len(where) == 1 or (parallel or ("folds" if len(folds) > 1 else "ddp")) == "ddp":
        return [(folds, where)]
    return [(mine, [device]) for mine, device in zip(deal(folds, len(where)), where, strict=False)]


@contextmanager
def _held(out: Path, folds: Sequence[int]) -> Iterator[None]:
    """Two processes that train one fold would write the same files."""
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for fold in folds:
            try:
                stack.enter_context(filelock.FileLock(out / f".fold{fold}.lock", timeout=0))
            except filelock.Timeout:
                raise InputError(f"{out}: another process trains fold {fold} there; wait for it, or take "
                                 "another OUTPUT_DIR") from None
        yield


@contextmanager
def _reporting(out: Path) -> Iterator[None]:
    """One process at a time reads all folds' files and writes what they say together; the last knows all."""
    with filelock.FileLock(out / ".report.lock"):
        yield


def _wanted(splits: Splits, folds: Sequence[int] | None, cfg: Any) -> list[int]:
    wanted = sorted(splits.folds) if folds is None else list(folds)
    for fold in wanted:
        if fold not in splits.folds:
            raise InputError(f"--fold {fold}: expected one of {sorted(splits.folds)} (of {cfg.DATA.LABELS})")
        own = splits.folds[fold]
        learn = subsample_normals(own.learn, cfg.DATA.KEEP_NORMAL, cfg.SEED)
        for name, part in (("training", learn), ("validation", own.held_out)):
            if part.one_class():
                raise InputError(f"fold {fold}: its {name} images are all of one class, expected normal "
                                 "and abnormal ones")
    return wanted


def _keep_config(
    cfg: Any, out: Path, wanted: Sequence[int], resume: bool, made_of: Mapping[str, str]
) -> None:
    """Refuse another config or other tables first; only then make room for what is trained anew.

    No model of another config is replaced either: a changed value must not cost a finished training.
    """
    there = {int(path.stem[4:]): path for kind in ("ckpt", "pth")
             for path in sorted(out.glob(f"fold*.{kind}")) if path.stem[4:].isdigit()}
    kept = {fold: path for fold, path in there.items() if resume or fold not in wanted}
    trained = kept | {fold: path for fold, path in there.items() if path.suffix == ".pth"}
    path = out / "config.yaml"
    if trained and path.is_file() and not same_training(path.read_text(encoding="utf-8"), cfg.dump()):
        raise InputError(f"{path}: {next(iter(trained.values())).name} was trained with this config, which "
                         "differs from the one now; expected the same, or another OUTPUT_DIR")
    require_same(out, kept, made_of)
    anew = [fold for fold in wanted if fold not in kept]
    _make_room(out, anew)
    write_text(path, cfg.dump())
    store(out, anew, made_of)


def _make_room(out: Path, folds: Sequence[int]) -> None:
    """Remove these folds, and with a model what was said of all of them together."""
    if any((out / f"fold{fold}.pth").is_file() for fold in folds):
        for name in (OOF_FILE, TEST_FILE, CALIBRATION_FILE, _METRICS_FILE, _PICTURE, points.POINTS_FILE):
            (out / name).unlink(missing_ok=True)
    for fold in folds:
        predictions = [files(out, fold, kind)[1] for kind in ("oof", "test", "calibration")]
        for old in (*predictions, out / f"fold{fold}.pth", out / f"fold{fold}.ckpt"):
            old.unlink(missing_ok=True)


def _report(
    cfg: Any, out: Path, splits: Splits, others: Mapping[str, LabelTable], made_of: Mapping[str, str]
) -> dict[str, Any]:
    """Of all folds that are finished, also by other processes."""
    tables = {fold: {"oof": one.held_out, **others} for fold, one in splits.folds.items()}
    finished = [fold for fold, kinds in tables.items()
                if all(path.is_file() for kind in kinds for path in files(out, fold, kind))]
    require_same(out, finished, made_of)  # another process may have trained one meanwhile
    found = {kind: [_read(out, fold, kind, tables[fold][kind]) for fold in finished]
             for kind in ("oof", *others)}
    frames, targets = found["oof"], Targets(cfg.POINTS.SENSITIVITY, cfg.POINTS.SPECIFICITY)
    names = splits.folds[finished[0]].held_out.names
    oof = pd.concat(frames, ignore_index=True)
    bootstrap = report.bootstrap_of(oof)
    estimate = report.estimate(oof, names, bootstrap)
    log.info("out of fold\n%s", report.text(oof, estimate))
    labels = points.labels_of(oof, names, bootstrap)
    chosen = points.choose(labels, targets, _SINGLE)
    fitted = {_SINGLE: oof["image_id"].tolist()}
    write_csv(out / OOF_FILE, report.calibrate(oof, chosen))
    report.plot_reliability(oof, labels, chosen, out / _PICTURE)
    metrics = report.as_json(estimate) | _by_fold(frames, names) | {
        "epoch": _EPOCH[cfg.SOLVER.SELECT], "about": _ABOUT,
        "calibration": points.calibrations(labels, chosen, crossed=True),
        "operating_points": points.crossed_rates(labels, chosen, targets)}
    if "calibration" in others and len(finished) > 1:
        own, metrics["ensemble"] = _for_ensemble(out, found["calibration"], names, targets)
        chosen |= own
        fitted |= {one.source: others["calibration"].image_ids.tolist() for one in own.values()}
    points.save_points(out, chosen, fitted)
    if "test" in others:
        metrics["test"] = _test(out, others["test"], found["test"], chosen)
    write_json(out / _METRICS_FILE, metrics)
    return metrics


def _read(out: Path, fold: int, kind: str, table: LabelTable) -> pd.DataFrame:
    """A finished fold's predictions, if they are of the images that this table holds."""
    path = files(out, fold, kind)[1]
    frame = read_csv(path, dtype={"image_id": str, "patient": str})
    if frame["image_id"].tolist() != table.image_ids.tolist():
        raise InputError(f"{path}: its images are not those of fold {fold} now, so its model has seen others "
                         "than it should; train it anew, or take another OUTPUT_DIR")
    return frame


def _by_fold(frames: Sequence[pd.DataFrame], names: Sequence[str]) -> dict[str, float | None]:
    result: dict[str, float | None] = {}
    for frame in frames:
        value = mean_auc(frame[list(names)].to_numpy(), frame[columns_of(names)].to_numpy())
        result[f"auc/fold{frame['fold'].iloc[0]}"] = None if np.isnan(value) else value
    return result


def _mean(frames: Sequence[pd.DataFrame], columns: Sequence[str]) -> pd.DataFrame:
    """The models' mean where each predicts all images."""
    return frames[0].assign(**{
        name: np.mean([frame[name].to_numpy(float) for frame in frames], axis=0) for name in columns})


def _for_ensemble(
    out: Path, frames: Sequence[pd.DataFrame], names: Sequence[str], targets: Targets
) -> tuple[dict[str, Chosen], dict[str, Any]]:
    """Points and calibrations of the mean of the models, for labels with enough images that none has seen."""
    frame = _mean(frames, columns_of(names))
    labels = [one for one in points.labels_of(frame, names, report.bootstrap_of(frame))
              if min(one.truth.sum(), (~one.truth).sum()) >= ENOUGH]
    source = f"the mean of {len(frames)} models, {len(frame)} images that none was trained on"
    chosen = points.choose(labels, targets, source)
    write_csv(out / CALIBRATION_FILE, report.calibrate(frame, chosen))
    return chosen, {"calibration": points.calibrations(labels, chosen, crossed=True),
                    "operating_points": points.crossed_rates(labels, chosen, targets)}


def _test(
    out: Path, table: LabelTable, frames: Sequence[pd.DataFrame], chosen: Mapping[str, Chosen]
) -> dict[str, Any]:
    """The mean of all models on the test images, at points that were chosen without them."""
    columns = columns_of(table.names)
    mean = _mean(frames, columns)
    bootstrap = report.bootstrap_of(mean)
    found = report.estimate(mean, table.names, bootstrap)
    labels = points.labels_of(mean, table.names, bootstrap)
    spread = np.std([report.calibrate(one, chosen)[columns].to_numpy(float) for one in frames], axis=0)
    calibrated = report.calibrate(mean, chosen)
    frame = report.prediction_frame(table, calibrated[columns].to_numpy(float), spread)
    write_csv(out / TEST_FILE, frame.assign(calibrated=calibrated["calibrated"]))
    log.info("test, mean of %d models\n%s", len(frames), report.text(mean, found))
    return report.as_json(found) | {
        "calibration": points.calibrations(labels, chosen, crossed=False),
        "operating_points": points.applied(labels, chosen)}
