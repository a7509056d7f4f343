"""DefaultTrainer with our data, our hooks and our evaluator."""

import logging
import math
import weakref
from collections import OrderedDict
from collections.abc import Mapping
from pathlib import Path
from typing import Any
from urllib.parse import urlparse

import detectron2.utils.comm as comm
import torch
from detectron2.checkpoint import DetectionCheckpointer
from detectron2.data import build_detection_test_loader, build_detection_train_loader
from detectron2.engine import DefaultTrainer, hooks
from detectron2.evaluation import inference_on_dataset

from vindr_det.detection.checkpoint import metadata, read_file, require_engine
from vindr_det.detection.detectron2.datasets import to_dicts
from vindr_det.detection.detectron2.evaluator import VindrEvaluator
from vindr_det.detection.detectron2.hooks import BestModel, ValidationLoss
from vindr_det.detection.detectron2.mapper import VindrMapper
from vindr_det.detection.splits import training_records, validation_records
from vindr_det.detection.weights import backbone_state, detectron2_name, is_backbone, local_file
from vindr_det.files import atomic_path

log = logging.getLogger(__name__)


class VindrCheckpointer(DetectionCheckpointer):
    """Writes our metadata into every checkpoint and refuses the other engine's weights."""

    def __init__(self, model: Any, save_dir: str, *, describe: Any, **checkpointables: Any) -> None:
        """``describe`` returns the entry ``vindr``."""
        super().__init__(model, save_dir, **checkpointables)
        self.describe = describe

    def save(self, name: str, **kwargs: Any) -> None:
        """As fvcore's, with the entry ``vindr``, and whole or not at all."""
        if not self.save_dir or not self.save_to_disk:
            return
        states = {key: part.state_dict() for key, part in self.checkpointables.items()}
        data = {"model": self.model.state_dict(), **states, **kwargs, "vindr": self.describe()}
        with atomic_path(Path(self.save_dir) / f"{name}.pth") as temporary:
            torch.save(data, temporary)
        self.tag_last_checkpoint(f"{name}.pth")

    def load(self, path: str, checkpointables: list[str] | None = None) -> dict[str, Any]:
        """Also takes ``torchvision://<resnet>`` for the backbone."""
        if not path:
            return super().load(path, checkpointables)
        if not is_backbone(path):
            # Detectron2's own catalogue is left to its own loader.
            where = path if urlparse(path).scheme == "detectron2" else str(local_file(path))
            return super().load(where, checkpointables)
        state = {
            f"backbone.bottom_up.{detectron2_name(key)}": value
            for key, value in backbone_state(path).items() if not key.endswith("batches_tracked")
        }
        missing = self.model.load_state_dict(state, strict=False)
        if missing.unexpected_keys:
            log.warning("%s: %d weights have no place in the backbone, the first is %s", path,
                        len(missing.unexpected_keys), missing.unexpected_keys[0])
        return {}

    def _torch_load(self, f: str) -> dict[str, Any]:
        data = read_file(f)
        require_engine(f, data.get("vindr") or {}, "detectron2")
        return data


class VindrTrainer(DefaultTrainer):
    """Trains what a config with a VINDR node describes.

    Beyond ``DefaultTrainer``: images from DATASETS.TRAIN without the catalogs, validation loss and
    metrics of VINDR.VALIDATION every TEST.EVAL_PERIOD iterations, ``model_best.pth``.
    """

    def __init__(self, cfg: Any) -> None:
        self._validation = validation_records(cfg)
        self._latest: tuple[Mapping[str, float], int] = ({}, -1)
        super().__init__(cfg)

    def _metadata(self) -> dict[str, Any]:
        return metadata(self.cfg, self.iter + 1, self._latest[0])

    @classmethod
    def build_train_loader(cls, cfg: Any) -> Any:
        """Endless batches of DATASETS.TRAIN."""
        return build_detection_train_loader(
            to_dicts(training_records(cfg)),
            mapper=VindrMapper(cfg, is_train=True),
            total_batch_size=cfg.SOLVER.IMS_PER_BATCH,
            aspect_ratio_grouping=cfg.DATALOADER.ASPECT_RATIO_GROUPING,
            num_workers=cfg.DATALOADER.NUM_WORKERS,
        )

    def _validation_loader(self, keep_truth: bool) -> Any:
        workers = comm.get_world_size()
        return build_detection_test_loader(
            to_dicts(self._validation),
            mapper=VindrMapper(self.cfg, is_train=False, keep_truth=keep_truth),
            batch_size=max(1, self.cfg.SOLVER.IMS_PER_BATCH // workers) if keep_truth else 1,
            num_workers=self.cfg.DATALOADER.NUM_WORKERS,
        )

    def evaluate(self) -> "OrderedDict[str, float]":
        """Metrics of VINDR.VALIDATION."""
        evaluator = VindrEvaluator([record for record, _ in self._validation])
        results = inference_on_dataset(self.model, self._validation_loader(False), evaluator)
        # NaN stands for "no ground truth of this class"; JSON has no word for it.
        measured = {key: value for key, value in results.items() if math.isfinite(value)}
        self._latest = (measured, self.iter)
        return OrderedDict(measured)

    def build_hooks(self) -> list[Any]:
        """Validation loss, evaluation and best model before the writers, so that all is written."""
        me = weakref.proxy(self)
        # DefaultTrainer has made its own checkpointer just before it asks for the hooks.
        self.checkpointer = VindrCheckpointer(
            self._trainer.model, self.cfg.OUTPUT_DIR, describe=lambda: me._metadata(), trainer=me)
        period = self.cfg.TEST.EVAL_PERIOD
        built: list[Any] = [
            hooks.IterationTimer(),
            hooks.LRScheduler(),
            ValidationLoss(period, self._validation_loader(True)),
            _EvalHook(period, self.evaluate),
        ]
        if comm.is_main_process():
            built += [
                BestModel(self.cfg.VINDR.BEST_METRIC, save=lambda: me.checkpointer.save("model_best"),
                          latest=lambda: me._latest),
                # After BestModel, so that a checkpoint knows the best value so far.
                hooks.PeriodicCheckpointer(self.checkpointer, self.cfg.SOLVER.CHECKPOINT_PERIOD,
                                           max_to_keep=3),
                hooks.PeriodicWriter(self.build_writers(), period=20),
            ]
        return built


class _EvalHook(hooks.EvalHook):
    """Detectron2's, but the last evaluation comes within the last step, before the checkpoint."""

    def after_step(self) -> None:
        done = self.trainer.iter + 1
        if done == self.trainer.max_iter or (self._period > 0 and done % self._period == 0):
            with torch.random.fork_rng():
                self._do_eval()

    def after_train(self) -> None:
        pass
