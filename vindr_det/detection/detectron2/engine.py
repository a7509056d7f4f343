"""The Detectron2 engine as :class:`vindr_det.detection.interface.Engine`."""

import contextlib
import logging
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import detectron2.utils.comm as comm
import torch
from detectron2.engine.defaults import _set_float32_precision
from detectron2.utils.env import seed_all_rng
from detectron2.utils.logger import setup_logger
from torch.multiprocessing.spawn import ProcessException

from vindr_det.data.splits import require_validation
from vindr_det.detection.detectron2 import processes
from vindr_det.detection.detectron2.config import check_trainer, get_vindr_cfg, register
from vindr_det.detection.detectron2.predictor import Detectron2Predictor
from vindr_det.detection.detectron2.trainer import VindrTrainer
from vindr_det.detection.interface import SINGLE_PROCESS, Launch
from vindr_det.detection.pictures import draw_after_training
from vindr_det.files import write_text
from vindr_det.training.interruption import Interrupted, Interruption
from vindr_det.training.loggers import require_loggers
from vindr_det.training.resume import is_finished, require_output_folder, state_to_resume
from vindr_det.training.states import SUFFIXES, latest
from vindr_det.training.weights import require_same_model

log = logging.getLogger(__name__)


def defaults() -> Any:
    """See :class:`vindr_det.detection.interface.Engine`."""
    return get_vindr_cfg()


def train(cfg: Any, resume: bool = False, launch: Launch = SINGLE_PROCESS) -> None:
    """See :class:`vindr_det.detection.interface.Engine`."""
    check_trainer(cfg)
    require_loggers("VINDR.LOGGERS", cfg.VINDR.LOGGERS)
    require_output_folder(cfg.OUTPUT_DIR)
    state = state_to_resume(cfg.OUTPUT_DIR, "detectron2") if resume else None
    if state is not None and is_finished(state, cfg):
        return
    several = launch.processes * launch.machines > 1
    with Interruption(forward=True) if several else contextlib.nullcontext() as interruption:
        try:
            processes.run(_train_worker, launch, cfg.MODEL.DEVICE, (cfg, resume))
        except ProcessException:
            if interruption is None or not interruption.signal:
                raise  # else the signal killed a process that did not handle it yet
    if interruption is not None and interruption.signal:
        raise Interrupted(interruption.signal, latest(cfg.OUTPUT_DIR, SUFFIXES["detectron2"]))
    if launch.rank == 0:
        draw_after_training(cfg)


def evaluate(cfg: Any, state: Mapping[str, Any]) -> Mapping[str, float]:
    """Metrics of VINDR.VALIDATION for given weights."""
    require_validation(cfg)
    require_output_folder(cfg.OUTPUT_DIR)  # where the log goes
    _set_up(cfg)
    trainer = VindrTrainer(cfg)
    require_same_model(cfg.MODEL.WEIGHTS or "the checkpoint", state, trainer.model.state_dict())
    trainer.model.load_state_dict(state)
    return trainer.evaluate()


def build_predictor(cfg: Any, state: Mapping[str, Any]) -> Detectron2Predictor:
    """See :class:`vindr_det.detection.interface.Engine`."""
    return Detectron2Predictor(cfg, state)


def _train_worker(cfg: Any, resume: bool) -> None:
    register()  # a new process has what Detectron2 imports alone
    with Interruption() as interruption:
        _train(cfg, resume, interruption)


def _train(cfg: Any, resume: bool, interruption: Interruption) -> None:
    _set_up(cfg)
    torch.backends.cudnn.benchmark = cfg.CUDNN_BENCHMARK
    trainer = VindrTrainer(cfg, interruption)
    trainer.resume_or_load(resume=resume)
    if comm.is_main_process():
        write_text(Path(cfg.OUTPUT_DIR) / "config.yaml", cfg.dump())
    trainer.train()
    if trainer.interruption.ends and comm.get_world_size() == 1:  # of several, the parent process raises it
        raise Interrupted(trainer.interruption.ends, latest(cfg.OUTPUT_DIR, SUFFIXES["detectron2"]))
    if comm.get_world_size() > 1:  # a rank that leaves first closes the connections of the others
        comm.synchronize()
        torch.distributed.destroy_process_group()


def _set_up(cfg: Any) -> None:
    """Logging, seeds and precision as in Detectron2's ``default_setup``, with less output."""
    rank = comm.get_rank()
    for name in ("detectron2", "fvcore", "vindr_det"):
        setup_logger(cfg.OUTPUT_DIR, distributed_rank=rank, name=name)
    # It prints a line per parameter.
    logging.getLogger("detectron2.engine.defaults").setLevel(logging.WARNING)
    seed_all_rng(None if cfg.SEED < 0 else cfg.SEED + rank)
    if cfg.FLOAT32_PRECISION:
        _set_float32_precision(cfg.FLOAT32_PRECISION)
