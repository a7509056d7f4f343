"""The search log: Optuna studies that can be resumed, and how often their results have been reported."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vindr_det.data import in_sample
from vindr_det.exceptions import InputError
from vindr_det.files import read_json


def log_path(out: Path) -> Path:
    """``<stem>.journal`` beside a result: the search log, in the format of Optuna's journal storage."""
    return out.with_suffix(".journal")


def open_study(name: str, method: str, log: Path) -> Any:
    """The study of one fusion method in the search ``name``; a new one where the log has none.

    Raises:
        InputError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("the package optuna is not installed; pip install optuna") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name=f"{name}-{method}", storage=_storage(log), direction="maximize",
                               load_if_exists=True)


def _storage(log: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.journal import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(log)))


def earlier_reports(out: Path, holdout: Sequence[str]) -> int:
    """How often searches in the folder of ``out`` have reported on any of these images, with any seed.

    Search logs count their reports; a result file states the count of its time, in case a log was removed.

    Args:
        out: JSON of the search.
        holdout: image ids of the holdout split.
    """
    logs = {log_path(out), *out.parent.glob("*.journal")}
    stated = [_stated(path, holdout) for path in {out, *(log.with_suffix(".json") for log in logs)}]
    return max(sum(_counted(log, holdout) for log in logs), *stated)


def _stated(path: Path, holdout: Sequence[str]) -> int:
    """The count in a result file that shares an image with the holdout split; otherwise 0."""
    try:
        data = read_json(path)
        shared = in_sample.shared(in_sample.read_images(path, data), holdout)
        return int(data["held_out"]["uses"]) if shared else 0
    except (InputError, KeyError, TypeError, ValueError):  # not written yet, or another tool's
        return 0


def _counted(log: Path, holdout: Sequence[str]) -> int:
    """Reports of the log's studies that share an image with the holdout split."""
    import optuna

    try:
        studies = optuna.get_all_study_summaries(_storage(log), include_best_trial=False)
    except (AttributeError, KeyError, TypeError, ValueError):  # not a search log
        return 0
    return sum(study.user_attrs["reports"] for study in studies if "reports" in study.user_attrs
               and in_sample.shared(study.user_attrs["images"], holdout))


def count_report(study: Any, images: Sequence[str]) -> None:
    """Record in a study that its result on these images has been reported once more."""
    reports = study.user_attrs.get("reports", 0)
    if not reports:
        study.set_user_attr("images", list(images))
    study.set_user_attr("reports", reports + 1)
