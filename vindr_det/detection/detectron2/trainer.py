"""The training loop of the Detectron2 engine: what a config with a VINDR node describes."""

import weakref
from collections.abc import Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import detectron2.utils.comm as comm
import torch
from detectron2.engine import DefaultTrainer, TrainerBase, hooks
from detectron2.evaluation import DatasetEvaluator, inference_on_dataset
from detectron2.solver import build_lr_scheduler
from detectron2.utils.events import EventStorage
from torch import nn
from torch.utils.data import DataLoader

from vindr_det.data.splits import loss_records, training_records, validation_records, warn_of_overlap
from vindr_det.detection.checkpoint import metadata
from vindr_det.detection.detectron2 import processes, solver
from vindr_det.detection.detectron2.architectures import build_model
from vindr_det.detection.detectron2.checkpointer import VindrCheckpointer
from vindr_det.detection.detectron2.config import check_trainer
from vindr_det.detection.detectron2.datasets import build_loader
from vindr_det.detection.detectron2.evaluator import BatchesByShape, VindrEvaluator
from vindr_det.detection.detectron2.hooks import (
    BestCheckpoint,
    MetricsLines,
    ModelNumbers,
    SaveStates,
    SeedSteps,
    UpdateEMA,
    Validation,
    ValidationLoss,
    unwrapped,
)
from vindr_det.detection.detectron2.incomplete import refuse_unknown
from vindr_det.detection.detectron2.mapper import VindrMapper
from vindr_det.detection.detectron2.train_step import VindrStep
from vindr_det.detection.detectron2.writers import ShowTraining, build_writers
from vindr_det.detection.precision import autocast, half_precision
from vindr_det.detection.validation import keep_predictions
from vindr_det.structures.records import Record
from vindr_det.training import schedule, states
from vindr_det.training.acceleration import compile_or_not, lay_out
from vindr_det.training.checkpoint_io import read_file
from vindr_det.training.early_stopping import EarlyStopping
from vindr_det.training.ema import ema_weights
from vindr_det.training.interruption import Interruption
from vindr_det.training.resume import require_resumable, state_to_resume
from vindr_det.training.sampler import batch_part, training_order

#: Records of one or more data sets, each with its folder of images.
Dataset = Sequence[tuple[Record, Path]]
#: Hooks that run at a resume where a signal had interrupted the validation.
_VALIDATING = (ValidationLoss, Validation, BestCheckpoint, MetricsLines, ShowTraining)
#: Built by Detectron2, with keys that :mod:`vindr_det.training.schedule` does not have.
_DETECTRON2_SCHEDULES = ("WarmupMultiStepLR", "WarmupCosineLR")
#: Names of hooks in older states.
_RENAMED_HOOKS = {"AverageWeights": "UpdateEMA", "BestModel": "BestCheckpoint"}


class VindrTrainer(TrainerBase):
    """Trains, validates, saves and resumes a detector; used and extended like ``DefaultTrainer``.

    Subclasses override ``build_...``. Beyond ``DefaultTrainer``: data sets without the catalogs, in an order
    that a resume continues; validation losses and metrics of VINDR.VALIDATION every TEST.EVAL_PERIOD
    iterations; model EMA, ``model_best.pth`` and early stopping; signals end it with a state to resume from.

    It does not derive from ``DefaultTrainer``: that constructor puts the models of several processes on
    GPUs, even where MODEL.DEVICE is cpu, and makes an inner trainer and a checkpointer of its own.

    Args:
        cfg: Detectron2's config with the VINDR node.
        interruption: ends the training; enter it before, to handle signals during this constructor too.

    Attributes:
        cfg, model, optimizer, scheduler, checkpointer: as those of ``DefaultTrainer``.
        interruption: the signals that end the training.

    Raises:
        InputError: a key that cannot be honored, or data that cannot be read.
    """

    iter: int
    start_iter: int

    def __init__(self, cfg: Any, interruption: Interruption | None = None) -> None:
        super().__init__()
        check_trainer(cfg)
        self._validation_set = validation_records(cfg)
        if comm.is_main_process():
            warn_of_overlap(cfg)
        self.interruption = interruption or Interruption()
        self.cfg = cfg = DefaultTrainer.auto_scale_workers(cfg, comm.get_world_size())
        self.max_iter = cfg.SOLVER.MAX_ITER
        model = self.build_model(cfg)
        lay_out(model, cfg.VINDR.CHANNELS_LAST, cfg.MODEL.DEVICE, half_precision(cfg))
        if cfg.VINDR.COMPILE:
            compile_or_not(getattr(model, "backbone", model), "VINDR.COMPILE")
        self.optimizer = self.build_optimizer(cfg, model)
        self.scheduler = self.build_lr_scheduler(cfg, self.optimizer)
        self.model = processes.wrapped(model, cfg)
        self._trainer = self.build_step(cfg, self.model, self.optimizer)
        self.checkpointer = VindrCheckpointer(
            self.model, cfg, metadata=self._metadata, trainer=weakref.proxy(self))
        self._early_stopping = EarlyStopping(cfg.VINDR.BEST_METRIC, cfg.VINDR.PATIENCE)
        self._ema = UpdateEMA(cfg.VINDR.EMA_DECAY)
        self._validation = Validation(cfg.TEST.EVAL_PERIOD, self.evaluate, self.interruption)
        self._shown = ShowTraining(cfg, self._validation, [record for record, _ in self._validation_set])
        self._numbers = ModelNumbers(self.model, cfg.SOLVER.CHECKPOINT_PERIOD)
        self._states = SaveStates(self.checkpointer, cfg.SOLVER.CHECKPOINT_PERIOD, cfg.VINDR.KEEP_CHECKPOINTS)
        self.register_hooks(self.build_hooks())

    @classmethod
    def build_model(cls, cfg: Any) -> nn.Module:
        """The model on MODEL.DEVICE, see :mod:`vindr_det.detection.detectron2.architectures`."""
        return build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: Any, model: nn.Module) -> torch.optim.Optimizer:
        """See :func:`vindr_det.detection.detectron2.solver.build_optimizer`."""
        return solver.build_optimizer(cfg, model)

    @classmethod
    def build_lr_scheduler(cls, cfg: Any, optimizer: torch.optim.Optimizer) -> Any:
        """The schedule SOLVER.LR_SCHEDULER_NAME: Detectron2's, or one that it lacks."""
        name = cfg.SOLVER.LR_SCHEDULER_NAME
        if name in _DETECTRON2_SCHEDULES:
            return build_lr_scheduler(cfg, optimizer)
        return schedule.build_lr_scheduler(optimizer, name, schedule.ScheduleOptions.from_config(cfg))

    @classmethod
    def build_step(cls, cfg: Any, model: nn.Module, optimizer: torch.optim.Optimizer) -> VindrStep:
        """The inner trainer: one step of the optimizer on batches of :meth:`build_train_loader`."""
        clip_norm = cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE if solver.clips_full_model(cfg) else 0.0
        loader = cls.build_train_loader(cfg)
        refuse_unknown(unwrapped(model), getattr(loader.dataset, "dicts", ()))
        return VindrStep(model, loader, optimizer, cfg.VINDR.ACCUMULATE,
                         half_precision(cfg), clip_norm, cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE)

    @classmethod
    def build_train_loader(cls, cfg: Any, start: int = 0) -> DataLoader:
        """Endless batches of DATASETS.TRAIN from iteration ``start`` on."""
        dataset = training_records(cfg)
        rank, world = comm.get_rank(), comm.get_world_size()
        order = training_order(cfg, [record for record, _ in dataset], rank, world, start)
        return build_loader(cfg, dataset, VindrMapper(cfg, is_train=True), batch_part(cfg, world), order)

    @classmethod
    def build_test_loader(cls, cfg: Any, dataset: Dataset) -> DataLoader:
        """Each image of a data set once, without its boxes."""
        return build_loader(cfg, dataset, VindrMapper(cfg, is_train=False))

    @classmethod
    def build_loss_loader(cls, cfg: Any) -> DataLoader:
        """Each image that validation losses are measured on once, with its boxes."""
        return build_loader(cfg, loss_records(cfg), VindrMapper(cfg, is_train=False, keep_truth=True),
                            batch_part(cfg, comm.get_world_size()))

    @classmethod
    def build_evaluator(cls, cfg: Any, dataset: Dataset, interruption: Interruption) -> DatasetEvaluator:
        """Scores detections on a data set, unless a signal ended the validation early."""
        return VindrEvaluator([record for record, _ in dataset], interruption)

    def build_hooks(self) -> list[hooks.HookBase]:
        """All hooks; what is measured comes before what is saved and written."""
        on_all_ranks: list[hooks.HookBase] = [
            SeedSteps(max(self.cfg.SEED, 0)),
            self._numbers,
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            self._ema,
            *self._validating_hooks(),
        ]
        if not comm.is_main_process():
            return on_all_ranks
        self._trainer.on_batch = self._shown.add_batch
        return [
            *on_all_ranks,
            BestCheckpoint(self._early_stopping, self._save_best, self._validation.latest),
            self._states,  # after BestCheckpoint, so that a state has the best value so far
            MetricsLines(Path(self.cfg.OUTPUT_DIR) / "metrics.json", self._validation),
            self._shown,
            hooks.PeriodicWriter(self.build_writers(), period=20),
        ]

    def _validating_hooks(self) -> list[hooks.HookBase]:
        """The losses and metrics of VINDR.VALIDATION; nothing where it is empty."""
        if not self.cfg.VINDR.VALIDATION:
            return []
        loader = self.interruption.until(self.build_loss_loader(self.cfg))
        losses = ValidationLoss(self.cfg.TEST.EVAL_PERIOD, loader, self._ema, half_precision(self.cfg),
                                self.interruption)
        return [losses, self._validation]

    def build_writers(self) -> list[Any]:
        """Those of VINDR.LOGGERS and the line of progress; :class:`MetricsLines` writes metrics.json."""
        return build_writers(self.cfg, self.max_iter)

    def resume_or_load(self, resume: bool = True) -> None:
        """Resume from the latest state in OUTPUT_DIR, or begin with MODEL.WEIGHTS where there is none.

        Raises:
            InputError: this training cannot resume from what OUTPUT_DIR holds.
        """
        state = state_to_resume(self.cfg.OUTPUT_DIR, "detectron2") if resume else None
        if state is None:
            self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
        else:
            self._resume(state)
        comm.synchronize()  # no rank still reads what is cleared
        if comm.is_main_process():
            if state is None:
                states.clear(self.cfg.OUTPUT_DIR, self.cfg.MODEL.WEIGHTS)
            states.truncate_metrics(Path(self.cfg.OUTPUT_DIR) / "metrics.json", self.start_iter)

    def _resume(self, state: Path) -> None:
        data = read_file(state)
        meta = data["vindr"]
        require_resumable(state, meta, data["model"], unwrapped(self.model).state_dict(), self.cfg)
        self.checkpointer.load(str(state))
        self.start_iter = self.iter + 1
        # The state has the next step's learning rate by the schedule that it was saved under.
        for group, rate in zip(self.optimizer.param_groups, self.scheduler.get_lr(), strict=True):
            group["lr"] = rate
        self._validation.restore(meta["metrics"], meta.get("pending", False))
        self._trainer.reset_data_loader(partial(self.build_train_loader, self.cfg, self.start_iter))

    def train(self) -> None:
        """Train until MAX_ITER, early stopping or a signal; then save the last state and model."""
        with EventStorage(self.start_iter) as self.storage, self.interruption:
            try:
                self.before_train()
                self.iter = self.start_iter - 1
                if self._validation.pending:
                    self._catch_up()
                if not self._ends(validated=True):
                    self._iterate()
                self._trainer.settle()
                self._numbers.gather()
                if comm.is_main_process():
                    self._save()
                self.iter += 1  # as TrainerBase does for after_train
            finally:
                self.after_train()

    def _catch_up(self) -> None:
        """Validate after the last step before the resume, where a signal interrupted that."""
        self.storage.iter = self.iter
        self._validation.pending = False
        for hook in self._hooks:
            if isinstance(hook, _VALIDATING):
                hook.after_step()

    def _iterate(self) -> None:
        for iteration in range(self.start_iter, self.max_iter):
            self.iter = iteration
            self.before_step()
            self.run_step()
            self.after_step()
            if self._ends(schedule.is_due(iteration + 1, self.cfg.TEST.EVAL_PERIOD, self.max_iter)):
                return

    def run_step(self) -> None:
        """One step of the optimizer."""
        self._trainer.iter = self.iter
        self._trainer.run_step()
        periods = MetricsLines.period, self.cfg.TEST.EVAL_PERIOD, self.cfg.SOLVER.CHECKPOINT_PERIOD
        if any(schedule.is_due(self.iter + 1, period, self.max_iter) for period in periods):
            self._trainer.settle()

    def _ends(self, validated: bool) -> bool:
        """Whether to stop before MAX_ITER; a collective call of all ranks."""
        if self.interruption.agreed():
            return True
        if not validated or not any(comm.all_gather(self._early_stopping.exhausted)):
            return False
        self._early_stopping.log_stop(self.iter + 1)
        return True

    def _save(self) -> None:
        """Save the last state and, unless a signal ended the training, the last model."""
        interrupted = self.interruption.ends
        if interrupted and self.iter < self.start_iter:
            return  # no step was made: the latest state, if there is one, stays
        if interrupted or not schedule.is_due(self.iter + 1, self._states.period):
            self._states.save()
        if not interrupted:
            self._export("model_final")

    def _export(self, name: str) -> None:
        self.checkpointer.export(name, self._ema.weights())

    def _save_best(self) -> None:
        self._export("model_best")
        predictions = getattr(self._evaluator, "gathered", {})
        keep_predictions(self.cfg, predictions)
        self._shown.draw_best(predictions)

    def _metadata(self) -> dict[str, Any]:
        """The entry ``vindr`` of a checkpoint."""
        entry = metadata(self.cfg, self.iter + 1, self._validation.metrics)
        return entry | {"waited": self._early_stopping.waited, "pending": self._validation.pending}

    def evaluate(self) -> Mapping[str, float]:
        """Metrics of VINDR.VALIDATION for the EMA or the model; empty on all ranks but the first."""
        evaluator = self._evaluator = self.build_evaluator(self.cfg, self._validation_set, self.interruption)
        loader = BatchesByShape(
            self.interruption.until(self.build_test_loader(self.cfg, self._validation_set)),
            batch_part(self.cfg, comm.get_world_size()))
        half = autocast(self.cfg.MODEL.DEVICE, half_precision(self.cfg))
        with ema_weights(unwrapped(self.model), self._ema.ema), half:
            return inference_on_dataset(self.model, loader, evaluator)

    def state_dict(self) -> dict[str, Any]:
        """What a state has beside the model, as ``DefaultTrainer`` has it."""
        return super().state_dict() | {"_trainer": self._trainer.state_dict()}

    def load_state_dict(self, state_dict: dict[str, Any]) -> None:
        """Resume from a checkpoint."""
        saved = state_dict.get("hooks", {}).items()
        renamed = {_RENAMED_HOOKS.get(name, name): state for name, state in saved}
        super().load_state_dict(state_dict | {"hooks": renamed})
        self._trainer.load_state_dict(state_dict["_trainer"])
