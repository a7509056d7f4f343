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
        },
        "INPUT": {
            "SIZE": 256,  # images are squeezed into squares, pixels
            "AUGMENT": [],  # as VINDR.AUGMENT
        },
        "DATA": {
            "IMAGES": "datasets/vindr/train",
            "ANNOTATIONS": "datasets/vindr/annotations/instances_all.json",
            "FOLDS": "datasets/vindr/annotations/folds.csv",
        },
        "SOLVER": {
            "EPOCHS": 10, "BATCH_SIZE": 32, "LR": 3e-4, "WEIGHT_DECAY": 0.01,
            "WARMUP_EPOCHS": 1.0,  # linear; a cosine to 0 follows
            "PRECISION": "32-true",  # Lightning's names: 16-mixed, bf16-mixed
        },
        "NUM_WORKERS": 4,
        "DEVICE": "auto",
        "SEED": 0,
        "OUTPUT_DIR": "outputs/classifier",
    })


def load_config(path: str | Path, overrides: Sequence[str] = ()) -> CfgNode:
    """Read a YAML file on top of the defaults, then ``KEY VALUE`` overrides.

    Raises:
        InputError: names the file, the key, the value and what was expected.
    """
    cfg = defaults()
    merge_yaml(cfg, path, "classifier")
    merge_overrides(cfg, overrides, "classifier")
    if cfg.SOLVER.EPOCHS < 1 or cfg.SOLVER.BATCH_SIZE < 1:
        raise InputError(f"{path}: SOLVER.EPOCHS {cfg.SOLVER.EPOCHS} and SOLVER.BATCH_SIZE "
                         f"{cfg.SOLVER.BATCH_SIZE}, expected 1 or more")
    return cfg
