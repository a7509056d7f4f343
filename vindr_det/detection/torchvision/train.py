"""Train and evaluate a detector with Lightning."""

import logging
import os
import signal
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import lightning as L
import torch
from torch import nn

from vindr_det.data.splits import loss_records, require_validation, validation_records, warn_of_overlap
from vindr_det.detection.checkpoint import require_engine
from vindr_det.detection.interface import Launch
from vindr_det.detection.pictures import draw_after_training
from vindr_det.detection.precision import half_precision
from vindr_det.detection.torchvision.callbacks import (
    STATE_SUFFIX,
    DrawBatches,
    MetricsFile,
    SaveModels,
    UpdateEMA,
    Validation,
)
from vindr_det.detection.torchvision.data import train_loader, validation_loader
from vindr_det.detection.torchvision.lightning_module import DetectorModule
from vindr_det.detection.torchvision.model import check
from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.training.checkpoint_io import read_file
from vindr_det.training.interruption import Interrupted, Interruption
from vindr_det.training.lightning_setup import quiet, trainer_options
from vindr_det.training.loggers import Loggers, require_loggers
from vindr_det.training.progress import DataTimer
from vindr_det.training.resume import is_finished, require_output_folder, require_resumable, state_to_resume
from vindr_det.training.states import clear, iterations_of, latest, truncate_metrics
from vindr_det.training.weights import detector_weights, file_data, require_same_model

log = logging.getLogger(__name__)

_PRECISION: dict[Any, Any] = {None: "32-true", torch.float16: "16-mixed", torch.bfloat16: "bf16-mixed"}


def train(cfg: Any, resume: bool, launch: Launch) -> None:
    """See :class:`vindr_det.detection.interface.Engine`."""
    with Interruption() as interruption:  # signals count from here on, and end it before the first step
        _train(cfg, resume, launch, interruption)


def _train(cfg: Any, resume: bool, launch: Launch, interruption: Interruption) -> None:
    check(cfg)
    require_loggers("VINDR.LOGGERS", cfg.VINDR.LOGGERS)
    out = Path(cfg.OUTPUT_DIR)
    require_output_folder(out)
    state = state_to_resume(out, "torchvision") if resume else None
    if state is not None and is_finished(state, cfg):
        return
    if cfg.SEED >= 0:
        L.seed_everything(cfg.SEED, workers=True, verbose=False)
    module = _module(cfg)
    if state is None:
        load_weights(module.network, cfg)
    else:
        data = read_file(state)
        require_resumable(state, data["vindr"], data["state_dict"], module.state_dict(), cfg)
    write_text(out / "config.yaml", cfg.dump())
    if state is not None and iterations_of(state) >= cfg.SOLVER.MAX_ITER:
        _finish(cfg, module, data)
    else:
        _fit(cfg, module, launch, state, interruption)
    if launch.rank == 0:
        draw_after_training(cfg)


def _fit(
    cfg: Any, module: DetectorModule, launch: Launch, state: Path | None, interruption: Interruption
) -> None:
    """Train from the first iteration, or from a state."""
    out, start = Path(cfg.OUTPUT_DIR), iterations_of(state) if state else 0
    with quiet():
        trainer = _trainer(cfg, launch)
        rank, world = trainer.global_rank, trainer.world_size
        # Lightning's handler of SIGTERM would wait for processes that it has just ended.
        trainer._signal_connector.register_signal_handlers = lambda: None  # type: ignore[method-assign]
        loggers = Loggers(cfg.VINDR.LOGGERS if trainer.is_global_zero else (), out, config=cfg.dump())
        metrics, best = MetricsFile(out, trainer.profiler, loggers), SaveModels(cfg, interruption, loggers)
        trainer.callbacks += [UpdateEMA(), metrics, DrawBatches(cfg, loggers)]
        if cfg.VINDR.VALIDATION:
            trainer.callbacks.append(Validation(cfg.TEST.EVAL_PERIOD, validation_loader(cfg, rank, world),
                                                [metrics.on_validated, best.on_validated], interruption))
        # It comes last, so that a state to resume from has the best value so far.
        trainer.callbacks.append(best)
        loader = train_loader(cfg, rank, world, start)
        if trainer.is_global_zero:
            warn_of_overlap(cfg)
            if state is None:
                clear(out, cfg.MODEL.WEIGHTS)
            truncate_metrics(out / "metrics.json", start)
        try:
            trainer.fit(module, loader, ckpt_path=state, weights_only=True)
        except SystemExit as error:  # Lightning's answer to a KeyboardInterrupt
            raise Interrupted(interruption.signal or signal.SIGINT, latest(out, STATE_SUFFIX)) from error
        finally:
            loggers.close()
    if trainer.local_rank:  # a process that Lightning started: the first process reports for all
        raise SystemExit(0)
    if interruption.ends:
        raise Interrupted(interruption.ends, latest(out, STATE_SUFFIX))


def _finish(cfg: Any, module: DetectorModule, data: dict[str, Any]) -> None:
    """Do what an interruption left undone after the last iteration: the last validation, the final model."""
    module.load_state_dict(data["state_dict"])
    module.on_load_checkpoint(data)
    module.to(cfg.MODEL.DEVICE).on_fit_start()
    done, best = data["global_step"], SaveModels(cfg, Interruption())
    best.load_state_dict(data["callbacks"][best.state_key])
    if data["vindr"].get("pending") and module.validate(validation_loader(cfg, 0, 1)):
        MetricsFile(cfg.OUTPUT_DIR).write({"iteration": done - 1, **module.latest})
        best.compare(module, done)
    best.save(module, done, "model_final.pth")


def evaluate(cfg: Any, state: Mapping[str, Any]) -> Mapping[str, float]:
    """See :class:`vindr_det.detection.interface.Engine`."""
    require_validation(cfg)
    module = _module(cfg)
    require_same_model(cfg.MODEL.WEIGHTS or "the checkpoint", state, module.network.state_dict())
    module.network.load_state_dict(state)
    return module.to(cfg.MODEL.DEVICE).validate(validation_loader(cfg, 0, 1))


def _module(cfg: Any) -> DetectorModule:
    records = [record for record, _ in validation_records(cfg)]
    return DetectorModule(cfg, records, {record.image_id for record, _ in loss_records(cfg)})


def load_weights(network: nn.Module, cfg: Any) -> None:
    """Load MODEL.WEIGHTS into a new network; logs what became of each tensor.

    Raises:
        InputError: our weights of the other engine, another network's, or a file that cannot be read.
    """
    weights = cfg.MODEL.WEIGHTS
    if not weights:
        return
    data = file_data(weights)
    require_engine(weights, data.get("vindr") or {}, "torchvision")
    if data.get("__author__") == "Caffe2":
        raise InputError(f"MODEL.WEIGHTS {weights}: has Caffe2's names, which the detectron2 engine reads; "
                         "expected weights of torchvision, or of a detector of Detectron2's zoo")
    fitting = detector_weights(weights, data["model"], network.state_dict(), "torchvision", cfg, data)
    network.load_state_dict(fitting, strict=False)


def _trainer(cfg: Any, launch: Launch) -> L.Trainer:
    solver, clip = cfg.SOLVER, cfg.SOLVER.CLIP_GRADIENTS
    if launch.machines > 1:  # Lightning reads these
        host, port = launch.url.removeprefix("tcp://").split(":")
        os.environ |= {"MASTER_ADDR": host, "MASTER_PORT": port, "NODE_RANK": str(launch.rank)}
    return L.Trainer(
        **devices(cfg.MODEL.DEVICE, launch.processes), num_nodes=launch.machines,
        **trainer_options(cfg.OUTPUT_DIR),
        max_steps=solver.MAX_ITER, max_epochs=-1, accumulate_grad_batches=cfg.VINDR.ACCUMULATE,
        precision=_PRECISION[half_precision(cfg)],
        gradient_clip_val=clip.CLIP_VALUE if clip.ENABLED else None,
        gradient_clip_algorithm="value" if clip.CLIP_TYPE == "value" else "norm",
        benchmark=cfg.CUDNN_BENCHMARK, logger=False, profiler=DataTimer(),
    )


def devices(device: str, processes: int) -> dict[str, Any]:
    """MODEL.DEVICE as arguments of Lightning's Trainer.

    Args:
        device: cpu, cuda or cuda:<n>.
        processes: number of processes per machine.

    Raises:
        InputError: a single GPU for several processes.
    """
    name, _, number = device.partition(":")
    if name != "cuda":
        return {"accelerator": "cpu", "devices": processes}
    if number and processes > 1:
        raise InputError(f"MODEL.DEVICE is {device}, but {processes} processes are to train; expected cuda")
    return {"accelerator": "gpu", "devices": [int(number)] if number else processes}
