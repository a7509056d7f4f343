"""The whole path on phantoms: images in, a checked and scored submission out.

    vindr-det demo --out outputs/demo          # what `make demo` runs
    vindr-det demo --out outputs/demo --engine torchvision
    vindr-det demo --out outputs/quick --quick

Each step is a command, printed before it runs, so that any of them can be repeated by hand. Nothing is
downloaded. The score is of phantoms alone; with --quick, which trains for seconds, it is of nothing.
"""

import shlex
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

from vindr_det import cli
from vindr_det.shipped import CONFIGS

#: --quick: keys that end the trainings after seconds.
QUICK_DETECTOR = ("SOLVER.MAX_ITER", 20, "SOLVER.STEPS", "(15,)", "SOLVER.WARMUP_ITERS", 5,
                  "TEST.EVAL_PERIOD", 20, "SOLVER.CHECKPOINT_PERIOD", 20)
QUICK_CLASSIFIER = ("SOLVER.EPOCHS", 1)


def steps(out: Path, engine: str, seed: int, quick: bool = False) -> list[list[str]]:
    """The commands, one list of words each, without the program.

    Args:
        out: folder of all outputs.
        engine: of the detector's training.
        seed: of phantoms and folds.
        quick: few phantoms and iterations.
    """
    raw, data = out / "raw", out / "data"
    detector, classifier = out / "detector", out / "classifier"
    submission = out / "submission.csv"
    truth = raw / "test_annotations.csv"
    train, test, folds = (48, 12, 3) if quick else (600, 120, 6)
    prepare = ["--size", "256", "--keep-aspect"]
    return [[str(part) for part in step] for step in [
        ["phantoms", "--out", raw, "--num-train", train, "--num-test", test, "--size", 448, "--seed", seed],
        ["prepare", "--images", raw / "train", "--out", data / "train", *prepare],
        ["prepare", "--images", raw / "test", "--out", data / "test", *prepare],
        ["convert", "vinbigdata", "--annotations", raw / "train.csv", "--meta", raw / "train_meta.csv",
         "--out", data / "annotations", "--images", data / "train", "--folds", folds, "--seed", seed],
        ["train-classifier", "--config", CONFIGS / "classifier/demo/vindr_binary.yaml",
         "--fold", 0, "OUTPUT_DIR", classifier, "DATA.IMAGES", data / "train",
         "DATA.LABELS", data / "annotations/labels.csv", *(QUICK_CLASSIFIER if quick else ())],
        ["train", "--config", CONFIGS / "demo/vindr_frcnn_demo.yaml", "--engine", engine,
         "OUTPUT_DIR", detector, "VINDR.DATA_ROOT", data, *(QUICK_DETECTOR if quick else ())],
        ["predict", "--weights", detector / "model_best.pth", "--classifier", classifier,
         "--images", raw / "test", "--out", submission, *(["--allow-inverted"] if quick else [])],
        ["check-submission", submission, "--sample", raw / "sample_submission.csv",
         "--meta", raw / "test_meta.csv"],
        ["visualize", "--images", raw / "test", "--annotations", truth,
         "--predictions", submission, "--out", out / "pictures"],
        ["evaluate", "--predictions", submission, "--annotations", truth, "--chance",
         "--out", out],
        ["report", "--run", out, "--out", out / "report.html"],
    ]]


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", default="outputs/demo", help="folder to create")
    parser.add_argument("--engine", default="auto", choices=["auto", "detectron2", "torchvision"],
                        help="of the detector's training")
    parser.add_argument("--quick", action="store_true",
                        help="few phantoms, trainings of seconds: does all run?")
    cli.add_seed(parser, 7)
    args = parser.parse_args(argv)
    begin = time.perf_counter()
    for step in steps(Path(args.out), args.engine, args.seed, args.quick):
        since = time.perf_counter()
        print(f"\n$ vindr-det {shlex.join(step)}", flush=True)
        status = subprocess.run([sys.executable, "-m", "vindr_det", *step]).returncode
        if status:
            return status
        print(f"  ({time.perf_counter() - since:.0f} s)", flush=True)
    minutes = (time.perf_counter() - begin) / 60
    print(f"\n{args.out}/submission.csv is checked and scored; see {args.out}/report.html, "
          f"{args.out}/pictures and {args.out}/metrics.json. {minutes:.1f} minutes.")
    cli.say_next("predict", "--weights", Path(args.out) / "detector/model_best.pth", "--images", "IMAGES",
                 "--out", "submission.csv")
    return 0
