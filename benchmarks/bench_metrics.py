#!/usr/bin/env python
"""Metrics against their plain ways, on the same boxes in the same run.

    python benchmarks/bench_metrics.py

3,000 images, 300,000 detections, 14 findings: COCO AP against pycocotools, the competition's mAP against a
loop over detections as the VOC devkit writes it, and a thousand bootstrap replicates of both. Prints seconds
and ratios; only ratios mean anything on another machine.
"""

import contextlib
import io
import time
from collections.abc import Callable, Sequence
from typing import Any

import numpy as np

from vindr_det.data.coco import to_coco
from vindr_det.metrics import coco, coco_bootstrap, voc
from vindr_det.metrics.bootstrap import image_bootstrap
from vindr_det.metrics.matching import match
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
        found = _boxes(rng, DETECTIONS)
        if count:
            near = rng.integers(0, count, DETECTIONS // 2)
            moved = truth.boxes[near] + rng.normal(0, 25, (len(near), 4))
            moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
            half = Predictions(moved, rng.random(len(near)), truth.labels[near])
            found = half + found[: DETECTIONS - len(near)]
        predictions[image_id] = found
    return predictions, records


def _boxes(rng: np.random.Generator, count: int) -> Predictions:
    low = rng.uniform(0, 2000, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 500, (count, 2))], axis=1)
    return Predictions(boxes, rng.random(count), rng.integers(0, 14, count))


def by_pycocotools(predictions: PredictionSet, records: Sequence[Record]) -> float:
    """coco/AP the slow way."""
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = to_coco(records)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(coco.to_detections(predictions, records)), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    return float(run.stats[0])


def by_loops(predictions: PredictionSet, truth: PredictionSet) -> float:
    """vindr/mAP40 detection by detection, each against its image's boxes."""
    aps = []
    for label in range(len(CLASS_NAMES)):
        boxes = {i: (t if len(t) else no_finding()) for i, t in truth.items()}
        mine = {i: t.boxes[t.labels == label] for i, t in boxes.items()}
        total = sum(len(one) for one in mine.values())
        if not total:
            continue
        found = sorted(((-score, i, box) for i in sorted(predictions) for box, score, own in zip(
            predictions[i].boxes, predictions[i].scores, predictions[i].labels, strict=True)
            if own == label), key=lambda one: one[:2])
        taken = {i: np.zeros(len(one), bool) for i, one in mine.items()}
        true_positives = np.array([_is_hit(box, mine[i], taken[i]) for _, i, box in found], dtype=bool)
        precision = np.cumsum(true_positives) / np.arange(1, len(true_positives) + 1)
        area, best = 0.0, 0.0
        for at in range(len(true_positives) - 1, -1, -1):
            best = max(best, precision[at])
            area += best * true_positives[at] / total
        aps.append(area)
    return float(np.mean(aps))


def _is_hit(box: np.ndarray, boxes: np.ndarray, taken: np.ndarray) -> bool:
    if not len(boxes):
        return False
    sides = np.maximum(np.minimum(boxes[:, 2:], box[2:]) - np.maximum(boxes[:, :2], box[:2]), 0)
    shared = sides.prod(axis=1)
    areas = (boxes[:, 2:] - boxes[:, :2]).prod(axis=1) + (box[2:] - box[:2]).prod() - shared
    overlap = shared / areas
    best = int(overlap.argmax())
    if overlap[best] <= voc.IOU_THRESHOLD or taken[best]:
        return False
    taken[best] = True
    return True


def timed(work: Callable[[], Any]) -> tuple[float, Any]:
    begin = time.perf_counter()
    result = work()
    return time.perf_counter() - begin, result


def main() -> None:
    predictions, records = make_set(np.random.default_rng(0))
    truth = truth_of(records)
    ours, ap = timed(lambda: coco.evaluate(predictions, records)["coco/AP"])
    theirs, slow = timed(lambda: by_pycocotools(predictions, records))
    print(f"COCO AP            {ours:6.2f} s, pycocotools {theirs:6.2f} s: {theirs / ours:.1f} times; "
          f"values differ by {abs(ap - slow):.1e}")
    ours, mean_ap = timed(lambda: voc.evaluate(predictions, truth).mean_ap)
    theirs, slow = timed(lambda: by_loops(predictions, truth))
    print(f"vindr/mAP40        {ours:6.2f} s, plain loops {theirs:6.2f} s: {theirs / ours:.1f} times; "
          f"values differ by {abs(mean_ap - slow):.1e}")
    bootstrap = image_bootstrap(records, REPLICATES)
    one, _ = timed(lambda: voc.replicates(match(predictions, truth, voc.IOU_THRESHOLD), bootstrap))
    print(f"{REPLICATES} replicates of vindr/mAP40 {one:.1f} s, {one / ours:.1f} times one evaluation")
    one, _ = timed(lambda: coco_bootstrap.replicates(coco_bootstrap.match(predictions, records), bootstrap))
    print(f"{REPLICATES} replicates of COCO AP     {one:.1f} s")


if __name__ == "__main__":
    main()
