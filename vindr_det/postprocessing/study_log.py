"""The journals of searches: studies that can be resumed, and how often they have been reported on."""

from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vindr_det.data import in_sample
from vindr_det.exceptions import InputError
from vindr_det.files import read_json


def open_study(name: str, method: str, study_log: Path) -> Any:
    """One method's study of the search ``name``.

    Raises:
        InputError: Optuna is not installed.
    """
    try:
        import optuna
    except ImportError as error:
        raise InputError("the package optuna is not installed; pip install 'vindr_det[tune]'") from error
    optuna.logging.set_verbosity(optuna.logging.WARNING)
    return optuna.create_study(study_name=f"{name}-{method}", storage=_storage(study_log),
                               direction="maximize", load_if_exists=True)


def _storage(study_log: Path) -> Any:
    from optuna.storages import JournalStorage
    from optuna.storages.study_log import JournalFileBackend

    return JournalStorage(JournalFileBackend(str(study_log)))


def earlier_reports(out: Path, study_log: Path, holdout: Sequence[str]) -> int:
    """How often searches that wrote to this folder have reported on any of these images, of any seed.

    Journals count their reports; a result tells the count of its time, should a journal be gone.
    """
    logs = {study_log, *out.parent.glob("*.journal")}
    told = [_told(path, holdout) for path in {out, *(log.with_suffix(".json") for log in logs)}]
    return max(sum(_counted(log, holdout) for log in logs), *told)


def _told(path: Path, holdout: Sequence[str]) -> int:
    try:
        data = read_json(path)
        seen = in_sample.shared(in_sample.read_images(path, data), holdout)
        return int(data["held_out"]["uses"]) if seen else 0
    except (InputError, KeyError, TypeError, ValueError):  # not written yet, or another tool's
        return 0


def _counted(study_log: Path, holdout: Sequence[str]) -> int:
    import optuna

    try:
        studies = optuna.get_all_study_summaries(_storage(study_log), include_best_trial=False)
    except (AttributeError, KeyError, TypeError, ValueError):  # no journal of ours
        return 0
    return sum(study.user_attrs["reports"] for study in studies if "reports" in study.user_attrs
               and in_sample.shared(study.user_attrs["images"], holdout))


def count_report(study: Any, images: Sequence[str]) -> None:
    """Note in a study that what it found was told of these images."""
    reports = study.user_attrs.get("reports", 0)
    if not reports:
        study.set_user_attr("images", list(images))
    study.set_user_attr("reports", reports + 1)
