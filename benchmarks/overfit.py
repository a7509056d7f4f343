#!/usr/bin/env python
"""Overfitting check: a small detector must fit a few real images; else boxes, sizes or classes are lost.

    python benchmarks/overfit.py --images raw/train --annotations raw/train.csv --meta raw/train_meta.csv

Takes the images that the folder holds (93 in our figures, 9 of them abnormal) and trains the demo's
detector with each engine, without augmentation, on the consensus boxes of the abnormal images and on two
normal images per abnormal one. Then scores it on all the images. Exit status 1 below COCO AP50 0.6.
"""

import argparse
import sys
from pathlib import Path
from typing import Any

import pandas as pd
from ablations import CONFIG, pace_of
from running import tool
from tabulate import tabulate

from vindr_det import cli
from vindr_det.config_schema import ENGINES
from vindr_det.detection.loading import load_checkpoint
from vindr_det.imaging.inputs import list_images

#: COCO AP50 that either engine must reach.
MIN_AP50 = 0.6


def main() -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of VinBigData's training images")
    parser.add_argument("--annotations", type=Path, required=True, help="VinBigData's train.csv")
    parser.add_argument("--meta", type=Path, required=True, help="table of original sizes")
    parser.add_argument("--out", type=Path, default=Path("outputs/overfit"), help="folder of the trainings")
    parser.add_argument("--engines", nargs="+", default=["torchvision", "detectron2"],
                        choices=ENGINES, help="engines to check")
    parser.add_argument("--iterations", type=int, default=500, help="iterations per training")
    args = parser.parse_args()
    data = make_data(args)
    results = [overfit(args.out / engine, data, engine, args.iterations) for engine in args.engines]
    print(tabulate(results, headers="keys", floatfmt=".3f"))
    return int(min(row["coco/AP50"] for row in results) < MIN_AP50)


def make_data(args: argparse.Namespace) -> Path:
    """Annotations of the images in the folder as COCO JSON; returns the root of the data."""
    data = args.out.resolve() / "data"
    data.mkdir(parents=True, exist_ok=True)
    if not (data / "train").exists():
        (data / "train").symlink_to(args.images.resolve())
    table = pd.read_csv(args.annotations)
    table[table["image_id"].isin(list_images(args.images))].to_csv(data / "train.csv", index=False)
    tool("convert.py", "vinbigdata", "--annotations", data / "train.csv", "--meta", args.meta,
         "--images", args.images, "--out", data / "annotations")
    return data


def overfit(out: Path, data: Path, engine: str, iterations: int) -> dict[str, Any]:
    """Train and score on the same images; a row of the table."""
    tool("train_net.py", "--config", CONFIG, "--engine", engine, "--resume", "OUTPUT_DIR", out,
         "VINDR.DATA_ROOT", data, "DATASETS.TRAIN", "('vindr_all',)", "VINDR.VALIDATION", "('vindr_all',)",
         "VINDR.AUGMENT", "[]", "VINDR.NORMAL_RATIO", 2, "SOLVER.MAX_ITER", iterations)
    last = load_checkpoint(out / "model_final.pth")
    keys = ("coco/AP50", "coco/AP40", "coco/AP", "vindr/mAP40")
    return {"engine": engine, **{key: last.metrics[key] for key in keys}, "s/iteration": pace_of(out)}


if __name__ == "__main__":
    sys.exit(main())
