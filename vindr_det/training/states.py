"""The files that a training resumes from: ``state_<finished iterations>.<suffix>``."""

import logging
import re
from pathlib import Path

log = logging.getLogger(__name__)

#: Of each engine's states.
SUFFIXES = {"detectron2": ".pth", "torchvision": ".ckpt"}
#: What a training leaves to predict with.
MODELS = ("model_final.pth", "model_best.pth")


def name_of(done: int) -> str:
    """The stem of the state after ``done`` iterations."""
    return f"state_{done:07d}"


def iterations_of(state: Path) -> int:
    """How many iterations a state has behind it."""
    return int(state.stem.removeprefix("state_"))


def saved(folder: str | Path, suffix: str) -> list[Path]:
    """All states in a folder, the latest last; a copy by another name is none."""
    own = (path for path in Path(folder).glob(f"state_*{suffix}") if re.fullmatch(r"state_\d+", path.stem))
    return sorted(own, key=iterations_of)


def keep_latest(folder: str | Path, suffix: str, done: int, keep: int) -> None:
    """Remove all but the latest ``keep`` states of a training that has just saved its ``done``-th.

    States of more iterations are an earlier training's in the same folder. They stay until this
    one has a state of its own, and must go then: a resume would take them for the latest.
    """
    states = saved(folder, suffix)
    later = [state for state in states if iterations_of(state) > done]
    own = [state for state in states if iterations_of(state) <= done]
    for old in [*later, *own[:-keep]]:
        old.unlink(missing_ok=True)


def clear(folder: str | Path, weights: str = "") -> None:
    """Take from a folder what a resume would take for the training that begins in it now.

    An earlier training's states go, of either engine, and its models are put aside by the name of
    ``earlier_<name>``.

    Args:
        folder: OUTPUT_DIR.
        weights: MODEL.WEIGHTS, which stay where they are.
    """
    folder = Path(folder)
    old = [state for suffix in SUFFIXES.values() for state in saved(folder, suffix)]
    if old:
        log.warning("%s: %d states of an earlier training are removed; --resume would have gone on from %s",
                    folder, len(old), old[-1].name)
    for state in old:
        state.unlink(missing_ok=True)
    for model in (folder / name for name in MODELS):
        if model.is_file() and not (weights and Path(weights).exists() and model.samefile(weights)):
            model.replace(model.with_name(f"earlier_{model.name}"))
