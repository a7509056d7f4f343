"""The state of every random number generator that training draws from, as plain values."""

import random
from typing import Any

import numpy as np
import torch


def capture() -> dict[str, Any]:
    """For a checkpoint that ``torch.load(weights_only=True)`` can read."""
    name, keys, *rest = np.random.get_state()
    version, internal, following = random.getstate()
    return {
        "torch": torch.get_rng_state(),
        "cuda": torch.cuda.get_rng_state_all() if torch.cuda.is_available() else [],
        "numpy": [str(name), torch.from_numpy(np.asarray(keys).astype(np.int64)), *map(float, rest)],
        "python": [version, list(internal), following],
    }


def restore(state: dict[str, Any]) -> None:
    """Put back what :func:`capture` took; GPUs that are not here any more are left out."""
    torch.set_rng_state(state["torch"].cpu())
    for number, one in enumerate(state["cuda"][: torch.cuda.device_count()]):
        torch.cuda.set_rng_state(one.cpu(), number)
    name, keys, position, has_gauss, gauss = state["numpy"]
    np.random.set_state((name, keys.numpy().astype(np.uint32), int(position), int(has_gauss), gauss))
    version, internal, following = state["python"]
    random.setstate((version, tuple(internal), following))
