"""The classifier's YAML schema."""

from collections.abc import Sequence
from pathlib import Path

from fvcore.common.config import CfgNode

from vindr_det.config import merge_overrides, merge_yaml
from vindr_det.errors import InputError


def defaults() -> CfgNode:
    """Every key with its default."""
    return CfgNode({
        "MODEL": {
            "NAME": "tf_efficientnet_b2.ns_jft_in1k",  # any name that timm knows
            "PRETRAINED": True,  # ImageNet weights from timm's hub
            "WEIGHTS": "",  # a local state dict instead
            "DROP_RATE": 0.0,  # before the last layer
            "POOL": "",  # timm's global_pool, such as max or avgmax; the network's own if empty
            "OUTPUT_STRIDE": 0,  # of the last features: 16 or 8 for finer maps; 0 leaves it
        },
        "INPUT": {
            "SIZE": 256,  # images are squeezed into squares, pixels
            "AUGMENT": [],  # as VINDR.AUGMENT
        },
        "DATA": {
            "IMAGES": "datasets/vindr/train",
            "PACKED": "",  # a packed.npy of prepare_images.py instead of single files
            "LABELS": "datasets/vindr/annotations/labels.csv",
            "VALIDATION": "",  # a list of its own instead of folds: one model
            "TEST": "",  # predicted by the mean of all models, and scored
            "PARTIAL": False,  # go on without the images that are not there
            "TARGET": "abnormal",  # or vindr15 (shares of readers), or nih14
            "KEEP_NORMAL": 1.0,  # share of the normal images that is trained on
        },
        "SOLVER": {
            "EPOCHS": 10, "BATCH_SIZE": 32, "LR": 3e-4, "WEIGHT_DECAY": 0.01,
            "WARMUP_EPOCHS": 1.0,  # linear
            "SCHEDULE": "cosine",  # to 0; hold: HOLD_EPOCHS at LR, then DECAY an epoch
            "HOLD_EPOCHS": 0.0,
            "DECAY": 0.8,
            "LOSS": "bce",  # or weighted_bce, by the frequency of the other side; or asymmetric
            "LABEL_SMOOTHING": 0.0,
            "SAMPLER": "shuffle",  # or weighted: rare labels as often as frequent ones
            "EMA_DECAY": 0.0,  # as VINDR.EMA_DECAY
            "KEEP": "best",  # of the epochs by AUC of the held-out images; or last
            "PATIENCE": 0,  # epochs without a new best before training stops; 0 never
            "PRECISION": "32-true",  # Lightning's names: 16-mixed, bf16-mixed
        },
        "TEST_FLIP": False,  # predict the mean of the image and its mirror image
        "NUM_WORKERS": 4,
        "DEVICE": "auto",
        "SEED": 0,
        "OUTPUT_DIR": "outputs/classifier",
    })


_CHOICES = {"SCHEDULE": ("cosine", "hold"), "SAMPLER": ("shuffle", "weighted"), "KEEP": ("best", "last")}


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a YAML file on top of the defaults, then ``KEY VALUE`` overrides.

    Raises:
        InputError: names the file, the key, the value and what was expected.
    """
    cfg = defaults()
    merge_yaml(cfg, path, "classifier")
    merge_overrides(cfg, overrides, "classifier")
    solver = cfg.SOLVER
    if solver.EPOCHS < 1 or solver.BATCH_SIZE < 1:
        raise InputError(f"{path}: SOLVER.EPOCHS {solver.EPOCHS} and SOLVER.BATCH_SIZE "
                         f"{solver.BATCH_SIZE}, expected 1 or more")
    for key, choices in _CHOICES.items():
        if solver[key] not in choices:
            raise InputError(f"{path}: SOLVER.{key} is {solver[key]!r}, expected {' or '.join(choices)}")
    shares = {"DATA.KEEP_NORMAL": cfg.DATA.KEEP_NORMAL, "SOLVER.LABEL_SMOOTHING": solver.LABEL_SMOOTHING,
              "SOLVER.EMA_DECAY": solver.EMA_DECAY}
    for key, value in shares.items():
        if not 0 <= value <= 1:
            raise InputError(f"{path}: {key} is {value}, expected 0 to 1")
    return cfg
