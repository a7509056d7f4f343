#!/usr/bin/env python
"""Metrics against what people would use instead, on the same boxes, with equal values.

    python benchmarks/bench_metrics.py
    python benchmarks/bench_metrics.py --quick
    python benchmarks/bench_metrics.py --processor     processor time, where the machine does other work too

3,000 images, 300,000 detections, 14 findings. COCO AP against pycocotools: as people call it, which takes
four ranges of areas and three limits of detections where ours takes one of each; with one of each in both;
and from the same two JSON files; the competition's mAP against a loop over detections as in the VOC devkit; a
thousand bootstrap replicates of all metrics, matching included, against a limit of 5 s; and how the time
grows with the images.
"""

import contextlib
import io
import json
import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
from comparison import Row, alternate, of_turns, processor_seconds, seconds
from growth import exponent, growth_row, measure

from vindr_det import cli
from vindr_det.data.coco import to_coco
from vindr_det.data.truth import read_truth
from vindr_det.evaluation.score import confidence_intervals
from vindr_det.metrics import coco, voc
from vindr_det.metrics.matching import IOU_THRESHOLD
from vindr_det.metrics.metric import MatchedPredictions
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet, by_image, no_finding
from vindr_det.structures.label_sets import CLASS_NAMES
from vindr_det.structures.records import Record, truth_of
from vindr_det.submission import read_submission

IMAGES, DETECTIONS, REPLICATES = 3000, 100, 1000
#: Seconds that the intervals may take.
_LIMIT = 5.0
Clock = Callable[[Callable[[], Any]], float]
BoxSet = tuple[dict[str, Predictions], list[Record]]


def make_set(rng: np.random.Generator, images: int = IMAGES) -> BoxSet:
    """Two thirds normal images; detections partly near the true boxes, partly anywhere."""
    records, predictions = [], {}
    for number in range(images):
        count = 0 if rng.random() < 2 / 3 else int(rng.integers(1, 10))
        truth = _boxes(rng, count)
        image_id = f"{number:05d}"
        records.append(Record(image_id, f"{image_id}.png", 3000, 2500, truth))
        detections = _boxes(rng, DETECTIONS)
        if count:
            near = rng.integers(0, count, DETECTIONS // 2)
            moved = np.clip(truth.boxes[near] + rng.normal(0, 25, (len(near), 4)), 0, 2499)
            moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
            half = Predictions(moved, rng.random(len(near)), truth.labels[near])
            detections = half + detections[: DETECTIONS - len(near)]
        predictions[image_id] = detections
    return _as_read(predictions), records


def _as_read(predictions: PredictionSet) -> dict[str, Predictions]:
    """The same in shared arrays, as files are read; a real set has no array of its own for each image."""
    boxes, scores, labels = (np.concatenate([getattr(of, name) for of in predictions.values()])
                             for name in ("boxes", "scores", "labels"))
    numbers = np.repeat(np.arange(len(predictions)), DETECTIONS)
    return by_image(numbers, list(predictions), Predictions(boxes, scores, labels))


def _boxes(rng: np.random.Generator, count: int) -> Predictions:
    low = rng.uniform(0, 2000, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 500, (count, 2))], axis=1)
    return Predictions(boxes, rng.random(count), rng.integers(0, 14, count))


def rows(quick: bool, clock: Clock = seconds) -> Iterator[Row]:
    """COCO AP twice, mAP, intervals, growth."""
    images = 60 if quick else IMAGES
    predictions, records = make_set(np.random.default_rng(0), images)
    size = f"{images * DETECTIONS:,} detections"
    yield from _coco_in_memory(predictions, records, size, clock)
    yield _coco_of_files(predictions, records, size, clock)
    yield _mean_ap(predictions, records, size, clock)
    yield _intervals(predictions, records, size, clock, 20 if quick else REPLICATES)
    yield from _growth(images, quick)


def _coco_in_memory(
    predictions: PredictionSet, records: Sequence[Record], size: str, clock: Clock
) -> Iterator[Row]:
    def ours() -> float:
        return coco.coco_ap(predictions, records)["coco/AP"]

    def peer() -> float:
        return by_pycocotools(to_coco(records), as_dicts(predictions, records))

    yield alternate(f"COCO AP, {size}, from boxes in memory", ("coco_ap (hotcoco)", ours),
                    ("pycocotools, all areas and limits", peer), measure=clock,
                    note=_same(ours(), peer()))

    def restricted() -> float:
        return by_pycocotools(to_coco(records), as_dicts(predictions, records), whole=False)

    yield alternate(f"COCO AP, {size}, from boxes in memory", ("coco_ap (hotcoco)", ours),
                    ("pycocotools, what ours computes alone", restricted), measure=clock,
                    note=_same(ours(), restricted()))


def _coco_of_files(predictions: PredictionSet, records: Sequence[Record], size: str, clock: Clock) -> Row:
    with tempfile.TemporaryDirectory() as folder:
        truth, results = Path(folder) / "truth.json", Path(folder) / "results.json"
        truth.write_text(json.dumps(to_coco(records)))
        results.write_text(json.dumps(as_dicts(predictions, records)))

        def ours() -> float:
            return coco.coco_ap(read_submission(results, None, truth), read_truth(truth))["coco/AP"]

        def peer() -> float:
            return by_pycocotools(str(truth), str(results))

        return alternate(f"COCO AP, {size}, from two JSON files", ("readers that check, coco_ap", ours),
                         ("pycocotools", peer), measure=clock, target=80, note=_same(ours(), peer()))


def as_dicts(predictions: PredictionSet, records: Sequence[Record]) -> list[dict[str, Any]]:
    """Detections in COCO's results format."""
    return [{"image_id": number, "category_id": label, "bbox": box, "score": score}
            for number, record in enumerate(records, start=1)
            for boxes in [predictions[record.image_id]]
            for box, score, label in zip(box_ops.xyxy_to_xywh(boxes.boxes).tolist(), boxes.scores.tolist(),
                                         boxes.labels.tolist(), strict=True)]


def by_pycocotools(truth: Any, results: Any, whole: bool = True) -> float:
    """coco/AP by pycocotools, of a dictionary and a list, or of two files; ``whole``: all that it reports."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        known = COCO(truth) if isinstance(truth, str) else COCO()
        if not isinstance(truth, str):
            known.dataset = truth
            known.createIndex()
        run = COCOeval(known, known.loadRes(results), "bbox")
        if not whole:
            run.params.areaRng, run.params.areaRngLbl = run.params.areaRng[:1], run.params.areaRngLbl[:1]
            run.params.maxDets = run.params.maxDets[-1:]
        run.evaluate()
        run.accumulate()
        if whole:
            run.summarize()
            return float(run.stats[0])
    precision = run.eval["precision"]
    return float(precision[precision > -1].mean())


def _same(ours: float, peer: float) -> str:
    assert abs(ours - peer) < 1e-12, (ours, peer)
    return f"values differ by {abs(ours - peer):.0e}"


def _mean_ap(predictions: PredictionSet, records: Sequence[Record], size: str, clock: Clock) -> Row:
    truth = truth_of(records)

    def ours() -> float:
        return voc.vindr_ap(predictions, truth).mean_ap

    def peer() -> float:
        return by_loops(predictions, truth)

    return alternate(f"competition's mAP, {size}", ("vindr_ap", ours), ("loop over detections", peer),
                     measure=clock, note=_same(ours(), peer()))


def by_loops(predictions: PredictionSet, truth: PredictionSet) -> float:
    """vindr/mAP40 in a loop over detections, each against the boxes of its image."""
    aps = []
    for label in range(len(CLASS_NAMES)):
        boxes = {i: (t if len(t) else no_finding()) for i, t in truth.items()}
        mine = {i: t.boxes[t.labels == label] for i, t in boxes.items()}
        total = sum(map(len, mine.values()))
        if not total:
            continue
        ranked = sorted(((-score, i, box) for i in sorted(predictions) for box, score, own in zip(
            predictions[i].boxes, predictions[i].scores, predictions[i].labels, strict=True)
            if own == label), key=lambda row: row[:2])
        taken = {i: np.zeros(len(boxes), bool) for i, boxes in mine.items()}
        true_positives = np.array([_is_true_positive(box, mine[i], taken[i]) for _, i, box in ranked], bool)
        precision = np.cumsum(true_positives) / np.arange(1, len(true_positives) + 1)
        area, best = 0.0, 0.0
        for at in range(len(true_positives) - 1, -1, -1):
            best = max(best, precision[at])
            area += best * true_positives[at] / total
        aps.append(area)
    return float(np.mean(aps))


def _is_true_positive(box: np.ndarray, boxes: np.ndarray, taken: np.ndarray) -> bool:
    if not len(boxes):
        return False
    overlap = box_ops.box_iou_batch([box], boxes)[0]
    best = int(overlap.argmax())
    if overlap[best] <= IOU_THRESHOLD or taken[best]:
        return False
    taken[best] = True
    return True


def _intervals(
    predictions: PredictionSet, records: Sequence[Record], size: str, clock: Clock, replicates: int
) -> Row:
    def ours() -> dict[str, Any]:
        return confidence_intervals(MatchedPredictions(predictions, records), replicates)

    spent = [clock(ours) for _ in range(6)][1:]
    return of_turns(f"{replicates:,} replicates of all metrics with intervals, {size}",
                    ("confidence_intervals", spent), ("limit", [_LIMIT] * len(spent)), target=1,
                    note=f"{sum(key.endswith('/ci95') for key in ours())} intervals, matching included")


def _growth(images: int, quick: bool) -> Iterator[Row]:
    sizes = [images, 2 * images, 4 * images]
    sets = {size: make_set(np.random.default_rng(0), size) for size in sizes}

    def matching(size: int) -> Callable[[], Any]:
        def work() -> None:
            matched = MatchedPredictions(*sets[size])
            assert matched.voc and matched.coco
        return work

    steps = {"matching": matching, "COCO AP": lambda size: lambda: coco.coco_ap(*sets[size]),
             "the competition's mAP": lambda size: lambda: voc.vindr_ap_of_records(*sets[size]),
             "intervals from 100 replicates": lambda size: lambda: confidence_intervals(
                 MatchedPredictions(*sets[size]), 100)}
    # What linear work comes to on this machine, whose caches hold the smallest set alone.
    stacks = {size: np.concatenate([of.boxes for of in sets[size][0].values()]) for size in sizes}
    copying = exponent(sizes, measure(lambda size: stacks[size].copy, sizes, turns=20))
    for name, step in steps.items():
        yield growth_row(name, step, sizes, turns=2 if quick else 5,
                         note=f"a copy of the boxes: {copying:.2f}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes")
    parser.add_argument("--processor", action="store_true", help="measure processor time")
    args = parser.parse_args(argv)
    from bench import table

    print(table(list(rows(args.quick, processor_seconds if args.processor else seconds))))


if __name__ == "__main__":
    cli.run(main)
