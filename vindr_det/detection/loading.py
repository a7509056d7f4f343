"""Read configs and checkpoints, over the defaults of the engine that they are for."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from fvcore.common.config import CfgNode

from vindr_det.config import config_from_text, read_config
from vindr_det.config_schema import label_set_of_config
from vindr_det.config_values import Check, one_of, refuse_values
from vindr_det.detection import engine as engines
from vindr_det.detection.checkpoint import Checkpoint, preprocessing, require_engine
from vindr_det.device import resolve_device
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import LabelSet
from vindr_det.training.checkpoint_io import read_file, require_agreement
from vindr_det.training.optimizer import OPTIMIZERS
from vindr_det.training.schedule import SCHEDULES
from vindr_det.training.weights_classes import require_label_set

#: Names that are looked up in a list of the training.
_NAMES: Mapping[str, Check] = {"VINDR.OPTIMIZER": one_of(*OPTIMIZERS),
                               "SOLVER.LR_SCHEDULER_NAME": one_of(*SCHEDULES)}


def load_config(
    path: str | Path, engine: str, overrides: Sequence[str] = (), processes: int = 1
) -> CfgNode:
    """Read a YAML file on top of an engine's defaults, then ``KEY VALUE`` overrides.

    MODEL.DEVICE is ``auto`` by default: a GPU where this machine has one, else the CPU. Our YAMLs cannot
    have it, since Detectron2's own trainers read them and know no such name.

    Args:
        path: the YAML file.
        engine: ``detectron2`` or ``torchvision``.
        overrides: keys and values in turn.
        processes: per machine; several mean GPUs, unless MODEL.DEVICE is cpu by name.

    Raises:
        InputError: names the file, the key, the value and what was expected.
    """
    schema = engines.load(engine).defaults()
    schema.MODEL.DEVICE = "auto"
    cfg = read_config(schema, engine, path, overrides)
    refuse_values(cfg, _NAMES, str(path))
    asked, cfg.MODEL.DEVICE = cfg.MODEL.DEVICE, resolve_device(cfg.MODEL.DEVICE)
    if processes > 1 and asked == "auto" and cfg.MODEL.DEVICE == "cpu":
        raise InputError(f"--num-gpus {processes}: this machine has no usable GPU; add --device cpu for "
                         "processes without")
    return cfg


def load_checkpoint(
    path: str | Path, engine: str | None = None, label_set: LabelSet | None = None
) -> Checkpoint:
    """Read a checkpoint with its config.

    Args:
        path: ``model_best.pth`` or ``model_final.pth`` of either engine.
        engine: refuse a checkpoint of another engine; None takes any.
        label_set: refuse a checkpoint of other findings; None takes any.

    Raises:
        InputError: not a checkpoint of this project, other classes, or the other engine's.
    """
    return checkpoint_of(read_file(path), path, engine, label_set)


def checkpoint_of(
    data: Mapping[str, Any], path: str | Path, engine: str | None = None, label_set: LabelSet | None = None
) -> Checkpoint:
    """The checkpoint that :func:`load_checkpoint` reads, from what its file holds.

    Args:
        data: ``model`` and ``vindr``.
        path: named in errors.
        engine: as of :func:`load_checkpoint`.
        label_set: likewise.

    Raises:
        InputError: likewise.
    """
    if "vindr_classifier" in data:
        raise InputError(f"{path}: a classifier's fold, expected a detector's model_best.pth or "
                         f"model_final.pth; a classifier is its whole folder, {Path(path).parent}")
    meta = data.get("vindr")
    if not isinstance(meta, dict) or "model" not in data:
        raise InputError(f"{path}: carries no vindr_det config, expected a model_best.pth or "
                         "model_final.pth that vindr-det train wrote")
    if "trainer" in data:  # with model EMA, not the weights that were validated
        raise InputError(f"{path}: a state to resume from, expected a model_best.pth or model_final.pth")
    require_engine(path, meta, engine)
    cfg = config_from_text(meta["config"], engines.load(meta["engine"]).defaults(), str(path))
    own = label_set_of_config(cfg)
    if tuple(meta["classes"]) != own.findings:
        raise InputError(f"{path}: was trained on classes {meta['classes']}, expected the {len(own)} "
                         f"findings of {own.name}, which its config names")
    require_agreement(path, meta, {"label_set": own.name, "preprocessing": preprocessing(cfg)})
    if label_set is not None:
        require_label_set(path, meta, label_set)
    return Checkpoint(meta["engine"], cfg, data["model"], meta["metrics"], meta["iteration"])
