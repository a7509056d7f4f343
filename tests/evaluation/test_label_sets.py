"""evaluate.py with label sets other than VinBigData's: incomplete truth, patients, scores across sets."""

import json

import numpy as np
import pandas as pd
import pytest
from conftest import one_line

from vindr_det.data.coco import to_coco
from vindr_det.evaluation.evaluate import EvaluationRequest, run_evaluation
from vindr_det.exceptions import InputError
from vindr_det.files import write_json, write_text
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH_BOXES, VINBIGDATA, VINDR_CXR
from vindr_det.structures.records import Record
from vindr_det.submission import submission_text
from vindr_det.tables import write_csv

BOX, FAR = [10, 10, 60, 60], [70, 70, 90, 90]


def boxes(label_set, *rows):
    """Rows of (label, score, box)."""
    return Predictions(np.array([row[2] for row in rows]).reshape(-1, 4), np.array([row[1] for row in rows]),
                       np.array([row[0] for row in rows], int), label_set)


def saved(folder, name, predictions):
    write_text(folder / name, submission_text(folder / name, predictions))


@pytest.fixture
def folder(tmp_path):
    """Truth of NIH's eight: effusion 2, mass 4, nodule 5, pneumonia 6; a mass is unknown on d."""
    truth = {"a": [(2, 1, BOX)], "b": [(4, 1, BOX), (5, 1, FAR)], "c": [(6, 1, BOX)], "d": [(5, 1, BOX)],
             "e": []}
    unknown = {"d": (4,)}
    records = [Record(name, f"{name}.png", 100, 100, boxes(NIH_BOXES, *rows), unknown=unknown.get(name, ()))
               for name, rows in truth.items()]
    write_json(tmp_path / "nih.json", to_coco(records))
    # Of VinBigData's set: aortic enlargement 0, nodule/mass 8, effusion 10, no finding 14.
    saved(tmp_path, "vin.csv", {
        "a": boxes(VINBIGDATA, (10, 0.9, BOX), (0, 0.9, FAR)), "b": boxes(VINBIGDATA, (8, 0.7, FAR)),
        "c": boxes(VINBIGDATA, (8, 0.8, BOX)), "d": boxes(VINBIGDATA, (8, 0.9, FAR)),
        "e": boxes(VINBIGDATA, (14, 0.9, [0, 0, 1, 1]))})
    saved(tmp_path, "nih.csv", {
        "a": boxes(NIH_BOXES, (2, 0.9, BOX)), "b": boxes(NIH_BOXES, (4, 0.9, BOX)), "c": boxes(NIH_BOXES),
        "d": boxes(NIH_BOXES, (4, 0.95, BOX)), "e": boxes(NIH_BOXES, (5, 0.1, BOX))})
    return tmp_path


def test_scored_in_their_own_set(folder):
    """The mass on d, where masses are unknown, costs nothing; nodules are not found."""
    values, text = run_evaluation(EvaluationRequest(str(folder / "nih.json"), str(folder / "nih.csv")))
    expected = {"Effusion": 1, "Mass": 1, "Nodule": 0, "Pneumonia": 0}
    assert {name: values[f"voc/AP40/{name}"] for name in expected} == expected
    assert values["voc/mAP40"] == 0.5 and values["localization/Mass@0.7"] == 1
    assert "vindr/mAP40" not in values and "voc/mAP40" in text and "No finding" not in text
    assert "findings are unknown on 1 of 5 images, 1 in all" in text


def test_scored_across_sets_by_hand(folder):
    """Nodule/Mass is the wider class: two true boxes on b, d is left out, so one false positive, then b's."""
    request = {"annotations": str(folder / "nih.json"), "predictions": str(folder / "vin.csv")}
    with pytest.raises(InputError, match="vin.csv: predictions of the label set VinBigData, expected NIH"):
        run_evaluation(EvaluationRequest(**request))
    values, text = run_evaluation(EvaluationRequest(**request, map_labels=""))
    assert values["voc/AP40/Effusion"] == 1 and values["voc/AP40/Nodule/Mass"] == 0.25
    assert values["voc/mAP40"] == 0.625 and "voc/AP40/Pneumonia" not in values
    assert "note: Nodule/Mass joins Mass and Nodule" in text
    assert "note: left out of NIH boxes, since another set has no such class: Pneumonia\n" in text
    assert "left out of VinBigData" in text and "Aortic enlargement" in text
    both, _ = run_evaluation(EvaluationRequest(
        **request, compare=str(folder / "nih.csv"), map_labels="", bootstrap=20))
    assert both["voc/mAP40"]["a"] == 0.625
    assert both["voc/mAP40"]["b"] == 0.75  # effusion 1; of two nodules and masses on b the mass


def test_results_of_another_tool_are_of_the_set_that_is_named(folder):
    entry = {"image_id": "a", "category_id": 16, "bbox": [10, 10, 50, 50], "score": 0.9}
    (folder / "r.json").write_text(json.dumps([entry]))
    request = {"annotations": str(folder / "nih.json"), "predictions": str(folder / "r.json")}
    assert VINDR_CXR.findings[16] == "Pleural effusion"
    values, _ = run_evaluation(EvaluationRequest(**request, map_labels="VinDr-CXR"))
    assert values["voc/AP40/Effusion"] == 1
    with pytest.raises(InputError, match="category_id 16, expected one of the annotations"):
        run_evaluation(EvaluationRequest(**request))


def test_results_that_state_no_set_need_its_name(folder):
    """Whose category ids might be those of the annotations, or of any other set."""
    entry = {"image_id": "a", "category_id": 10, "bbox": [10, 10, 50, 50], "score": 0.9}
    (folder / "r.json").write_text(json.dumps([entry]))
    (folder / "n.json").write_text(json.dumps([entry | {"label_set": "nih BOXES", "category_id": 2}]))
    request = {"annotations": str(folder / "nih.json")}

    def effusion(name, of, **more):
        return run_evaluation(EvaluationRequest(**request, predictions=str(folder / name), map_labels=of,
                                                **more))[0]["voc/AP40/Effusion"]

    with pytest.raises(InputError, match="r.json: states no label set, .* expected --map-labels SET, one"):
        effusion("r.json", "")
    with pytest.raises(InputError, match="r.json: states no label set"):
        effusion("nih.csv", "", compare=str(folder / "r.json"))
    assert effusion("r.json", "vinbigdata") == 1  # VinBigData's pleural effusion
    assert effusion("n.json", "") == effusion("n.json", "nih boxes") == 1
    for name, own, of in (("n.json", "NIH boxes", "VinDr-CXR"), ("nih.csv", "NIH boxes", "VinDr-CXR"),
                          ("vin.csv", "VinBigData", "NIH boxes")):
        with pytest.raises(InputError, match=f"{name}: .* the label set {own}, but --map-labels says {of}"):
            effusion(name, of)


def test_the_tool(folder, tool):
    write_csv(folder / "p.csv", pd.DataFrame({"Image Index": [f"{name}.png" for name in "abcde"],
                                              "Patient ID": [1, 1, 2, 2, 3]}))
    common = ("evaluate.py", "--annotations", folder / "nih.json", "--predictions", folder / "nih.csv")
    run = tool(*common, "--patients", folder / "p.csv", "--bootstrap", 20, "--by", "size", "--chance",
               "--confusion", 0.5, "--frame", 256, "--out", folder / "out")
    assert run.returncode == 0, run.stderr
    values = json.loads((folder / "out/metrics.json").read_text())
    assert len(values["confusion"]) == 9 and "chance/voc/mAP40" in values
    # Of three patients nothing has an interval.
    assert not [key for key in values if key.endswith("/ci95")]
    assert "no interval, since findings are on fewer than 10 patients" in run.stdout
    assert "expected NIH boxes" in one_line(tool(*common[:4], folder / "vin.csv"))


def test_options_that_do_not_fit(folder):
    write_csv(folder / "p.csv", pd.DataFrame({"image_id": list("abcd"), "patient": list("1123")}))
    write_csv(folder / "q.csv", pd.DataFrame({"image_id": list("abcde"), "age": range(5)}))
    request = {"annotations": str(folder / "nih.json"), "predictions": str(folder / "nih.csv")}
    for options, message in [
        ({"patients": "p.csv"}, "--patients: expected --bootstrap or --compare"),
        ({"patients": str(folder / "p.csv"), "bootstrap": 20}, "p.csv: 1 images have no patient, .* e$"),
        ({"patients": str(folder / "nih.json"), "bootstrap": 20}, "nih.json: is JSON, expected a table"),
        ({"patients": str(folder / "q.csv"), "bootstrap": 20}, "q.csv: has no column of patients"),
        ({"map_labels": "NIH box"}, "--map-labels 'NIH box': expected one of VinBigData"),
    ]:
        with pytest.raises(InputError, match=message):
            run_evaluation(EvaluationRequest(**request, **options))
