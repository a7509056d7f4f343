"""Which state ``--resume`` continues from, and when it must refuse to.

A state has the entry ``vindr`` of every checkpoint (:func:`vindr_det.detection.checkpoint.metadata`) with
two values more: ``waited``, the number of validations since the best, and ``pending``, whether the
validation of the last iteration was interrupted.
"""

import json
import logging
import re
import tempfile
from collections.abc import Mapping
from pathlib import Path
from typing import Any

from vindr_det.config import config_from_text, leaves, requested_engine
from vindr_det.config_schema import label_set_of_config
from vindr_det.exceptions import InputError
from vindr_det.training.checkpoint_io import read_file
from vindr_det.training.states import MODELS, SUFFIXES, iterations_of, saved
from vindr_det.training.weights import require_same_model
from vindr_det.training.weights_classes import require_label_set

log = logging.getLogger(__name__)

#: Keys that must not change: the weights, the optimizer's state, the position in the order of the images or
#: the best value so far depend on them. The schedule may change: it is a function of the iteration.
_FIXED = re.compile(
    r"MODEL\.(?!DEVICE$|WEIGHTS$).*|SEED|DATASETS\.TRAIN"
    r"|SOLVER\.(BASE_LR|MOMENTUM|NESTEROV|WEIGHT_DECAY.*|BIAS_LR_FACTOR|IMS_PER_BATCH)"
    r"|VINDR\.(OPTIMIZER|ACCUMULATE|EMA_DECAY|BEST_METRIC|VALIDATION|NORMAL_RATIO|REPEAT_THRESHOLD|MIN_READERS"
    r"|LIMIT|LABEL_SET|FINDINGS|UNKNOWN)")


def require_output_folder(folder: str | Path) -> None:
    """Make OUTPUT_DIR, and fail before the training where it cannot be written.

    Raises:
        InputError: the folder cannot be made or written.
    """
    try:
        Path(folder).mkdir(parents=True, exist_ok=True)
        tempfile.TemporaryFile(dir=folder).close()
    except OSError as error:
        raise InputError(f"OUTPUT_DIR {folder}: cannot be written ({error.strerror})") from error


def state_to_resume(folder: str | Path, engine: str) -> Path | None:
    """The latest whole state of the training in a folder; None where none has begun.

    Raises:
        InputError: the training is the other engine's, it left models but no state, or no state is whole.
    """
    folder = Path(folder)
    owner = _engine_of(folder, engine)
    if owner != engine:
        raise InputError(f"--resume: {folder} holds a training of the {owner} engine, expected one of the "
                         f"{engine} engine; add --engine {owner} or take another OUTPUT_DIR")
    states = saved(folder, SUFFIXES[engine])
    models = [name for name in MODELS if (folder / name).exists()]
    if not states and models:
        raise InputError(f"--resume: {folder} holds {models[0]} but no state to resume from, expected "
                         f"state_*{SUFFIXES[engine]}; take another OUTPUT_DIR or leave out --resume")
    return _latest_whole(states) if states else None


def _latest_whole(states: list[Path]) -> Path:
    """The latest that is readable: a full disk or a stopped cluster may have cut off the last one."""
    for state in reversed(states):
        try:
            _read_state(state)
            return state
        except InputError as error:
            if state == states[0]:
                raise
            log.warning("--resume: %s; resuming from the state before", error)
    raise AssertionError("there are states")


def _read_state(state: Path) -> dict[str, Any]:
    """Contents of a state.

    Raises:
        InputError: damaged, or not the state of a training.
    """
    data = read_file(state)
    if not isinstance(data.get("vindr"), dict) or not data.keys() & {"trainer", "state_dict"}:
        raise InputError(f"{state}: not a state of a training, expected one that vindr-det train wrote")
    return data


def _engine_of(folder: Path, engine: str) -> str:
    """The engine of the training in a folder; ``engine`` where no file shows it."""
    if (folder / "config.yaml").is_file():
        owner = requested_engine(folder / "config.yaml")
        if owner in SUFFIXES:
            return owner
    owners = [name for name, suffix in SUFFIXES.items() if saved(folder, suffix)]
    return engine if engine in owners or not owners else owners[0]


def is_finished(state: Path, cfg: Any) -> bool:
    """Whether a state is the last of its training and ``model_final.pth`` is written; logs the reason."""
    done, final = iterations_of(state), state.parent / MODELS[0]
    meta = read_file(state)["vindr"]
    waited = meta.get("waited", 0)
    stopped = 0 < cfg.VINDR.PATIENCE <= waited
    if not (stopped or done >= cfg.SOLVER.MAX_ITER) or meta.get("pending") or not final.is_file():
        return False
    if (read_file(final).get("vindr") or {}).get("iteration") != done:
        return False
    reason = (f"no better {cfg.VINDR.BEST_METRIC} in {waited} validations; a larger VINDR.PATIENCE resumes it"
              if stopped else "a larger SOLVER.MAX_ITER resumes it")
    log.info("%s: the training is finished after %d iterations (%s)", state.parent, done, reason)
    return True


def require_resumable(state: Path, meta: Mapping[str, Any], weights: Mapping[str, Any],
                      own: Mapping[str, Any], cfg: Any) -> None:
    """Refuse a state that a training with a config cannot resume from.

    Args:
        state: the file of the state.
        meta: its entry ``vindr``.
        weights: its state dict.
        own: state dict of the model that the config describes.
        cfg: config of the training.

    Raises:
        InputError: names the state, and the label set, weight or key that differs.
    """
    require_label_set(state, meta, label_set_of_config(cfg))
    require_same_model(str(state), weights, own)
    if "config" not in meta:
        return
    before = config_from_text(meta["config"], cfg, str(state))
    then = dict(leaves(before))
    for key, now in leaves(cfg):
        if _FIXED.fullmatch(key) and json.dumps(then[key]) != json.dumps(now):  # a tuple may return as a list
            raise InputError(f"--resume: {key} is {now!r}, expected {then[key]!r} as in {state}")
