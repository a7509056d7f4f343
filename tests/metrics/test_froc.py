import numpy as np
import pytest
from metric_cases import BOX, FAR, P, T, random_case

from vindr_det.metrics import froc
from vindr_det.metrics.matching import match
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import VINBIGDATA

# name, truth, predictions, points, sensitivities of class 3
CASES = [
    ("no detection", {"a": T((3, *BOX))}, {}, (0.5, 2), (0, 0)),
    ("best score is right", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *BOX))}, (0.125, 8), (1, 1)),
    ("after a false positive", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *FAR), (3, 0.8, *BOX))},
     (0.5, 1), (0, 1)),
    ("two images: half a false positive each", {"a": T((3, *BOX)), "b": T((3, *BOX))},
     {"a": P((3, 0.9, *FAR), (3, 0.8, *BOX))}, (0.25, 0.5), (0, 0.5)),
    # A threshold cannot part equal scores: both boxes or none.
    ("tie", {"a": T((3, *BOX))}, {"a": P((3, 0.9, *BOX), (3, 0.9, *FAR))}, (0.5, 1), (0, 1)),
    ("a second box on it is false", {"a": T((3, *BOX), (3, *FAR))},
     {"a": P((3, 0.9, *BOX), (3, 0.8, *BOX), (3, 0.7, *FAR))}, (0.5, 1), (0.5, 1)),
]


@pytest.mark.parametrize("name, truth, predictions, points, expected", CASES, ids=[c[0] for c in CASES])
def test_by_hand(name, truth, predictions, points, expected):
    values = froc.sensitivities(match(predictions, truth, 0.4), points=points)[0]
    assert values[3].tolist() == pytest.approx(expected)
    assert np.isnan(values[4]).all()


def test_every_threshold_tried_one_by_one():
    """The same from the metric's counts at each score that occurs."""
    rng = np.random.default_rng(5)
    for _ in range(30):
        predictions, truth = random_case(rng)
        matched = match(predictions, truth, 0.4)
        values = froc.sensitivities(matched)[0]
        for label in range(3):
            total = matched.counts[:, label].sum()
            best = np.zeros(len(froc.POINTS))
            for score in np.unique(np.concatenate([p.scores for p in predictions.values()])):
                kept = {i: Predictions(*(part[p.scores >= score] for part in (p.boxes, p.scores, p.labels)))
                        for i, p in predictions.items()}
                at = match(kept, truth, 0.4)
                mine = at.correct[at.detections.label == label]
                allowed = (~mine).sum() / len(truth) <= np.array(froc.POINTS)
                best = np.where(allowed, np.maximum(best, mine.sum() / max(total, 1)), best)
            assert values[label] == pytest.approx(best if total else [np.nan] * 7, nan_ok=True)


def test_means_and_names():
    truth = {"a": T((3, *BOX), (5, *FAR))}
    values = froc.sensitivities(match({"a": P((3, 0.9, *BOX))}, truth, 0.4))[0]
    metrics = froc.as_metrics(values, VINBIGDATA)
    assert metrics["froc/sensitivity@0.125"] == 0.5 and metrics["froc/sensitivity@8"] == 0.5
    assert metrics["froc/Cardiomegaly@1"] == 1 and metrics["froc/ILD@1"] == 0
    assert np.isnan(metrics["froc/Nodule/Mass@1"])
