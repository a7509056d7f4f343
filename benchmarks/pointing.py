#!/usr/bin/env python
"""The pointing game on phantoms with one finding each: is the Grad-CAM's maximum in the finding's box?

    python benchmarks/pointing.py --out outputs/pointing      # an hour on one core

Trains a small network on phantoms with at most one finding, from random weights and from image-level labels
alone, then counts on how many new phantoms the maximum of the finding's Grad-CAM is in its box (Zhang et al.,
2016), and compares with the best fixed point, which is in most boxes. Writes a few overlays.
"""

import os
import tempfile
from functools import partial
from pathlib import Path

import cv2
import numpy as np
import pandas as pd
from numpy.typing import NDArray
from running import ROOT, tool
from tabulate import tabulate
from tqdm import tqdm

from vindr_det import cli
from vindr_det.classification.gradcam import Explainer
from vindr_det.classification.predict import Classifier
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target
from vindr_det.parallel import process_pool
from vindr_det.phantom import render
from vindr_det.phantom.dicom_file import sample_header, write_dicom
from vindr_det.structures.label_sets import CLASS_NAMES, FINDINGS, NO_FINDING_ID, NUM_FINDINGS
from vindr_det.tables import write_csv

TRAIN, TEST, SIZE = 3600, 56, 224
#: Of 18 training images this many are normal.
NORMAL = 4


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/pointing"), help="folder of data and model")
    parser.add_argument("--epochs", type=int, default=12, help="of the training")
    args = parser.parse_args()
    make_training(args.out / "data")
    if not (args.out / "model/fold0.pth").is_file():
        tool("train_classifier.py", "--config", ROOT / "configs/classifier/demo/vindr_binary.yaml", "--fold",
             0, "--resume", "MODEL.NAME", "regnetx_002", "MODEL.POOL", "avgmax", "MODEL.OUTPUT_STRIDE", 16,
             "DATA.IMAGES", args.out / "data/images", "DATA.LABELS", args.out / "data/labels.csv",
             "DATA.TARGET", "vindr15", "INPUT.SIZE", 192, "SOLVER.EPOCHS", args.epochs, "OUTPUT_DIR",
             args.out / "model", env=os.environ)
    play(Classifier(args.out / "model"), args.out)


def make_training(out: Path) -> None:
    """Prepared images and a table of labels; an eighth is held out."""
    if (out / "labels.csv").is_file():
        return
    (out / "images").mkdir(parents=True, exist_ok=True)
    labels = [number % (NUM_FINDINGS + NORMAL) for number in range(TRAIN)]
    with process_pool(None, TRAIN) as pool:
        made = pool.map(partial(_save, out / "images"), range(TRAIN), labels, chunksize=16)
        for _ in tqdm(made, total=TRAIN, desc="phantoms", disable=None):
            pass
    shown = np.minimum(labels, NO_FINDING_ID)
    table = pd.DataFrame(np.eye(len(CLASS_NAMES), dtype=int)[shown], columns=CLASS_NAMES)
    table.insert(0, "image_id", [f"p{number:05d}" for number in range(TRAIN)])
    table.insert(1, "fold", np.random.default_rng(0).permutation(TRAIN) % 8)
    write_csv(out / "labels.csv", table)


def _save(folder: Path, number: int, label: int) -> None:
    image, _ = planted(number, label)
    cv2.imwrite(str(folder / f"p{number:05d}.png"), image)


def planted(number: int, label: int) -> tuple[NDArray[np.uint8], NDArray[np.float64]]:
    """A phantom as it comes out of its DICOM file, and the boxes (0 or 1, 4) in its pixels."""
    rng = np.random.default_rng([17, number])
    header = sample_header(rng)
    labels = (label,) if label < NUM_FINDINGS else ()
    film = render(rng, 448, 400, labels=labels, bits=header.bits)
    with tempfile.TemporaryDirectory() as folder:
        path = Path(folder) / "phantom.dicom"
        write_dicom(path, "phantom", film, header)
        image = read_image(path, Target(SIZE, keep_aspect=True)).pixels
    boxes = np.array([finding.box for finding in film.findings], dtype=float).reshape(-1, 4)
    return image, boxes * (image.shape[0] / 448)


def play(classifier: Classifier, out: Path) -> None:
    """Each finding in turn, on phantoms that were not trained on."""
    items = [(*planted(1_000_000 + number, number % NUM_FINDINGS), number % NUM_FINDINGS)
             for number in range(TEST)]
    explainer = Explainer(classifier)
    in_box = np.array([explainer.points_at(*item) for item in items])
    labels = np.array([label for *_, label in items])
    p = np.array([classifier.probabilities([image])[0, label] for image, _, label in items])
    print(tabulate([[FINDINGS[label], f"{in_box[labels == label].mean():.0%}",
                     f"{np.median(p[labels == label]):.2f}"] for label in range(NUM_FINDINGS)],
                   ["finding", "in the box", "median p"]))
    print(f"\npointing game: {in_box.mean():.0%} of {TEST} phantoms, "
          f"{in_box[:50].mean():.0%} of the first 50; "
          f"{fixed_place(items):.0%} at the best fixed place")
    for number, (image, boxes, label) in enumerate(items[:NUM_FINDINGS]):
        picture = explainer.sheet(image, [label], boxes=lambda _, boxes=boxes: boxes)
        cv2.imwrite(str(out / f"map{number:02d}.png"), picture)


def fixed_place(items: list[tuple[NDArray[np.uint8], NDArray[np.float64], int]]) -> float:
    """The largest share of boxes that one point of the image can lie in."""
    votes = np.zeros((64, 64))
    for image, boxes, _ in items:
        x0, y0, x1, y1 = (boxes[0] / np.tile(image.shape[::-1], 2) * 64).round().astype(int)
        votes[y0:y1, x0:x1] += 1
    return float(votes.max() / len(items))


if __name__ == "__main__":
    main()
