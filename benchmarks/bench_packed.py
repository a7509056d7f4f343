#!/usr/bin/env python
"""The classifier's training images: one packed file against single PNGs, both of 256 px.

    python benchmarks/bench_packed.py [--quick]

Both give the same tensors in the same random order, one process. Everything is in the page cache, so this is
decoding and copying, not the disk, which single files would feel more.
"""

import tempfile
from collections.abc import Callable, Iterable, Sequence
from pathlib import Path
from typing import Any

import cv2
import numpy as np
from comparison import Row, alternate, processor_seconds, seconds

from vindr_det import cli
from vindr_det.classification.data import LabeledDataset, Pixels
from vindr_det.classification.label_table import LabelTable
from vindr_det.imaging.packed import pack
from vindr_det.imaging.prepare import prepare_folder
from vindr_det.imaging.resize import Target
from vindr_det.phantom import make_dataset

_SIZE = 256


def rows(quick: bool, measure: Callable[[Callable[[], Any]], float] = seconds) -> Iterable[Row]:
    """Images per second of a loader without workers."""
    cv2.setNumThreads(1)
    count = 20 if quick else 200
    with tempfile.TemporaryDirectory() as folder:
        work = Path(folder)
        make_dataset(work / "raw", count, 1, 448, seed=5)
        prepare_folder(work / "raw/train", work / "png", Target(_SIZE, False), 2)
        ids = sorted(path.stem for path in (work / "png").glob("*.png"))
        pack(work / "png", ids, work / "packed.npy")
        ours, theirs = dataset(ids, "", work / "packed.npy"), dataset(ids, work / "png", "")
        assert all((ours[row][0] == theirs[row][0]).all() for row in range(count))
        order = np.random.default_rng(0).permutation(count).tolist()
        yield alternate(f"classifier's tensors, {_SIZE} px",
                        ("packed file", lambda: [ours[row] for row in order]),
                        ("PNGs", lambda: [theirs[row] for row in order]), per=count, measure=measure,
                        note="same tensors")


def dataset(ids: list[str], images: str | Path, packed: str | Path) -> LabeledDataset:
    count = len(ids)
    table = LabelTable(np.array(ids), ("abnormal",), np.zeros((count, 1), np.float32),
                       np.ones(count, bool), np.array(ids), np.zeros(count, np.int64))
    return LabeledDataset(table, Pixels(images, packed, _SIZE))


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: checks the harness alone")
    parser.add_argument("--processor", action="store_true", help="measure processor time")
    args = parser.parse_args(argv)
    from bench import table

    print(table(list(rows(args.quick, processor_seconds if args.processor else seconds))))


if __name__ == "__main__":
    cli.run(main)
