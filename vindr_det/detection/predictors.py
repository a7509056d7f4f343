"""Checkpoints to predictors, and the images that their configs name."""

import logging
import re
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any

from vindr_det.config import check, merge_overrides, requested_engine
from vindr_det.data.coco import read_coco
from vindr_det.data.splits import split_of, warn_of_trained_images
from vindr_det.detection import engine as engines
from vindr_det.detection.checkpoint import Checkpoint
from vindr_det.detection.interface import Predictor
from vindr_det.detection.loading import load_checkpoint, load_config
from vindr_det.device import resolve_device
from vindr_det.exceptions import InputError
from vindr_det.imaging.choice import Choice
from vindr_det.structures.label_sets import same_label_set
from vindr_det.training.checkpoint_io import weights_of

if TYPE_CHECKING:
    from vindr_det.detection.torchvision.onnx import OnnxPredictor

log = logging.getLogger(__name__)

#: What may differ from the training: how many detections are kept, the test size, where images lie.
_AT_PREDICTION = re.compile(r"TEST\.DETECTIONS_PER_IMAGE|(MODEL|INPUT)\..+_TEST|VINDR\.(DATA|IMAGE)_ROOT")
_ROOT = re.compile(r"VINDR\.(DATA|IMAGE)_ROOT")


@dataclass(frozen=True)
class Changes:
    """Keys of a checkpoint's config that a prediction changes.

    Attributes:
        overrides: keys and values in turn.

    Raises:
        InputError: a key that only a training reads.
    """

    overrides: Sequence[str] = ()

    def __post_init__(self) -> None:
        for key in self.overrides[::2]:
            if not _AT_PREDICTION.fullmatch(key):
                raise InputError(f"command line: key {key} is fixed by the training, expected "
                                 "TEST.DETECTIONS_PER_IMAGE, a key of MODEL or INPUT that ends in _TEST, "
                                 "VINDR.DATA_ROOT or VINDR.IMAGE_ROOT")

    @property
    def of_model(self) -> bool:
        """Whether more than the place of the images changes."""
        return not all(_ROOT.fullmatch(key) for key in self.overrides[::2])

    def apply(self, cfg: Any) -> None:
        """Change the keys in a config, and check the values."""
        if self.overrides:
            merge_overrides(cfg, self.overrides, f"{cfg.VINDR.ENGINE} engine")
            check(cfg, "command line")


NO_CHANGES = Changes()


def load_predictors(
    weights: Sequence[str | Path], engine: str | None = None, half: bool = False, device: str = "auto",
    changes: Changes = NO_CHANGES,
) -> list[Predictor]:
    """One predictor per file, each with the engine that trained it.

    Args:
        weights: checkpoints of vindr-det train, or ONNX files of vindr-det export, which run on the CPU.
        engine: refuse weights of another engine; None takes any.
        half: compute in half precision, of the type VINDR.AMP_DTYPE.
        device: replaces MODEL.DEVICE of the checkpoints; ``auto`` takes a GPU if one is usable.
        changes: of the checkpoints' configs.

    Raises:
        InputError: not a checkpoint of this project, one of another engine, its engine is not installed, the
            device is not usable, an ONNX file is to be changed, or the detectors' label sets differ.
    """
    predictors = [_onnx_predictor(path, engine, half, changes) if _is_onnx(path) else
                  _checkpoint_predictor(path, engine, half, device, changes) for path in weights]
    same_label_set([predictor.label_set for predictor in predictors],
                   f"detectors {', '.join(map(str, weights))}")
    return predictors


def _checkpoint_predictor(
    path: str | Path, engine: str | None, half: bool, device: str, changes: Changes
) -> Predictor:
    return predictor_of(load_checkpoint(path, engine), path, half, device, changes)


def predictor_of(
    checkpoint: Checkpoint, path: str | Path, half: bool = False, device: str = "auto",
    changes: Changes = NO_CHANGES,
) -> Predictor:
    """A checkpoint's predictor.

    Args:
        checkpoint: its config is changed.
        path: named in errors.
        half: as of :func:`load_predictors`.
        device: likewise.
        changes: likewise.

    Raises:
        InputError: its engine is not installed, or the device is not usable.
    """
    if checkpoint.engine == "detectron2" and not engines.detectron2_is_here():
        raise InputError(f"{path}: was trained with Detectron2, which does not import here; see INSTALL.md")
    changes.apply(checkpoint.cfg)
    checkpoint.cfg.MODEL.DEVICE = resolve_device(device)
    engines.check_device(checkpoint.cfg)
    checkpoint.cfg.SOLVER.AMP.ENABLED = half
    _warn_of_float32(checkpoint.cfg, path)
    with weights_of(path):
        predictor = engines.load(checkpoint.engine).build_predictor(checkpoint.cfg, checkpoint.state)
    log.info("%s: %s engine, iteration %d", path, checkpoint.engine, checkpoint.iteration)
    return predictor


def _warn_of_float32(cfg: Any, path: str | Path) -> None:
    from vindr_det.detection.precision import half_precision

    if cfg.SOLVER.AMP.ENABLED and half_precision(cfg) is None:
        log.warning("%s: computes in float32: half precision of type %s needs a GPU", path,
                    cfg.VINDR.AMP_DTYPE)


def _onnx_predictor(path: str | Path, engine: str | None, half: bool, changes: Changes) -> Predictor:
    if engine not in (None, "torchvision"):
        raise InputError(f"{path}: was exported from the torchvision engine, expected {engine}")
    if changes.of_model:
        raise InputError(f"{path}: an exported file cannot change {changes.overrides[0]}, expected a "
                         "checkpoint (.pth)")
    if half:
        log.warning("%s: computes in float32: half precision needs a checkpoint (.pth)", path)
    return _load_onnx(path)


def _is_onnx(path: str | Path) -> bool:
    return Path(path).suffix == ".onnx"


def _load_onnx(path: str | Path) -> "OnnxPredictor":
    from vindr_det.detection.torchvision.onnx import OnnxPredictor

    return OnnxPredictor(path)


def best_weights(config: str | Path) -> Path:
    """model_best.pth, or else model_final.pth, in the OUTPUT_DIR of a config file.

    Raises:
        InputError: neither is there.
    """
    engine = engines.choose(requested_engine(config))
    folder = Path(load_config(config, engine).OUTPUT_DIR)
    for candidate in (folder / "model_best.pth", folder / "model_final.pth"):
        if candidate.is_file():
            return candidate
    raise InputError(f"{folder}: holds no model_best.pth or model_final.pth; train first ("
                     f"vindr-det train --config {config}) or give --weights or --bundle")


def images_of(
    weights: str | Path, data_set: str = "", changes: Changes = NO_CHANGES
) -> tuple[Path, Choice | None]:
    """The folder of a data set's images and which of them belong to it, by a checkpoint or exported file.

    A warning counts those that it was trained on.

    Args:
        weights: the file, in whose config the folders are.
        data_set: its name; empty for DATASETS.TEST.
        changes: of the config.

    Returns:
        The folder, and the images in it; None for all, where the data set has no annotations.

    Raises:
        InputError: no such data set, or DATASETS.TEST names none or several.
    """
    cfg = _load_onnx(weights).cfg if _is_onnx(weights) else load_checkpoint(weights).cfg
    return images_of_config(cfg, weights, data_set, changes)


def images_of_config(
    cfg: Any, weights: str | Path, data_set: str = "", changes: Changes = NO_CHANGES
) -> tuple[Path, Choice | None]:
    """:func:`images_of` for the config of a model.

    Args:
        cfg: is changed.
        weights: named in errors.
        data_set: as of :func:`images_of`.
        changes: likewise.

    Raises:
        InputError: likewise.
    """
    changes.apply(cfg)
    if not data_set and len(cfg.DATASETS.TEST) != 1:
        raise InputError(f"{weights}: DATASETS.TEST is {tuple(cfg.DATASETS.TEST)}, expected one data "
                         "set; give --images")
    split = split_of(data_set or cfg.DATASETS.TEST[0], cfg)
    if split.annotations is None:
        return split.images, None
    records = read_coco(split.annotations)
    warn_of_trained_images(split.name, cfg)
    return split.images, Choice(str(split.annotations), {r.file_name: r.image_id for r in records},
                                {r.image_id: (r.height, r.width) for r in records})
