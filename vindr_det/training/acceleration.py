"""How a network is laid out in memory and compiled for training: neither changes what it computes."""

import logging
from collections.abc import Callable
from typing import Any

import torch
from torch import Tensor, nn

log = logging.getLogger(__name__)

#: Values of CHANNELS_LAST.
CHANNELS_LAST = ("auto", "always", "never")
#: Characters of a compiler's error that are shown; the rest is of its own insides.
_REASON = 200


def lay_out(network: nn.Module, choice: str, device: str, half: torch.dtype | None) -> None:
    """Put the weights of convolutions in channels-last format, in place.

    Half precision on a GPU is faster so (tensor cores read it without a copy); on a CPU there is nothing to
    gain: 6.7 to 7.0 s in either format for a step of R50-FPN.

    Args:
        network: convolutions hand the format of their weights on to what they compute.
        choice: of :data:`CHANNELS_LAST`; auto is always for half precision on a GPU.
        device: that it is trained on.
        half: type of half precision; None for float32.
    """
    if choice == "always" or (choice == "auto" and str(device).startswith("cuda") and half is not None):
        network.to(memory_format=torch.channels_last)  # type: ignore[call-overload]


def compile_or_not(module: nn.Module, key: str, **options: Any) -> None:
    """Compile a module in place at its first call, or go on without where that fails.

    Names of weights stay. A failure is one line of the log: of a missing compiler, or of code that cannot be
    compiled.

    Args:
        module: such as a backbone.
        key: of the config, for the log.
        options: of ``torch.compile``.
    """
    module.compile(**options)
    module._compiled_call_impl = _Fallback(module, key, module._compiled_call_impl)


class _Fallback:
    """Calls what was compiled, until that fails for the first time."""

    def __init__(self, module: nn.Module, key: str, compiled: Callable[..., Any]) -> None:
        self.module, self.key, self.compiled = module, key, compiled

    def __call__(self, *args: Any, **options: Any) -> Any:
        from torch._dynamo.exc import TorchDynamoException

        try:
            return self.compiled(*args, **options)
        except TorchDynamoException as error:
            reason = " ".join(str(error).split())[:_REASON] or type(error).__name__
            log.warning("%s: %s cannot be compiled (%s); it goes on uncompiled", self.key,
                        type(self.module).__name__, reason)
            self.module._compiled_call_impl = None
            return self.module(*args, **options)


def plain_format(weights: dict[str, Tensor]) -> dict[str, Tensor]:
    """A state dict as files have it, whatever format it was trained in."""
    return {key: value.contiguous() for key, value in weights.items()}
