#!/usr/bin/env python
"""Metrics against slow implementations of the same, on the same boxes in the same run.

    python benchmarks/bench_metrics.py

3,000 images, 300,000 detections, 14 findings: COCO AP against pycocotools, the competition's mAP against a
loop over detections as in the VOC devkit, and a thousand bootstrap replicates of both. Prints seconds and
ratios; only ratios mean anything on another machine.
"""

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vindr_det import cli
from vindr_det.data.coco import to_coco
from vindr_det.metrics import coco, coco_bootstrap, voc
from vindr_det.metrics.bootstrap import image_bootstrap
from vindr_det.metrics.matching import IOU_THRESHOLD, match
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet, no_finding
from vindr_det.structures.label_sets import CLASS_NAMES
from vindr_det.structures.records import Record, truth_of

IMAGES, DETECTIONS, REPLICATES = 3000, 100, 1000


def make_set(rng: np.random.Generator) -> tuple[dict[str, Predictions], list[Record]]:
    """Two thirds normal images; detections partly near the true boxes, partly anywhere."""
    records, predictions = [], {}
    for number in range(IMAGES):
        count = 0 if rng.random() < 2 / 3 else int(rng.integers(1, 10))
        truth = _boxes(rng, count)
        image_id = f"{number:05d}"
        records.append(Record(image_id, f"{image_id}.png", 3000, 2500, truth))
        detections = _boxes(rng, DETECTIONS)
        if count:
            near = rng.integers(0, count, DETECTIONS // 2)
            moved = truth.boxes[near] + rng.normal(0, 25, (len(near), 4))
            moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
            half = Predictions(moved, rng.random(len(near)), truth.labels[near])
            detections = half + detections[: DETECTIONS - len(near)]
        predictions[image_id] = detections
    return predictions, records


def _boxes(rng: np.random.Generator, count: int) -> Predictions:
    low = rng.uniform(0, 2000, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 500, (count, 2))], axis=1)
    return Predictions(boxes, rng.random(count), rng.integers(0, 14, count))


def by_pycocotools(predictions: PredictionSet, records: Sequence[Record]) -> float:
    """coco/AP by pycocotools."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = to_coco(records)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(coco.to_results(predictions, records)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0])


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


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def main() -> None:
    cli.parser(__doc__).parse_args()
    predictions, records = make_set(np.random.default_rng(0))
    truth = truth_of(records)
    ours, ap = timed(lambda: coco.coco_ap(predictions, records)["coco/AP"])
    theirs, slow = timed(lambda: by_pycocotools(predictions, records))
    print(f"COCO AP            {ours:6.2f} s, pycocotools {theirs:6.2f} s: {theirs / ours:.1f} times; "
          f"values differ by {abs(ap - slow):.1e}")
    ours, mean_ap = timed(lambda: voc.vindr_ap(predictions, truth).mean_ap)
    theirs, slow = timed(lambda: by_loops(predictions, truth))
    print(f"vindr/mAP40        {ours:6.2f} s, plain loops {theirs:6.2f} s: {theirs / ours:.1f} times; "
          f"values differ by {abs(mean_ap - slow):.1e}")
    bootstrap = image_bootstrap(records, REPLICATES)
    seconds, _ = timed(lambda: voc.ap_replicates(match(predictions, truth, IOU_THRESHOLD), bootstrap))
    print(f"{REPLICATES} replicates of vindr/mAP40 {seconds:.1f} s, {seconds / ours:.1f} times an evaluation")
    seconds, _ = timed(
        lambda: coco_bootstrap.ap_replicates(coco_bootstrap.match(predictions, records), bootstrap))
    print(f"{REPLICATES} replicates of COCO AP     {seconds:.1f} s")


if __name__ == "__main__":
    main()
