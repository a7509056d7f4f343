"""K-fold training: a checkpoint per fold, out-of-fold and test predictions, and their metrics."""

import logging
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd

from vindr_det.classification import operating_points as points
from vindr_det.classification import plots, report, run_folder
from vindr_det.classification.config import check
from vindr_det.classification.frequencies import write_frequencies
from vindr_det.classification.history import mean_auc
from vindr_det.classification.label_table import LabelTable, columns_of
from vindr_det.classification.launch import PARALLEL, check_precision, devices, folds_per_process, run
from vindr_det.classification.operating_points import LabelPredictions, OperatingPoints, TargetRates
from vindr_det.classification.run_folder import model_file, predictions_file
from vindr_det.classification.splits import MIN_CALIBRATION, Splits, read_tables, split, trained_on
from vindr_det.classification.train_fold import train_folds
from vindr_det.exceptions import InputError
from vindr_det.figures import try_figure
from vindr_det.files import require_writable, write_json
from vindr_det.tables import read_csv, write_csv
from vindr_det.training.loggers import require_loggers
from vindr_det.training.plots import plot_after_training

log = logging.getLogger(__name__)

_HALF = "threshold_0.5"
_SINGLE = "single models, out of fold"
_ABOUT = {
    "auc": "out of fold: each image by the model that was not trained on it, all folds pooled",
    "operating_points": "rates of single models out of fold, cross-fitted (at the other parts' thresholds)",
    "calibration": "errors of single models out of fold, cross-fitted (calibrated on the other parts)",
    "ensemble": "the mean of the models on images that none was trained on, cross-fitted",
    "test": "the mean of the models at stored thresholds and calibrations; nothing is fitted on these "
            "images; folds: each model alone, not calibrated, accuracy at .5, mean and standard deviation",
}
_EPOCH = {"last": "the last", "inner": "the best on images set aside, none of them in the held-out fold"}


def train(
    cfg: Any, folds: Sequence[int] | None = None, resume: bool = False, processes: int = 1, parallel: str = ""
) -> dict[str, Any]:
    """Train one model per fold; OUTPUT_DIR gets the models, their predictions and their metrics.

    Folds can be trained one by one, also by several processes: metrics are of all folds that are finished by
    then.

    Args:
        cfg: the config.
        folds: which to train; None takes all that the data has.
        resume: keep folds that are finished, and resume the one that was interrupted.
        processes: GPUs, or processes where DEVICE is cpu.
        parallel: what several of them do: ``folds`` trains one fold on each, ``ddp`` shares each fold's steps
            among all; empty takes folds where there are several.

    Returns:
        The contents of metrics.json; see :func:`vindr_det.classification.report.as_json`.

    Raises:
        InputError: a fold does not exist, the images to train on or hold out have a single class, a patient
            is in two parts, or another process trains one of the folds.
    """
    check(cfg, "config")
    require_loggers("LOGGERS", cfg.LOGGERS)
    require_writable(Path(cfg.OUTPUT_DIR) / "config.yaml")
    available = devices(cfg.DEVICE, processes)
    check_precision(cfg.SOLVER.PRECISION, available[0])
    if parallel and parallel not in PARALLEL:
        raise InputError(f"--parallel {parallel}: expected {' or '.join(PARALLEL)}")
    out, tables = Path(cfg.OUTPUT_DIR), read_tables(cfg)
    splits = split(tables, cfg)
    folds = _check_folds(splits, folds, cfg)
    parts = {"test": tables.test, "calibration": splits.calibration}
    others = {name: table for name, table in parts.items() if table is not None}
    digests = run_folder.digests(tables.by_path(cfg))
    with run_folder.lock_folds(out, folds):
        with run_folder.lock_summaries(out):
            run_folder.prepare(cfg, out, folds, resume, digests)
            write_frequencies(cfg, out, splits.folds)
        jobs = [(cfg, out, {fold: splits.folds[fold] for fold in own}, others, its_devices)
                for own, its_devices in _assign(folds, available, parallel)]
        if len(jobs) == 1:
            train_folds(*jobs[0])
        else:
            run(train_folds, jobs)
    with run_folder.lock_summaries(out):
        return _summarize(cfg, out, splits, others, digests)


def _assign(
    folds: Sequence[int], available: Sequence[str], parallel: str
) -> list[tuple[Sequence[int], Sequence[str]]]:
    """Folds and their devices, for each process that is started."""
    if len(available) == 1 or (parallel or ("folds" if len(folds) > 1 else "ddp")) == "ddp":
        return [(folds, available)]
    own_folds = folds_per_process(folds, len(available))
    return [(own, [device]) for own, device in zip(own_folds, available, strict=False)]


def _check_folds(splits: Splits, folds: Sequence[int] | None, cfg: Any) -> list[int]:
    selected = sorted(splits.folds) if folds is None else list(folds)
    for fold in selected:
        if fold not in splits.folds:
            raise InputError(f"--fold {fold}: expected one of {sorted(splits.folds)} (of {cfg.DATA.LABELS})")
        images = splits.folds[fold]
        trained = trained_on(images.train, cfg)
        for name, part in (("training", trained), ("validation", images.held_out)):
            if not len(part):
                raise InputError(f"fold {fold}: it has 0 {name} images, expected normal and abnormal ones")
            if part.one_class():
                raise InputError(f"fold {fold}: its {name} images are all of one class, expected normal "
                                 "and abnormal ones")
    return selected


def _summarize(
    cfg: Any, out: Path, splits: Splits, others: Mapping[str, LabelTable], digests: Mapping[str, str]
) -> dict[str, Any]:
    """Write and return metrics of all folds that are finished, also by other processes."""
    predictions = _read_finished(out, splits, others, digests)
    folds, targets = predictions["oof"], TargetRates(cfg.POINTS.SENSITIVITY, cfg.POINTS.SPECIFICITY)
    names = next(iter(splits.folds.values())).held_out.names
    oof = pd.concat(folds, ignore_index=True)
    bootstrap = report.bootstrap_of(oof)
    estimates = report.estimate(oof, names, bootstrap)
    log.info("out of fold\n%s", report.text(oof, estimates))
    labels = points.label_predictions(oof, names, bootstrap)
    fitted = points.fit_points(labels, targets, _SINGLE)
    fitted_on = {_SINGLE: oof["image_id"].tolist()}
    write_csv(out / run_folder.OOF_FILE, report.calibrate(oof, fitted))
    _plot(out, labels, fitted, report.not_measured(estimates))
    metrics = report.as_json(estimates) | _auc_by_fold(folds, names) | {
        "epoch": _EPOCH[cfg.SOLVER.SELECT], "about": _ABOUT, "normal_images": _normal_images(cfg),
        "dropped_for_leaks": splits.dropped,
        "calibration": points.calibration_summary(labels, fitted, crossed=True),
        "operating_points": points.cross_fitted_rates(labels, fitted, targets)}
    log.info("out of fold, threshold .5\n%s", report.confusion_text(metrics["operating_points"], _HALF))
    if "calibration" in others and len(folds) > 1:
        ensemble, metrics["ensemble"] = _ensemble(out, predictions["calibration"], names, targets)
        fitted |= ensemble
        fitted_on |= {own.source: others["calibration"].image_ids.tolist() for own in ensemble.values()}
    points.save_points(out, fitted, fitted_on)
    if "test" in others:
        numbers = [int(frame["fold"].iloc[0]) for frame in folds]
        models = dict(zip(numbers, predictions["test"], strict=True))
        metrics["test"] = _test(out, others["test"], models, fitted)
    write_json(out / run_folder.METRICS_FILE, metrics)
    return metrics


def _plot(
    out: Path, labels: Sequence[LabelPredictions], fitted: Mapping[str, OperatingPoints],
    too_few: Sequence[str],
) -> None:
    """Pictures of the out-of-fold predictions, and the curves of all folds."""
    if labels:
        try_figure(out / run_folder.RELIABILITY_FILE, lambda: plots.reliability_figure(labels, fitted))
        try_figure(out / run_folder.ROC_FILE, lambda: plots.roc_figure(labels, too_few))
    plot_after_training(out)


def _normal_images(cfg: Any) -> str:
    kept = cfg.DATA.KEEP_NORMAL
    if kept == 1:
        return "all, in training and in what is reported"
    parts = {"training": "of those to train on; all of those that are reported",
             "all": "in training and in what is reported: AP, precision and calibration are of this mixture"}
    return f"a fraction of {kept:g} {parts[cfg.DATA.KEEP_NORMAL_IN]}"


def _read_finished(
    out: Path, splits: Splits, others: Mapping[str, LabelTable], digests: Mapping[str, str]
) -> dict[str, list[pd.DataFrame]]:
    """``oof``, ``test`` and ``calibration`` -> predictions of each finished fold."""
    tables = {fold: {"oof": images.held_out, **others} for fold, images in splits.folds.items()}
    finished = [fold for fold, parts in tables.items() if model_file(out, fold).is_file()
                and all(predictions_file(out, fold, part).is_file() for part in parts)]
    run_folder.check_same_tables(out, finished, digests)  # another process may have trained a fold meanwhile
    return {part: [_read_predictions(out, fold, part, tables[fold][part]) for fold in finished]
            for part in ("oof", *others)}


def _read_predictions(out: Path, fold: int, part: str, table: LabelTable) -> pd.DataFrame:
    """A finished fold's predictions, if they are of this table's images."""
    path = predictions_file(out, fold, part)
    frame = read_csv(path, dtype={"image_id": str, "patient": str})
    if frame["image_id"].tolist() != table.image_ids.tolist():
        raise InputError(f"{path}: its images are not those of fold {fold} now, so its model was trained on "
                         "others than it should; train it again, or take another OUTPUT_DIR")
    return frame


def _auc_by_fold(folds: Sequence[pd.DataFrame], names: Sequence[str]) -> dict[str, float | None]:
    result: dict[str, float | None] = {}
    for frame in folds:
        value = mean_auc(frame[list(names)].to_numpy(), frame[columns_of(names)].to_numpy())
        result[f"auc/fold{frame['fold'].iloc[0]}"] = None if np.isnan(value) else value
    return result


def _ensemble(
    out: Path, models: Sequence[pd.DataFrame], names: Sequence[str], targets: TargetRates
) -> tuple[dict[str, OperatingPoints], dict[str, Any]]:
    """Points and calibrations of the models' mean, for labels with enough images set aside."""
    mean = report.mean_of_models(models, columns_of(names))
    labels = [label for label in points.label_predictions(mean, names, report.bootstrap_of(mean))
              if min(label.truth.sum(), (~label.truth).sum()) >= MIN_CALIBRATION]
    source = f"the mean of {len(models)} models, {len(mean)} images that none was trained on"
    fitted = points.fit_points(labels, targets, source)
    write_csv(out / run_folder.CALIBRATION_FILE, report.calibrate(mean, fitted))
    return fitted, {"calibration": points.calibration_summary(labels, fitted, crossed=True),
                    "operating_points": points.cross_fitted_rates(labels, fitted, targets)}


def _test(
    out: Path, table: LabelTable, models: Mapping[int, pd.DataFrame], fitted: Mapping[str, OperatingPoints]
) -> dict[str, Any]:
    """The mean of all folds' models on the test images, at points that were fitted without them."""
    columns = columns_of(table.names)
    mean = report.mean_of_models(list(models.values()), columns)
    bootstrap = report.bootstrap_of(mean)
    estimates = report.estimate(mean, table.names, bootstrap)
    labels = points.label_predictions(mean, table.names, bootstrap)
    spread = np.std([report.calibrate(model, fitted)[columns].to_numpy(float)
                     for model in models.values()], axis=0)
    calibrated = report.calibrate(mean, fitted)
    frame = report.prediction_frame(table, calibrated[columns].to_numpy(float), spread)
    write_csv(out / run_folder.TEST_FILE, frame.assign(calibrated=calibrated["calibrated"]))
    log.info("test, mean of %d models\n%s", len(models), report.text(mean, estimates))
    rates, folds = points.rates_at(labels, fitted), report.scores_of_models(models, table.names)
    log.info("test, threshold .5\n%s", report.confusion_text(rates, _HALF))
    log.info("test, single models at threshold .5, not calibrated\n%s", report.scores_text(folds))
    if labels:
        too_few = report.not_measured(estimates)
        try_figure(out / run_folder.TEST_ROC_FILE, lambda: plots.roc_figure(labels, too_few))
    return report.as_json(estimates) | {
        "calibration": points.calibration_summary(labels, fitted, crossed=False),
        "operating_points": rates, "folds": folds}
