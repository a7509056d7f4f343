#!/usr/bin/env python
"""Makes the bundle of phantoms that ships with the package, from a seed, and measures it on other phantoms.

    python benchmarks/phantom_bundle.py --out outputs/phantom_bundle
    python benchmarks/phantom_bundle.py --bundle vindr_det/bundles/phantom

Detector and classifier learn from five of six folds of the training phantoms, the gate is fitted on the
sixth, and the test phantoms, on which nothing is chosen, are scored with the bundle itself, in half
precision. Each step is a command, printed before it runs. Some ten minutes on a core that has nothing else to
do.
"""

import shlex
import subprocess
import sys
from argparse import Namespace
from collections.abc import Sequence
from pathlib import Path
from typing import Any

from vindr_det import cli

#: Bytes that a bundle in the package may have.
MAX_BYTES = 8_000_000
CONFIGS = ("configs/demo/vindr_frcnn_bundle.yaml", "configs/classifier/demo/vindr_binary_bundle.yaml")
NOTICE = "this bundle has seen synthetic images (phantoms) alone: its output says nothing about a patient"
DATA = ("Synthetic X-rays, drawn by `vindr-det phantoms --num-train {num_train} --num-test {num_test} --size "
        "448 "
        "--seed {seed}`; no image of a patient. The figures are of the {num_test} test phantoms, on which "
        "nothing "
        "was chosen, and do not hold for patients. Made by `python benchmarks/phantom_bundle.py` with "
        "{configs} "
        "and {iterations} iterations of the detector.")
Steps = list[list[Any]]


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/phantom_bundle"), help="folder of all "
                                                                                         "outputs")
    parser.add_argument("--bundle", type=Path, help="bundle to write; below --out if not given")
    parser.add_argument("--num-train", type=int, default=1800, help="training phantoms")
    parser.add_argument("--num-test", type=int, default=150, help="test phantoms")
    parser.add_argument("--iterations", type=int, default=700, help="of the detector")
    cli.add_seed(parser, 17)
    args = parser.parse_args()
    bundle = args.bundle or args.out / "phantom"
    for step in data_steps(args) + training_steps(args) + gate_steps(args.out) + bundle_steps(args, bundle):
        run(step)
    size = sum(path.stat().st_size for path in bundle.iterdir())
    print(f"{bundle}: {size:,} bytes")
    return int(size > MAX_BYTES)


def run(step: Sequence[Any]) -> None:
    """Run a command; ends this process with its status where it fails."""
    words = [str(word) for word in step]
    print(f"\n$ vindr-det {shlex.join(words)}", flush=True)
    if status := subprocess.run([sys.executable, "-m", "vindr_det", *words]).returncode:
        sys.exit(status)


def data_steps(args: Namespace) -> Steps:
    """Phantoms, prepared, with folds."""
    raw, data = args.out / "raw", args.out / "data"
    return [
        ["phantoms", "--out", raw, "--num-train", args.num_train, "--num-test", args.num_test, "--size", 448,
         "--seed", args.seed],
        ["prepare", "--images", raw / "train", "--out", data / "train", "--size", 256, "--keep-aspect"],
        ["convert", "vinbigdata", "--annotations", raw / "train.csv", "--meta", raw / "train_meta.csv",
         "--out", data / "annotations", "--images", data / "train", "--folds", 6, "--seed", args.seed],
    ]


def training_steps(args: Namespace) -> Steps:
    """Fold 0 of both is held out."""
    data, (detector, classifier) = args.out / "data", CONFIGS
    return [
        ["train-classifier", "--config", classifier, "--fold", 0, "OUTPUT_DIR", args.out / "classifier",
         "DATA.IMAGES", data / "train", "DATA.LABELS", data / "annotations/labels.csv"],
        ["train", "--config", detector, "--engine", "torchvision", "OUTPUT_DIR", args.out / "detector",
         "VINDR.DATA_ROOT", data, "SOLVER.MAX_ITER", args.iterations],
    ]


def gate_steps(out: Path) -> Steps:
    """The gate, fitted on the held-out fold of both."""
    return [
        ["predict", "--weights", out / "detector/model_final.pth", "--dataset", "vindr_val_fold0",
         "--device", "cpu", "--out", out / "val.csv", "VINDR.DATA_ROOT", out / "data"],
        ["gate", "fit", "--probabilities", out / "classifier/oof_predictions.csv", "--predictions",
         out / "val.csv", "--annotations", out / "data/annotations/instances_val_fold0.json",
         "--out", out / "gate.json"],
    ]


def bundle_steps(args: Namespace, bundle: Path) -> Steps:
    """The bundle, scored on the test phantoms, and written again with the score in its card."""
    out = args.out
    data = DATA.format(configs=" and ".join(f"`{path}`" for path in CONFIGS), **vars(args))
    write = ["bundle", "--weights", out / "detector/model_final.pth", "--classifier", out / "classifier",
             "--gate", out / "gate.json", "--half", "--title", "Detector of phantoms", "--notice", NOTICE,
             "--license", "apache-2.0", "--data", data]
    return [
        [*write, "--out", out / "unmeasured"],
        ["predict", "--bundle", out / "unmeasured", "--images", out / "raw/test", "--device", "cpu",
         "--out", out / "test.csv"],
        ["evaluate", "--predictions", out / "test.csv", "--annotations", out / "raw/test_annotations.csv",
         "--bootstrap", 200, "--out", out],
        [*write, "--metrics", out / "metrics.json", "--out", bundle],
    ]


if __name__ == "__main__":
    sys.exit(main())
