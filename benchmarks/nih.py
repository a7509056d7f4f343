#!/usr/bin/env python
"""The classifier on NIH images, as many as there are, from random weights: out of fold, folds by patient.

    python benchmarks/nih.py --images raw/images --labels raw/Data_Entry_2017_v2020.csv --out outputs/nih

Trains No Finding against the rest, and the 14 labels with each of the three losses, five folds each, two
trainings at a time with one thread each. A few images from random weights teach little; the figures are what
the pipeline gives, with intervals. Finished trainings are kept.

    python benchmarks/nih.py --recipe 001 --size 64 --epochs 8 --out outputs/nih_001 ...
    python benchmarks/nih.py --recipe 004 --size 64 --epochs 12 --out outputs/nih_004 ...

takes the way of an earlier public system instead, with a sixth of the patients as its test list: 001 is
configs/classifier/nih_binary_effnet_b2_256.yaml, five models and their mean; 004 nih_small_densenet121.yaml,
with tables in its layout. Size, epochs and rates are those of a small run.
"""

import argparse
import json
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pandas as pd
from running import ONE_THREAD, ROOT, tool
from tabulate import tabulate

from vindr_det import cli
from vindr_det.classification.config import LOSSES
from vindr_det.imaging.inputs import list_images
from vindr_det.structures.label_sets import NIH_LABELS, column_of

CONFIGS = ROOT / "configs/classifier"
#: Of a training of a few hundred steps from random weights.
SHORT = ["MODEL.PRETRAINED", "False", "SOLVER.PRECISION", "32-true", "NUM_WORKERS", 0, "DEVICE", "cpu",
         "SOLVER.LR", 0.001, "DATA.IMAGES", ""]
#: --recipe -> its config, and what else it needs to be small.
RECIPES = {
    "001": ("nih_binary_effnet_b2_256.yaml", ["SOLVER.BATCH_SIZE", 16, "SOLVER.LR_START", 0.0001,
                                              "SOLVER.WARMUP_EPOCHS", 2, "SOLVER.HOLD_EPOCHS", 3]),
    "004": ("nih_small_densenet121.yaml", []),
}


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of NIH images")
    parser.add_argument("--labels", type=Path, required=True, help="Data_Entry_2017_v2020.csv")
    parser.add_argument("--out", type=Path, default=Path("outputs/nih"), help="folder of the trainings")
    parser.add_argument("--size", type=int, default=112, help="side of the network's input, pixels")
    parser.add_argument("--epochs", type=int, default=12, help="of each training")
    parser.add_argument("--recipe", choices=list(RECIPES), help="the way of an earlier system instead")
    args = parser.parse_args()
    make_tables(args)
    if args.recipe:
        report_recipe(args, train_recipe(args))
        return
    jobs = {"binary": ["demo/nih_binary.yaml"],
            **{loss: ["demo/nih_multilabel.yaml", "SOLVER.LOSS", loss] for loss in LOSSES}}
    with ThreadPoolExecutor(2) as pool:
        minutes = dict(zip(jobs, pool.map(lambda name: train(args, name, *jobs[name]), jobs), strict=True))
    report(args.out, minutes)


def make_tables(args: argparse.Namespace) -> None:
    """The label table of the images that are there, its folds, and the images packed."""
    if (args.out / "images/packed.npy").is_file():
        return
    args.out.mkdir(parents=True, exist_ok=True)
    table = pd.read_csv(args.labels)
    here = set(list_images(args.images))
    table[table["Image Index"].map(lambda name: Path(name).stem in here)].to_csv(
        args.out / "here.csv", index=False)
    tool("convert.py", "nih", "--labels", args.out / "here.csv", "--out", args.out / "tables", "--folds",
         6 if args.recipe else 5)
    tool("prepare_images.py", "--images", args.images, "--out", args.out / "images", "--size", args.size,
         "--pack")


def train(args: argparse.Namespace, name: str, config: str, *more: Any) -> float:
    """Minutes of a training; 0 where it is finished already."""
    folder, since = args.out / name, time.perf_counter()
    if not (folder / "metrics.json").is_file():
        print(f"training {name}", flush=True)
        folder.mkdir(exist_ok=True)
        with (folder / "train.log").open("w") as log:
            tool("train_classifier.py", "--config", CONFIGS / config, "--resume", "OUTPUT_DIR", folder,
                 "DATA.LABELS", args.out / "tables/labels.csv", "DATA.PACKED",
                 args.out / "images/packed.npy", "INPUT.SIZE", args.size, "SOLVER.EPOCHS", args.epochs, *more,
                 env=ONE_THREAD, stdout=log, stderr=log)
    return (time.perf_counter() - since) / 60


def train_recipe(args: argparse.Namespace) -> float:
    """Minutes of a recipe's training: the last fold is its test list, the one before 004's validation."""
    table = pd.read_csv(args.out / "tables/labels.csv")
    course = table.rename(columns={"image": "Image", "patient": "PatientId"})
    course = course[["Image", *NIH_LABELS, "PatientId"]]
    source, last = (course, 3) if args.recipe == "004" else (table, 4)
    parts = {"learn": table["fold"] <= last, "valid": table["fold"] == 4, "test": table["fold"] == 5}
    for name, rows in parts.items():
        source[rows].to_csv(args.out / f"tables/{name}.csv", index=False)
    config, more = RECIPES[args.recipe]
    validation = args.out / "tables/valid.csv" if args.recipe == "004" else ""
    return train(args, "recipe", config, *SHORT, *more, "DATA.LABELS", args.out / "tables/learn.csv",
                 "DATA.VALIDATION", validation, "DATA.TEST", args.out / "tables/test.csv")


def report_recipe(args: argparse.Namespace, minutes: float) -> None:
    """The mean of the models on the test list, and each label's AUC."""
    metrics = json.loads((args.out / "recipe/metrics.json").read_text())
    test = metrics["test"]
    print(f"\n{args.recipe}: {minutes:.1f} min; {metrics['epoch']} epoch")
    print("AUC of single models out of fold: "
          + ", ".join(f"{metrics[key]:.3f}" for key in metrics if key.startswith("auc/fold")))
    names = [key.removeprefix("auc/") for key in test if key.startswith("auc/p_") and key.count("/") == 1]
    print(tabulate([[name, *(interval(test, f"{kind}/{name}") for kind in ("auc", "ap"))] for name in names],
                   ["test", "AUC", "AP"], disable_numparse=True))
    areas = pd.Series([test[f"auc/{name}"] for name in names]).dropna()
    print(f"AUC over {len(areas)} labels: mean {areas.mean():.3f}, min {areas.min():.3f}, "
          f"max {areas.max():.3f}, median {areas.median():.3f}")
    for point, rates in test["operating_points"].items():
        if args.recipe == "001":
            print(f"{point} (threshold {rates['threshold']:.3f}): " + ", ".join(
                f"{rate} {interval(rates, rate)}" for rate in ("accuracy", "sensitivity", "specificity")))


def report(out: Path, minutes: dict[str, float]) -> None:
    metrics = {name: json.loads((out / name / "metrics.json").read_text()) for name in minutes}
    table = pd.read_csv(out / "tables/labels.csv")
    spent = ", ".join(f"{name} {value:.1f} min" for name, value in minutes.items())
    print(f"\n{len(table)} images of {table['patient'].nunique()} patients, {spent}\n")
    print(f"abnormal: out-of-fold AUC {value(metrics['binary'], 'abnormal')}, "
          f"AP {value(metrics['binary'], 'abnormal', 'ap')}\n")
    rows = [[name, int(table[name].sum()), *(value(metrics[loss], name) for loss in LOSSES)]
            for name in NIH_LABELS]
    rows.append(["mean of the measurable", "", *(f"{metrics[loss]['auc']:.3f}" for loss in LOSSES)])
    print(tabulate(rows, ["label", "images", *LOSSES], disable_numparse=True))


def value(metrics: dict[str, Any], name: str, kind: str = "auc") -> str:
    return interval(metrics, f"{kind}/{column_of(name)}")


def interval(metrics: dict[str, Any], key: str) -> str:
    """A figure with its 95 % interval."""
    if metrics.get(key) is None:
        return "not measurable"
    low, high = metrics[f"{key}/ci95"]
    return f"{metrics[key]:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
