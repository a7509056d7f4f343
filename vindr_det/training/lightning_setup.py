"""How Lightning is set up to train a detector and a classifier alike."""

import contextlib
import logging
import warnings
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from lightning.pytorch.plugins.environments import LightningEnvironment


def trainer_options(out: str | Path) -> dict[str, Any]:
    """Arguments of Lightning's Trainer that leave processes, signals, states and output to this package.

    Under SLURM Lightning would count its tasks, save a state of its own at SIGUSR1, and start the next
    training from such a state in its default folder; so that folder is one that is never made.

    Args:
        out: OUTPUT_DIR.
    """
    return {"plugins": [LightningEnvironment()], "default_root_dir": Path(out) / "lightning",
            "use_distributed_sampler": False, "enable_checkpointing": False, "enable_model_summary": False,
            "enable_progress_bar": False}


@contextlib.contextmanager
def quiet() -> Iterator[None]:
    """Without Lightning's advice on workers and logging intervals, which users cannot follow."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield
