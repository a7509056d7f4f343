"""A torchvision detector as a LightningModule: the same solver and metrics as the Detectron2 engine."""

import math
from collections.abc import Collection, Iterable
from typing import Any

import torch
from torch import Tensor

from vindr_det.detection.precision import autocast, half_precision
from vindr_det.detection.torchvision.data import Batch
from vindr_det.detection.torchvision.model import build_model, first_label, set_sizes
from vindr_det.detection.torchvision.predictor import to_predictions
from vindr_det.detection.validation import LossMeans, training_mode_aside, validation_metrics
from vindr_det.structures.detections import Predictions
from vindr_det.structures.records import Record
from vindr_det.training.acceleration import compile_or_not, lay_out
from vindr_det.training.ema import ema_weights
from vindr_det.training.ema_module import EMAModule
from vindr_det.training.finite import FiniteCheck, Losses, sent
from vindr_det.training.interruption import Interruption
from vindr_det.training.optimizer import build_optimizer, can_fuse, groups_by_norm
from vindr_det.training.progress import TOTAL, bar
from vindr_det.training.schedule import ScheduleOptions, build_lr_scheduler


class DetectorModule(EMAModule):
    """Trains and validates a detector.

    Args:
        cfg: the config.
        records: all images of VINDR.VALIDATION, to score against.
        loss_ids: ids of the images that the validation loss is the mean over; None for all.
    """

    def __init__(
        self, cfg: Any, records: list[Record], loss_ids: Collection[str] | None = None
    ) -> None:
        super().__init__(build_model(cfg), cfg.VINDR.EMA_DECAY, max(cfg.SEED, 0))
        self.cfg, self.records = cfg, records
        network: Any = self.network
        lay_out(network, cfg.VINDR.CHANNELS_LAST, cfg.MODEL.DEVICE, half_precision(cfg))
        if cfg.VINDR.COMPILE:
            compile_or_not(network.backbone, "VINDR.COMPILE")
        self._record_of = {record.image_id: record for record in records}
        self._loss_ids = set(self._record_of if loss_ids is None else loss_ids)
        self.latest: dict[str, float] = {}
        #: Of all ranks, at the latest validation.
        self.predictions: dict[str, Predictions] = {}
        self._predictions: dict[str, Predictions] = {}
        self._losses = LossMeans()
        self.finite = FiniteCheck()
        #: Of the latest batch.
        self.losses: Losses | None = None

    def training_step(self, batch: Batch, _: int) -> Tensor:
        """Sum of the detector's losses; a loss that is not finite stops the training."""
        images, targets, image_ids = batch
        set_sizes(self.network, self.cfg, training=True)
        losses = self.network(images, targets)
        total = sum(losses.values())
        self.losses = sent(losses | {TOTAL: total})
        self.finite.add(self.global_step, image_ids, self.losses)
        return total

    def on_train_start(self) -> None:
        """Set the rate again: a state has that of the schedule with which it was saved."""
        schedule: Any = self.lr_schedulers()
        groups = schedule.optimizer.param_groups
        for group, base, factor in zip(groups, schedule.base_lrs, schedule.lr_lambdas, strict=True):
            group["lr"] = base * factor(schedule.last_epoch)

    def on_load_checkpoint(self, checkpoint: dict[str, Any]) -> None:
        """Also the last metrics, which the final model carries."""
        super().on_load_checkpoint(checkpoint)
        self.latest = checkpoint["vindr"].get("metrics", {})

    @torch.no_grad()
    def validate(
        self, loader: Iterable[Batch], interruption: Interruption | None = None
    ) -> dict[str, float]:
        """Measure losses and metrics in the precision of the training; ``latest`` keeps them.

        Lightning's own validation loop does not run after the last iteration unless the period divides the
        number of iterations.

        Args:
            loader: this rank's share of the images.
            interruption: ends the validation when a signal comes.

        Returns:
            The metrics of all ranks; empty where a signal ended the validation.
        """
        interruption = interruption or Interruption()
        self._predictions, self._losses = {}, LossMeans()
        training = self.training
        self.eval()
        with ema_weights(self.network, self.ema), autocast(self.device, half_precision(self.cfg)):
            for batch in bar(interruption.until(loader), "validate"):
                self._validate_batch(self.transfer_batch_to_device(batch, self.device, 0))
        self.train(training)
        if interruption.agreed():
            return {}
        self.latest = self._metrics()
        return self.latest

    def _validate_batch(self, batch: Batch) -> None:
        """Losses in training mode and detections in evaluation mode, of the same images."""
        images, targets, image_ids = batch
        set_sizes(self.network, self.cfg, training=False)
        with training_mode_aside(self.network):
            for normal in (False, True):
                rows = [row for row, (target, image_id) in enumerate(zip(targets, image_ids, strict=True))
                        if image_id in self._loss_ids and _is_normal(target) == normal]
                if rows:
                    losses = self.network([images[i] for i in rows], [targets[i] for i in rows])
                    self._losses.add(losses, len(rows), normal)
        for image_id, output, image in zip(image_ids, self.network(images), images, strict=True):
            record = self._record_of[image_id]
            scale = torch.tensor([record.width / image.shape[2], record.height / image.shape[1]])
            self._predictions[image_id] = to_predictions(
                output, scale.repeat(2).double().numpy(), first_label(self.cfg), record.label_set)

    def _metrics(self) -> dict[str, float]:
        """Losses and metrics of all ranks; those without a finite value are left out."""
        parts = self._gathered((self._predictions, self._losses.parts()))
        self.predictions = {key: value for part, _ in parts for key, value in part.items()}
        losses = LossMeans.merged(part for _, part in parts).means()
        scores = validation_metrics(self.predictions, self.records)
        return {k: v for k, v in (losses | scores).items() if math.isfinite(v)}

    @staticmethod
    def _gathered(part: Any) -> list[Any]:
        """Every rank's part."""
        if not (torch.distributed.is_available() and torch.distributed.is_initialized()):
            return [part]
        parts: list[Any] = [None] * torch.distributed.get_world_size()
        torch.distributed.all_gather_object(parts, part)
        return parts

    def configure_optimizers(self) -> dict[str, Any]:
        """The optimizer and the schedule that the Detectron2 engine builds from the same keys."""
        solver = self.cfg.SOLVER
        groups = groups_by_norm(self.network, solver.WEIGHT_DECAY, solver.WEIGHT_DECAY_NORM)
        optimizer = build_optimizer(self.cfg.VINDR.OPTIMIZER, groups, solver.BASE_LR, solver.MOMENTUM,
                                    solver.NESTEROV, can_fuse(self.cfg))
        scheduler = build_lr_scheduler(optimizer, solver.LR_SCHEDULER_NAME,
                                       ScheduleOptions.from_config(self.cfg))
        return {"optimizer": optimizer, "lr_scheduler": {"scheduler": scheduler, "interval": "step"}}


def _is_normal(target: dict[str, Tensor]) -> bool:
    return not (len(target["boxes"]) or target["unknown"].any())
