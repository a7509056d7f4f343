#!/usr/bin/env python
"""The cost of checked input: fusion against a plain loop over ensemble-boxes, one process each.

    python benchmarks/bench_fusion.py
    python benchmarks/bench_fusion.py --quick
    python benchmarks/bench_fusion.py --processor     processor time, where the machine does other work too

WBF of four made submissions of 3,000 images, with about as many boxes as real ones have, and of four real
ones where VINDR_TEST_DATA has them; both get the same boxes in memory. And how the time grows with the
images.
"""

import os
import warnings
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Row, alternate, processor_seconds, seconds
from ensemble_boxes import weighted_boxes_fusion
from growth import growth_row

from vindr_det import cli
from vindr_det.imaging.sizes import read_sizes, shapes_of
from vindr_det.postprocessing.fusion import Fusion, fuse_all
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.submission import read_submission

IMAGES = 3000
#: Of VINDR_TEST_DATA/vinbig/submissions.
REAL = ("brekkanegg.csv", "dxv2k_submission.csv.gz", "windeaves_sub200.csv", "windeaves_sub250.csv")
#: The library sums in single precision: largest difference of scores and of unit coordinates.
_TOLERANCE = 1e-7
Sizes = Mapping[str, tuple[int, int]]
Clock = Callable[[Callable[[], Any]], float]
def rows(quick: bool, clock: Clock = seconds) -> Iterator[Row]:
    """Made submissions, real ones, growth."""
    images = 60 if quick else IMAGES
    yield _row("made", *make(np.random.default_rng(0), images), clock)
    folder = Path(os.environ.get("VINDR_TEST_DATA", "")) / "vinbig"
    if (folder / "submissions").is_dir() and not quick:
        files, sizes = read([folder / "submissions" / name for name in REAL], folder / "test_meta.csv")
        yield _row("real", files, sizes, clock)
    made = {size: make(np.random.default_rng(0), size) for size in (images, 2 * images, 4 * images)}
    yield growth_row("fusion", lambda size: lambda: fuse_all(*made[size], workers=1), [*made],
                     turns=2 if quick else 5)


def _row(kind: str, files: Sequence[PredictionSet], sizes: Sizes, clock: Clock) -> Row:
    boxes = sum(len(detections) for file in files for detections in file.values())
    worst = difference(files, sizes)
    assert worst < _TOLERANCE, worst
    return alternate(f"WBF of {len(files)} {kind} submissions, {len(sizes):,} images, {boxes:,} boxes",
                     ("fuse_all, one process", lambda: fuse_all(files, sizes, workers=1)),
                     ("loop over ensemble-boxes", lambda: plain(files, sizes)), measure=clock,
                     note=f"values differ by {worst:.0e}")


def read(paths: Sequence[Path], meta: Path) -> tuple[list[PredictionSet], Sizes]:
    table = read_sizes(meta)
    files = [read_submission(path, table) for path in paths]
    return ([{image_id: detections.findings() for image_id, detections in file.items()} for file in files],
            shapes_of(table))


def make(rng: np.random.Generator, images: int) -> tuple[list[PredictionSet], Sizes]:
    """Four models; each detects three in four boxes, moved a little."""
    sizes = {f"i{number:04d}": (2800, 2400) for number in range(images)}
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


def difference(files: Sequence[PredictionSet], sizes: Sizes) -> float:
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
    return worst


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes")
    parser.add_argument("--processor", action="store_true", help="measure processor time")
    args = parser.parse_args(argv)
    from bench import table

    print(table(list(rows(args.quick, processor_seconds if args.processor else seconds))))


if __name__ == "__main__":
    cli.run(main)
