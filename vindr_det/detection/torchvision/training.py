"""Training with Lightning."""

import contextlib
import logging
import os
import warnings
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from lightning.pytorch.loggers import TensorBoardLogger
from torch import nn

from vindr_det.detection import states
from vindr_det.detection.checkpoint import read_file, require_engine
from vindr_det.detection.engine import Launch
from vindr_det.detection.journal import keep_until
from vindr_det.detection.precision import half_precision
from vindr_det.detection.splits import loss_records, validation_records
from vindr_det.detection.torchvision.callbacks import (
    STATE_SUFFIX,
    AverageWeights,
    BestAndFinal,
    MetricsFile,
    Validation,
)
from vindr_det.detection.torchvision.data import train_loader, validation_loader
from vindr_det.detection.torchvision.model import check
from vindr_det.detection.torchvision.module import DetectorModule
from vindr_det.detection.weights import backbone_state, fitting, is_backbone, local_file
from vindr_det.errors import InputError
from vindr_det.files import write_text

log = logging.getLogger(__name__)

_PRECISION: dict[Any, Any] = {None: "32-true", torch.float16: "16-mixed", torch.bfloat16: "bf16-mixed"}


def train(cfg: Any, resume: bool, launch: Launch) -> None:
    """As :meth:`vindr_det.detection.engine.Engine.train`."""
    check(cfg)
    out = Path(cfg.OUTPUT_DIR)
    saved = states.saved(out, STATE_SUFFIX) if resume else []
    last = saved[-1] if saved else None
    start = states.iterations_of(last) if last else 0
    write_text(out / "config.yaml", cfg.dump())
    if cfg.SEED >= 0:
        L.seed_everything(cfg.SEED, workers=True, verbose=False)
    module = _module(cfg)
    if last is None:
        load_weights(module.network, cfg.MODEL.WEIGHTS)
    with _quiet():
        trainer = _trainer(cfg, launch)
        rank, world = trainer.global_rank, trainer.world_size
        metrics, best = MetricsFile(cfg.OUTPUT_DIR), BestAndFinal(cfg)
        validation = Validation(cfg.TEST.EVAL_PERIOD, validation_loader(cfg, rank, world),
                                [metrics.on_validated, best.on_validated])
        # BestAndFinal comes last, so that a state to resume from knows the best value so far.
        trainer.callbacks += [AverageWeights(), metrics, validation, best]
        if trainer.is_global_zero:
            keep_until(out / "metrics.json", start)
        trainer.fit(module, train_loader(cfg, rank, world, start), ckpt_path=last,
                    weights_only=True)


def evaluate(cfg: Any, state: Mapping[str, Any]) -> Mapping[str, float]:
    """Metrics of VINDR.VALIDATION for given weights."""
    module = _module(cfg)
    module.network.load_state_dict(state)
    return module.to(cfg.MODEL.DEVICE).validate(validation_loader(cfg, 0, 1))


def _module(cfg: Any) -> DetectorModule:
    records = [record for record, _ in validation_records(cfg)]
    return DetectorModule(cfg, records, {record.image_id for record, _ in loss_records(cfg)})


def load_weights(network: nn.Module, weights: str) -> None:
    """MODEL.WEIGHTS into a fresh network; says what did not fit.

    Raises:
        InputError: the other engine's weights, or a file that cannot be had.
    """
    if not weights:
        return
    if is_backbone(weights):
        state = {f"backbone.body.{key}": value for key, value in backbone_state(weights).items()}
    else:
        data = read_file(local_file(weights))
        require_engine(weights, data.get("vindr") or {}, "torchvision")
        state = data.get("model", data)
    network.load_state_dict(fitting(weights, state, network.state_dict()), strict=False)


def _trainer(cfg: Any, launch: Launch) -> L.Trainer:
    solver = cfg.SOLVER
    clip = solver.CLIP_GRADIENTS
    if clip.ENABLED and clip.CLIP_TYPE not in ("value", "full_model"):
        raise InputError(f"SOLVER.CLIP_GRADIENTS.CLIP_TYPE is {clip.CLIP_TYPE!r}: the torchvision "
                         "engine takes 'value' or 'full_model'")
    accelerator = _accelerator(cfg)
    if launch.machines > 1:  # where Lightning looks for them
        host, port = launch.url.removeprefix("tcp://").split(":")
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port, "NODE_RANK": str(launch.rank)}
    return L.Trainer(
        accelerator=accelerator, devices=launch.processes, num_nodes=launch.machines,
        max_steps=solver.MAX_ITER, max_epochs=-1, accumulate_grad_batches=cfg.VINDR.ACCUMULATE,
        precision=_PRECISION[half_precision(cfg)],
        gradient_clip_val=clip.CLIP_VALUE if clip.ENABLED else None,
        gradient_clip_algorithm="value" if clip.CLIP_TYPE == "value" else "norm",
        use_distributed_sampler=False, enable_model_summary=False, enable_checkpointing=False,
        benchmark=cfg.CUDNN_BENCHMARK, log_every_n_steps=20,
        logger=TensorBoardLogger(cfg.OUTPUT_DIR, name="", version=""),
        enable_progress_bar=False,
    )


def _accelerator(cfg: Any) -> str:
    return "gpu" if str(cfg.MODEL.DEVICE).startswith("cuda") else "cpu"


@contextlib.contextmanager
def _quiet() -> Iterator[None]:
    """Lightning's advice on workers and logging intervals is not for our users."""
    for name in ("lightning.pytorch", "lightning.fabric", "lightning.pytorch.utilities.rank_zero"):
        logging.getLogger(name).setLevel(logging.WARNING)
    with warnings.catch_warnings():
        warnings.filterwarnings("ignore", module="lightning")
        yield
