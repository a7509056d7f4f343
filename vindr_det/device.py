"""The device that a training or a prediction runs on: its names, and what ``auto`` is on this machine.

:func:`vindr_det.detection.engine.check_device` compares a config's device with the GPUs that there are.
"""

import re

from vindr_det.exceptions import InputError

#: What names a device, in a config and after ``--device``.
DEVICES = "auto, cpu, cuda or cuda:<n> (TPUs are not supported)"


def is_device(name: str) -> bool:
    """Whether a name is one of :data:`DEVICES`."""
    return re.fullmatch(r"auto|cpu|cuda(:\d+)?", name) is not None


def device_name(device: object) -> object:
    """``cuda:<n>`` for the number of a GPU, as 0 or "0"; a name or a ``torch.device`` in small letters;
    anything else stays as it is."""
    if type(device).__name__ == "device":  # without importing torch
        device = str(device)
    device = device.lower() if isinstance(device, str) else device
    number = isinstance(device, int) and not isinstance(device, bool) and device >= 0
    return f"cuda:{device}" if number or (isinstance(device, str) and device.isdecimal()) else device


def best_device() -> str:
    """``cuda`` where a GPU is usable, else ``cpu``."""
    import torch

    return "cuda" if torch.cuda.is_available() else "cpu"


def resolve_device(device: str) -> str:
    """The device of a name: ``auto`` is :func:`best_device`, all others stay."""
    return best_device() if device == "auto" else device


def batch_size(given: int | None, device: str) -> int:
    """Images per call of a network: what ``--batch-size`` gives, or else 8 on a GPU and 1 on a CPU.

    Raises:
        InputError: less than 1.
    """
    if given is None:
        return 1 if resolve_device(device) == "cpu" else 8
    if given < 1:
        raise InputError(f"--batch-size {given}: expected 1 or more")
    return given
