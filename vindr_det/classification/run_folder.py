"""OUTPUT_DIR of a training: its files, their locks, and the config and tables that its models are of.

Models of other configs, labels or images are not mixed: a folder whose config or tables have changed is
refused before anything in it is removed.
"""

import hashlib
import shutil
from collections.abc import Iterable, Iterator, Mapping, Sequence
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from typing import Any

import filelock

from vindr_det.classification.config import same_training
from vindr_det.classification.label_table import LabelTable
from vindr_det.classification.operating_points import POINTS_FILE
from vindr_det.exceptions import InputError
from vindr_det.files import read_json, write_json, write_text
from vindr_det.training.plots import RESULTS_FILE
from vindr_det.training.results import RESULTS_TABLE

OOF_FILE, TEST_FILE, CALIBRATION_FILE = (
    "oof_predictions.csv", "test_predictions.csv", "calibration_predictions.csv")
METRICS_FILE, RELIABILITY_FILE, FREQUENCIES_FILE = "metrics.json", "reliability.png", "frequencies.csv"
ROC_FILE, TEST_ROC_FILE = "roc.png", "test_roc.png"
_SUMMARIES = (OOF_FILE, TEST_FILE, CALIBRATION_FILE, METRICS_FILE, RELIABILITY_FILE, ROC_FILE, TEST_ROC_FILE,
              RESULTS_FILE, RESULTS_TABLE, POINTS_FILE)
_TABLES_FILE = "tables.json"


def model_file(out: Path, fold: int) -> Path:
    """A fold's model."""
    return out / f"fold{fold}.pth"


def state_file(out: Path, fold: int) -> Path:
    """The state from which a fold's interrupted training resumes."""
    return out / f"fold{fold}.ckpt"


def history_file(out: Path, fold: int) -> Path:
    """A fold's measures of each epoch."""
    return out / f"fold{fold}_history.csv"


def train_batch_file(out: Path, fold: int) -> Path:
    """A picture of a fold's first batch."""
    return out / f"fold{fold}_train_batch0.png"


def misclassified_file(out: Path, fold: int) -> Path:
    """A picture of the held-out images that a fold's model is most wrong about."""
    return out / f"fold{fold}_misclassified.png"


def events_folder(out: Path, fold: int) -> Path:
    """A fold's TensorBoard events."""
    return out / "events" / f"fold{fold}"


def epoch_file(out: Path, fold: int, epoch: int) -> Path:
    """A fold's model after an epoch, in a folder that predicts as OUTPUT_DIR does."""
    return out / "epochs" / str(epoch) / model_file(out, fold).name


def predictions_file(out: Path, fold: int, part: str) -> Path:
    """A fold's predictions of the images of a part: ``oof``, ``test`` or ``calibration``."""
    return out / f"fold{fold}_{part}.csv"


@contextmanager
def lock_folds(out: Path, folds: Sequence[int]) -> Iterator[None]:
    """Keep other processes from training the same folds.

    Raises:
        InputError: another process trains one of them.
    """
    out.mkdir(parents=True, exist_ok=True)
    with ExitStack() as stack:
        for fold in folds:
            try:
                stack.enter_context(filelock.FileLock(out / f".fold{fold}.lock", timeout=0))
            except filelock.Timeout:
                raise InputError(f"{out}: another process trains fold {fold} there; wait for it, or take "
                                 "another OUTPUT_DIR") from None
        yield


def lock_summaries(out: Path) -> AbstractContextManager[Any]:
    """Let one process at a time read all folds' files and write their summaries."""
    return filelock.FileLock(out / ".report.lock")


def prepare(
    cfg: Any, out: Path, folds: Sequence[int], resume: bool, table_digests: Mapping[str, str]
) -> None:
    """Store config and tables, and remove the models of folds that are trained from the start.

    Args:
        cfg: the config.
        out: the folder.
        folds: to be trained.
        resume: keep those of them that are finished or interrupted.
        table_digests: of :func:`digests`.

    Raises:
        InputError: the folder holds models of another config, or models to be kept of other tables.
    """
    present = {int(path.stem[4:]): path for suffix in ("ckpt", "pth")
               for path in sorted(out.glob(f"fold*.{suffix}")) if path.stem[4:].isdigit()}
    kept = {fold: path for fold, path in present.items() if resume or fold not in folds}
    trained = kept | {fold: path for fold, path in present.items() if path.suffix == ".pth"}
    path = out / "config.yaml"
    if trained and path.is_file() and not same_training(path.read_text(encoding="utf-8"), cfg.dump()):
        raise InputError(f"{path}: {next(iter(trained.values())).name} was trained with this config, which "
                         "differs from the one now; expected the same, or another OUTPUT_DIR")
    check_same_tables(out, kept, table_digests)
    new = [fold for fold in folds if fold not in kept]
    _remove(out, new)
    write_text(path, cfg.dump())
    write_json(out / _TABLES_FILE, _stored_digests(out) | {str(fold): dict(table_digests) for fold in new})


def _remove(out: Path, folds: Sequence[int]) -> None:
    """Remove these folds' files, and with a model the summaries of all folds."""
    if any(model_file(out, fold).is_file() for fold in folds):
        for name in _SUMMARIES:
            (out / name).unlink(missing_ok=True)
    for fold in folds:
        predictions = [predictions_file(out, fold, part) for part in ("oof", "test", "calibration")]
        epochs = out.glob(f"epochs/*/{model_file(out, fold).name}")
        own = [file(out, fold) for file in (model_file, state_file, history_file, train_batch_file,
                                              misclassified_file)]
        shutil.rmtree(events_folder(out, fold), ignore_errors=True)
        for path in (*predictions, *epochs, *own):
            path.unlink(missing_ok=True)


def digests(tables: Mapping[str, LabelTable]) -> dict[str, str]:
    """Path of a table -> SHA-256 of its images, labels, patients and folds, in their order."""
    return {path: _digest(table) for path, table in tables.items()}


def _digest(table: LabelTable) -> str:
    texts = "\n".join([*table.names, *table.image_ids.tolist(), *table.groups.tolist()])
    parts = (texts.encode(), table.targets.tobytes(), table.normal.tobytes(), table.folds.tobytes())
    known = b"" if table.known is None else table.known.tobytes()
    return hashlib.sha256(b"".join((*parts, known))).hexdigest()


def check_same_tables(out: Path, folds: Iterable[int], table_digests: Mapping[str, str]) -> None:
    """Refuse folds that were trained on other tables.

    Args:
        out: the folder.
        folds: trained in it; those of earlier versions, which did not store digests, pass.
        table_digests: of :func:`digests`.

    Raises:
        InputError: names the table that differs.
    """
    stored = _stored_digests(out)
    for fold in folds:
        then = stored.get(str(fold), table_digests)
        for path in dict.fromkeys([*table_digests, *then]):
            if then.get(path) != table_digests.get(path):
                raise InputError(f"{path}: fold{fold} was made with other images, labels, patients or folds, "
                                 f"or another order of them ({out / _TABLES_FILE}); train it again, or take "
                                 "another OUTPUT_DIR")


def _stored_digests(out: Path) -> dict[str, dict[str, str]]:
    path = out / _TABLES_FILE
    data = read_json(path) if path.is_file() else {}
    if not isinstance(data, dict) or not all(isinstance(digest, dict) for digest in data.values()):
        raise InputError(f"{path}: expected what vindr-det train-classifier wrote")
    return data
