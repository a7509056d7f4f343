"""evaluate.py: intervals, comparison, sizes, readers."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import one_line
from metric_cases import by_pycocotools, noisy_detector, slow_reference, soft_append

from vindr_det.data.coco import read_coco, to_coco
from vindr_det.data.truth import read_truth
from vindr_det.data.vinbigdata import read_annotations
from vindr_det.evaluation import readers
from vindr_det.evaluation.evaluate import EvaluationRequest, run_evaluation
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.metrics import coco, voc
from vindr_det.structures.detections import Predictions, no_finding, with_no_finding
from vindr_det.structures.records import Record, truth_of
from vindr_det.submission import read_submission, write_submission
from vindr_det.tables import write_csv


@pytest.fixture
def folder(tmp_path):
    """g.json, and two submissions; the gated is better than the plain."""
    records, boxes, p_abnormal = noisy_detector(np.random.default_rng(0))
    write_json(tmp_path / "g.json", to_coco(records))
    write_submission(tmp_path / "plain.csv", with_no_finding(boxes))
    write_submission(tmp_path / "gated.csv", soft_append(boxes, p_abnormal))
    return tmp_path


def test_intervals_hold_their_values(folder, tool):
    run = tool("evaluate.py", "--predictions", folder / "plain.csv", "--annotations", folder / "g.json",
               "--bootstrap", 200, "--confusion", 0.5, "--by", "size", "--out", folder / "out")
    assert run.returncode == 0, run.stderr
    metrics = json.loads((folder / "out/metrics.json").read_text())
    for name in ("vindr/mAP40", "vindr/AP40/No finding", "coco/AP", "coco/AP40", "froc/sensitivity@1"):
        low, high = metrics[f"{name}/ci95"]
        assert low < metrics[name] < high, name
    assert f"{metrics['vindr/mAP40']:.4f} [{metrics['vindr/mAP40/ci95'][0]:.4f}" in run.stdout
    assert metrics["vindr/AP40/ILD"] is None and "vindr/AP40/ILD/ci95" not in metrics
    assert np.array(metrics["confusion"]).shape == (15, 15) and "coco/AP/small" in metrics
    assert metrics["tide/duplicate"] > 0 and metrics["tide/duplicate/dAP"] > 0
    assert "dAP of mAP40" in run.stdout and "true \\ detected" in run.stdout


def test_a_comparison_takes_the_same_images_from_both(folder):
    request = EvaluationRequest(predictions=str(folder / "gated.csv"), compare=str(folder / "plain.csv"),
                                 annotations=str(folder / "g.json"), bootstrap=300)
    metrics, text = run_evaluation(request)
    mean_ap = metrics["vindr/mAP40"]
    assert mean_ap["difference"] == pytest.approx(mean_ap["a"] - mean_ap["b"])
    assert mean_ap["ci95"][0] > 0 and mean_ap["a_wins"] > 0.99
    # The boxes are the same, so pairs differ in class 14 alone: both files are scored on the same
    # replicates.
    assert metrics["coco/AP"]["ci95"] == [0, 0] and metrics["coco/AP"]["a_wins"] == 0.5
    assert "A wins" in text and "100%" in text


def test_a_comparison_gives_rare_classes_no_interval(folder):
    """As the scores of a single file: no class is on few images, but all are of eight patients."""
    records = read_coco(folder / "g.json")
    write_csv(folder / "p.csv", pd.DataFrame({"image_id": [record.image_id for record in records],
                                              "patient": [at % 8 for at in range(len(records))]}))
    common = {"predictions": str(folder / "gated.csv"), "annotations": str(folder / "g.json"),
              "bootstrap": 20}
    without = []
    for more in ({}, {"patients": str(folder / "p.csv")}):
        alone, _ = run_evaluation(EvaluationRequest(**common, **more))
        pairs, text = run_evaluation(EvaluationRequest(**common, **more, compare=str(folder / "plain.csv")))
        assert {key for key in pairs if "ci95" in pairs[key]} == {
            key.removesuffix("/ci95") for key in alone if key.endswith("/ci95")}
        without.append({key for key in pairs if "ci95" not in pairs[key]})
        assert all("a_wins" not in pairs[key] for key in without[-1]) and "nan" not in text
    assert not without[0] and "vindr/AP40/No finding" in without[1]
    assert any(key.startswith("localization/") for key in without[1])
    assert {"vindr/mAP40", "coco/AP", "localization/accuracy@0.5"} <= without[1]  # means too
    assert not any(key.endswith("/ci95") for key in alone)


def test_boxes_that_tie_are_noted(folder):
    """The detector's scores differ; rounded to one digit their order is the file's."""
    request = {"predictions": str(folder / "gated.csv"), "annotations": str(folder / "g.json")}
    metrics, text = run_evaluation(EvaluationRequest(**request))
    assert "ties/share" not in metrics and "random orders" not in text
    rounded = {name: Predictions(boxes.boxes, boxes.scores.round(1), boxes.labels)
               for name, boxes in read_submission(request["predictions"]).items()}
    write_submission(folder / "rounded.csv", rounded)
    metrics, text = run_evaluation(
        EvaluationRequest(**request | {"predictions": str(folder / "rounded.csv")}))
    assert metrics["ties/share"] > 0.9 and metrics["ties/mAP40/sd"] > 0
    assert metrics["vindr/mAP40"] == pytest.approx(metrics["ties/mAP40"], abs=5 * metrics["ties/mAP40/sd"])
    assert f"{metrics['ties/mAP40']:.4f} on average" in text


def test_requests_that_do_not_go_together(folder, tool):
    g = folder / "g.json"
    (folder / "t.csv").write_text("image_id,class_id,x_min,y_min,x_max,y_max\na,14,,,,\n")
    for options, message in [
        (["--annotations", g], "--predictions: missing"),
        (["--annotations", g, "--by", "reader"], "expects a VinBigData .csv"),
        (["--annotations", folder / "t.csv", "--predictions", "p", "--by", "size"], "expects --meta"),
        (["--annotations", g, "--predictions", "p", "--bootstrap", 9], "--bootstrap 9"),
        (["--annotations", folder / "t.csv", "--by", "reader", "--chance"], "--by reader with --chance"),
        (["--annotations", g, "--predictions", "p", "--compare", "q", "--by", "size"], "--compare with --by"),
    ]:
        assert message in one_line(tool("evaluate.py", *options))


def test_annotations_of_nothing_are_refused(folder, tool):
    write_json(folder / "empty.json", to_coco([]))
    line = one_line(tool("evaluate.py", "--predictions", folder / "plain.csv", "--annotations",
                         folder / "empty.json", "--bootstrap", 10))
    assert "empty.json: holds no image" in line


def test_sizes_are_shares_of_the_image():
    """Three boxes of .1, 1 and 16 % on images of any shape: only the large one is detected."""
    sides = {"a": 0.03, "b": 0.1, "c": 0.4}
    records = [Record(name, f"{name}.png", 500, 2000,
                      Predictions([[0, 0, side * 2000, side * 500]], [1.0], [3]))
               for name, side in sides.items()]
    by_size = coco.coco_ap_by_size({"c": records[2].truth}, records)
    assert by_size["coco/AP/large"] == pytest.approx(1) and by_size["coco/AP/small"] == 0
    assert by_size["coco/AP50/medium"] == 0
    everything = coco.coco_ap_by_size({r.image_id: r.truth for r in records}, records)
    assert all(value == pytest.approx(1) for value in everything.values())


def test_readers_by_hand(tmp_path):
    """R1 and R2 agree on one image of two; R2's second box is elsewhere."""
    rows = [("a", 3, "R1", 0, 0, 10, 10), ("a", 3, "R2", 0, 0, 10, 10),
            ("b", 3, "R1", 0, 0, 10, 10), ("b", 3, "R2", 50, 50, 60, 60),
            ("c", 14, "R1", None, None, None, None), ("c", 14, "R2", None, None, None, None)]
    names = ["image_id", "class_id", "rad_id", "x_min", "y_min", "x_max", "y_max"]
    write_csv(tmp_path / "t.csv", pd.DataFrame(rows, columns=names))
    by_reader = readers.split_readers(read_annotations(tmp_path / "t.csv"))
    records = read_truth(tmp_path / "t.csv")
    pairs = readers.reader_pairs(by_reader, records, min_count=1)
    assert [(pair.rater, pair.reference, pair.images, pair.abnormal) for pair in pairs] == [
        ("R1", "R2", 3, 2), ("R1", "consensus", 3, 2), ("R2", "R1", 3, 2), ("R2", "consensus", 3, 2)]
    # One of two boxes of equal score is right: .5 if it comes first, .25 if not.
    assert pairs[0].result.ap["Cardiomegaly"] == pytest.approx(0.375, abs=0.05)
    assert pairs[0].result.ap["No finding"] == 1
    assert pairs[0].spread == pytest.approx(0.125 / 2, abs=0.005)
    again = readers.reader_pairs(by_reader, records, min_count=1, num_replicates=20)
    assert again[0].result.mean_ap == pairs[0].result.mean_ap and pairs[0].mean_ap is None
    assert again[0].mean_ap.value == pytest.approx(pairs[0].result.mean_ap)
    assert 0 <= again[0].mean_ap.low < again[0].mean_ap.high <= 1
    assert "readers/R1/R2/mAP40/ci95" in readers.as_metrics(again)
    boxes = {"a": Predictions([[0, 0, 10, 10]], [0.9], [3])}
    mine = readers.predictions_by_reader(boxes, by_reader, records, min_count=1)
    assert [pair.reference for pair in mine] == ["R1", "R2", "consensus"] and mine[0].images == 1
    assert mine[0].result.ap["Cardiomegaly"] == 1
    assert "Cardiomegaly" in readers.reader_table(pairs)
    with pytest.raises(InputError, match="no reader shares 50 abnormal images"):
        run_evaluation(EvaluationRequest(str(tmp_path / "t.csv"), by="reader"))


def test_real_readers_equal_the_slow_reference(data):
    """R8 against R10 and back, on all images that both read, by the definition itself."""
    by_reader = readers.split_readers(read_annotations(data / "vinbig/train.csv.gz"))
    for rater, other in (("R8", "R10"), ("R10", "R8")):
        pair = readers.score_pair(rater, by_reader[rater], other, by_reader[other])
        common = by_reader[rater].keys() & by_reader[other].keys()
        assert pair.images == len(common) == 5931
        detections = {i: by_reader[rater][i] if len(by_reader[rater][i]) else no_finding() for i in common}
        truth = {i: by_reader[other][i] for i in common}
        in_file_order = slow_reference(detections, truth)
        assert voc.vindr_ap(detections, truth).mean_ap == pytest.approx(in_file_order, abs=1e-12)
        # All boxes are tied: the file's order is one of many.
        assert 0 < pair.spread < 0.01
        assert pair.result.mean_ap == pytest.approx(in_file_order, abs=4 * pair.spread)


def test_a_peers_coco_file_as_pycocotools_scores_it(data):
    """A file of 14 classes with string ids: its own boxes, moved and dropped, as predictions."""
    records = read_coco(data / "vinbig/coco/aqx95_fold0_1024_instances_val.json.gz")
    rng = np.random.default_rng(0)
    predictions = {}
    for record in records:
        moved = record.truth.boxes + rng.normal(0, 20, (len(record.truth), 4))
        moved[:, 2:] = np.maximum(moved[:, 2:], moved[:, :2] + 1)
        kept = rng.random(len(moved)) < 0.8
        scores = rng.random(kept.sum())
        predictions[record.image_id] = Predictions(moved[kept], scores, record.truth.labels[kept])
    ours, theirs = coco.coco_ap(predictions, records), by_pycocotools(predictions, records)
    assert 0.05 < ours["coco/AP"] < 0.95
    assert ours == pytest.approx(theirs, abs=1e-9)
    assert voc.vindr_ap(predictions, truth_of(records)).mean_ap > 0
