"""A loss that is not finite ends a training, on a GPU without waiting for each loss."""

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import torch
from torch import Tensor

from vindr_det.exceptions import DivergedError


class Losses(NamedTuple):
    """Losses of a batch on their way from the device.

    Attributes:
        names: of the losses.
        values: (L,) float32 on the CPU, there once ``arrived``.
        arrived: None where they are there already.
    """

    names: tuple[str, ...]
    values: Tensor
    arrived: "torch.cuda.Event | None"

    def read(self) -> dict[str, float]:
        """Name -> value; waits until they are there."""
        if self.arrived is not None:
            self.arrived.synchronize()
        return dict(zip(self.names, self.values.tolist(), strict=True))


def sent(losses: Mapping[str, Tensor]) -> Losses:
    """Begin to copy losses to the CPU."""
    values = torch.stack([value.detach().float() for value in losses.values()])
    copied = values.to("cpu", non_blocking=True)
    arrived = None
    if values.is_cuda:
        arrived = torch.cuda.Event()
        arrived.record(torch.cuda.current_stream(values.device))
    return Losses(tuple(losses), copied, arrived)


class FiniteCheck:
    """Looks at each batch's losses: on the CPU at once, on a GPU when the next batch's are given.

    By then they have been computed, so that nothing waits. Whoever saves weights calls :meth:`settle` before.
    """

    def __init__(self) -> None:
        self._open: tuple[int, Sequence[str], Losses] | None = None

    def add(self, iteration: int, image_ids: Sequence[str], losses: Losses) -> None:
        """Take in a batch.

        Args:
            iteration: that the batch belongs to.
            image_ids: of the batch.
            losses: their sum is the loss.

        Raises:
            DivergedError: as :meth:`settle`.
        """
        self.settle()
        self._open = iteration, image_ids, losses
        if losses.arrived is None:
            self.settle()

    def settle(self) -> None:
        """Look at what is open.

        Raises:
            DivergedError: a loss is not finite.
        """
        if self._open is None:
            return
        (iteration, image_ids, losses), self._open = self._open, None
        values = losses.read()
        if not torch.isfinite(losses.values.sum()):
            raise DivergedError(iteration, image_ids, values)
