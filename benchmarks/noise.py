#!/usr/bin/env python
"""Out-of-fold AUC on images of noise, where there is nothing to learn: it must be .5.

    python benchmarks/noise.py --seeds 20
    python benchmarks/noise.py --seeds 20 -- SOLVER.SELECT inner DATA.CALIBRATION_SHARE 0.2

Labels are independent of the images and balanced within five folds. Every seed is a new data set and a new
training. Arguments after -- override the config.
"""

import logging
import tempfile
import warnings
from pathlib import Path

import cv2
import numpy as np
import pandas as pd

from vindr_det import cli
from vindr_det.classification.config import load_config
from vindr_det.classification.train import train

CONFIG = Path(__file__).resolve().parent.parent / "configs/classifier/demo/vindr_binary.yaml"


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="number of data sets")
    parser.add_argument("--images", type=int, default=300, help="images of each")
    parser.add_argument("opts", nargs="*", metavar="KEY VALUE", help="override the config")
    args = parser.parse_args()
    logging.disable(logging.WARNING)
    warnings.filterwarnings("ignore")
    pooled, single = zip(*(out_of_fold_auc(seed, args.images, args.opts) for seed in range(args.seeds)),
                         strict=True)
    for name, values in (("pooled", pooled), ("mean of the folds'", single)):
        error = np.std(values, ddof=1) / len(values) ** 0.5
        print(f"out-of-fold AUC, {name}: {np.mean(values):.4f} +- {error:.4f} (standard error), "
              f"{min(values):.3f} to {max(values):.3f}")


def out_of_fold_auc(seed: int, images: int, opts: list[str]) -> tuple[float, float]:
    """AUC of all folds pooled, and the mean of the folds'."""
    with tempfile.TemporaryDirectory() as folder:
        make_noise(Path(folder), seed, images)
        cfg = load_config(CONFIG, [
            "MODEL.NAME", "test_resnet", "DATA.IMAGES", f"{folder}/images", "DATA.LABELS",
            f"{folder}/labels.csv", "OUTPUT_DIR", f"{folder}/out", "INPUT.SIZE", "32", "SOLVER.EPOCHS", "12",
            "SEED", str(seed), *opts])
        metrics = train(cfg)
    return metrics["auc"], float(np.mean([metrics[f"auc/fold{fold}"] for fold in range(5)]))


def make_noise(out: Path, seed: int, count: int) -> None:
    """``images/`` and ``labels.csv``: half of each fold's images abnormal."""
    rng = np.random.default_rng(seed)
    (out / "images").mkdir()
    for number in range(count):
        cv2.imwrite(str(out / f"images/{number:04d}.png"), rng.integers(0, 256, (32, 32), np.uint8))
    place = np.arange(count)
    pd.DataFrame({"image_id": [f"{number:04d}" for number in place], "fold": place // 2 % 5,
                  "abnormal": place % 2}).to_csv(out / "labels.csv", index=False)


if __name__ == "__main__":
    main()
