#!/usr/bin/env python
"""Loading training images: one packed file against single PNGs, both at 256 px, in the same run.

    python benchmarks/bench_packed.py

Both give the classifier's tensors in the same random order, one process, taking turns; a figure is the
median over the rounds. Everything is in the page cache, so this is decoding and copying, not the disk,
which single files would feel more.
"""

import statistics
import tempfile
import time
from pathlib import Path

import cv2
import numpy as np

from vindr_det import cli
from vindr_det.classification.data import LabeledDataset, Pixels
from vindr_det.classification.label_table import LabelTable
from vindr_det.imaging.packed import pack
from vindr_det.imaging.prepare import prepare_folder
from vindr_det.imaging.resize import Target
from vindr_det.phantom import make_dataset

_IMAGES, _SIZE, _REPEATS = 200, 256, 7


def main() -> None:
    cli.parser(__doc__).parse_args()
    cv2.setNumThreads(1)
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_dataset(work / "raw", _IMAGES, 1, 448, seed=5)
        prepare_folder(work / "raw/train", work / "png", Target(_SIZE, False), 2)
        ids = sorted(path.stem for path in (work / "png").glob("*.png"))
        pack(work / "png", ids, work / "packed.npy")
        ways = {"PNGs": dataset(ids, work / "png", ""), "packed": dataset(ids, "", work / "packed.npy")}
        same(*ways.values())
        paces = {name: [] for name in ways}
        for turn in range(_REPEATS):
            for name, way in ways.items():
                paces[name].append(pace(way, turn))
        median = {name: statistics.median(values) for name, values in paces.items()}
        for name, value in median.items():
            print(f"{name:8} {value:8.0f} images per second")
        print(f"packed / PNGs: {median['packed'] / median['PNGs']:.1f} times")


def dataset(ids: list[str], images: str | Path, packed: str | Path) -> LabeledDataset:
    count = len(ids)
    table = LabelTable(np.array(ids), ("abnormal",), np.zeros((count, 1), np.float32),
                       np.ones(count, bool), np.array(ids), np.zeros(count, np.int64))
    return LabeledDataset(table, Pixels(images, packed, _SIZE))


def same(first: LabeledDataset, second: LabeledDataset) -> None:
    for row in range(0, len(first), 17):
        assert (first[row][0] == second[row][0]).all()


def pace(images: LabeledDataset, seed: int) -> float:
    order = np.random.default_rng(seed).permutation(len(images)).tolist()
    since = time.perf_counter()
    for row in order:
        images[row]
    return len(order) / (time.perf_counter() - since)


if __name__ == "__main__":
    main()
