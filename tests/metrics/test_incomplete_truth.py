"""Any label set, and findings that may be on an image without a box: it is left out for these."""

import math
from dataclasses import replace

import numpy as np
import pytest
from metric_cases import BOX, FAR, by_pycocotools, random_boxes, random_set

from vindr_det.evaluation.score import compute_metrics, confidence_intervals, metrics_table
from vindr_det.exceptions import InputError
from vindr_det.metrics import coco, froc, tide, voc
from vindr_det.metrics.bootstrap import Bootstrap, image_bootstrap
from vindr_det.metrics.coco_bootstrap import ap_replicates
from vindr_det.metrics.metric import MatchedPredictions
from vindr_det.metrics.registry import METRICS
from vindr_det.structures.detections import Predictions, no_finding
from vindr_det.structures.label_sets import NIH, NIH_BOXES, VINBIGDATA, LabelSet
from vindr_det.structures.records import Record

THREE = LabelSet("three", ("Atelectasis", "Effusion", "Mass"))


def P(label_set, *rows):
    table = np.array(rows, float).reshape(-1, 6)
    return Predictions(table[:, 2:], table[:, 1], table[:, 0], label_set)


def of(image_id, label_set, *rows, unknown=()):
    truth = P(label_set, *((row[0], 1, *row[1:]) for row in rows))
    return Record(image_id, f"{image_id}.png", 100, 100, truth, unknown=unknown)


def in_set(label_set, predictions, records):
    """The same boxes, as those of another label set."""
    return ({name: replace(boxes, label_set=label_set) for name, boxes in predictions.items()},
            [replace(record, truth=replace(record.truth, label_set=label_set)) for record in records])


def with_unknown(rng, records, classes=4):
    """Some findings that have no box on an image are unknown there."""
    return [replace(record, unknown=tuple(
        label for label in range(classes) if label not in record.truth.labels and rng.random() < 0.4))
        for record in records]


def by_class(predictions, records):
    """pycocotools class by class, on the images where the class is known."""
    values = []
    for label in range(4):
        known = [record for record in records if label not in record.unknown]
        own = [replace(record, truth=record.truth[record.truth.labels == label]) for record in known]
        if any(len(record.truth) for record in own):
            values.append(by_pycocotools({record.image_id: boxes[boxes.labels == label] for record in own
                                          for boxes in [predictions[record.image_id]]}, own))
    return {key: np.mean([value[key] for value in values]) for key in values[0]}


@pytest.mark.parametrize("label_set", [VINBIGDATA, NIH_BOXES], ids=lambda of: of.name)
def test_coco_ap_is_that_of_each_class_on_the_images_where_it_is_known(label_set):
    rng = np.random.default_rng(0)
    for _ in range(5):
        predictions, records = in_set(label_set, *random_set(rng))
        records = with_unknown(rng, records)
        expected = by_class(predictions, records)
        assert coco.coco_ap(predictions, records) == pytest.approx(expected, abs=1e-12)
        matched = MatchedPredictions(predictions, records)
        drawn = ap_replicates(matched.coco, image_bootstrap(records, 2).whole())
        assert np.nanmean(drawn["coco/AP"]) == pytest.approx(expected["coco/AP"], abs=1e-12)


def test_nothing_unknown_changes_nothing():
    predictions, records = random_set(np.random.default_rng(1))
    complete = compute_metrics(MatchedPredictions(predictions, records))
    eight = in_set(NIH_BOXES, predictions, records)
    other = compute_metrics(MatchedPredictions(*eight))
    renamed = {VINBIGDATA.findings[at]: name for at, name in enumerate(NIH_BOXES.findings[:4])}
    for name, value in complete.items():
        if name.startswith("coco/"):
            assert other[name] == pytest.approx(value, nan_ok=True)
    for old, new in renamed.items():
        for key, to in (("vindr/AP40/{}", "voc/AP40/{}"), ("froc/{}@1", "froc/{}@1"),
                        ("localization/{}@0.3", "localization/{}@0.3")):
            assert other[to.format(new)] == pytest.approx(complete[key.format(old)], nan_ok=True)
    # "No finding" is no class of the set, so it is in no mean.
    assert other["voc/mAP40"] == pytest.approx(np.mean([complete[f"vindr/AP40/{old}"] for old in renamed]))


def test_by_hand():
    """Mass is unknown on b, so the box there costs nothing; on c it costs half of the precision."""
    records = [of("a", THREE, (2, *BOX)), of("b", THREE, (0, *BOX), unknown=(2,)), of("c", THREE)]
    predictions = {"a": P(THREE, (2, 0.5, *BOX)), "b": P(THREE, (2, 0.9, *FAR), (0, 0.9, *BOX)),
                   "c": P(THREE, (2, 0.8, *FAR))}
    values = compute_metrics(MatchedPredictions(predictions, records))
    assert values["voc/AP40/Mass"] == 0.5 and values["voc/AP40/Atelectasis"] == 1
    assert values["voc/mAP40"] == 0.75 and math.isnan(values["voc/AP40/Effusion"])
    assert values["coco/AP40"] == pytest.approx(0.75) and values["coco/AR100"] == 1
    assert "voc/AP40/No finding" not in values
    # One false positive on two images on which Mass is known: .5 per image, not .33.
    assert values["froc/Mass@0.25"] == 0 and values["froc/Mass@0.5"] == 1
    assert values["localization/Mass@0.7"] == 1 and values["localization/accuracy@0.7"] == 1
    assert values["tide/background"] == 1
    complete = [replace(record, unknown=()) for record in records]
    before = compute_metrics(MatchedPredictions(predictions, complete))
    assert before["voc/AP40/Mass"] == pytest.approx(1 / 3) and before["tide/background"] == 2
    assert before["froc/Mass@0.5"] == 0 and before["froc/Mass@1"] == 1
    matrix = tide.confusion_matrix(MatchedPredictions(predictions, records).voc, 0.1)
    assert matrix.shape == (4, 4) and matrix[3].tolist() == [0, 0, 1, 0]


def test_an_image_with_unknown_findings_alone_is_not_normal():
    records = [of("a", NIH), of("b", NIH, unknown=(1,)), of("c", NIH, (0, *BOX))]
    predictions = {name: no_finding(score, NIH) for name, score in (("a", 0.5), ("b", 0.9), ("c", 0.1))}
    values = compute_metrics(MatchedPredictions(predictions, records))
    assert values["voc/AP40/No Finding"] == 1  # b would have come first
    assert voc.vindr_ap_of_records(predictions, records).truths["No Finding"] == 1


def test_false_positives_of_replicates_are_per_known_image():
    rng = np.random.default_rng(3)
    predictions, records = in_set(NIH_BOXES, *random_set(rng, 30))
    records = with_unknown(rng, records)
    bootstrap = Bootstrap.of(np.arange(30), 4)
    matched = MatchedPredictions(predictions, records)
    drawn = froc.sensitivity_replicates(matched.voc, bootstrap)
    ids = matched.voc.ids
    for weights, values in zip(bootstrap.drawn, drawn, strict=True):
        chosen = {ids[at] for at in np.flatnonzero(weights)}
        part = MatchedPredictions({name: predictions[name] for name in chosen},
                                  [record for record in records if record.image_id in chosen])
        assert values == pytest.approx(froc.sensitivities(part.voc)[0], nan_ok=True)
        assert part.voc.known.sum() < part.voc.known.size


def test_another_label_set_is_refused():
    records = [of("a", NIH_BOXES, (0, *BOX))]
    for predictions in ({"a": P(VINBIGDATA, (0, 1, *BOX))}, {"a": P(THREE, (0, 1, *BOX))}):
        for metric in METRICS:
            with pytest.raises(InputError, match="label set .*, expected NIH boxes as the annotations"):
                metric.compute(MatchedPredictions(predictions, records))
    mixed = [*records, of("b", THREE, (0, *BOX))]
    with pytest.raises(InputError, match="annotations: label sets NIH boxes and three"):
        MatchedPredictions({}, mixed).label_set  # noqa: B018
    assert voc.vindr_ap({"a": Predictions()}, {"a": records[0].truth}).mean_ap == 0


def test_images_of_a_patient_are_drawn_together():
    """Ten copies of each image: by patient the interval is that of the single images."""
    rng = np.random.default_rng(7)
    records, predictions = [], {}
    for number in range(40):
        truth = replace(random_boxes(rng, 1), label_set=NIH_BOXES, labels=np.zeros(1, int))
        moved = replace(truth, boxes=truth.boxes + (0 if number % 2 else 400), scores=rng.random(1))
        for copy in range(10):
            name = f"{number:02d}_{copy}"
            records.append(Record(name, f"{name}.png", 1000, 1000, truth))
            predictions[name] = moved
    patients = {record.image_id: record.image_id[:2] for record in records}
    single = [record for record in records if record.image_id.endswith("_0")]
    key = "localization/Atelectasis@0.5/ci95"
    by_patient = confidence_intervals(MatchedPredictions(predictions, records), 200, patients=patients)
    by_image = confidence_intervals(MatchedPredictions(predictions, records), 200)
    of_single = confidence_intervals(MatchedPredictions(
        {record.image_id: predictions[record.image_id] for record in single}, single), 200)
    assert by_patient[key] == pytest.approx(of_single[key], abs=1e-9)
    assert by_patient[key][0] < 0.4 < by_image[key][0] < 0.5 < by_image[key][1] < 0.6 < by_patient[key][1]
    with pytest.raises(InputError, match=r"image 39_9 has no patient \(1 of 400"):
        image_bootstrap(records, 10, patients={name: of for name, of in patients.items() if name != "39_9"})
    text = metrics_table(compute_metrics(MatchedPredictions(predictions, records)),
                         MatchedPredictions(predictions, records))
    assert "Pneumonia" in text and "localization/Atelectasis" not in text and "No finding" not in text
