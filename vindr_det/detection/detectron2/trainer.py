"""DefaultTrainer with our data, our hooks and our evaluator."""

import logging
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import detectron2.utils.comm as comm
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import build_detection_test_loader
from detectron2.engine import DefaultTrainer, TrainerBase, create_ddp_model, hooks
from detectron2.evaluation import inference_on_dataset
from detectron2.solver.build import get_default_optimizer_params, maybe_add_gradient_clipping
from detectron2.utils.events import EventStorage, JSONWriter
from torch.utils.data import DataLoader

from vindr_det.data.splits import loss_records, training_records, validation_records, warn_of_overlap
from vindr_det.detection.checkpoint import metadata, require_engine
from vindr_det.detection.detectron2.datasets import MappedImages, to_dicts
from vindr_det.detection.detectron2.evaluator import VindrEvaluator
from vindr_det.detection.detectron2.hooks import (
    BestCheckpoint,
    MetricsLines,
    ModelNumbers,
    RandomState,
    SaveStates,
    UpdateEMA,
    ValidationLoss,
    unwrapped,
)
from vindr_det.detection.detectron2.keys import check_trainer
from vindr_det.detection.detectron2.mapper import VindrMapper
from vindr_det.detection.detectron2.model import build_model
from vindr_det.detection.detectron2.train_step import VindrStep
from vindr_det.detection.detectron2.weights import in_detectron2s_names
from vindr_det.detection.precision import autocast, half_precision
from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path
from vindr_det.training import states
from vindr_det.training.checkpoint_io import read_file, read_pickle
from vindr_det.training.early_stopping import EarlyStopping
from vindr_det.training.ema import ModelEMA, ema_weights
from vindr_det.training.interruption import Interruption, leave_signals_to_trainer
from vindr_det.training.metrics_file import keep_until
from vindr_det.training.resume import require_resumable, state_to_resume
from vindr_det.training.sampler import batch_part, training_order
from vindr_det.training.weights import filter_compatible, is_backbone, local_file

log = logging.getLogger(__name__)


class VindrCheckpointer(DetectionCheckpointer):
    """Writes our metadata into every checkpoint and refuses the other engine's weights."""

    def __init__(self, model: Any, save_dir: str, *, describe: Any, **checkpointables: Any) -> None:
        """``describe`` returns the entry ``vindr``."""
        super().__init__(model, save_dir, **checkpointables)
        self.describe = describe

    def save(self, name: str, **kwargs: Any) -> None:
        """As fvcore's, with the entry ``vindr``, and whole or not at all; to resume from."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        self._write(name, {"model": self.model.state_dict(), **states, **kwargs})
        self.tag_last_checkpoint(f"{name}.pth")

    def export(self, name: str, ema: ModelEMA | None) -> None:
        """Weights to predict with, their average where one is kept; not to resume from."""
        if self.save_dir and self.save_to_disk:
            self._write(name, {"model": ema.state if ema else self.model.state_dict()})

    def _write(self, name: str, data: dict[str, Any]) -> None:
        with atomic_path(Path(self.save_dir) / f"{name}.pth") as temporary:
            torch.save(data | {"vindr": self.describe()}, temporary)

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Also takes ``torchvision://<resnet>`` and ``timm://<model>`` for the backbone."""
        self._source = path
        if not path:
            return super().load(path, checkpointables)
        if not is_backbone(path):
            # Detectron2's own catalog is left to its own loader.
            where = path if urlparse(path).scheme == "detectron2" else str(local_file(path))
            return super().load(where, checkpointables)
        state = {f"backbone.bottom_up.{key}": value for key, value in in_detectron2s_names(path).items()}
        self.model.load_state_dict(filter_compatible(path, state, self.model.state_dict()), strict=False)
        return {}

    def _load_file(self, filename: str) -> dict[str, Any]:
        """A model zoo's pickle is read without executing what it holds."""
        return read_pickle(filename) if filename.endswith(".pkl") else super()._load_file(filename)

    def _load_model(self, checkpoint: Any) -> Any:
        """fvcore's, which warns of weights that have no place, but trains from random ones if none has."""
        count = len(checkpoint["model"])  # which fvcore takes out of it
        found = super()._load_model(checkpoint)
        absent = {*found.missing_keys, *(key for key, *_ in found.incorrect_shapes)}
        if absent.issuperset(key for key, _ in unwrapped(self.model).named_parameters()):
            raise InputError(f"MODEL.WEIGHTS {self._source}: none of its {count} weights has a "
                             "place in this model")
        return found

    def _torch_load(self, f: str) -> dict[str, Any]:
        data = read_file(f)
        require_engine(f, data.get("vindr") or {}, "detectron2")
        return data


class VindrTrainer(DefaultTrainer):
    """Trains what a config with a VINDR node describes.

    Beyond ``DefaultTrainer``: images from DATASETS.TRAIN without the catalogs, in an order that a
    resume goes on with; validation loss and metrics of VINDR.VALIDATION every TEST.EVAL_PERIOD
    iterations; an average of the weights; ``model_best.pth`` and early stopping.
    """

    checkpointer: VindrCheckpointer
    _states: SaveStates
    _trainer: Any

    def __init__(self, cfg: Any, interruption: Interruption | None = None) -> None:
        """``interruption`` may have been entered, and heeds what comes while the trainer is made."""
        check_trainer(cfg)
        self._validation = validation_records(cfg)
        if comm.is_main_process():
            warn_of_overlap(cfg)
        self._latest: tuple[Mapping[str, float], int] = ({}, -1)
        self._average = UpdateEMA(cfg.VINDR.EMA_DECAY)
        self._best = EarlyStopping(cfg.VINDR.BEST_METRIC, cfg.VINDR.PATIENCE)
        self.interruption, self._pending = interruption or Interruption(), False
        # Not DefaultTrainer's: that one wraps the model for GPUs alone, and makes a step of its own.
        TrainerBase.__init__(self)
        self.cfg = cfg = self.auto_scale_workers(cfg, comm.get_world_size())
        model = self.build_model(cfg)
        optimizer = self.build_optimizer(cfg, model)
        cuda = str(cfg.MODEL.DEVICE).startswith("cuda")
        model = create_ddp_model(model, broadcast_buffers=False,
                                 device_ids=[comm.get_local_rank()] if cuda else None)
        clip_norm = cfg.SOLVER.CLIP_GRADIENTS.CLIP_VALUE if _clips_all(cfg) else 0.0
        self._trainer = VindrStep(model, self.build_train_loader(cfg), optimizer, cfg.VINDR.ACCUMULATE,
                                  half_precision(cfg), clip_norm, cfg.SOLVER.CLIP_GRADIENTS.NORM_TYPE)
        self.scheduler = self.build_lr_scheduler(cfg, optimizer)
        self.start_iter, self.max_iter = 0, cfg.SOLVER.MAX_ITER
        me = weakref.proxy(self)
        self.checkpointer = VindrCheckpointer(model, cfg.OUTPUT_DIR, describe=lambda: me._metadata(),
                                              trainer=me)
        self.register_hooks(self.build_hooks())

    def _metadata(self) -> dict[str, Any]:
        entry = metadata(self.cfg, self.iter + 1, self._latest[0])
        return entry | {"waited": self._best.waited, "pending": self._pending}

    @classmethod
    def build_model(cls, cfg: Any) -> Any:
        """With the levers of the box head."""
        return build_model(cfg)

    @classmethod
    def build_optimizer(cls, cfg: Any, model: Any) -> torch.optim.Optimizer:
        """Also AdamW; the step clips the gradient of all weights together."""
        if _clips_all(cfg):
            cfg = cfg.clone()
            cfg.SOLVER.CLIP_GRADIENTS.ENABLED = False
        if cfg.VINDR.OPTIMIZER == "SGD":
            return super().build_optimizer(cfg, model)
        groups = get_default_optimizer_params(
            model, base_lr=cfg.SOLVER.BASE_LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY,
            weight_decay_norm=cfg.SOLVER.WEIGHT_DECAY_NORM, bias_lr_factor=cfg.SOLVER.BIAS_LR_FACTOR,
            weight_decay_bias=cfg.SOLVER.WEIGHT_DECAY_BIAS)
        return maybe_add_gradient_clipping(cfg, torch.optim.AdamW(groups, cfg.SOLVER.BASE_LR))

    @classmethod
    def build_train_loader(cls, cfg: Any, start: int = 0) -> DataLoader:
        """Endless batches of DATASETS.TRAIN; ``start`` iterations have been done already."""
        items = training_records(cfg)
        rank, world = comm.get_rank(), comm.get_world_size()
        return DataLoader(
            MappedImages(to_dicts(items), VindrMapper(cfg, is_train=True)),
            batch_part(cfg, world), collate_fn=list, num_workers=cfg.DATALOADER.NUM_WORKERS,
            sampler=training_order(cfg, [record for record, _ in items], rank, world, start),
            # A generator of its own: the loader must not draw from what the model draws from.
            generator=torch.Generator().manual_seed(0),
            worker_init_fn=leave_signals_to_trainer,
        )

    def resume_or_load(self, resume: bool = True) -> None:
        """Also goes on in the order of the images, and in metrics.json.

        Raises:
            InputError: there is nothing that this training can go on from.
        """
        state = state_to_resume(self.cfg.OUTPUT_DIR, "detectron2") if resume else None
        if state is None:
            self.checkpointer.load(self.cfg.MODEL.WEIGHTS, checkpointables=[])
        else:
            self._resume(state)
        comm.synchronize()  # all have read what is cleared
        if comm.is_main_process():
            if state is None:
                states.clear(self.cfg.OUTPUT_DIR, self.cfg.MODEL.WEIGHTS)
            keep_until(Path(self.cfg.OUTPUT_DIR) / "metrics.json", self.start_iter)

    def _resume(self, state: Path) -> None:
        data = read_file(state)
        require_resumable(state, data["vindr"], data["model"], unwrapped(self.model).state_dict(), self.cfg)
        self.checkpointer.load(str(state))
        self.start_iter = self.iter + 1
        # The state has the next step's rate by the schedule that it was saved under.
        for group, rate in zip(self._trainer.optimizer.param_groups, self.scheduler.get_lr(), strict=True):
            group["lr"] = rate
        self._latest = (data["vindr"]["metrics"], -1)
        self._pending = data["vindr"].get("pending", False)
        self._trainer.reset_data_loader(lambda: self.build_train_loader(self.cfg, self.start_iter))

    def train(self) -> None:
        """Detectron2's loop, but it ends when there is nothing more to wait for, or a signal came."""
        with EventStorage(self.start_iter) as self.storage, self.interruption:
            try:
                self.before_train()
                self.iter = self.start_iter - 1
                if self._pending:
                    self._make_up()
                if not self._ends(validated=True):
                    self._iterate()
                self._numbers.gather()
                if comm.is_main_process():
                    self._save()
                self.iter += 1  # as hooks expect of a training that came to its end
            finally:
                self.after_train()

    def _make_up(self) -> None:
        """The validation that was interrupted, after the last step."""
        self.iter = self.storage.iter = self.start_iter - 1
        self._pending = False
        for hook in self._hooks:
            if isinstance(hook, (ValidationLoss, _EvalHook, BestCheckpoint, MetricsLines)):
                hook.after_step()

    def _iterate(self) -> None:
        for iteration in range(self.start_iter, self.max_iter):
            self.iter = iteration
            self.before_step()
            self.run_step()
            self.after_step()
            if self._ends(self._is_due()):
                return

    def _ends(self, validated: bool) -> bool:
        """Whether to stop before MAX_ITER; all ranks agree."""
        if self.interruption.agreed():
            return True
        if not validated or not any(comm.all_gather(self._best.exhausted)):
            return False
        log.info("stopping at iteration %d: no better %s in %d validations",
                 self.iter + 1, self._best.metric, self.cfg.VINDR.PATIENCE)
        return True

    def _save(self) -> None:
        """The last state and, of a training that was not interrupted, the last model."""
        if self.interruption.ends and self.iter < self.start_iter:
            return  # nothing was done: the state that there may be stays
        if self.interruption.ends or (self.iter + 1) % self._states.period:
            self._states.save()
        if not self.interruption.ends:
            self.checkpointer.export("model_final", self._average.ema)

    def _is_due(self) -> bool:
        """Whether this iteration ends with a validation."""
        period, done = self.cfg.TEST.EVAL_PERIOD, self.iter + 1
        return done == self.max_iter or (period > 0 and done % period == 0)

    def _validation_loader(self) -> Any:
        return self._test_loader(self._validation, VindrMapper(self.cfg, is_train=False))

    def _loss_loader(self) -> Any:
        return self._test_loader(
            loss_records(self.cfg), VindrMapper(self.cfg, is_train=False, keep_truth=True),
            batch_size=batch_part(self.cfg, comm.get_world_size()))

    def _test_loader(self, items: Any, mapper: VindrMapper, **options: Any) -> Any:
        """Each image once; a signal ends it."""
        loader = build_detection_test_loader(
            to_dicts(items), mapper=mapper, num_workers=self.cfg.DATALOADER.NUM_WORKERS, **options)
        loader.worker_init_fn = leave_signals_to_trainer
        return self.interruption.until(loader)

    def evaluate(self) -> "OrderedDict[str, float]":
        """Metrics of VINDR.VALIDATION."""
        evaluator = VindrEvaluator([record for record, _ in self._validation], self.interruption)
        half = autocast(self.cfg.MODEL.DEVICE, half_precision(self.cfg))
        with ema_weights(unwrapped(self.model), self._average.ema), half:
            results = inference_on_dataset(self.model, self._validation_loader(), evaluator)
        self._pending = self.interruption.ends > 0
        if not self._pending:
            self._latest = (results, self.iter)
        return results

    def build_writers(self) -> list[Any]:
        """Detectron2's, but for metrics.json, which :class:`MetricsLines` writes."""
        return [writer for writer in super().build_writers() if not isinstance(writer, JSONWriter)]

    def build_hooks(self) -> list[Any]:
        """Validation loss, evaluation and best model before the writers, so that all is written."""
        me = weakref.proxy(self)
        self._states = SaveStates(self.checkpointer, self.cfg.SOLVER.CHECKPOINT_PERIOD,
                                  self.cfg.VINDR.KEEP_CHECKPOINTS)
        self._numbers = ModelNumbers(self.model, self.cfg.SOLVER.CHECKPOINT_PERIOD)
        period = self.cfg.TEST.EVAL_PERIOD
        built: list[Any] = [
            RandomState(max(self.cfg.SEED, 0)),
            self._numbers,
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            self._average,
            ValidationLoss(period, self._loss_loader(), lambda: me._average.ema,
                           half_precision(self.cfg), self.interruption),
            _EvalHook(period, self.evaluate),
        ]
        if comm.is_main_process():
            built += [
                BestCheckpoint(self._best, latest=lambda: me._latest,
                          save=lambda: me.checkpointer.export("model_best", me._average.ema)),
                # After BestCheckpoint, so that a state knows the best value so far.
                self._states,
                MetricsLines(Path(self.cfg.OUTPUT_DIR) / "metrics.json",
                             lambda: me._is_due() and not me._pending),
                hooks.PeriodicWriter(self.build_writers(), period=20),
            ]
        return built


def _clips_all(cfg: Any) -> bool:
    """Whether the config asks for the one kind of clipping that Detectron2 lacks."""
    clip = cfg.SOLVER.CLIP_GRADIENTS
    return clip.ENABLED and clip.CLIP_TYPE == "full_model"


class _EvalHook(hooks.EvalHook):
    """Detectron2's, but the last evaluation comes within the last step, before the checkpoint."""

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            with torch.random.fork_rng():
                self._do_eval()

    def after_train(self) -> None:
        pass
