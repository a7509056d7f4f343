"""``results.csv`` of a training: a row per period, whatever the file that the training itself appends to."""

import json
import logging
import re
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import pandas as pd

from vindr_det.exceptions import InputError
from vindr_det.files import read_text
from vindr_det.tables import read_csv, write_csv

log = logging.getLogger(__name__)

RESULTS_TABLE = "results.csv"
#: Names of the parts of a detector's loss, of either engine.
_COMPONENT = re.compile(r"loss_.+|classification|bbox_regression|bbox_ctrness")
_FIRST = ("iterations", "time", "data_time", "lr", "total_loss")
#: What a column begins with -> its place after the first ones.
_ORDER = ("validation_loss", "validation_", "vindr/mAP", "voc/mAP", "coco/", "vindr/", "voc/")


def metrics_rows(path: str | Path) -> list[dict[str, Any]]:
    """The lines of a detector's metrics.json; a last line that was cut by a kill is left out.

    Raises:
        InputError: missing, empty, or a line is no JSON object with an iteration.
    """
    rows: list[dict[str, Any]] = []
    lines = read_text(path).splitlines()
    if not lines:
        raise InputError(f"{path}: is empty, expected a line per 20 iterations")
    for number, line in enumerate(lines, start=1):
        try:
            row = json.loads(line)
            int(row["iteration"])
        except (json.JSONDecodeError, KeyError, TypeError, ValueError):
            if number == len(lines) > 1:
                break
            raise InputError(f"{path}, line {number}: {line[:40]!r}, expected a JSON object with an "
                             "iteration, as vindr-det train writes") from None
        rows.append(row)
    return rows


def is_component(key: str) -> bool:
    """Whether a key of metrics.json is a part of the training loss."""
    return _COMPONENT.fullmatch(key) is not None


def histories(folder: str | Path) -> dict[int, Path]:
    """Fold -> ``fold<k>_history.csv`` of a classifier's folder, by rising number; empty for a detector's."""
    by_fold = {int(match[1]): path for path in Path(folder).glob("fold*_history.csv")
               if (match := re.fullmatch(r"fold(\d+)_history\.csv", path.name))}
    return dict(sorted(by_fold.items()))


def results_of_detector(rows: Sequence[Mapping[str, Any]]) -> pd.DataFrame:
    """A row per iteration that has any values, from :func:`metrics_rows`.

    Returns:
        ``iterations`` that are done, seconds per iteration (``time``, and ``data_time`` of it), ``lr``,
        losses, and where it was validated validation losses and APs.
    """
    merged: dict[int, dict[str, Any]] = {}
    for row in rows:
        done = int(row["iteration"]) + 1
        values = {key: value for key, value in row.items() if key != "iteration"}
        merged.setdefault(done, {"iterations": done}).update(values)
    frame = pd.DataFrame([merged[done] for done in sorted(merged)])
    return frame[sorted(frame.columns, key=_place)]


def _place(column: str) -> tuple[int, str]:
    if column in _FIRST:
        return _FIRST.index(column), ""
    if is_component(column):
        return len(_FIRST), column
    rank = next((place for place, start in enumerate(_ORDER) if column.startswith(start)), len(_ORDER))
    return len(_FIRST) + 1 + rank, column


def results_of_classifier(paths: Mapping[int, Path]) -> pd.DataFrame:
    """The rows of all histories, with their ``fold`` first."""
    frames = [read_csv(path, ["epoch"]) for path in paths.values()]
    return pd.concat([frame.assign(fold=fold)[["fold", *frame.columns]]
                      for fold, frame in zip(paths, frames, strict=True)], ignore_index=True)


def write_results(folder: str | Path) -> None:
    """Write ``results.csv`` of a training's folder, which may still be training; a failure is a warning."""
    path = Path(folder) / RESULTS_TABLE
    try:
        of_folds = histories(folder)
        frame = results_of_classifier(of_folds) if of_folds else results_of_detector(
            metrics_rows(Path(folder) / "metrics.json"))
        write_csv(path, frame)
    except (InputError, OSError) as error:
        log.warning("%s: not written (%s); the training goes on", path, error)
