"""Where a training's numbers and pictures go beside its files: TensorBoard, Weights & Biases, MLflow.

VINDR.LOGGERS of a detector of either engine, and LOGGERS of a classifier, name them. Lightning's loggers
write; one that fails later is left out with a warning, since it must not cost the training.
"""

import importlib.util
import logging
import os
import re
import tempfile
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any

import numpy as np
import yaml
from numpy.typing import NDArray

from vindr_det.config import leaves
from vindr_det.config_values import LOGGERS
from vindr_det.exceptions import InputError

log = logging.getLogger(__name__)

PROJECT = "vindr_det"
#: What installs the library where that is not its name; MLflow's smaller package is enough.
_PACKAGES = {"mlflow": "mlflow-skinny"}
#: What MLflow refuses in the name of a number.
_NOT_MLFLOWS, _NOTHING = re.compile(r"[^\w\-. /]"), re.compile(r"(?!)")


def require_loggers(key: str, names: Sequence[str]) -> None:
    """Refuse loggers whose library is missing, before the training begins.

    Args:
        key: of the config, for the message.
        names: its value.

    Raises:
        InputError: names the library and what installs it.
    """
    for name in names:
        if importlib.util.find_spec(LOGGERS[name]) is None:
            raise InputError(f"{key} {name}: {LOGGERS[name]} is not installed, expected pip install "
                             f"{_PACKAGES.get(name, name)}, or {key} without it")


class Loggers:
    """The loggers of a training; without any it does nothing.

    Args:
        names: of :data:`vindr_det.config_values.LOGGERS`.
        out: OUTPUT_DIR, which gets the files of those that write files.
        run: of several in that folder, such as ``fold0``; empty for a single one.
        config: the training's config as YAML; its keys become the run's parameters, such as
            ``SOLVER.MAX_ITER``.
    """

    def __init__(self, names: Sequence[str], out: str | Path, run: str = "", config: str = "") -> None:
        self._loggers: dict[str, Any] = {}
        for name in names:
            self._try(name, partial(self._open, name, Path(out), run, config))

    def _open(self, name: str, out: Path, run: str, config: str) -> None:
        self._loggers[name] = _BUILD[name](out, run)
        if config and name != "tensorboard":
            self._loggers[name].log_hyperparams(dict(leaves(yaml.safe_load(config))))

    def numbers(self, values: Mapping[str, float], step: int) -> None:
        """Log values by name, of a step from 1."""
        for name, logger in list(self._loggers.items()):
            strange = _NOT_MLFLOWS if name == "mlflow" else _NOTHING
            named = {strange.sub("_", key): value for key, value in values.items()}
            self._try(name, partial(logger.log_metrics, named, step))

    def picture(self, title: str, picture: NDArray[np.uint8], step: int) -> None:
        """Log an (H, W, 3) uint8 picture, RGB."""
        for name, logger in list(self._loggers.items()):
            self._try(name, partial(_PICTURE[name], logger, title, picture, step))

    def histogram(self, **values: Any) -> None:
        """Log the values of ``SummaryWriter.add_histogram_raw``, which TensorBoard alone takes."""
        logger = self._loggers.get("tensorboard")
        if logger is not None:
            self._try("tensorboard", lambda: logger.experiment.add_histogram_raw(**values))

    def close(self) -> None:
        """End the runs; what a library has buffered is written."""
        for name, logger in list(self._loggers.items()):
            self._try(name, partial(_close, name, logger))
        self._loggers = {}

    def _try(self, name: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            self._loggers.pop(name, None)
            log.warning("%s: left out from here on (%s: %s); the training goes on", name,
                        type(error).__name__, " ".join(str(error).split())[:200])


def _tensorboard(out: Path, run: str) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(out, name="events" if run else "", version=run)


def _wandb(out: Path, run: str) -> Any:
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(name="-".join(filter(None, [out.name, run])), project=PROJECT, save_dir=out)


def _mlflow(out: Path, run: str) -> Any:
    from lightning.pytorch.loggers import MLFlowLogger

    # Its environment variable names a server; without, a folder beside the training's other files, which
    # MLflow's newer versions want to be allowed.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    uri = os.environ.get("MLFLOW_TRACKING_URI") or f"file:{(out / 'mlruns').absolute()}"
    return MLFlowLogger(PROJECT, "-".join(filter(None, [out.name, run])), tracking_uri=uri)


def _close(name: str, logger: Any) -> None:
    logger.finalize("success")
    if name == "wandb":
        logger.experiment.finish()


def _to_tensorboard(logger: Any, title: str, picture: NDArray[np.uint8], step: int) -> None:
    logger.experiment.add_image(title, picture, step, dataformats="HWC")


def _to_wandb(logger: Any, title: str, picture: NDArray[np.uint8], step: int) -> None:
    logger.log_image(title, [picture], step)


def _to_mlflow(logger: Any, title: str, picture: NDArray[np.uint8], step: int) -> None:
    from vindr_det.files import write_png

    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / f"{title}_{step:07d}.png"
        write_png(path, np.ascontiguousarray(picture[..., ::-1]))
        logger.experiment.log_artifact(logger.run_id, str(path), "pictures")


_BUILD: dict[str, Callable[[Path, str], Any]] = {
    "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
_PICTURE: dict[str, Callable[[Any, str, NDArray[np.uint8], int], None]] = {
    "tensorboard": _to_tensorboard, "wandb": _to_wandb, "mlflow": _to_mlflow}
