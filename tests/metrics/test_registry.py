"""A new metric is one class and one entry of the list: tables, JSON, intervals and comparison have it."""

import json

import numpy as np
import pytest
from metric_cases import noisy_detector

from vindr_det.data.coco import to_coco
from vindr_det.evaluation.evaluate import EvaluationRequest, run_evaluation
from vindr_det.evaluation.score import as_json
from vindr_det.files import write_json
from vindr_det.metrics.metric import Metric, replicate
from vindr_det.metrics.registry import METRICS
from vindr_det.structures.label_sets import CLASS_NAMES, VINBIGDATA
from vindr_det.submission import write_submission


class BoxesPerImage(Metric):
    """``toy/boxes``, a mean that knows no classes, and ``toy/boxes/<class>``."""

    columns = {"boxes per image": "toy/boxes/{}"}
    details = ("toy/boxes/",)

    def compute(self, matched):
        counts = self._counts(matched).mean(axis=0)
        return {"toy/boxes": counts.mean()} | {
            f"toy/boxes/{name}": count for name, count in zip(CLASS_NAMES, counts, strict=True)}

    def replicates(self, matched, bootstrap):
        boxes = self._counts(matched).mean(axis=1, keepdims=True)

        def mean(weights):
            return weights @ boxes / weights.sum(axis=1, keepdims=True)

        everywhere = np.ones_like(boxes)
        return replicate(matched, bootstrap, lambda part: {"toy/boxes": part.apply(mean)}, everywhere)

    def table(self, values):
        return f"a table of its own: {values['toy/boxes']:.4f}"

    def _counts(self, matched):
        return matched.voc.detections.counts(len(matched.records)) / 100


@pytest.fixture
def request_of(tmp_path):
    records, boxes, _ = noisy_detector(np.random.default_rng(0))
    write_json(tmp_path / "truth.json", to_coco(records))
    write_submission(tmp_path / "all.csv", boxes)
    write_submission(tmp_path / "half.csv", {name: of[: len(of) // 2] for name, of in boxes.items()})

    def make(**options):
        return EvaluationRequest(annotations=str(tmp_path / "truth.json"),
                                 predictions=str(tmp_path / "all.csv"), bootstrap=50, **options)

    make.other = str(tmp_path / "half.csv")
    return make


def test_a_toy_metric_is_in_tables_json_and_intervals(request_of):
    values, text = run_evaluation(request_of(), (*METRICS, BoxesPerImage()))
    stored = json.loads(json.dumps(as_json(values)))
    low, high = stored["toy/boxes/ci95"]
    assert low < stored["toy/boxes"] < high and "toy/boxes/bias" in stored
    assert f"toy/boxes/{CLASS_NAMES[3]}" in stored and len(CLASS_NAMES) == 15
    assert "boxes per image" in text and "a table of its own" in text
    summary = [line.split()[0] for line in text.splitlines() if line.startswith("toy/")]
    assert summary == ["toy/boxes"]
    plain, _ = run_evaluation(request_of())
    assert {key: value for key, value in stored.items() if not key.startswith("toy/")} == as_json(plain)


def test_a_toy_metric_is_in_the_paired_comparison(request_of):
    values, text = run_evaluation(request_of(compare=request_of.other), [BoxesPerImage()])
    assert list(values) == ["toy/boxes"] and "toy/boxes" in text
    assert values["toy/boxes"]["ci95"][0] > 0 and values["toy/boxes"]["a_wins"] == 1


def test_every_metric_names_its_details_and_columns(request_of):
    """Each column of the table of classes, and each prefix of details, is of keys that are there."""
    values, _ = run_evaluation(request_of())
    for metric in METRICS:
        assert all(any(key.startswith(prefix) for key in values) for prefix in metric.details
                   if not prefix.startswith("voc/"))
        assert all(key.format(CLASS_NAMES[0]) in values for key in metric.columns_of(VINBIGDATA).values())
