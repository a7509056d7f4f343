"""The device that a training or a prediction runs on."""


def best_device() -> str:
    """``cuda`` where a GPU is usable, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"
