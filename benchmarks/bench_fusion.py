#!/usr/bin/env python
"""The cost of checked input and the gain of several processes: fusion against a plain ensemble-boxes loop.

    python benchmarks/bench_fusion.py
    python benchmarks/bench_fusion.py --predictions A.csv B.csv C.csv D.csv --meta test_meta.csv

Without files it makes four submissions of 3,000 images, with about as many boxes as real ones have. Both get
the same boxes in memory, one process each, in turns; a figure is the median over the repeats.
"""

import statistics
import time
import warnings
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
from ensemble_boxes import weighted_boxes_fusion

from vindr_det import cli
from vindr_det.imaging.sizes import read_sizes, shapes_of
from vindr_det.postprocessing.fusion import Fusion, fuse_all
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.submission import read_submission

REPEATS = 5
Sizes = Mapping[str, tuple[int, int]]


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--predictions", nargs="+", type=Path, help="submissions, one per model")
    parser.add_argument("--meta", type=Path, help="image_id,dim0,dim1 of the originals")
    args = parser.parse_args()
    files, sizes = read(args.predictions, args.meta) if args.predictions else make(np.random.default_rng(0))
    boxes = sum(len(detections) for file in files for detections in file.values())
    variants = {"ensemble-boxes": lambda: plain(files, sizes),
                "this project": lambda: fuse_all(files, sizes, workers=1),
                "this project, a process per core": lambda: fuse_all(files, sizes)}
    spent: dict[str, list[float]] = {name: [] for name in variants}
    for _ in range(REPEATS):
        for name, work in variants.items():
            begin = time.perf_counter()
            work()
            spent[name].append(time.perf_counter() - begin)
    median = {name: statistics.median(seconds) for name, seconds in spent.items()}
    print(f"{len(files)} files, {len(sizes)} images, {boxes} boxes; {differences(files, sizes)}")
    for name, value in median.items():
        print(f"{name:34} {value:6.2f} s   {median['ensemble-boxes'] / value:4.1f} times")


def read(paths: Sequence[Path], meta: Path) -> tuple[list[PredictionSet], Sizes]:
    table = read_sizes(meta)
    files = [read_submission(path, table) for path in paths]
    return ([{image_id: detections.findings() for image_id, detections in file.items()} for file in files],
            shapes_of(table))


def make(rng: np.random.Generator) -> tuple[list[PredictionSet], Sizes]:
    """Four models; each detects three in four boxes, moved a little."""
    sizes = {f"i{number:04d}": (2800, 2400) for number in range(3000)}
    files: list[dict[str, Predictions]] = [{} for _ in range(4)]
    for image_id in sizes:
        count = int(rng.poisson(7))
        low = rng.uniform(100, 1500, (count, 2))
        boxes = np.concatenate([low, low + rng.uniform(60, 700, (count, 2))], axis=1)
        labels = rng.integers(0, 14, count)
        for file in files:
            kept = rng.random(count) < 0.75
            moved = boxes[kept] + rng.normal(0, 20, (kept.sum(), 4))
            moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 30)
            file[image_id] = Predictions(moved, rng.random(kept.sum()), labels[kept])
    return files, sizes


def plain(files: Sequence[PredictionSet], sizes: Sizes) -> dict[str, tuple]:
    """The loop as notebooks write it."""
    result, options = {}, Fusion()
    with warnings.catch_warnings():
        warnings.simplefilter("ignore")
        for image_id, (height, width) in sizes.items():
            lists = [file[image_id] for file in files]
            unit = [np.clip(detections.boxes / [width, height, width, height], 0, 1).tolist()
                    for detections in lists]
            boxes, scores, labels = weighted_boxes_fusion(
                unit, [detections.scores.tolist() for detections in lists],
                [detections.labels.tolist() for detections in lists],
                iou_thr=options.iou_thr, skip_box_thr=options.skip_box_thr)
            result[image_id] = boxes * [width, height, width, height], scores, labels
    return result


def differences(files: Sequence[PredictionSet], sizes: Sizes) -> str:
    """The largest over all images, scores and unit coordinates."""
    mine, theirs = fuse_all(files, sizes, workers=1), plain(files, sizes)
    worst = 0.0
    for image_id, (height, width) in sizes.items():
        boxes, scores, labels = theirs[image_id]
        fused = mine[image_id]
        assert len(fused) == len(scores), image_id
        a, b = (np.lexsort((*c.T, names, np.round(s, 9))) for c, names, s in (
            (fused.boxes.round(3), fused.labels, fused.scores), (boxes.round(3), labels, scores)))
        moved = np.abs(fused.boxes[a] - boxes[b]) / [width, height, width, height]
        worst = max(worst, float(np.abs(fused.scores[a] - scores[b]).max(initial=0)),
                    float(moved.max(initial=0)))
    return f"largest difference {worst:.1e}"


if __name__ == "__main__":
    main()
