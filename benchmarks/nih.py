#!/usr/bin/env python
"""The classifier on NIH images, as many as there are, from random weights: out of fold, folds by patient.

    python benchmarks/nih.py --images raw/images --labels raw/Data_Entry_2017_v2020.csv --out outputs/nih

Trains No Finding against the rest, and the 14 labels with each of the three losses, five folds each, two
trainings at a time with one thread each. A few images from random weights teach little; the figures are what
the pipeline gives, with intervals. Finished trainings are kept.
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

from vindr_det.classification.config import LOSSES
from vindr_det.imaging.inputs import list_images
from vindr_det.structures.label_sets import NIH_LABELS, column_of

CONFIGS = ROOT / "configs/classifier/demo"


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--images", type=Path, required=True, help="folder of NIH images")
    parser.add_argument("--labels", type=Path, required=True, help="Data_Entry_2017_v2020.csv")
    parser.add_argument("--out", type=Path, default=Path("outputs/nih"), help="folder of the trainings")
    parser.add_argument("--size", type=int, default=112, help="side of the network's input, pixels")
    parser.add_argument("--epochs", type=int, default=12, help="of each training")
    args = parser.parse_args()
    make_tables(args)
    jobs = {"binary": ["nih_binary.yaml"],
            **{loss: ["nih_multilabel.yaml", "SOLVER.LOSS", loss] for loss in LOSSES}}
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
    tool("convert_nih.py", "--labels", args.out / "here.csv", "--out", args.out / "tables", "--folds", 5)
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
    key = f"{kind}/{column_of(name)}"
    if metrics.get(key) is None:
        return "not measurable"
    low, high = metrics[f"{key}/ci95"]
    return f"{metrics[key]:.3f} [{low:.3f}, {high:.3f}]"


if __name__ == "__main__":
    main()
