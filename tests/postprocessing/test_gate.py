"""The forms of gate, their fit out of fold, and inverted labels in other people's files."""

import json
from argparse import ArgumentTypeError
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd
import pytest
from conftest import one_line
from metric_cases import noisy_detector, soft_append

from vindr_det import cli
from vindr_det.classification.probabilities import (
    ClassifierOutput,
    ProbabilityColumn,
    check_not_inverted,
    find_probability_column,
    read_classifier_outputs,
    read_probabilities,
)
from vindr_det.data.coco import to_coco
from vindr_det.data.in_sample import refuse_in_sample
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.metrics import voc
from vindr_det.postprocessing import gate_fit
from vindr_det.postprocessing.agreement import AgreementCheck, check_agreement
from vindr_det.postprocessing.gate import (
    FORMS,
    Append,
    Hard,
    NoClassifier,
    Rescore,
    Scale,
    gate_all,
    gate_from_json,
)
from vindr_det.structures.detections import Predictions, no_finding, with_no_finding
from vindr_det.structures.label_sets import NIH_BOXES
from vindr_det.structures.records import truth_of
from vindr_det.submission import read_submission, write_submission
from vindr_det.tables import write_csv

BOX = Predictions(np.array([[1.0, 2, 3, 4]]), np.array([0.8]), np.array([3]))


def test_append_adds_class_14_with_one_minus_p():
    gated = soft_append({"a": BOX, "b": Predictions()}, {"a": 0.9, "b": 0.2})
    assert gated["a"].labels.tolist() == [3, 14]
    assert gated["a"].scores == pytest.approx([0.8, 0.1])
    assert gated["a"].boxes[1].tolist() == [0, 0, 1, 1]
    assert gated["b"].scores == pytest.approx([0.8])


def test_an_earlier_class_14_row_is_replaced():
    assert len(soft_append({"a": BOX + no_finding(0.5)}, {"a": 0.9})["a"]) == 2


def test_without_a_classifier_class_14_is_one_minus_the_best_box_score():
    gated = with_no_finding({"a": BOX, "b": Predictions()})
    assert gated["a"].scores[1] == pytest.approx(0.2)
    assert gated["b"].scores == pytest.approx([1.0])


def test_a_missing_probability_names_the_image():
    with pytest.raises(InputError, match="image b"):
        soft_append({"a": BOX, "b": BOX}, {"a": 0.5})


@pytest.mark.parametrize("text, message", [
    ("image_id,target\na,0.5\n", "no column 'p_abnormal', expected p_abnormal or p_no_finding"),
    ("image_id,p_abnormal\na,0.5\nb,1.5\n", "row 3.*1.5"),
    ("image_id,p_abnormal\na,0.5\na,0.5\n", "row 3: image a .*each image once"),
    ("image_id,p_abnormal\na,\n", "row 2"), ("image_id,p_abnormal\na,0.5\nb," + "9" * 400, "row 3"),
])
def test_bad_probability_files(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_probabilities(tmp_path / "p.csv")


@pytest.mark.parametrize("text, options, expected", [
    ("image_id,p_abnormal\na,0.9", {}, 0.9), ("image_id,p_no_finding\na,0.9", {}, 0.1),
    ("image_id,x\na,0.9", {"column": "x"}, 0.9),
    ("image_id,x\na,0.9", {"column": "x", "meaning": "p_no_finding"}, 0.1),
    ("image_id,p_no_finding\na,0.9", {"column": "p_no_finding"}, 0.1),
    ("image_id,p_abnormal\na,0.9", {"column": "p_abnormal", "meaning": "p_no_finding"}, 0.1),
])
def test_the_meaning_of_a_column_is_its_name_or_an_option(tmp_path, text, options, expected):
    (tmp_path / "p.csv").write_text(text)
    assert read_probabilities(tmp_path / "p.csv", **options) == pytest.approx({"a": expected})


def test_inverted_labels_are_refused():
    truth = {"a": True, "b": False, "c": True, "d": False}
    p = {"a": 0.9, "b": 0.1, "c": 0.6, "d": 0.7, "unknown": 0.5}
    assert check_not_inverted(p, truth, "file") == pytest.approx(0.75)
    with pytest.raises(InputError, match=r"file: AUC of P\(abnormal\) is 0.2500"):
        check_not_inverted({key: 1 - value for key, value in p.items()}, truth, "file")
    with pytest.raises(InputError, match="1 of its images have labels, 1 of them abnormal"):
        check_not_inverted({"a": 0.5, "x": 0.5}, truth, "file")


def test_peers_out_of_fold_probabilities(data, tmp_path, tool):
    """Three models' P(no finding) on all training images; the areas are those measured elsewhere."""
    made = tool("convert.py", "vinbigdata", "--annotations", data / "vinbig/train.csv.gz", "--meta",
                data / "vinbig/train_meta.csv", "--out", tmp_path / "a")
    assert made.returncode == 0, made.stderr
    theirs = data / "vinbig/classifier/nht_class14-train-preds.csv"
    peers = ["evaluate_classifier.py", "--predictions", theirs, "--labels", tmp_path / "a/labels.csv",
             "--columns", "effnet", "resnext", "densenet"]
    run = tool(*peers, "--meaning", "p_no_finding", "--out", tmp_path, "--bootstrap", 50)
    assert run.returncode == 0, run.stderr
    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert [metrics[f"auc/{name}"] for name in ("effnet", "resnext", "densenet")] == pytest.approx(
        [0.98863, 0.97857, 0.98456], abs=5e-6)
    low, high = metrics["auc/their mean/ci95"]
    assert low < metrics["auc/their mean"] < high and metrics["auc/their mean"] > metrics["auc/effnet"]
    assert "AUC of P(abnormal) is 0.0" in one_line(tool(*peers, "--meaning", "p_abnormal"))


OUTPUTS = {"a": ClassifierOutput(0.9, np.full(14, 0.64)), "b": ClassifierOutput(0.05, np.full(14, 0.01))}
PREDICTED = {"a": BOX, "b": BOX + no_finding(0.7)}


@pytest.mark.parametrize("gate, image, scores", [
    (NoClassifier(), "b", [0.8, 0.2]),
    (Append(), "b", [0.8, 0.95]),
    (Hard(0.1, 0.8), "b", [1.0]),  # no finding, and nothing else
    (Hard(0.1, 0.8), "a", [0.8]),  # boxes, and nothing else
    (Hard(0.0, 0.95), "a", [0.8, 0.1]), (Hard(0.0, 0.95), "b", [0.8, 0.95]),
    (Scale(0.1), "b", [0.04, 0.95]), (Scale(0.1), "a", [0.8, 0.1]),
    (Rescore(0.5), "a", [np.sqrt(0.8 * 0.64), 0.1]),
    (Rescore(0), "b", [0.8, 0.95]),
])
def test_each_form_by_hand(gate, image, scores):
    gated = gate_all(gate, PREDICTED, OUTPUTS)[image]
    assert gated.scores == pytest.approx(scores)
    assert gated.labels.tolist() == [14] if scores == [1.0] else gated.labels[0] == 3


@pytest.mark.parametrize("data", [
    {"form": "mean"}, {"form": "scale", "low": -1}, {"form": "hard", "low": 0.8, "high": 0.5},
    {"form": "rescore", "power": 1.5}])
def test_bad_gates(data):
    with pytest.raises(InputError, match="gate"):
        gate_from_json(data)


@pytest.mark.parametrize("data, gate", [
    ({"form": "none", "low": 0.0, "high": 1.0, "power": 0.0}, NoClassifier()),
    ({"form": "append", "low": 0.0, "high": 1.0, "power": 0.0}, Append()),
    ({"form": "hard", "low": 0.1, "high": 1.01, "power": 0.0}, Hard(0.1, 1.01)),
    ({"form": "scale", "low": 0.3, "high": 1.0, "power": 0.0}, Scale(0.3)),
    ({"form": "rescore", "low": 0.0, "high": 1.0, "power": 0.7}, Rescore(0.7)),
])
def test_files_of_earlier_versions_have_the_parameters_of_all_forms(data, gate):
    assert gate_from_json(data) == gate == gate_from_json(gate.as_json())


@pytest.mark.parametrize("form", FORMS.values())
def test_what_each_form_tries_can_be_saved(form):
    assert form.grid() and all(gate_from_json(gate.as_json()) == gate for gate in form.grid())


def test_a_missing_output_or_missing_findings_are_errors():
    with pytest.raises(InputError, match="no probability for image b"):
        gate_all(Scale(), PREDICTED, {"a": ClassifierOutput(0.5)})
    with pytest.raises(InputError, match="needs a probability of each finding"):
        gate_all(Rescore(), {"a": BOX}, {"a": ClassifierOutput(0.5)})


def test_a_gate_rescores_the_findings_of_its_own_label_set():
    """NIH's third finding has p 0.25: a score of 0.64 becomes 0.4; its boxed findings have no class 14."""
    box = Predictions(BOX.boxes[:1], np.array([0.64]), np.array([2]), NIH_BOXES)
    p = np.array([0.9, 0.9, 0.25, 0.9, 0.9, 0.9, 0.9, 0.9])
    gated = gate_all(Rescore(0.5), {"a": box}, {"a": ClassifierOutput(0.5, p, NIH_BOXES)})["a"]
    assert gated.scores.tolist() == pytest.approx([0.4]) and gated.label_set is NIH_BOXES
    with pytest.raises(InputError, match="of each finding of NIH boxes, expected columns p_<finding>"):
        gate_all(Rescore(0.5), {"a": box}, {"a": ClassifierOutput(0.5, np.full(14, 0.5))})


@pytest.fixture
def problem(tmp_path):
    """Files of a detector and a classifier on 90 images, and what they hold."""
    records, predictions, p_abnormal = noisy_detector(np.random.default_rng(0))
    write_submission(tmp_path / "d.csv", predictions)
    write_json(tmp_path / "g.json", to_coco(records))
    frame = pd.DataFrame(p_abnormal.items(), columns=["image_id", "p_abnormal"])
    frame["fold"] = np.arange(len(frame)) % 3
    write_csv(tmp_path / "p.csv", frame)
    write_csv(tmp_path / "inverted.csv", frame.assign(p_abnormal=1 - frame["p_abnormal"]))
    return tmp_path, records, predictions, p_abnormal


def test_a_gate_is_fitted_saved_and_applied(problem, tool):
    folder, records, predictions, p_abnormal = problem
    files = ["--probabilities", folder / "p.csv", "--predictions", folder / "d.csv", "--annotations",
             folder / "g.json"]
    run = tool("gate.py", "fit", *files, "--out", folder / "gate.json", "--bootstrap", 200)
    assert run.returncode == 0, run.stderr
    saved = json.loads((folder / "gate.json").read_text())
    forms = saved["forms"]
    assert set(forms) == {"none", "append", "hard", "scale"}  # the classifier has no findings
    assert saved["gate"]["form"] == max(forms, key=lambda form: forms[form]["mAP40"])
    assert forms["append"]["mAP40"] > forms["none"]["mAP40"] and forms["append"]["ci95"][0] > 0
    assert forms["none"]["gain"] == 0 and saved["images"] == sorted(predictions)
    assert len(saved["fitted_on"]["probabilities"]["sha256"]) == 64
    # The score of a form without parameters is that of all images.
    truth = truth_of(records)
    expected = voc.vindr_ap(soft_append(read_submission(folder / "d.csv"), p_abnormal), truth).mean_ap
    assert forms["append"]["mAP40"] == pytest.approx(expected, abs=1e-9)
    apply = ["apply", "--predictions", folder / "d.csv", "--probabilities", folder / "p.csv", "--gate",
             folder / "gate.json", "--out", folder / "o.csv"]
    assert "was fitted on 90 of these 90 images" in one_line(tool("gate.py", *apply))
    assert not (folder / "o.csv").exists()
    assert tool("gate.py", *apply, "--allow-in-sample").returncode == 0
    gated = read_submission(folder / "o.csv")
    gate = gate_fit.read(folder / "gate.json").gate
    whole = gate_all(gate, predictions, {i: ClassifierOutput(p) for i, p in p_abnormal.items()})
    assert all(gated[i].scores == pytest.approx(whole[i].by_score().scores, abs=1e-5) for i in gated)


def test_inverted_labels_stop_the_gate(problem, tool):
    """P(no finding) under the name p_abnormal: seen from the boxes, or the column's meaning at the fit."""
    folder, records, predictions, p_abnormal = problem
    scores = [voc.vindr_ap(soft_append(predictions, p), truth_of(records)).mean_ap
              for p in (p_abnormal, {i: 1 - p for i, p in p_abnormal.items()})]
    assert scores[0] - scores[1] > 0.08  # what it would cost
    fitted = gate_fit.Fitted(Append(), {}, 1.0, ["another"])
    gate_fit.save(folder / "gate.json", fitted, {}, ProbabilityColumn("p_abnormal", "p_no_finding"))
    apply = ["gate.py", "apply", "--predictions", folder / "d.csv", "--out", folder / "o.csv", "--gate",
             folder / "gate.json", "--probabilities"]
    line = one_line(tool(*apply, folder / "p.csv"))
    assert "p.csv: column p_abnormal is taken for p_abnormal, expected p_no_finding as where" in line
    gate_fit.save(folder / "gate.json", fitted, {}, ProbabilityColumn("target", "p_abnormal"))
    line = one_line(tool(*apply, folder / "inverted.csv"))
    assert "inverted.csv: its P(abnormal) is low where the boxes score high (rank correlation -0." in line
    assert not (folder / "o.csv").exists()
    assert tool(*apply, folder / "inverted.csv", "--allow-inverted").returncode == 0


def outputs_of(values):
    return {f"i{n:04d}": ClassifierOutput(float(p)) for n, p in enumerate(values)}


def boxes_of(values):
    return {f"i{n:04d}": Predictions([[0, 0, 9, 9]], [score], [3]) + no_finding(0.5)
            for n, score in enumerate(values)}


@pytest.mark.parametrize("p, best, expected", [
    ([], [], None), ([0.5], [0.5], None), ([0.1] * 90, np.linspace(0, 1, 90), None),
    (np.linspace(0, 1, 90), [0.0] * 90, None),
    (np.linspace(0, 1, 90), np.linspace(0, 1, 90) ** 3, 1.0),
    (np.linspace(1, 0, 9), np.linspace(0, 1, 9), -1.0),  # so few that chance does it
    ([0.9, 0.1, 0.5, 0.1] * 25, [0.8, 0.2, 0.5, 0.2] * 25, 1.0),
])
def test_agreement_with_the_boxes(p, best, expected):
    rho = check_agreement(outputs_of(p), boxes_of(best), "file")
    assert np.isnan(rho) if expected is None else rho == pytest.approx(expected)


def test_agreement_is_spearmans_and_chance_passes():
    from scipy.stats import spearmanr

    rng = np.random.default_rng(0)
    for _ in range(50):
        p, best = rng.random(100).round(1), rng.random(100).round(1)
        if np.sqrt(99) * spearmanr(p, best).statistic > -3:
            rho = check_agreement(outputs_of(p), boxes_of(best), "file")
            assert rho == pytest.approx(spearmanr(p, best).statistic)
    with pytest.raises(InputError, match=r"file: .*rank correlation -1.00 on 50 images.*inverted"):
        check_agreement(outputs_of(np.linspace(1, 0, 50)), boxes_of(np.linspace(0, 1, 50)), "file")


def test_a_long_run_with_inverted_labels_ends_early():
    check = AgreementCheck("file")
    p = np.random.default_rng(0).random(200)
    with pytest.raises(InputError, match="on 64 images"):
        all_boxes = boxes_of(1 - p)
        for image_id, output in outputs_of(p).items():
            check.add([(output, all_boxes[image_id])])
    check = AgreementCheck("file")
    check.add(list(zip(outputs_of(p).values(), boxes_of(1 - p).values(), strict=True))[:30])
    with pytest.raises(InputError, match="on 30 images"):
        check.finish()


def test_real_probabilities_agree_with_real_boxes(data):
    """A peer's classifier and four peers' detectors on the test images: the verdict is clear both ways."""
    outputs = read_classifier_outputs(data / "vinbig/classifier/zfturbo_2-cls_test_pred.csv", "target")
    inverted = {i: ClassifierOutput(1 - output.p_abnormal) for i, output in outputs.items()}
    for name in ("brekkanegg.csv", "windeaves_sub200.csv", "windeaves_sub250.csv", "dxv2k_submission.csv.gz"):
        predictions = read_submission(data / "vinbig/submissions" / name)
        assert check_agreement(outputs, predictions, name) > 0.2, name
        with pytest.raises(InputError, match="inverted"):
            check_agreement(inverted, predictions, name)


def test_inverted_labels_stop_the_fit(problem, tool):
    folder, *_ = problem
    files = ["--predictions", folder / "d.csv", "--annotations", folder / "g.json", "--out",
             folder / "x.json"]
    line = one_line(tool("gate.py", "fit", "--probabilities", folder / "inverted.csv", *files))
    assert "inverted.csv: AUC of P(abnormal) is 0.0000" in line
    options = ["--column", "p_abnormal", "--meaning", "p_no_finding", "--allow-inverted"]
    run = tool("gate.py", "fit", "--probabilities", folder / "inverted.csv", *options, *files, "--bootstrap",
               50)
    assert run.returncode == 0, run.stderr
    assert json.loads((folder / "x.json").read_text())["probabilities"] == {
        "column": "p_abnormal", "meaning": "p_no_finding"}
    assert check_not_inverted({"a": 0.1, "b": 0.9}, {"a": True, "b": False}, "file", allow_inverted=True) == 0


@pytest.mark.parametrize("column, meaning, good", [
    ("p_no_finding", "p_abnormal", False), ("p_abnormal", "p_no_finding", False), ("p_abnormal", None, True),
    ("p_no_finding", "p_no_finding", True), ("x", "p_no_finding", True), ("x", "p_abnormal", True)])
def test_a_meaning_against_the_columns_own_name_is_refused(tmp_path, column, meaning, good):
    path = tmp_path / "p.csv"
    path.write_text("image_id,p_abnormal,p_no_finding,x\na,0.9,0.1,0.5\n")
    if good:
        assert find_probability_column(path, column, meaning).column == column
    else:
        with pytest.raises(InputError, match=f"column {column} is taken for {meaning}, expected {column} as"):
            find_probability_column(path, column, meaning)
    assert find_probability_column(path, column, meaning, allow_inverted=True).meaning == (meaning or column)


@pytest.mark.parametrize("count, score, warned", [
    (1, 0.5, False), (10, 0.5, False), (11, 0.0, True), (30, 0.0, True), (30, 0.5, False)])
def test_labels_that_cannot_be_checked_cause_a_warning(caplog, count, score, warned):
    values = np.linspace(0, 1, count)
    check = AgreementCheck("file")
    check.add(zip(outputs_of(values).values(), boxes_of(values * score).values(), strict=True))
    check.finish()
    warning = f"labels are inverted could not be determined from the boxes of {count} images"
    assert caplog.text.count(warning) == warned


def test_too_few_replicates_are_refused(problem, tool):
    folder, *_ = problem
    line = one_line(tool("gate.py", "fit", "--probabilities", folder / "p.csv", "--predictions",
                         folder / "d.csv", "--annotations", folder / "g.json", "--out", folder / "x.json",
                         "--bootstrap", 0))
    assert "argument --bootstrap: 0: expected a whole number of 10 or more" in line
    for count in ("-1", "1", "9", "x", "1" * 5000):
        with pytest.raises(ArgumentTypeError, match="expected a whole number of 10 or more"):
            cli.replicates(count)
    assert cli.replicates("10") == 10


def test_parameters_do_not_see_the_images_that_they_are_scored_on(problem):
    """Other annotations on a fold's images leave how they are gated unchanged."""
    _, records, predictions, p_abnormal = problem
    outputs, parts = {i: ClassifierOutput(p) for i, p in p_abnormal.items()}, np.arange(len(records)) % 3
    other = [replace(record, truth=Predictions()) if part == 0 else record
             for record, part in zip(records, parts, strict=True)]
    gated = [gate_fit._held_out(predictions, given, outputs, parts, Hard.grid())[1]
             for given in (records, other)]
    for record, part in zip(records, parts, strict=True):
        same = np.array_equal(*(images[record.image_id].scores for images in gated))
        assert same or part != 0


@pytest.mark.parametrize("form, name, lowest, highest", [
    (Hard, "low", 0, 1), (Hard, "high", 0, 1.01), (Scale, "low", 0, 1), (Rescore, "power", 0, 1)])
def test_no_grid_ends_before_its_parameter_does(form, name, lowest, highest):
    tried = [getattr(gate, name) for gate in form.grid()]
    assert (min(tried), max(tried)) == (lowest, highest)


def knowing(record, p_abnormal):
    """A classifier output with the image's true findings."""
    present = np.isin(np.arange(14), record.truth.labels)
    return ClassifierOutput(p_abnormal[record.image_id], np.where(present, 0.95, 0.05))


def test_rescoring_with_the_truth_wins(problem):
    _, records, predictions, p_abnormal = problem
    outputs = {record.image_id: knowing(record, p_abnormal) for record in records}
    folds = {record.image_id: at % 4 for at, record in enumerate(records)}
    fitted = gate_fit.fit(predictions, records, outputs, folds, num_replicates=100)
    assert fitted.gate.form == "rescore" and fitted.forms["rescore"].gain.low > 0
    assert "rescore power" in fitted.text()


def test_rescoring_goes_beyond_where_the_grid_once_ended(problem):
    """Scores over 12 powers of ten that know nothing beside a classifier that knows all."""
    _, records, predictions, p_abnormal = problem
    rng, outputs, noise = np.random.default_rng(0), {}, {}
    for record in records:
        outputs[record.image_id] = knowing(record, p_abnormal)
        boxes = predictions[record.image_id].findings()
        noise[record.image_id] = Predictions(boxes.boxes, 10 ** rng.uniform(-12, 0, len(boxes)), boxes.labels)
    folds = {record.image_id: at % 4 for at, record in enumerate(records)}
    fitted = gate_fit.fit(noise, records, outputs, folds, num_replicates=20)
    assert fitted.forms["rescore"].gate.power in (0.9, 1.0)


@pytest.mark.parametrize("text, message", [
    ("[]", "not a gate"), ("{}", "not a gate"), ("3", "not a gate"), ('{"gate": [1]}', "not a gate"),
    ('{"gate": "append"}', "not a gate"), ('{"gate": {"form": "append", "cut": 1}}', "not a gate"),
    ('{"gate": {"form": "scale", "low": "x"}}', "not a gate"),
    ('{"gate": {}, "probabilities": [1]}', "not a gate"),
    ('{"gate": {"form": "scale", "low": 2}}', "expected 0 <= low"), ('{"gate": {"low": 2}}', "not a gate"),
    ('{"gate": null}', "holds no gate"),
    ("{", "not valid JSON"), ("[" * 100_000, "not valid JSON"), ("9" * 5000, "not valid JSON"),
])
def test_a_file_without_a_gate_is_one_line(tmp_path, text, message):
    (tmp_path / "g.json").write_text(text)
    with pytest.raises(InputError, match=message):
        gate_fit.read(tmp_path / "g.json")


def test_bad_gate_files(tmp_path):
    (tmp_path / "g.json").write_text("{}")
    with pytest.raises(InputError, match=r"g.json: not a gate"):
        gate_fit.read(tmp_path / "g.json")
    (tmp_path / "f.csv").write_text("image_id,p_abnormal,fold\na,0,0\nb,0,1\nc,0,1\nd,0,1\n")
    assert gate_fit.folds_of(tmp_path / "f.csv", ["a", "b"], 3) == {"a": 0, "b": 1}
    for fold in ("", "x", "0.5", "inf"):
        (tmp_path / "b.csv").write_text(f"image_id,fold\na,0\nz,9\nb,{fold}\nc,1\n")
        with pytest.raises(InputError, match=r"b.csv, row 4: fold .* of image b, expected a whole number"):
            gate_fit.folds_of(tmp_path / "b.csv", ["a", "b", "c"], 3)
    # A detector's validation set is of one fold.
    assert sorted(gate_fit.folds_of(tmp_path / "f.csv", ["b", "c", "d"], 3).values()) == [0, 1, 2]
    (tmp_path / "p.csv").write_text("image_id,p_abnormal\na,0.5\nb,0.5\n")
    with pytest.raises(InputError, match="--folds 3: expected 2 to 2"):
        gate_fit.folds_of(tmp_path / "p.csv", ["a", "b"], 3)


def test_predicting_a_folder_stops_for_seen_images_and_inverted_labels(tmp_path):
    """Before any image is read; and after 64 images, not at the end."""
    import cv2

    from vindr_det.prediction import predict_folder

    levels = np.random.default_rng(0).integers(1, 250, 200)
    for number, level in enumerate(levels):
        image = np.full((8, 8), level, np.uint8)
        image[0, 0] = 0  # a picture of one value shows nothing and is not given to the detector
        cv2.imwrite(str(tmp_path / f"i{number:03d}.png"), image)
    shown = []

    def detector(images):
        shown.extend(images)
        return [Predictions([[0, 0, 4, 4]], [image.mean() / 255], [3]) for image in images]

    def inverted(image):
        return ClassifierOutput(1 - image.mean() / 255)

    path = tmp_path / "gate.json"
    gate_fit.save(path, gate_fit.Fitted(Append(), {}, 1.0, ["train/i007.dicom"]), {})
    with pytest.raises(InputError, match="gate.json: was fitted on 1 of these 200 images, the first is i007"):
        predict_folder(tmp_path, [detector], check_ids=partial(refuse_in_sample, path))
    assert not shown
    with pytest.raises(InputError, match="the classifier: .*on 64 images.*inverted"):
        predict_folder(tmp_path, [detector], classifier=inverted, batch=8)
    assert len(shown) == 64
    allowed = predict_folder(tmp_path, [detector], classifier=inverted, allow_inverted=True)
    right = predict_folder(tmp_path, [detector],
                           classifier=lambda image: ClassifierOutput(image.mean() / 255))
    assert len(allowed.predictions) == len(right.predictions) == 200


def test_random_folds_where_the_annotations_leave_images_of_a_single_fold(problem, tool):
    """A detector's predictions on all training images, annotations of its validation fold alone."""
    folder, records, *_ = problem
    validated = records[:45]
    frame = pd.read_csv(folder / "p.csv", dtype={"image_id": str})
    frame["fold"] = (~frame["image_id"].isin([record.image_id for record in validated])).astype(int)
    write_csv(folder / "p.csv", frame)
    write_json(folder / "val.json", to_coco(validated))
    run = tool("gate.py", "fit", "--probabilities", folder / "p.csv", "--predictions", folder / "d.csv",
               "--annotations", folder / "val.json", "--out", folder / "gate.json", "--bootstrap", 10)
    assert run.returncode == 0, run.stderr
    assert json.loads((folder / "gate.json").read_text())["images"] == sorted(r.image_id for r in validated)
