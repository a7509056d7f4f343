"""Any file of probabilities, or two of them, against labels."""

import json

import numpy as np
import pandas as pd
import pytest
from sklearn.metrics import confusion_matrix, f1_score, roc_auc_score

from vindr_det.classification import operating_points as points
from vindr_det.classification.external import ScoringOptions, score, thresholds_between
from vindr_det.classification.operating_points import OperatingPoints, TargetRates
from vindr_det.exceptions import InputError
from vindr_det.metrics.calibration import Calibration
from vindr_det.structures.label_sets import NIH_LABELS, column_of

FEW = ScoringOptions(replicates=60)
NAMES = ("Mass", "Effusion", "Hernia")


@pytest.fixture
def files(tmp_path):
    """Labels of 400 images of 200 patients, and two classifiers; the second is better at masses."""
    rng = np.random.default_rng(0)
    patients = np.arange(400) // 2
    table = pd.DataFrame({"image": [f"{i}.png" for i in range(400)], "patient": patients, "fold": 0})
    for name in NIH_LABELS:
        table[name] = (rng.random(400) < {"Mass": 0.4, "Effusion": 0.3}.get(name, 0.0)).astype(float)
    table.loc[:2, "Hernia"] = 1.0
    table["No Finding"] = 1 - table[list(NIH_LABELS)].max(axis=1)
    for file, gain in (("a", 0.8), ("b", 1.6)):
        frame = pd.DataFrame({"image_id": [str(i) for i in range(400)]})
        for name in NAMES:
            shift = (gain if name == "Mass" else 1.0) * table[name]
            frame[column_of(name)] = 1 / (1 + np.exp(-3 * rng.normal(shift - 0.5, 1)))  # too sure
        frame["p_abnormal"] = frame.drop(columns="image_id").max(axis=1)
        frame.to_csv(tmp_path / f"{file}.csv", index=False)
    table.to_csv(tmp_path / "labels.csv", index=False)
    return tmp_path


def test_every_label_that_both_know(files):
    scores = score(files / "a.csv", files / "labels.csv", FEW)
    assert list(scores.estimates) == ["the file", "p_effusion", "p_mass", "p_hernia"]
    table, frame = pd.read_csv(files / "labels.csv"), pd.read_csv(files / "a.csv")
    assert scores.estimates["p_mass"]["auc"].value == pytest.approx(
        roc_auc_score(table["Mass"], frame["p_mass"]))
    assert scores.estimates["the file"]["auc"].value == pytest.approx(
        roc_auc_score(1 - table["No Finding"], frame["p_abnormal"]))
    assert scores.estimates["p_hernia"] == {} and "p_hernia" not in scores.calibration  # three images
    expected = ("threshold_0.5", "youden", "f1", "sensitivity_0.95")
    assert {f"p_mass/{name}" for name in expected} <= set(scores.rates)
    assert scores.calibration["p_mass"]["ece_calibrated"] < scores.calibration["p_mass"]["ece"]
    text = scores.text()
    assert "not measurable" in text and "p_effusion" in text and "specificity_0.95" in text
    json.dumps(scores.as_json())


def test_plain_label_names_are_probabilities_where_there_are_no_others(files):
    ours = score(files / "a.csv", files / "labels.csv", FEW)
    frame = pd.read_csv(files / "a.csv").drop(columns="p_abnormal")
    plain = frame.rename(columns={column_of(name): name for name in NAMES})
    plain.to_csv(files / "plain.csv", index=False)
    theirs = score(files / "plain.csv", files / "labels.csv", FEW, files / "b.csv")
    assert set(theirs.estimates) == {column_of(name) for name in NAMES}
    for column in theirs.estimates:
        assert theirs.estimates[column] == ours.estimates[column]
    assert set(theirs.differences) >= {"p_mass", "p_effusion"}
    table = pd.read_csv(files / "labels.csv")[["image", *NAMES]].rename(columns={"image": "image_id"})
    table.to_csv(files / "truth.csv", index=False)
    with pytest.raises(InputError, match="truth.csv: columns Mass, Effusion, Hernia hold 0 and 1 alone"):
        score(files / "truth.csv", files / "labels.csv", FEW)
    beside = plain.assign(p_abnormal=pd.read_csv(files / "a.csv")["p_abnormal"])
    beside.to_csv(files / "beside.csv", index=False)
    assert list(score(files / "beside.csv", files / "labels.csv", FEW).estimates) == ["the file"]


def test_image_names_with_and_without_suffix_are_one_image(files):
    plain = score(files / "a.csv", files / "labels.csv", FEW)
    frame = pd.read_csv(files / "a.csv", float_precision="round_trip")
    frame["image_id"] = frame["image_id"].astype(str) + ".png"  # as the table has them
    frame.to_csv(files / "c.csv", index=False)
    assert score(files / "c.csv", files / "labels.csv", FEW).as_json() == plain.as_json()
    frame.loc[1, "image_id"] = "0.jpg"
    frame.to_csv(files / "c.csv", index=False)
    with pytest.raises(InputError, match="1 of its images differ from another in their suffix alone"):
        score(files / "c.csv", files / "labels.csv", FEW)


@pytest.mark.parametrize("patient", ["patient_id", "Patient ID", "Patient Id "])
def test_intervals_are_over_patients_however_their_column_is_spelled(files, patient):
    expected = score(files / "a.csv", files / "labels.csv", FEW).estimates["p_mass"]["auc"]
    table = pd.read_csv(files / "labels.csv").rename(columns={"patient": patient})
    table.to_csv(files / "labels.csv", index=False)
    auc = score(files / "a.csv", files / "labels.csv", FEW).estimates["p_mass"]["auc"]
    assert (auc.low, auc.high) == (expected.low, expected.high)


def test_two_files_on_the_images_of_both(files):
    frame = pd.read_csv(files / "b.csv").sample(frac=0.8, random_state=0)  # others, in another order
    frame.to_csv(files / "b.csv", index=False)
    scores = score(files / "a.csv", files / "labels.csv", FEW, files / "b.csv")
    table = pd.read_csv(files / "labels.csv")
    table["image_id"] = table["image"].str[:-4].astype(int)
    both = table.merge(pd.read_csv(files / "a.csv"), on="image_id").merge(frame, on="image_id")
    mass = scores.differences["p_mass"]
    assert mass.images == 320 == len(both)
    assert mass.by_patient["auc"].value == pytest.approx(
        roc_auc_score(both["Mass"], both["p_mass_y"]) - roc_auc_score(both["Mass"], both["p_mass_x"]))
    assert mass.by_image.difference.value == pytest.approx(mass.by_patient["auc"].value)
    assert mass.by_image.p < 0.01 and mass.by_patient["auc"].low > 0
    assert scores.differences["p_effusion"].by_image.p > 0.01 and "p_hernia" not in scores.differences
    assert scores.as_json()["difference/auc/p_mass/delong"]["p"] == mass.by_image.p
    assert "the second file minus the first" in scores.text()


def test_files_of_other_people_with_columns_of_their_own(files):
    a = pd.read_csv(files / "a.csv").assign(net=lambda frame: 1 - frame["p_abnormal"])[["image_id", "net"]]
    a.to_csv(files / "peer.csv", index=False)
    with pytest.raises(InputError, match="peer.csv: has no column 'p_abnormal'"):
        score(files / "a.csv", files / "labels.csv", ScoringOptions(replicates=20), files / "peer.csv")
    with pytest.raises(InputError, match="its probabilities are inverted"):
        score(files / "a.csv", files / "labels.csv", ScoringOptions(replicates=20, other_columns=["net"]),
              files / "peer.csv")
    peer = ScoringOptions(["net"], "p_no_finding", 20)
    scores = score(files / "peer.csv", files / "labels.csv", peer, files / "peer.csv")
    assert scores.differences["net"].by_image.difference.value == 0
    a.assign(net=1 - a["net"]).to_csv(files / "peer.csv", index=False)
    options = ScoringOptions(replicates=20, other_columns=["net"])
    scores = score(files / "a.csv", files / "labels.csv", options, files / "peer.csv")
    assert list(scores.differences) == ["the file"] and scores.differences["the file"].by_image.p == 1


def only(files, name, *columns):
    """The second file with these columns alone."""
    pd.read_csv(files / "b.csv")[["image_id", *columns]].to_csv(files / name, index=False)
    return files / name


@pytest.mark.parametrize("first, second", [
    (["p_effusion"], ["p_mass"]), (["p_effusion"], ["p_abnormal"]), (["p_abnormal"], ["p_mass"]),
    (["p_hernia"], ["p_hernia"])])  # the last: three images
def test_different_findings_are_not_compared(files, first, second):
    path, other = only(files, "first.csv", *first), only(files, "second.csv", *second)
    with pytest.raises(InputError, match=r"second.csv: nothing in it can be compared with .*first.csv"):
        score(path, files / "labels.csv", FEW, other)


def test_columns_of_a_single_file_are_logged(files, caplog):
    path = only(files, "first.csv", "p_effusion", "p_mass")
    other = only(files, "other.csv", "p_mass", "p_hernia")
    scores = score(path, files / "labels.csv", FEW, other)
    assert list(scores.differences) == ["p_mass"]
    assert "not compared: p_effusion, p_hernia" in caplog.text


def test_the_second_file_has_a_meaning_of_its_own(files):
    frame = pd.read_csv(files / "a.csv").assign(net=lambda frame: 1 - frame["p_abnormal"])
    frame[["image_id", "net"]].to_csv(files / "peer.csv", index=False)
    given = ScoringOptions(["p_abnormal"], replicates=20, other_columns=["net"], other_meaning="p_no_finding")
    scores = score(files / "a.csv", files / "labels.csv", given, files / "peer.csv")
    assert list(scores.differences) == ["p_abnormal"]
    assert scores.differences["p_abnormal"].by_image.difference.value == 0


def test_what_is_uncertain_or_blank_is_left_out(files):
    table = pd.read_csv(files / "labels.csv")
    table.loc[:99, "Mass"], table.loc[100:149, "Mass"] = -1, np.nan
    table.to_csv(files / "labels.csv", index=False)
    frame = pd.read_csv(files / "a.csv")
    scores = score(files / "a.csv", files / "labels.csv", FEW)
    assert scores.estimates["p_mass"]["auc"].value == pytest.approx(
        roc_auc_score(table["Mass"][150:], frame["p_mass"][150:]))
    rates = scores.rates["p_mass/youden"]
    assert sum(rates[key] for key in ("tp", "fp", "fn", "tn")) == 250


@pytest.mark.parametrize("calibrated, slope", [({}, 0.5), ({"calibrated": 1}, 1.0)])
def test_points_of_a_training(files, calibrated, slope):
    """They are of calibrated probabilities: a file that was not calibrated is, and never twice."""
    frame = pd.read_csv(files / "a.csv").assign(**calibrated)
    frame.to_csv(files / "a.csv", index=False)
    points.save_points(files, {"p_mass": OperatingPoints(Calibration("platt", 0.5, 0.0), {"mine": 0.6}),
                               "p_abnormal": OperatingPoints(Calibration("platt", 0.5, 0.0), {"mine": 0.6})})
    scores = score(files / "a.csv", files / "labels.csv", ScoringOptions(replicates=20, points=files))
    assert list(scores.rates) == ["the file/mine", "p_mass/mine"]
    positive = 1 / (1 + (1 / frame["p_mass"] - 1) ** slope) >= 0.6
    rates = scores.rates["p_mass/mine"]
    assert rates["tp"] + rates["fp"] == positive.sum() > 20


def test_points_are_those_of_the_column_that_is_named(files):
    frame = pd.read_csv(files / "a.csv").rename(columns={"p_abnormal": "net"}).assign(second=0.5)
    frame.to_csv(files / "peer.csv", index=False)
    points.save_points(files, {"p_abnormal": OperatingPoints(Calibration(), {"mine": 0.6})})
    scores = score(files / "peer.csv", files / "labels.csv",
                   ScoringOptions(["net"], replicates=20, points=files))
    assert list(scores.rates) == ["net/mine"]
    points.save_points(files, {"p_hernia": OperatingPoints(Calibration(), {"mine": 0.6})})
    with pytest.raises(InputError, match="has points of p_hernia, expected one of net"):
        score(files / "peer.csv", files / "labels.csv", ScoringOptions(["net"], replicates=20, points=files))


@pytest.mark.parametrize("shown, expected", [(400, "in sample: 400 of 400 images chose them"),
                                             (100, "in sample: 100 of 400 images chose them"), (0, "")])
def test_rates_on_the_images_that_chose_the_points_are_noted(files, shown, expected):
    chosen = {"p_abnormal": OperatingPoints(Calibration("platt", 0.5, 0.0), {"mine": 0.6}, "single models")}
    ids = [str(i) for i in range(shown)] or ["another"]
    points.save_points(files, chosen, {"single models": ids})
    scores = score(files / "a.csv", files / "labels.csv", ScoringOptions(replicates=20, points=files))
    assert expected in scores.source and ("in sample" in scores.source) == bool(shown)
    # The file beside its own points was calibrated on these images.
    pd.read_csv(files / "a.csv").assign(calibrated=1).to_csv(files / "oof.csv", index=False)
    text = score(files / "oof.csv", files / "labels.csv", FEW).text()
    assert ("ECE is in sample" in text) == bool(shown)


def test_an_inverted_file_is_scored_on_request(files):
    pd.read_csv(files / "a.csv").assign(net=lambda frame: 1 - frame["p_abnormal"]).to_csv(files / "c.csv")
    with pytest.raises(InputError, match="its probabilities are inverted"):
        score(files / "c.csv", files / "labels.csv", ScoringOptions(["net"], replicates=20))
    scores = score(files / "c.csv", files / "labels.csv",
                   ScoringOptions(["net"], replicates=20, allow_inverted=True))
    assert scores.estimates["net"]["auc"].value < 0.5


def test_targets(files):
    scores = score(files / "a.csv", files / "labels.csv",
                   ScoringOptions(replicates=20, targets=TargetRates((0.8,), ())))
    assert {name for name in scores.rates if name.startswith("p_mass")} == {
        "p_mass/threshold_0.5", "p_mass/youden", "p_mass/f1", "p_mass/sensitivity_0.8"}


def test_the_tool(files, tool):
    asked = ["evaluate_classifier.py", "--predictions", files / "a.csv", "--labels", files / "labels.csv"]
    run = tool(*asked, "--compare", files / "b.csv", "--bootstrap", 50, "--out", files / "out")
    assert run.returncode == 0, run.stderr
    metrics = json.loads((files / "out/metrics.json").read_text())
    assert {"auc/p_mass", "calibration", "operating_points", "difference/auc/p_mass"} <= set(metrics)


def test_bad_options(main_of):
    asked = ["evaluate_classifier.py", "--predictions", "a.csv", "--labels", "labels.csv"]
    for option, value in (("--sensitivity", 95), ("--bootstrap", 9), ("--bootstrap", -1)):
        with pytest.raises(InputError, match=f"{option} {value}.*: expected"):
            main_of(*asked, option, value)


def test_counts_thresholds_and_pictures(files, main_of, capsys):
    asked = ["evaluate_classifier.py", "--predictions", files / "a.csv", "--labels", files / "labels.csv",
             "--bootstrap", 20, "--out", files / "out"]
    main_of(*asked, "--sweep", 0.4, 0.69, 0.01, "--point", "f1")
    shown = capsys.readouterr().out
    table, truth = pd.read_csv(files / "out/thresholds.csv"), pd.read_csv(files / "labels.csv")
    p = pd.read_csv(files / "a.csv")
    assert list(table) == ["probability", "threshold", "tp", "tn", "fp", "fn", "sensitivity", "specificity",
                           "precision", "f1", "accuracy"]
    mass = table[table["probability"] == "p_mass"].set_index("threshold")
    assert len(mass) == 30 and len(table) == 4 * 30 and mass.index[-1] == 0.69
    called = p["p_mass"] >= 0.55
    tn, fp, fn, tp = confusion_matrix(truth["Mass"] == 1, called).ravel()
    assert mass.loc[0.55, ["tn", "fp", "fn", "tp"]].tolist() == [tn, fp, fn, tp]
    assert mass.loc[0.55, "f1"] == pytest.approx(f1_score(truth["Mass"] == 1, called))
    assert "counts at f1" in shown and "the best of them is optimistic" in shown
    metrics = json.loads((files / "out/metrics.json").read_text())
    rates = metrics["operating_points"]["p_mass/f1"]
    lines = shown.split("counts at f1")[1].splitlines()
    line = next(line.split() for line in lines if line.startswith("p_mass "))
    assert line[2:6] == [f"{rates[name]:.0f}" for name in ("tp", "fp", "fn", "tn")]
    assert line[9:] == [f"{rates['f1']:.3f}", f"{rates['accuracy']:.3f}"]
    aucs = [metrics["auc/p_mass"], metrics["auc/p_effusion"]]  # hernia has too few
    assert (metrics["auc/min"], metrics["auc/max"]) == (min(aucs), max(aucs))
    assert metrics["auc/mean"] == metrics["auc/median"] == pytest.approx(np.mean(aucs))
    assert (files / "out/roc.png").is_file() and (files / "out/thresholds.png").is_file()
    main_of(*asked, "--point", "0.55")
    shown = capsys.readouterr().out.partition("counts at 0.55 of the probabilities as they are")[2]
    row = next(line.split() for line in shown.splitlines() if line.startswith("p_mass"))
    assert row[:6] == ["p_mass", "0.5500", str(tp), str(fp), str(fn), str(tn)]
    with pytest.raises(InputError, match="--point 1.5: expected a number from 0 to 1, or the name"):
        main_of(*asked, "--point", "1.5")
    with pytest.raises(InputError, match=r"--point best: expected one of threshold_0.5, youden, f1"):
        main_of(*asked, "--point", "best")


@pytest.mark.parametrize("between", [
    (0.7, 0.4, 0.01), (0, 1.1, 0.1), (0, 1, 0), (0, 1, 1e-4), (float("nan"), 1, 0.1)])
def test_thresholds_that_make_no_sense(between):
    with pytest.raises(InputError, match=r"--sweep .*: expected LOW, HIGH and STEP"):
        thresholds_between(*between)


@pytest.mark.parametrize("between, expected", [
    ((0.5, 0.5, 0.1), [0.5]), ((0.4, 0.43, 0.01), [0.4, 0.41, 0.42, 0.43]),
    ((0, 1, 0.3), [0, 0.3, 0.6, 0.9])])
def test_thresholds_between(between, expected):
    assert thresholds_between(*between) == expected
