"""The files that a training resumes from: ``state_<finished iterations>.<suffix>``."""

from pathlib import Path

#: Of each engine's states.
SUFFIXES = {"detectron2": ".pth", "torchvision": ".ckpt"}


def name_of(done: int) -> str:
    """The stem of the state after ``done`` iterations."""
    return f"state_{done:07d}"


def iterations_of(state: Path) -> int:
    """How many iterations a state has behind it."""
    return int(state.stem.removeprefix("state_"))


def saved(folder: str | Path, suffix: str) -> list[Path]:
    """All states in a folder, the latest last."""
    return sorted(Path(folder).glob(f"state_*{suffix}"))


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
