"""The competition's metric against hand-computed cases and a slow reference."""

import math

import numpy as np
import pytest

from vindr_det import boxes as box_ops
from vindr_det.errors import InputError
from vindr_det.metrics import vindr
from vindr_det.predictions import Predictions, no_finding


def P(*rows):
    """Rows of (label, score, x0, y0, x1, y1)."""
    table = np.array(rows, float).reshape(-1, 6)
    return Predictions(table[:, 2:], table[:, 1], table[:, 0])


def T(*rows):
    """Rows of (label, x0, y0, x1, y1)."""
    return P(*[(row[0], 1.0, *row[1:]) for row in rows])


BOX = (0, 0, 10, 10)
FAR = (50, 50, 60, 60)

# name, truth, predictions, AP of class 3
CASES = [
    ("perfect", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *BOX))}, 1.0),
    ("none predicted", {"a": T((3, *BOX))}, {"a": P()}, 0.0),
    ("image not predicted at all", {"a": T((3, *BOX))}, {}, 0.0),
    ("wrong place", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *FAR))}, 0.0),
    ("wrong class", {"a": T((3, *BOX))}, {"a": P((5, 0.9, *BOX))}, 0.0),
    # IoU exactly .4 is no match: 10x10 against 4x10 inside it.
    ("IoU exactly 0.4", {"a": T((3, *BOX))}, {"a": P((3, 0.9, 0, 0, 4, 10))}, 0.0),
    ("IoU just above", {"a": T((3, *BOX))}, {"a": P((3, 0.9, 0, 0, 4.01, 10))}, 1.0),
    # The second detection of a found truth is wrong, but after the only hit it costs nothing.
    ("duplicate", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *BOX), (3, 0.8, *BOX))}, 1.0),
    # Hit, duplicate, hit: precision 1, 1/2, 2/3; area = .5 * 1 + .5 * 2/3.
    ("duplicate before a hit", {"a": T((3, *BOX), (3, *FAR))},
     {"a": P((3, 0.9, *BOX), (3, 0.8, *BOX), (3, 0.7, *FAR))}, 0.5 + 0.5 * 2 / 3),
    # A miss first: precision 0, 1/2.
    ("false positive first", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *FAR), (3, 0.8, *BOX))}, 0.5),
    # The same score: file order decides, here the miss stands first.
    ("tie, miss first", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *FAR), (3, 0.9, *BOX))}, 0.5),
    ("tie, hit first", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *BOX), (3, 0.9, *FAR))}, 1.0),
    ("tie over images: by id", {"a": T((3, *BOX)), "b": T((3, *BOX))},
     {"b": P((3, 0.9, *BOX)), "a": P((3, 0.9, *FAR))}, 0.25),
    # Half found: recall stops at 1/2.
    ("one of two found", {"a": T((3, *BOX)), "b": T((3, *BOX))}, {"a": P((3, 0.9, *BOX))}, 0.5),
    # VOC: a detection belongs to the truth it overlaps most, taken or not.
    ("best truth is taken", {"a": T((3, 0, 0, 10, 10), (3, 0, 0, 10, 14))},
     {"a": P((3, 0.9, *BOX), (3, 0.8, 0, 0, 10, 10.5))}, 0.5),
]


@pytest.mark.parametrize("name, truth, predictions, expected", CASES, ids=[c[0] for c in CASES])
def test_hand_computed(name, truth, predictions, expected):
    result = vindr.evaluate(predictions, truth)
    assert result.ap["Cardiomegaly"] == pytest.approx(expected, abs=1e-12)


def test_class_14_counts_as_a_class():
    truth = {"a": T(), "b": T((3, *BOX))}
    said = {"a": no_finding(0.9), "b": P((3, 0.9, *BOX)) + no_finding(0.1)}
    result = vindr.evaluate(said, truth)
    assert result.ap["No finding"] == 1.0
    assert result.mean_ap == 1.0
    inverted = {"a": no_finding(0.1), "b": P((3, 0.9, *BOX)) + no_finding(0.9)}
    assert vindr.evaluate(inverted, truth).ap["No finding"] == 0.5


def test_mean_is_over_classes_with_truth():
    result = vindr.evaluate({"a": P((3, 0.9, *BOX), (4, 0.9, *BOX))}, {"a": T((3, *BOX), (5, *FAR))})
    assert result.mean_ap == 0.5
    assert math.isnan(result.ap["Consolidation"])
    assert result.truths["ILD"] == 1 and result.detections["Consolidation"] == 1


def test_nothing_at_all_is_not_a_number():
    assert math.isnan(vindr.evaluate({}, {}).mean_ap)


def test_a_prediction_for_an_unknown_image_is_refused():
    with pytest.raises(InputError, match="image x"):
        vindr.evaluate({"x": P()}, {"a": T()})


def slow_reference(predictions, truth):
    """The definition, written down without any thought of speed."""
    truth = {i: t if len(t) else no_finding() for i, t in truth.items()}
    scores = []
    for label in range(15):
        rows = [(-p.scores[k], i, k) for i, p in predictions.items() for k in range(len(p))
                if p.labels[k] == label]
        total = sum(int((t.labels == label).sum()) for t in truth.values())
        if total == 0:
            continue
        taken, hits = set(), []
        for _, image, k in sorted(rows):
            best, where = 0.0, None
            for g in range(len(truth[image])):
                if truth[image].labels[g] == label:
                    iou = box_ops.iou_matrix([predictions[image].boxes[k]],
                                             [truth[image].boxes[g]])[0, 0]
                    if iou > best:
                        best, where = iou, (image, g)
            hit = best > 0.4 and where not in taken
            if hit:
                taken.add(where)
            hits.append(hit)
        precision, recall, right = [], [], 0
        for n, hit in enumerate(hits, 1):
            right += hit
            precision.append(right / n)
            recall.append(right / total)
        area, before = 0.0, 0.0
        for n in range(len(hits)):
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
        found = Predictions(boxes(m), rng.integers(0, 5, m) / 5, rng.integers(0, 4, m))
        predictions[image] = found + no_finding(rng.integers(0, 5) / 5)
    return predictions, truth


def test_equals_the_slow_reference_on_200_random_cases():
    rng = np.random.default_rng(0)
    for _ in range(200):
        predictions, truth = random_case(rng)
        assert vindr.evaluate(predictions, truth).mean_ap == pytest.approx(
            slow_reference(predictions, truth), abs=1e-12)
