"""The classifier's YAML schema: keys, defaults and checks."""

from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import yaml
from fvcore.common.config import CfgNode

from vindr_det.classification.targets import labels_of_target
from vindr_det.config import merge_overrides, merge_yaml
from vindr_det.config_values import (
    DEVICE,
    FOLDER,
    LOGGER_NAMES,
    PART,
    SHARE,
    Check,
    above,
    at_least,
    one_of,
    refuse_values,
)
from vindr_det.exceptions import InputError
from vindr_det.training.acceleration import CHANNELS_LAST
from vindr_det.training.optimizer import OPTIMIZERS
from vindr_det.training.schedule import SCHEDULES


def defaults() -> CfgNode:
    """Every key with its default."""
    return CfgNode({
        "MODEL": {
            "NAME": "tf_efficientnet_b2.ns_jft_in1k",  # any name that timm knows
            "PRETRAINED": True,  # ImageNet weights from timm's hub
            "WEIGHTS": "",  # a local state dict, also in torchvision's old names, instead of the hub's
            "DROP_RATE": 0.0,  # before the last layer
            "POOL": "",  # timm's global_pool, such as max or avgmax; the network's own if empty
            "OUTPUT_STRIDE": 0,  # of the last features: 16 or 8 for finer maps; 0 leaves it
        },
        "INPUT": {
            "SIZE": 256,  # side of the square that images are resized to, pixels
            "AUGMENT": [],  # as VINDR.AUGMENT
            # Mean and standard deviation that gray values are normalized by: of the pretraining (weights), of
            # each image itself (image), of images to train on (dataset), or none, gray values of 0..1 (unit).
            "NORMALIZE": "weights",
            "CHANNELS": 1,  # pretrained weights of colors are summed; or 3 equal ones
        },
        "DATA": {
            "IMAGES": "datasets/vindr/train",
            "PACKED": "",  # a packed.npy of vindr-det prepare instead of single files
            "LABELS": "datasets/vindr/annotations/labels.csv",
            "VALIDATION": "",  # a validation table instead of folds: a single model
            "TEST": "",  # a table predicted and scored by the mean of all models
            "CALIBRATION": "",  # a table that no model is trained on, for the ensemble's operating points
            "CALIBRATION_SHARE": 0.1,  # or this fraction of LABELS' patients, where these are enough
            "PARTIAL": False,  # ignore labeled images that are missing
            # Or vindr15 (fractions of readers), nih14, or any columns of the tables: [Edema, No Finding].
            "TARGET": "abnormal",
            "KEEP_NORMAL": 1.0,  # fraction of the normal images that is trained on
            "KEEP_NORMAL_IN": "training",  # or all, which changes AP and precision of the reported images too
            # Of a patient or an image in two tables: error, or drop, which keeps it in the last of LABELS,
            # CALIBRATION, VALIDATION and TEST that has it, so that it is not trained on.
            "ON_LEAK": "error",
            # Policy for uncertain (-1) and blank labels, in CheXpert's terms (Irvin et al., 2019): ignore
            # leaves them out of losses and metrics, zeros and ones take them for negative and positive.
            "UNCERTAIN": "ignore",
            "BLANK": "ignore",
        },
        "SOLVER": {
            "EPOCHS": 10,
            "BATCH_SIZE": 32,  # images per step, over all processes
            "OPTIMIZER": "AdamW",  # or Adam, SGD (momentum .9)
            "LR": 3e-4,
            "LR_START": 0.0,  # of the warm-up; 0 takes a twentieth of LR
            "LR_MIN": 0.0,  # what cosine ends at and hold decays to
            "WEIGHT_DECAY": 0.01,  # not of norms and biases; of Adam and SGD an L2 penalty
            "WARMUP_EPOCHS": 1.0,  # linear
            # cosine to LR_MIN; hold: HOLD_EPOCHS at LR, then what is above LR_MIN times DECAY per epoch; or
            # constant.
            "SCHEDULE": "cosine",
            "HOLD_EPOCHS": 0.0,
            "DECAY": 0.8,
            "LOSS": "bce",  # or weighted_bce, by label frequency; or asymmetric
            "LABEL_SMOOTHING": 0.0,
            "SAMPLER": "shuffle",  # or weighted: draws rare labels as often as frequent ones
            "EMA_DECAY": 0.999,  # as VINDR.EMA_DECAY
            # The epoch that is kept: the last, or the best by SELECT_BY on DATA.CALIBRATION's images outside
            # the fold (inner). The held-out fold never selects the epoch: a score on it would be optimistic.
            "SELECT": "last",
            "SELECT_BY": "auc",  # highest mean over the labels; or loss, lowest
            "PATIENCE": 0,  # of inner: early stopping after so many epochs without a new best; 0 never
            "PRECISION": "32-true",  # or 16-mixed (a GPU), bf16-mixed
            "CHANNELS_LAST": "auto",  # as VINDR.CHANNELS_LAST
            "COMPILE": False,  # as VINDR.COMPILE, of the whole network
            # Loss and AUC of the held-out fold after each epoch, in fold<k>_history.csv: reported, never
            # chosen by.
            "REPORT_HELD_OUT": True,
            "KEEP_EPOCHS": 0,  # weights of every n-th epoch, in epochs/<epoch>/fold<k>.pth; 0 keeps none
        },
        # Target rates of operating points, beside Youden's and the threshold .5.
        "POINTS": {"SENSITIVITY": [0.95], "SPECIFICITY": [0.95]},
        "TEST_FLIP": False,  # TTA: the mean over the image and its mirror image
        "NUM_WORKERS": 4,
        "PREFETCH": 2,  # batches that each of NUM_WORKERS prepares ahead
        "DEVICE": "auto",  # cpu, cuda, cuda:1
        "LOGGERS": ["tensorboard"],  # as VINDR.LOGGERS: tensorboard, wandb, mlflow; [] for none
        "SEED": 0,
        "OUTPUT_DIR": "outputs/classifier",
    })


#: Keys that do not change the trained models.
_WITHOUT_EFFECT = ("NUM_WORKERS", "PREFETCH", "DEVICE", "LOGGERS", "OUTPUT_DIR", "POINTS",
                   "SOLVER.REPORT_HELD_OUT", "SOLVER.KEEP_EPOCHS", "SOLVER.CHANNELS_LAST", "SOLVER.COMPILE")
#: Keys of earlier versions, which their checkpoints still hold.
_RETIRED = {"SOLVER": ("KEEP",)}

#: SOLVER.LOSS; of losses.py.
LOSSES = ("bce", "weighted_bce", "asymmetric")
#: SOLVER.SAMPLER; of sampler.py.
SAMPLERS = ("shuffle", "weighted")
#: INPUT.NORMALIZE; of model.py.
NORMALIZATIONS = ("weights", "image", "dataset", "unit")
_POLICY = one_of("ignore", "zeros", "ones")
_RATES: Check = (lambda values: all(isinstance(rate, float) and 0 < rate < 1 for rate in values),
                 "numbers between 0 and 1, such as [0.9, 0.95]")
_CHECKS: Mapping[str, Check] = {
    "MODEL.DROP_RATE": PART, "MODEL.OUTPUT_STRIDE": at_least(0), "INPUT.SIZE": at_least(16),
    "INPUT.NORMALIZE": one_of(*NORMALIZATIONS), "INPUT.CHANNELS": one_of(1, 3),
    "DATA.KEEP_NORMAL_IN": one_of("training", "all"), "DATA.ON_LEAK": one_of("error", "drop"),
    "DATA.KEEP_NORMAL": SHARE, "DATA.CALIBRATION_SHARE": PART, "DATA.UNCERTAIN": _POLICY,
    "DATA.BLANK": _POLICY,
    "SOLVER.EPOCHS": at_least(1), "SOLVER.BATCH_SIZE": at_least(1), "SOLVER.LR": above(0),
    "SOLVER.OPTIMIZER": one_of(*OPTIMIZERS), "SOLVER.LR_START": at_least(0), "SOLVER.LR_MIN": at_least(0),
    "SOLVER.SELECT_BY": one_of("auc", "loss"),
    "SOLVER.WEIGHT_DECAY": at_least(0), "SOLVER.WARMUP_EPOCHS": at_least(0),
    "SOLVER.HOLD_EPOCHS": at_least(0),
    "SOLVER.SCHEDULE": one_of(*SCHEDULES), "SOLVER.LABEL_SMOOTHING": PART, "SOLVER.EMA_DECAY": PART,
    "SOLVER.DECAY": (lambda value: 0 < value <= 1, "above 0 to 1"),
    "SOLVER.LOSS": one_of(*LOSSES),
    "SOLVER.SAMPLER": one_of(*SAMPLERS), "SOLVER.SELECT": one_of("last", "inner"),
    "SOLVER.CHANNELS_LAST": one_of(*CHANNELS_LAST),
    "SOLVER.PATIENCE": at_least(0), "SOLVER.KEEP_EPOCHS": at_least(0),
    "SOLVER.PRECISION": one_of("32-true", "16-mixed", "bf16-mixed"),
    "POINTS.SENSITIVITY": _RATES, "POINTS.SPECIFICITY": _RATES, "NUM_WORKERS": at_least(0),
    "PREFETCH": at_least(1),
    # Each fold's seed is SEED + fold, and random generators take 32 bits.
    "SEED": (lambda value: 0 <= value < 2**31, f"a whole number from 0 to {2**31 - 1}"),
    "OUTPUT_DIR": FOLDER, "LOGGERS": LOGGER_NAMES,
    "DEVICE": DEVICE,
}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a YAML file on top of the defaults, then ``KEY VALUE`` overrides.

    Raises:
        InputError: names the file, the key, the value and what was expected.
    """
    cfg = defaults()
    merge_yaml(cfg, path, "classifier")
    merge_overrides(cfg, overrides, "classifier", _CHECKS)
    check(cfg, str(path))
    return cfg


def check(cfg: CfgNode, source: str) -> None:
    """Refuse values that would fail later.

    Raises:
        InputError: names the source, the key, the value and what was expected.
    """
    refuse_values(cfg, _CHECKS, source)
    labels_of_target(cfg.DATA.TARGET)
    solver, data = cfg.SOLVER, cfg.DATA
    for key in ("LR_START", "LR_MIN"):
        if solver[key] > solver.LR:
            raise InputError(f"{source}: SOLVER.{key} is {solver[key]:g}, expected SOLVER.LR ({solver.LR:g}) "
                             "or less")
    if cfg.MODEL.WEIGHTS and not cfg.MODEL.PRETRAINED:
        raise InputError(f"{source}: MODEL.WEIGHTS is {cfg.MODEL.WEIGHTS} with MODEL.PRETRAINED False, "
                         "expected True: they would not be loaded")
    if solver.PATIENCE and solver.SELECT != "inner":
        raise InputError(f"{source}: SOLVER.PATIENCE is {solver.PATIENCE} with SOLVER.SELECT last, expected "
                         "inner: early stopping needs validation in each epoch")
    if solver.SELECT == "inner" and not data.CALIBRATION and not data.CALIBRATION_SHARE:
        raise InputError(f"{source}: SOLVER.SELECT is inner, expected DATA.CALIBRATION or "
                         "DATA.CALIBRATION_SHARE to choose the epoch on")


def same_training(text: str, other: str) -> bool:
    """Whether two configs, as YAML, of this or an earlier version, train the same models."""
    return _trained_by(text) == _trained_by(other)


def _trained_by(text: str) -> dict[str, Any]:
    values = _values(text)
    for key in _WITHOUT_EFFECT:
        section, _, name = key.rpartition(".")
        (values.get(section, {}) if section else values).pop(name, None)
    return values


def _values(text: str) -> dict[str, Any]:
    """All keys' values of a config as YAML; keys that its version did not have get their defaults."""
    values = yaml.safe_load(text)
    return yaml.safe_load(of_checkpoint(values, "config.yaml").dump())


def of_checkpoint(values: Mapping[str, Any], source: str) -> CfgNode:
    """The config in a checkpoint of this or an earlier version.

    Args:
        values: the config as stored.
        source: names the checkpoint in errors.

    Raises:
        InputError: it has a key that this version does not have.
    """
    cfg = defaults()
    stored = {key: dict(value) if isinstance(value, dict) else value for key, value in values.items()}
    for section, keys in _RETIRED.items():
        for key in keys:
            stored.get(section, {}).pop(key, None)
    try:
        cfg.merge_from_other_cfg(CfgNode(stored))
    except (KeyError, ValueError, AssertionError) as error:
        raise InputError(f"{source}: its config is not one of this version ({error})") from error
    return cfg
