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
from vindr_det.files import read_json, write_json

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


def runs_file(out: str | Path, run: str = "") -> Path:
    """The JSON with the ids of a training's runs by logger, which a resumed training continues.

    Args:
        out: OUTPUT_DIR.
        run: as of :class:`Loggers`.
    """
    return Path(out) / "_".join(filter(None, [run, "loggers.json"]))


class Loggers:
    """The loggers of a training, opened when first written to; without any it does nothing.

    Where :func:`runs_file` names a run of W&B or MLflow, it is continued: a training that begins anew removes
    that file.

    Args:
        names: of :data:`vindr_det.config_values.LOGGERS`.
        out: OUTPUT_DIR, which gets the files of those that write files.
        run: of several in that folder, such as ``fold0``; empty for a single one.
        config: the training's config as YAML; its keys become the run's parameters, such as
            ``SOLVER.MAX_ITER``.
    """

    def __init__(self, names: Sequence[str], out: str | Path, run: str = "", config: str = "") -> None:
        self._names, self._out, self._run, self._config = tuple(names), Path(out), run, config
        self._opened: dict[str, Any] | None = None

    @property
    def _loggers(self) -> dict[str, Any]:
        if self._opened is None:
            self._opened = {}
            for name in self._names:
                self._try(name, partial(self._open, name, self._opened))
        return self._opened

    def _open(self, name: str, opened: dict[str, Any]) -> None:
        file = runs_file(self._out, self._run)
        runs = read_json(file) if file.is_file() and name in _RUN_ID else {}
        opened[name] = logger = _BUILD[name](self._out, self._run, runs.get(name))
        if self._config and name != "tensorboard" and not (name == "mlflow" and name in runs):
            logger.log_hyperparams(dict(leaves(yaml.safe_load(self._config))))  # MLflow takes no other values
        if name in _RUN_ID:
            write_json(file, {**runs, name: _RUN_ID[name](logger)})

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
        for name, logger in list((self._opened or {}).items()):
            self._try(name, partial(_close, name, logger))
        self._names, self._opened = (), {}

    def _try(self, name: str, work: Callable[[], Any]) -> None:
        try:
            work()
        except Exception as error:
            self._loggers.pop(name, None)
            log.warning("%s: left out from here on (%s: %s); the training goes on", name,
                        type(error).__name__, " ".join(str(error).split())[:200])


def _tensorboard(out: Path, run: str, _: str | None) -> Any:
    from lightning.pytorch.loggers import TensorBoardLogger

    return TensorBoardLogger(out, name="events" if run else "", version=run)


def _wandb(out: Path, run: str, run_id: str | None) -> Any:
    from lightning.pytorch.loggers import WandbLogger

    return WandbLogger(name="-".join(filter(None, [out.name, run])), project=PROJECT, save_dir=out,
                       id=run_id)


def _mlflow(out: Path, run: str, run_id: str | None) -> Any:
    from lightning.pytorch.loggers import MLFlowLogger

    # Its environment variable names a server; without, a folder beside the training's other files, which
    # MLflow's newer versions want to be allowed.
    os.environ.setdefault("MLFLOW_ALLOW_FILE_STORE", "true")
    server = os.environ.get("MLFLOW_TRACKING_URI")
    logger = MLFlowLogger(PROJECT, "-".join(filter(None, [out.name, run])), run_id=run_id,
                          tracking_uri=server or f"file:{(out / 'mlruns').absolute()}")
    if logger.run_id and not server:  # MLflow has put the folder there, for the next training to find
        os.environ.pop("MLFLOW_TRACKING_URI", None)
    return logger


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


_BUILD: dict[str, Callable[[Path, str, str | None], Any]] = {
    "tensorboard": _tensorboard, "wandb": _wandb, "mlflow": _mlflow}
#: TensorBoard's files have no id: a folder is a run.
_RUN_ID: dict[str, Callable[[Any], str]] = {
    "wandb": lambda logger: logger.experiment.id, "mlflow": lambda logger: logger.run_id}
_PICTURE: dict[str, Callable[[Any, str, NDArray[np.uint8], int], None]] = {
    "tensorboard": _to_tensorboard, "wandb": _to_wandb, "mlflow": _to_mlflow}
