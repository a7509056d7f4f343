"""One iteration of training: gradient accumulation, mixed precision, and a check for finite losses."""

import contextlib
import time
from collections.abc import Callable, Mapping, Sequence
from typing import Any

import torch
from detectron2.engine import SimpleTrainer
from torch import nn

from vindr_det.detection.detectron2.processes import on_all_ranks
from vindr_det.detection.precision import autocast
from vindr_det.exceptions import DivergedError
from vindr_det.training.finite import FiniteCheck, Losses, sent


class VindrStep(SimpleTrainer):
    """Detectron2's ``SimpleTrainer`` with several batches per step and other precisions.

    A loss that is not finite ends the training before it changes what is saved, and names the images. On a
    GPU nothing waits for the losses of a step: :meth:`settle` writes them to the storage.

    Args:
        model: returns a dictionary of losses.
        data_loader: endless batches of dicts with ``image_id``.
        optimizer: may clip gradients itself, as Detectron2 builds it.
        accumulate: batches per step; their losses are averaged.
        half: type of mixed precision, float16 with a gradient scaler; None for none.
        clip_norm: maximum norm of the gradient of all weights together; 0 does not clip it here.
        norm_type: p of that norm.

    Attributes:
        on_batch: called with each batch before it is trained on; None for nothing.
    """

    on_batch: Callable[[Sequence[Mapping[str, Any]]], None] | None = None

    def __init__(
        self, model: nn.Module, data_loader: Any, optimizer: torch.optim.Optimizer,
        accumulate: int = 1, half: torch.dtype | None = None, clip_norm: float = 0.0,
        norm_type: float = 2.0,
    ) -> None:
        super().__init__(model, data_loader, optimizer)
        self.accumulate, self.half = accumulate, half
        self.clip_norm, self.norm_type = clip_norm, norm_type
        self.device = next(model.parameters()).device.type
        self.grad_scaler = torch.amp.GradScaler(self.device, enabled=half == torch.float16)
        self._finite = FiniteCheck()
        self._unwritten: list[tuple[int, Losses, float]] = []

    def run_step(self) -> None:
        """Make one step of the optimizer."""
        self.optimizer.zero_grad()
        self._waited = 0.0
        means: dict[str, torch.Tensor] = {}
        for part in range(self.accumulate):
            for key, value in self._backward(last=part == self.accumulate - 1).items():
                means[key] = means.get(key, 0.0) + value.detach() / self.accumulate
        self.after_backward()
        self._unwritten.append((self.iter, sent(means), self._waited))
        if self.device == "cpu":
            self.settle()
        if self.clip_norm > 0:
            self.grad_scaler.unscale_(self.optimizer)
            torch.nn.utils.clip_grad_norm_(self.model.parameters(), self.clip_norm, self.norm_type)
        self.grad_scaler.step(self.optimizer)
        self.grad_scaler.update()

    def settle(self) -> None:
        """Look at all losses so far and write them to the storage; a collective call of all ranks.

        Raises:
            DivergedError: a loss is not finite.
        """
        if self.device != "cpu":
            on_all_ranks(self._finite.settle)
        for iteration, losses, waited in self._unwritten:
            self.write_metrics({key: torch.tensor(value) for key, value in losses.read().items()}, waited,
                               iteration)
        self._unwritten.clear()

    def _backward(self, last: bool) -> Mapping[str, torch.Tensor]:
        """Add the gradients of one batch; an error on one rank stops all ranks."""
        local = hasattr(self.model, "no_sync") and not last  # ranks exchange gradients only once per step
        with self.model.no_sync() if local else contextlib.nullcontext():
            since = time.perf_counter()
            batch = on_all_ranks(lambda: next(self._data_loader_iter))
            self._waited += time.perf_counter() - since
            if self.on_batch is not None:
                self.on_batch(batch)
            losses = on_all_ranks(lambda: self._losses(batch))
            self.grad_scaler.scale(sum(losses.values()) / self.accumulate).backward()
        return losses

    def _losses(self, batch: list[Mapping[str, Any]]) -> Mapping[str, torch.Tensor]:
        image_ids = [image["image_id"] for image in batch]
        try:
            with autocast(self.device, self.half):
                losses = self.model(batch)
        except FloatingPointError as error:  # the proposals were not finite
            self._finite.settle()
            raise DivergedError(self.iter, image_ids, {}) from error
        self._finite.add(self.iter, image_ids, sent(losses))
        return losses

    def state_dict(self) -> dict[str, Any]:
        """State of the optimizer and of the gradient scaler."""
        return super().state_dict() | {"grad_scaler": self.grad_scaler.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a checkpoint, also from one without a gradient scaler."""
        super().load_state_dict(state_dict)
        if state_dict["grad_scaler"]:
            self.grad_scaler.load_state_dict(state_dict["grad_scaler"])
