#!/usr/bin/env python
"""The whole path on phantoms: images in, a checked and scored submission out.

    python tools/demo.py --out outputs/demo          # what `make demo` runs
    python tools/demo.py --out outputs/demo --engine torchvision

Each step is a tool of this folder, printed before it runs, so that any of them can be repeated by
hand. Nothing is downloaded. The score is of phantoms alone.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli

HERE = Path(__file__).resolve().parent
CONFIGS = HERE.parent / "configs"


def steps(out: Path, engine: str, seed: int) -> list[list[str]]:
    """The commands, one list of arguments each, without the interpreter."""
    raw, data = out / "raw", out / "data"
    detector, classifier = out / "detector", out / "classifier"
    submission = out / "submission.csv"
    truth = raw / "test_annotations.csv"
    prepare = ["--size", "256", "--keep-aspect"]
    return [[str(part) for part in step] for step in [
        ["make_phantoms.py", "--out", raw, "--num-train", 600, "--num-test", 120, "--size", 448,
         "--seed", seed],
        ["prepare_images.py", "--images", raw / "train", "--out", data / "train", *prepare],
        ["prepare_images.py", "--images", raw / "test", "--out", data / "test", *prepare],
        ["convert_vindr.py", "--annotations", raw / "train.csv", "--meta", raw / "train_meta.csv",
         "--out", data / "annotations", "--images", data / "train", "--folds", 6, "--seed", seed],
        ["train_classifier.py", "--config", CONFIGS / "classifier/demo/vindr_binary.yaml",
         "--fold", 0, "OUTPUT_DIR", classifier, "DATA.IMAGES", data / "train",
         "DATA.LABELS", data / "annotations/labels.csv"],
        ["train_net.py", "--config", CONFIGS / "demo/vindr_frcnn_demo.yaml", "--engine", engine,
         "OUTPUT_DIR", detector, "VINDR.DATA_ROOT", data],
        ["predict.py", "--weights", detector / "model_best.pth", "--classifier", classifier,
         "--images", raw / "test", "--out", submission],
        ["check_submission.py", submission, "--sample", raw / "sample_submission.csv",
         "--meta", raw / "test_meta.csv"],
        ["visualize.py", "--images", raw / "test", "--annotations", truth,
         "--predictions", submission, "--out", out / "pictures"],
        ["evaluate.py", "--predictions", submission, "--annotations", truth, "--chance",
         "--out", out],
    ]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", default="outputs/demo", help="folder to create")
    parser.add_argument("--engine", default="auto", choices=["auto", "detectron2", "torchvision"],
                        help="of the detector's training")
    cli.add_seed(parser, 7)
    args = parser.parse_args(argv)
    begin = time.perf_counter()
    for step in steps(Path(args.out), args.engine, args.seed):
        since = time.perf_counter()
        print(f"\n$ python tools/{shlex.join(step)}", flush=True)
        status = subprocess.run([sys.executable, str(HERE / step[0]), *step[1:]]).returncode
        if status:
            return status
        print(f"  ({time.perf_counter() - since:.0f} s)", flush=True)
    minutes = (time.perf_counter() - begin) / 60
    print(f"\n{args.out}/submission.csv is checked and scored; see {args.out}/pictures and "
          f"{args.out}/metrics.json. {minutes:.1f} minutes.")
    return 0


if __name__ == "__main__":
    cli.run(main)
