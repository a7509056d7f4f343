"""The files of a training that a resume reads: ``state_<finished iterations>.<suffix>`` and metrics.json."""

import json
import logging
import re
from pathlib import Path

from vindr_det.training.loggers import runs_file

log = logging.getLogger(__name__)

#: Suffix of each engine's states.
SUFFIXES = {"detectron2": ".pth", "torchvision": ".ckpt"}
#: What a training leaves to predict with.
MODELS = ("model_final.pth", "model_best.pth")
#: COCO results of model_best.pth on the validation images.
BEST_PREDICTIONS = "best_predictions.json"


def name_of(done: int) -> str:
    """The stem of the state after ``done`` iterations."""
    return f"state_{done:07d}"


def iterations_of(state: Path) -> int:
    """The number of iterations after which a state was saved."""
    return int(state.stem.removeprefix("state_"))


def saved(folder: str | Path, suffix: str) -> list[Path]:
    """All states in a folder, the latest last; copies under other names are not among them."""
    own = (path for path in Path(folder).glob(f"state_*{suffix}") if re.fullmatch(r"state_\d+", path.stem))
    return sorted(own, key=iterations_of)


def latest(folder: str | Path, suffix: str) -> Path | None:
    """The state of most iterations in a folder; None where there is none."""
    return next(reversed(saved(folder, suffix)), None)


def keep_latest(folder: str | Path, suffix: str, done: int, keep: int) -> None:
    """Remove all but the latest ``keep`` states of a training that has just saved its ``done``-th.

    States of more iterations belong to an earlier training in the same folder. They stay until this
    training has a state of its own, and must go then: a resume would take them for the latest.
    """
    states = saved(folder, suffix)
    later = [state for state in states if iterations_of(state) > done]
    own = [state for state in states if iterations_of(state) <= done]
    for old in [*later, *own[:-keep]]:
        old.unlink(missing_ok=True)


def clear(folder: str | Path, weights: str = "") -> None:
    """Remove what a resume would mistake for files of the training that begins in a folder now.

    States of an earlier training are deleted, whichever engine wrote them, as are the ids of its loggers'
    runs; its models and their predictions are renamed to ``earlier_<name>``.

    Args:
        folder: OUTPUT_DIR.
        weights: MODEL.WEIGHTS, which stay where they are.
    """
    folder = Path(folder)
    old = [state for suffix in SUFFIXES.values() for state in saved(folder, suffix)]
    if old:
        log.warning("%s: %d states of an earlier training are removed; --resume would have resumed from %s",
                    folder, len(old), old[-1].name)
    for state in (*old, runs_file(folder)):
        state.unlink(missing_ok=True)
    for model in (folder / name for name in (*MODELS, BEST_PREDICTIONS)):
        if model.is_file() and not (weights and Path(weights).exists() and model.samefile(weights)):
            model.replace(model.with_name(f"earlier_{model.name}"))


def truncate_metrics(path: str | Path, done: int) -> None:
    """Cut off the lines of metrics.json that belong to iterations after a checkpoint.

    Each line is a JSON object with the ``iteration`` (from 0) that it belongs to. A resumed training
    writes the cut lines again; a fresh one (``done`` 0) begins with an empty file. The file is shortened
    in place, so that a process that has it open appends after what is left.

    Args:
        path: metrics.json; nothing happens where there is none.
        done: finished iterations of the checkpoint.
    """
    path = Path(path)
    if not path.is_file():
        return
    kept = []
    for line in path.read_text(encoding="utf-8").splitlines(keepends=True):
        try:
            if json.loads(line)["iteration"] >= done or not line.endswith("\n"):
                break
        except (json.JSONDecodeError, KeyError):  # the line that was being written at a kill
            break
        kept.append(line)
    with path.open("r+b") as file:
        file.truncate(len("".join(kept).encode()))
