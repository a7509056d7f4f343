#!/usr/bin/env python
"""Overfitting check: a small detector must fit a handful of real images, else boxes, sizes or classes
get lost on the way.

    python benchmarks/overfit.py --images raw/train --csv raw/train.csv --meta raw/train_meta.csv

Takes the images that the folder holds (93 in our figures, 9 of them abnormal) and trains the demo's
detector on the consensus boxes of the abnormal ones and on two normal ones each, with each engine and
without augmentation. Then scores it on all the images. Exit status 1 below COCO AP50 0.6.
"""

import argparse
import sys
from pathlib import Path

import pandas as pd
from ablations import CONFIG, pace_of
from running import tool
from tabulate import tabulate

from vindr_det.detection.loading import load_checkpoint
from vindr_det.imaging.inputs import list_images

WANTED = 0.6


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    for name in ("images", "csv", "meta"):
        parser.add_argument(f"--{name}", type=Path, required=True)
    parser.add_argument("--out", type=Path, default=Path("outputs/overfit"))
    parser.add_argument("--engines", nargs="+", default=["torchvision", "detectron2"])
    parser.add_argument("--iterations", type=int, default=500)
    args = parser.parse_args()
    data = make_data(args)
    results = [learn(args.out / engine, data, engine, args.iterations) for engine in args.engines]
    print(tabulate(results, headers="keys", floatfmt=".3f"))
    return int(min(row["coco/AP50"] for row in results) < WANTED)


def make_data(args: argparse.Namespace) -> Path:
    """The table of those images that the folder holds, as COCO files."""
    data = args.out.resolve() / "data"
    data.mkdir(parents=True, exist_ok=True)
    if not (data / "train").exists():
        (data / "train").symlink_to(args.images.resolve())
    table = pd.read_csv(args.csv)
    table[table["image_id"].isin(list_images(args.images))].to_csv(data / "train.csv", index=False)
    tool("convert_vindr.py", "--annotations", data / "train.csv", "--meta", args.meta, "--images", args.images,
         "--out", data / "annotations")
    return data


def learn(out: Path, data: Path, engine: str, iterations: int) -> dict[str, object]:
    """Train and score on the same images."""
    tool("train_net.py", "--config", CONFIG, "--engine", engine, "--resume", "OUTPUT_DIR", out,
         "VINDR.DATA_ROOT", data, "DATASETS.TRAIN", "('vindr_all',)", "VINDR.VALIDATION", "('vindr_all',)",
         "VINDR.AUGMENT", "[]", "VINDR.NORMAL_RATIO", 2, "SOLVER.MAX_ITER", iterations)
    last = load_checkpoint(out / "model_final.pth")
    keys = ("coco/AP50", "coco/AP40", "coco/AP", "vindr/mAP40")
    return {"engine": engine, **{key: last.metrics[key] for key in keys}, "s/iteration": pace_of(out)}


if __name__ == "__main__":
    sys.exit(main())
