"""The search of post-processing: its space, how it resumes, and the verdict on what it found."""

import json
from dataclasses import replace
from pathlib import Path

import numpy as np
import pandas as pd
import pytest
from conftest import one_line
from metric_cases import noisy_detector

from vindr_det.data.coco import to_coco
from vindr_det.data.in_sample import as_json
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.imaging.status import FAILED, Status, status_path, write_status
from vindr_det.metrics import voc
from vindr_det.postprocessing.fusion import Fusion, fuse_all
from vindr_det.postprocessing.gate import NoClassifier
from vindr_det.postprocessing.search import HOLDOUT, SEARCH, read_inputs, tune
from vindr_det.postprocessing.search_result import order_note, read_tuned
from vindr_det.postprocessing.search_space import Search, Settings, at_ends, default_point, defaults, suggest
from vindr_det.structures.label_sets import NIH_BOXES
from vindr_det.submission import read_submission, submission_text, write_submission
from vindr_det.tables import write_csv

pytest.importorskip("optuna")


@pytest.fixture
def folder(tmp_path):
    """Two detectors and a classifier on 90 images."""
    records, first, p_abnormal = noisy_detector(np.random.default_rng(0))
    _, second, _ = noisy_detector(np.random.default_rng(1))
    write_json(tmp_path / "g.json", to_coco(records))
    write_submission(tmp_path / "a.csv", first)
    write_submission(tmp_path / "b.csv", second)
    write_csv(tmp_path / "p.csv", pd.DataFrame(p_abnormal.items(), columns=["image_id", "p_abnormal"]))
    return tmp_path


def test_a_search_finds_that_duplicate_boxes_cost(folder):
    """Every finding is boxed twice: NMS must help, on images that it was not chosen on."""
    tuned = tune(Search((str(folder / "a.csv"),), str(folder / "g.json")), folder / "t.json", 24, workers=1)
    assert tuned.gain.value > 0.01 and tuned.tuned > tuned.default
    verdict = "improves on the defaults" if tuned.gain.low > 0 else "no significant difference"
    assert verdict in tuned.text()
    saved = json.loads((folder / "t.json").read_text())
    assert saved["held_out"]["tuned"] == tuned.tuned and len(saved["images"]) == 90
    assert isinstance(read_tuned(folder / "t.json", 1), Fusion)
    with pytest.raises(InputError, match=r"t.json: was searched over 1 files, expected as many and got 2"):
        read_tuned(folder / "t.json", 2)
    assert pd.read_csv(folder / "t.trials.csv")["method"].value_counts().to_dict() == {
        "none": 1, "nms": 12, "wbf": 11}


@pytest.fixture
def search(folder):
    """Of two detectors, with a classifier."""
    return Search((str(folder / "a.csv"), str(folder / "b.csv")), str(folder / "g.json"),
                  probabilities=str(folder / "p.csv"))


def test_an_image_that_one_model_was_not_shown_is_the_others(folder, search):
    image_id = sorted(read_submission(folder / "a.csv"))[0]
    other = {image_id: read_submission(folder / "b.csv")[image_id]}
    write_status(status_path(folder / "a.csv"), [Status(image_id, f"{image_id}.png", FAILED, "damaged")])
    inputs = read_inputs(search)
    split = next(split for split, records in inputs.splits.items()
                 if image_id in {record.image_id for record in records})
    options = Fusion(iou_thr=0.99)
    fused = inputs.processed(Settings(options, NoClassifier()), split)[image_id].findings()
    alone = fuse_all([other], {image_id: inputs.sizes[image_id]}, options, workers=1)[image_id].findings()
    assert len(alone) and fused.scores.tolist() == pytest.approx(alone.scores.tolist())  # not halved


def test_sizes_of_a_coco_file_are_its_own(folder, search):
    """A table of sizes that lacks images ended in a KeyError."""
    write_csv(folder / "few.csv", pd.DataFrame({"image_id": ["other"], "dim0": [9], "dim1": [9]}))
    inputs = read_inputs(replace(search, meta=str(folder / "few.csv")))
    assert inputs.sizes == read_inputs(search).sizes and inputs.processed(defaults(search), SEARCH)


def test_each_method_has_trials_and_the_defaults_are_the_first_trial(folder, search):
    tuned = tune(search, folder / "t.json", 50, workers=1)
    trials = pd.read_csv(folder / "t.trials.csv")
    assert trials["method"].value_counts().to_dict() == {"wbf": 13, "nms": 13, "soft-nms": 12, "nmw": 12}
    first = trials.iloc[0]
    assert first["method"] == "wbf" and first["params_iou_thr"] == 0.4 and first["params_gate"] == "append"
    assert first["value"] == pytest.approx(read_inputs(search).score(defaults(search), SEARCH), abs=1e-12)
    assert trials["value"].max() >= first["value"]
    assert trials["params_conf_type"].nunique() == 4 and tuned.uses == 1


@pytest.mark.parametrize("models, probabilities", [(1, None), (1, "p.csv"), (2, None), (2, "p.csv")])
def test_the_first_point_is_the_defaults(models, probabilities):
    from optuna.trial import FixedTrial

    search = Search(("a.csv", "b.csv")[:models], "g.json", probabilities=probabilities)
    settings = suggest(FixedTrial(default_point(search)), search, search.methods[0], True)
    base = defaults(search)
    assert settings.gate == base.gate
    if models == 1:
        assert settings.fusion is base.fusion is None
    else:
        assert settings.fusion == replace(base.fusion, weights=(1.0, 1.0))


@pytest.mark.parametrize("models, probabilities, trials, expected", [
    (2, None, 1, [1, 0, 0, 0]), (2, None, 6, [2, 2, 1, 1]), (2, None, 200, [50] * 4), (1, None, 1, [1, 0, 0]),
    (1, None, 24, [1, 12, 11]), (1, "p.csv", 24, [8, 8, 8])])
def test_every_method_has_its_share(models, probabilities, trials, expected):
    search = Search(("a.csv", "b.csv")[:models], "g.json", probabilities=probabilities)
    assert search.shares(trials) == dict(zip(search.methods, expected, strict=True))


def test_a_second_report_on_the_same_images_is_no_longer_on_unseen_ones(folder, search):
    """Also under another name, of other options or another seed; not in a folder of its own."""
    first = tune(search, folder / "t.json", 2, workers=1)
    assert first.uses == 1 and "no longer unseen" not in first.text()
    again = tune(search, folder / "t.json", 3, workers=1)
    assert again.uses == 2 and "no longer unseen: this is report 2 on them" in again.text()
    assert json.loads((folder / "t.json").read_text())["held_out"]["uses"] == 2
    for name, text in (("x", "[]"), ("y", "{"), ("z", json.dumps(as_json(["i000"]) | {"held_out": []}))):
        (folder / f"{name}.json").write_text(text)  # another tool's
        (folder / f"{name}.journal").touch()
    other = replace(search, probabilities=None, seed=5)
    assert tune(other, folder / "other.json", 2, workers=1).uses == 3
    assert tune(search, folder / "apart/t.json", 2, workers=1).uses == 1


def test_each_report_counts_once_and_is_not_forgotten(folder):
    """Runs a, b, a, b are four, also where a result or its search log is removed."""
    a, b = (Search((str(folder / name),), str(folder / "g.json")) for name in ("a.csv", "b.csv"))
    runs = [(a, "a"), (b, "b"), (a, "a"), (b, "b")]
    assert [tune(search, folder / f"{name}.json", 1, workers=1).uses for search, name in runs] == [1, 2, 3, 4]
    (folder / "b.json").unlink()
    (folder / "a.json").unlink()
    assert tune(a, folder / "a.json", 1, workers=1).uses == 5
    (folder / "a.journal").unlink()
    (folder / "b.journal").write_text("not a search log")
    assert tune(a, folder / "a.json", 1, workers=1).uses == 6


def test_an_option_at_the_end_of_what_was_searched_is_noted():
    from optuna.distributions import CategoricalDistribution, FloatDistribution, IntDistribution

    space = {"iou_thr": FloatDistribution(0.1, 0.9), "skip_box_thr": FloatDistribution(1e-5, 0.3, log=True),
             "weight0": FloatDistribution(0.25, 4, log=True), "max_boxes": IntDistribution(5, 300, log=True),
             "power": FloatDistribution(0, 1), "conf_type": CategoricalDistribution(("avg", "max"))}
    middle = {"iou_thr": 0.5, "skip_box_thr": 1e-3, "weight0": 1.0, "max_boxes": 50, "power": 0.5,
              "conf_type": "max"}
    cases = {"iou_thr": (0.899, 0.101), "weight0": (3.95, 0.251), "skip_box_thr": (0.29,), "max_boxes": (5,)}
    for name, values in cases.items():
        for value in values:
            (note,) = at_ends(middle | {name: value}, space)
            assert note.startswith(f"{name} {value:g} is at the end of what was searched")
    for harmless in (middle, middle | {"power": 1.0}, middle | {"skip_box_thr": 1e-5, "max_boxes": 300}):
        assert at_ends(harmless, space) == []


def test_a_search_resumes_where_it_stopped(folder, tool):
    files = ["--predictions", folder / "a.csv", folder / "b.csv", "--annotations", folder / "g.json",
             "--probabilities", folder / "p.csv", "--out", folder / "t.json"]
    first = tool("tune.py", *files, "--trials", 4, "--workers", 2)
    assert first.returncode == 0, first.stderr
    before = pd.read_csv(folder / "t.trials.csv")
    again = tool("tune.py", *files, "--trials", 8, "--workers", 1)
    assert again.returncode == 0, again.stderr
    after = pd.read_csv(folder / "t.trials.csv")
    assert len(before) == 4 and len(after) == 8 and after["value"][:4].tolist() == before["value"].tolist()
    assert after["params_iou_thr"].nunique() == 8  # no point twice
    unchanged = (folder / "t.trials.csv").read_text()
    assert tool("tune.py", *files, "--trials", 8).returncode == 0
    assert (folder / "t.trials.csv").read_text() == unchanged
    # Other contents are another search.
    write_submission(folder / "b.csv", read_submission(folder / "a.csv"))
    assert tool("tune.py", *files, "--trials", 2, "--workers", 1).returncode == 0
    assert len(pd.read_csv(folder / "t.trials.csv")) == 2


def test_the_splits_share_no_image_and_the_trials_see_one(folder, monkeypatch):
    from vindr_det.postprocessing.search import Inputs

    search = Search((str(folder / "a.csv"),), str(folder / "g.json"), seed=3)
    splits = read_inputs(search).splits
    searched, held_out = ({record.image_id for record in splits[split]} for split in (SEARCH, HOLDOUT))
    assert not searched & held_out and len(searched | held_out) == 90
    assert abs(len(searched) - len(held_out)) <= 3
    scored, score = set(), Inputs.score
    monkeypatch.setattr(Inputs, "score",
                        lambda self, settings, split: scored.add(split) or score(self, settings, split))
    tune(search, folder / "t.json", 3, workers=1)
    assert scored == {SEARCH}


def test_what_was_tuned_fuses_and_gates(folder, search, tool):
    assert defaults(search).gate.form == "append"
    tune(search, folder / "t.json", 8, workers=1)
    meta = folder / "meta.csv"
    ids = list(read_submission(folder / "a.csv"))
    write_csv(meta, pd.DataFrame({"image_id": ids, "dim0": 200, "dim1": 200}))
    fuse = ["fuse.py", "--predictions", folder / "a.csv", folder / "b.csv", "--meta", meta, "--tuned",
            folder / "t.json", "--out", folder / "f.csv"]
    assert "t.json: was fitted on 90 of these 90 images" in one_line(tool(*fuse))
    assert "--iou-thr 0.3 beside --tuned" in one_line(tool(*fuse, "--iou-thr", 0.3))
    assert not (folder / "f.csv").exists()
    swapped = [*fuse[:2], folder / "b.csv", folder / "a.csv", *fuse[4:], "--allow-in-sample"]
    assert "t.json: was searched over a.csv b.csv, got b.csv a.csv" in one_line(tool(*swapped))
    run = tool(*fuse, "--allow-in-sample")
    assert run.returncode == 0, run.stderr
    gate = ["apply", "--predictions", folder / "f.csv", "--probabilities", folder / "p.csv", "--gate",
            folder / "t.json", "--out", folder / "o.csv"]
    assert "was fitted on 90 of these 90" in one_line(tool("gate.py", *gate))
    assert tool("gate.py", *gate, "--allow-in-sample").returncode == 0
    plain = ["--predictions", folder / "a.csv", folder / "b.csv", "--meta", meta, "--out", folder / "g.csv"]
    assert "90 images" in tool("fuse.py", *plain, "--model-weights", 2, 1, "--method", "nmw").stdout
    assert "3 weights for 2 models" in one_line(tool("fuse.py", *plain, "--model-weights", 1, 2, 3))
    assert tool("fuse.py", *plain, "--conf-type", "max").returncode == 0
    highest = fuse_all([read_submission(folder / name) for name in ("a.csv", "b.csv")],
                       dict.fromkeys(ids, (200, 200)), Fusion(conf_type="max"))
    assert all(fused.scores == pytest.approx(highest[i].scores, rel=1e-4)
               for i, fused in read_submission(folder / "g.csv").items())


@pytest.mark.parametrize("given, note", [
    (["val/a.csv", "val/b.csv"], ""), (["test/a.csv", "test/b.csv"], ""),
    (["a_test.csv", "b_test.csv"],
     "by the order of the files: val/a.csv for a_test.csv, val/b.csv for b_test.csv"),
    (["test/b.csv", "test/a.csv"], None), (["a.csv"], "")])
def test_which_file_has_which_weight(tmp_path, given, note):
    path = tmp_path / "t.json"
    write_json(path, {"search": {"predictions": ["val/a.csv", "val/b.csv"]}})
    if note is None:
        with pytest.raises(InputError, match=r"t.json: was searched over a.csv b.csv, got b.csv a.csv"):
            order_note(path, given)
    else:
        assert note in order_note(path, given) and bool(note) == bool(order_note(path, given))


def test_bad_input_is_one_line(folder, tool):
    base = ["--predictions", folder / "a.csv", "--out", folder / "t.json"]
    (folder / "t.csv").write_text("image_id\n")
    (folder / "t.csv").write_text("image_id,class_id,x_min,y_min,x_max,y_max\na,14,,,,\n")
    assert "expected --meta too" in one_line(tool("tune.py", *base, "--annotations", folder / "t.csv"))
    assert "--trials 0" in one_line(tool("tune.py", *base, "--annotations", folder / "g.json", "--trials", 0))
    for text in ("[]", "{}", '{"fusion": "wbf", "search": {"predictions": []}}',
                 '{"fusion": {"weights": 3}, "search": {"predictions": []}}',
                 '{"fusion": {"weights": ["x"]}, "search": {"predictions": []}}',
                 '{"search": 1, "fusion": null}'):
        (folder / "x.json").write_text(text)
        with pytest.raises(InputError, match=r"x.json: not a file of vindr-det tune"):
            read_tuned(folder / "x.json")
    outputs = pd.read_csv(folder / "p.csv")
    write_csv(folder / "inverted.csv", outputs.assign(p_abnormal=1 - outputs["p_abnormal"]))
    write_csv(folder / "few.csv", outputs.head(60))
    few, inverted = (
        Search((str(folder / "a.csv"),), str(folder / "g.json"), probabilities=str(folder / name))
        for name in ("few.csv", "inverted.csv"))
    with pytest.raises(InputError, match=r"few.csv: no probability for image i060 \(30 in all\)"):
        read_inputs(few)
    with pytest.raises(InputError, match=r"inverted.csv: AUC of P\(abnormal\) is 0"):
        read_inputs(inverted)
    assert read_inputs(replace(inverted, allow_inverted=True)).outputs


def test_the_search_takes_any_label_set(tmp_path):
    """The eight findings of NIH, with a file that lacks images; no class stands for none of them."""
    records, boxes, _ = noisy_detector(np.random.default_rng(0), images=24)
    nih = {name: replace(of, label_set=NIH_BOXES) for name, of in boxes.items()}
    truth = [replace(record, truth=replace(record.truth, label_set=NIH_BOXES)) for record in records]
    write_json(tmp_path / "g.json", to_coco(truth))
    missing = dict(list(nih.items())[:-3])
    paths = str(tmp_path / "a.json"), str(tmp_path / "b.csv")
    for path, kept in zip(paths, (nih, missing), strict=True):
        Path(path).write_text(submission_text(path, kept))
    inputs = read_inputs(Search(paths, str(tmp_path / "g.json")))
    expected = voc.vindr_ap_of_records({record.image_id: nih[record.image_id] for record in
                                        inputs.splits[SEARCH]}, inputs.splits[SEARCH]).mean_ap
    assert inputs.score(Settings(), SEARCH) == pytest.approx(expected)
    fused = inputs.processed(Settings(Fusion()), HOLDOUT)
    assert {of.label_set for of in fused.values()} == {NIH_BOXES}
    assert inputs.score(Settings(Fusion()), SEARCH) > 0
    everywhere = fuse_all([missing, {}], {record.image_id: (200, 200) for record in records}, workers=1)
    assert len(everywhere) == 24 and {of.label_set for of in everywhere.values()} == {NIH_BOXES}
    with pytest.raises(InputError, match="files to fuse: label sets NIH boxes and VinBigData"):
        fuse_all([missing, boxes], {record.image_id: (200, 200) for record in records}, workers=1)
