"""The device that a training or a prediction runs on."""


def best_device() -> str:
    """``cuda`` where a GPU is usable, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_device(device: str) -> str:
    """The device of a name: ``auto`` is :func:`best_device`, all others stay."""
    return best_device() if device == "auto" else device
