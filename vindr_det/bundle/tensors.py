"""Weights as safetensors, in single or half precision."""

from collections.abc import Mapping
from typing import Any

import torch
from safetensors import SafetensorError
from safetensors.torch import load, save
from torch import Tensor

from vindr_det.exceptions import InputError, one_line


def to_bytes(state: Mapping[str, Tensor], half: bool = False) -> bytes:
    """A state dict as a safetensors file.

    Args:
        state: of a network.
        half: store weights in float16; those of a single dimension (norms, biases) and those beyond
            float16's range stay as they are.
    """
    tensors = {name: tensor.detach().cpu().contiguous().clone() for name, tensor in state.items()}
    return save({name: _halved(tensor) if half else tensor for name, tensor in tensors.items()})


def _halved(tensor: Tensor) -> Tensor:
    if tensor.dtype != torch.float32 or tensor.ndim < 2:
        return tensor
    small = tensor.half()
    return small if bool(small.isfinite().all()) else tensor


def from_bytes(data: bytes, source: str) -> dict[str, Any]:
    """The state dict in a file of :func:`to_bytes`; what is stored in half precision becomes float32.

    Args:
        data: of the file.
        source: named in errors.

    Raises:
        InputError: not a safetensors file.
    """
    try:
        state = load(data)
    except (SafetensorError, ValueError, KeyError) as error:
        raise InputError(f"{source}: not a safetensors file ({one_line(error)})") from error
    return {name: tensor.float() if tensor.dtype == torch.float16 else tensor
            for name, tensor in state.items()}
