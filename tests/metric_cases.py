"""Predictions and truths for the metrics' tests, and slow references of the metrics."""

import contextlib
import io

import numpy as np

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.data.coco import to_coco
from vindr_det.metrics import coco
from vindr_det.postprocessing.gate import Append, gate_all
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, no_finding
from vindr_det.structures.records import Record


def P(*rows):
    """Rows of (label, score, x0, y0, x1, y1)."""
    table = np.array(rows, float).reshape(-1, 6)
    return Predictions(table[:, 2:], table[:, 1], table[:, 0])


def T(*rows):
    """Rows of (label, x0, y0, x1, y1)."""
    return P(*[(row[0], 1.0, *row[1:]) for row in rows])


BOX = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)


def slow_reference(predictions, truth):
    """The competition's mAP by its definition, detection by detection."""
    truth = {i: t if len(t) else no_finding() for i, t in truth.items()}
    scores = []
    for label in range(15):
        rows = [(-p.scores[k], i, k) for i, p in predictions.items() for k in range(len(p))
                if p.labels[k] == label]
        total = sum(int((t.labels == label).sum()) for t in truth.values())
        if total == 0:
            continue
        taken, true_positives = set(), []
        for _, image, k in sorted(rows):
            best, where = 0.0, None
            for g in range(len(truth[image])):
                if truth[image].labels[g] == label:
                    iou = box_ops.box_iou_batch([predictions[image].boxes[k]],
                                             [truth[image].boxes[g]])[0, 0]
                    if iou > best:
                        best, where = iou, (image, g)
            right = best > 0.4 and where not in taken
            if right:
                taken.add(where)
            true_positives.append(right)
        precision, recall, count = [], [], 0
        for n, right in enumerate(true_positives, 1):
            count += right
            precision.append(count / n)
            recall.append(count / total)
        area, before = 0.0, 0.0
        for n in range(len(true_positives)):
            area += (recall[n] - before) * max(precision[n:])
            before = recall[n]
        scores.append(area)
    return sum(scores) / len(scores) if scores else float("nan")


def random_case(rng):
    """Few places, few scores: overlaps, ties and empty images abound."""
    def boxes(count):
        low = rng.integers(0, 6, (count, 2)) * 4.0
        return np.concatenate([low, low + rng.integers(2, 5, (count, 2)) * 4.0], axis=1)

    truth, predictions = {}, {}
    for image in "abcdef":
        n, m = rng.integers(0, 4), rng.integers(0, 8)
        truth[image] = Predictions(boxes(n), np.ones(n), rng.integers(0, 3, n))
        detections = Predictions(boxes(m), rng.integers(0, 5, m) / 5, rng.integers(0, 4, m))
        predictions[image] = detections + no_finding(rng.integers(0, 5) / 5)
    return predictions, truth


def random_set(rng, images=12):
    records, predictions = [], {}
    for number in range(images):
        n, m = rng.integers(0, 5), rng.integers(0, 25)
        truth = random_boxes(rng, n)
        records.append(Record(f"i{number:02d}", f"i{number:02d}.png", 500, 400, truth))
        near = truth.boxes[rng.integers(0, n, m)] if n else random_boxes(rng, m).boxes
        moved = np.sort((near + rng.normal(0, 8, (m, 4))).reshape(m, 2, 2), axis=1).reshape(m, 4)
        moved[:, 2:] += 1
        predictions[f"i{number:02d}"] = Predictions(
            moved, rng.integers(0, 20, m) / 20, rng.integers(0, 4, m))
    return predictions, records


def random_boxes(rng, n):
    low = rng.uniform(0, 300, (n, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 100, (n, 2))], axis=1)
    return Predictions(boxes, np.ones(n), rng.integers(0, 4, n))


def by_pycocotools(predictions, records):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    with contextlib.redirect_stdout(io.StringIO()):
        truth = COCO()
        truth.dataset = to_coco(records)
        truth.createIndex()
        run = COCOeval(truth, truth.loadRes(coco.to_results(predictions, records)), "bbox")
        run.params.iouThrs = np.array([0.4, *np.linspace(0.5, 0.95, 10)])
        run.evaluate()
        run.accumulate()
    precision = run.eval["precision"][:, :, :, 0, -1]

    def mean(part):
        return part[part > -1].mean()

    return {"coco/AP": mean(precision[1:]), "coco/AP40": mean(precision[0]),
            "coco/AP50": mean(precision[1]), "coco/AP75": mean(precision[6])}


def noisy_detector(rng, images=90, skill=0.8, size=200):
    """Records, a detector's boxes on them, and P(abnormal) of a good classifier.

    A third of the images is abnormal with one to three boxes; the detector finds most of them, among false
    positives that score nearly as high, also on normal images, and duplicates some.
    """
    records, predictions, p_abnormal = [], {}, {}
    for number in range(images):
        name, abnormal = f"i{number:03d}", number % 3 == 0
        count = int(rng.integers(1, 4)) if abnormal else 0
        truth = _placed(rng, count, size)
        records.append(Record(name, f"{name}.png", size, size, truth))
        seen = rng.random(count) < skill
        near = np.clip(truth.boxes[seen] + rng.uniform(-2, 2, (seen.sum(), 4)), 0, size - 1)
        detected = Predictions(near, rng.uniform(0.3, 1, seen.sum()), truth.labels[seen])
        doubled = Predictions(near + 1, detected.scores * 0.9, detected.labels)
        false = _placed(rng, int(rng.integers(0, 4)), size)
        false = Predictions(false.boxes, rng.uniform(0, 0.8, len(false)), false.labels)
        predictions[name] = (detected + doubled + false).by_score()
        p_abnormal[name] = float(np.clip(0.8 * abnormal + rng.uniform(0, 0.25), 0, 1))
    return records, predictions, p_abnormal


def _placed(rng, count, size):
    low = rng.uniform(0, size * 0.6, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(20, 60, (count, 2))], axis=1)
    return Predictions(boxes, np.ones(count), rng.integers(0, 3, count))


def soft_append(predictions, p_abnormal):
    """Predictions gated by the form append, from image id -> P(abnormal)."""
    return gate_all(Append(), predictions, {i: ClassifierOutput(p) for i, p in p_abnormal.items()})
