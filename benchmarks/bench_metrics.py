"""COCO AP and the competition's mAP against pycocotools, on the same boxes in the same run.

    python benchmarks/bench_metrics.py

3,000 images, 300,000 detections, 14 findings. Prints seconds and the ratio; only the ratio means
anything on another machine.
"""

import contextlib
import io
import time

import numpy as np

from vindr_det.coco import to_coco
from vindr_det.metrics import coco, vindr
from vindr_det.predictions import Predictions
from vindr_det.records import Record, truth_of

IMAGES, DETECTIONS = 3000, 100


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


def by_pycocotools(predictions: dict[str, Predictions], records: list[Record]) -> float:
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


def timed(function, *arguments):
    """Result and seconds."""
    began = time.perf_counter()
    return function(*arguments), time.perf_counter() - began


def main() -> None:
    predictions, records = make_set(np.random.default_rng(0))
    theirs, slow = timed(by_pycocotools, predictions, records)
    ours, fast = timed(coco.evaluate, predictions, records)
    result, vindr_time = timed(vindr.evaluate, predictions, truth_of(records))
    print(f"coco/AP       pycocotools {theirs:.6f} {slow:6.1f} s   "
          f"ours {ours['coco/AP']:.6f} {fast:6.1f} s   {slow / fast:.1f} times")
    print(f"vindr/mAP40   {result.mean_ap:.6f} {vindr_time:6.2f} s   "
          f"{slow / vindr_time:.0f} times as fast as pycocotools' pass")


if __name__ == "__main__":
    main()
