#!/usr/bin/env python
"""Does the classifier look at the finding? The pointing game on phantoms with one planted finding each.

    python benchmarks/pointing.py --out outputs/pointing

Trains P(abnormal) on phantoms from random weights, then asks on how many of 50 new phantoms the maximum of
its Grad-CAM falls into the box of the only finding (Zhang et al., 2016). Beside it stands what a map would
score that always points at the place where most boxes lie. Writes a few overlays.
"""

import argparse
import os
import subprocess
import sys
from pathlib import Path

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.categories import NUM_FINDINGS
from vindr_det.classification import explain
from vindr_det.classification.model import Classifier
from vindr_det.phantom import render

ROOT = Path(__file__).resolve().parent.parent
_COUNT = 50

Item = tuple[NDArray[np.uint8], NDArray[np.float64]]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/pointing"))
    parser.add_argument("--data", type=Path, help="phantoms made and converted before (default: makes them)")
    parser.add_argument("--size", type=int, default=160)
    parser.add_argument("--epochs", type=int, default=8)
    args = parser.parse_args()
    data = args.data or make_data(args.out)
    if not (args.out / "model/fold0.pth").is_file():
        tool("train_classifier.py", "--config", ROOT / "configs/classifier/demo/vindr_binary.yaml", "--fold",
             0, "DATA.IMAGES", data / "train", "DATA.LABELS", data / "annotations/labels.csv", "INPUT.SIZE",
             args.size, "SOLVER.EPOCHS", args.epochs, "OUTPUT_DIR", args.out / "model")
    classifier, items = Classifier(args.out / "model"), planted(_COUNT)
    hits = explain.pointing_game(classifier, items, 0)
    print(f"pointing game: {hits:.0%} of {_COUNT} phantoms; {fixed_place(items):.0%} at the best fixed place")
    for number, (image, boxes) in enumerate(items[:6]):
        picture = explain.sheet(with_boxes(image, boxes), classifier, [0])
        cv2.imwrite(str(args.out / f"map{number}.png"), picture)


def tool(name: str, *options: object) -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / name), *map(str, options)], check=True,
                   env=os.environ)


def make_data(out: Path) -> Path:
    raw, data = out / "raw", out / "data"
    if not (data / "annotations/labels.csv").is_file():
        tool("make_phantoms.py", "--out", raw, "--num-train", 1500, "--num-test", 1, "--size", 448,
             "--seed", 11)
        tool("prepare_images.py", "--images", raw / "train", "--out", data / "train", "--size", 256,
             "--keep-aspect")
        tool("convert_vindr.py", "--csv", raw / "train.csv", "--meta", raw / "train_meta.csv", "--images",
             data / "train", "--out", data / "annotations", "--folds", 8)
    return data


def planted(count: int) -> list[Item]:
    """New phantoms with one finding each, all 14 in turn."""
    items: list[Item] = []
    seed = 900_000
    while len(items) < count:
        seed += 1
        film = render(np.random.default_rng(seed), 448, 400, labels=(len(items) % NUM_FINDINGS,), bits=12)
        if len(film.findings) == 1:
            image = np.clip(film.pixels / 16, 0, 255).astype(np.uint8)
            items.append((image, np.array([film.findings[0].box], dtype=float)))
    return items


def fixed_place(items: list[Item]) -> float:
    """The largest share of boxes that one point of the image can lie in."""
    votes = np.zeros((64, 64))
    for image, boxes in items:
        x0, y0, x1, y1 = (boxes[0] / np.tile(image.shape[::-1], 2) * 64).round().astype(int)
        votes[y0:y1, x0:x1] += 1
    return float(votes.max() / len(items))


def with_boxes(image: NDArray[np.uint8], boxes: NDArray[np.float64]) -> NDArray[np.uint8]:
    drawn = image.copy()
    for x0, y0, x1, y1 in boxes.astype(int).tolist():
        cv2.rectangle(drawn, (x0, y0), (x1, y1), 255, 1)
    return drawn


if __name__ == "__main__":
    main()
