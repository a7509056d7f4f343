"""COCO results JSON beside the submission: the same detections, the same scores, pycocotools takes it."""

import contextlib
import io
import json

import numpy as np
import pandas as pd
import pytest
from conftest import one_line
from metric_cases import noisy_detector

from vindr_det.commands import predict as command
from vindr_det.data.coco import part, to_coco
from vindr_det.evaluation.evaluate import EvaluationRequest, run_evaluation
from vindr_det.exceptions import InputError
from vindr_det.files import write_json
from vindr_det.imaging.image_run import ImageRun
from vindr_det.imaging.sizes import read_sizes
from vindr_det.imaging.status import FAILED, Status, write_status
from vindr_det.postprocessing.search import read_inputs
from vindr_det.postprocessing.search_space import Search
from vindr_det.prediction import ImagePrediction, Outcome
from vindr_det.structures.detections import Predictions, no_finding, with_no_finding
from vindr_det.structures.label_sets import NIH, VINBIGDATA
from vindr_det.submission import read_submission, submission_text, write_submission
from vindr_det.submission.coco_results import coco_results_text
from vindr_det.tables import write_csv

ENTRY = {"image_id": "a", "category_id": 3, "bbox": [1, 2, 30, 40], "score": 0.5}


@pytest.fixture
def folder(tmp_path):
    """Truth g.json (a part of the images, so numbers are not 1..N), and a detector's s.csv and s.json."""
    records, boxes, p_abnormal = noisy_detector(np.random.default_rng(0), images=40)
    whole = to_coco(records)
    write_json(tmp_path / "g.json", part(whole, [number % 4 > 0 for number in range(40)]))
    boxes = with_no_finding({name: of for name, of in boxes.items() if int(name[1:]) % 4})
    write_submission(tmp_path / "s.csv", boxes)
    write_csv(tmp_path / "p.csv", pd.DataFrame({"image_id": p_abnormal.keys(), "fold": 0,
                                                "p_abnormal": p_abnormal.values()}))
    write_submission(tmp_path / "s.json", read_submission(tmp_path / "s.csv"))
    return tmp_path


def numbered(folder):
    """s.json as other tools write it: numbers of the annotations alone, class 14 unknown."""
    images = json.loads((folder / "g.json").read_text())["images"]
    number_of = {image["file_name"][:-4]: image["id"] for image in images}
    entries = [entry | {"image_id": number_of[entry["image_id"]]}
               for entry in json.loads((folder / "s.json").read_text()) if entry["category_id"] < 14]
    (folder / "n.json").write_text(json.dumps(entries))
    return entries


def scores(folder, name):
    values, _ = run_evaluation(EvaluationRequest(str(folder / "g.json"), str(folder / name)))
    return values


def test_a_round_trip_scores_as_the_table(folder):
    assert scores(folder, "s.json") == pytest.approx(scores(folder, "s.csv"), abs=1e-9, nan_ok=True)


def test_numbers_stand_for_the_images_of_the_annotations(folder):
    numbered(folder)
    ours, theirs = scores(folder, "s.csv"), scores(folder, "n.json")
    assert {key: theirs[key] for key in theirs if key.startswith("coco/")} == pytest.approx(
        {key: ours[key] for key in ours if key.startswith("coco/")}, abs=1e-9, nan_ok=True)
    with pytest.raises(InputError, match="n.json, entry 1: image_id 2, expected a text, or a number with"):
        read_submission(folder / "n.json")


def test_pycocotools_takes_the_file(folder):
    from pycocotools.coco import COCO
    from pycocotools.cocoeval import COCOeval

    truth = json.loads((folder / "g.json").read_text())
    numbers = {image["file_name"][:-4]: image["id"] for image in truth["images"]}
    (folder / "both.json").write_text(coco_results_text(read_submission(folder / "s.csv"), numbers))
    with contextlib.redirect_stdout(io.StringIO()):
        annotations = COCO(str(folder / "g.json"))
        run = COCOeval(annotations, annotations.loadRes(str(folder / "both.json")), "bbox")
        run.evaluate()
        run.accumulate()
        run.summarize()
    values = scores(folder, "s.csv")
    assert list(run.stats[:3]) == pytest.approx(
        [values[key] for key in ("coco/AP", "coco/AP50", "coco/AP75")], abs=1e-9)
    read_submission(folder / "both.json")  # its texts need no annotations


def test_images_without_boxes_and_unread_ones(tmp_path):
    text = submission_text(tmp_path / "s.json", {"a": Predictions()}, ["a", "b"], unread=["b"])
    (tmp_path / "s.json").write_text(text)
    back = read_submission(tmp_path / "s.json")
    assert list(back) == ["a"] and back["a"].labels.tolist() == no_finding().labels.tolist()


@pytest.mark.parametrize(("entries", "message"), [
    ({"version": 1, "box_format": "", "images": []}, "the report of a prediction run"),
    ({"images": []}, "not a COCO results file, expected a list"),
    ([{"image_id": "a"}], "entry 1: .*expected image_id, category_id, bbox, score"),
    ([ENTRY, ENTRY | {"category_id": 15}], "entry 2: category_id 15, expected a class id 0..14"),
    ([ENTRY | {"category_id": "3"}], "category_id '3'"),
    ([ENTRY | {"category_id": True}], "category_id True"),
    ([ENTRY | {"category_id": 14}], "category_id 14 with the box .* ids that begin at 1"),
    ([ENTRY | {"image_id": 5}], "image_id 5, expected a text"),
    ([ENTRY | {"image_id": None}], "image_id None"),
    ([ENTRY | {"bbox": [1, 2, 0, 4]}], "bbox .* positive width"),
    ([ENTRY | {"bbox": [1, 2, 3]}], "bbox"),
    ([ENTRY | {"bbox": [1, 2, 10**400, 4]}], "bbox .1, 2, 1000"),
    ([ENTRY | {"bbox": [1e17, 2, 3, 4]}], "image a: box .1e.17, 2.0, 1e.17, 6.0. needs x_min < x_max"),
    ([ENTRY | {"score": 1.5}], "score 1.5, expected 0 to 1"),
    ([ENTRY | {"bbox": [-9, 2, 30, 40]}], "box -9 2 21 42 leaves image a"),
])
def test_faulty_files_are_refused_in_a_line(tmp_path, entries, message):
    (tmp_path / "s.json").write_text(json.dumps(entries))
    with pytest.raises(InputError, match=message) as error:
        read_submission(tmp_path / "s.json")
    assert "\n" not in str(error.value) and "s.json" in str(error.value)


def test_an_unknown_number_is_refused_with_annotations(folder):
    """The number of an image of the whole that is not in this part."""
    (folder / "x.json").write_text(json.dumps([ENTRY | {"image_id": 1}]))
    with pytest.raises(InputError, match="entry 1: image_id 1, expected the id of an image of the annotati"):
        read_submission(folder / "x.json", annotations=folder / "g.json")


def test_no_entry_is_no_prediction(tmp_path):
    (tmp_path / "s.json").write_text("[]")
    assert read_submission(tmp_path / "s.json") == {}


def test_the_tools_take_and_write_it(folder, tool, main_of):
    """fuse.py, gate.py and tune.py read numbers by --annotations, and write what they read."""
    numbered(folder)
    meta = folder / "meta.csv"
    write_csv(meta, pd.DataFrame({"image_id": [f"i{number:03d}" for number in range(40)], "dim0": 200,
                                  "dim1": 200}))
    fuse = ["fuse.py", "--predictions", folder / "n.json", folder / "s.json", "--meta", meta, "--out",
            folder / "f.json"]
    assert "expected a text, or a number" in one_line(tool(*fuse))
    assert main_of(*fuse, "--annotations", folder / "g.json") == 0
    assert main_of("evaluate.py", "--predictions", folder / "f.json", "--annotations", folder / "g.json") == 0
    assert (folder / "f.status.csv").is_file() and (folder / "f.predictions.csv").is_file()
    same = ["fuse.py", "--predictions", folder / "s.csv", folder / "s.csv", "--meta", meta, "--out"]
    main_of(*same, folder / "c.csv")
    main_of(*same, folder / "c.json")
    assert scores(folder, "c.csv") == pytest.approx(scores(folder, "c.json"), abs=1e-4, nan_ok=True)


def test_gate_and_search_see_the_same_boxes(folder, main_of, tool):
    numbered(folder)
    truth = folder / "g.json"
    for name in ("s.csv", "n.json"):
        assert main_of("gate.py", "fit", "--probabilities", folder / "p.csv", "--predictions", folder / name,
                       "--annotations", truth, "--bootstrap", 20, "--out", folder / f"gate_{name}.json") == 0
        search = Search((str(folder / name),), str(truth), None, None, 0, False)
        read = read_inputs(search).files[0]
        assert {image: len(boxes.findings()) for image, boxes in read.items() if len(boxes.findings())} == {
            image: len(boxes.findings()) for image, boxes in read_submission(folder / "s.csv").items()
            if len(boxes.findings())}
    apply = ["gate.py", "apply", "--predictions", folder / "n.json", "--probabilities", folder / "p.csv",
             "--gate", folder / "gate_s.csv.json", "--allow-in-sample", "--out", folder / "gated.json"]
    assert "expected a text, or a number" in one_line(tool(*apply))
    assert main_of(*apply, "--annotations", truth) == 0
    detected = {entry["image_id"] for entry in numbered(folder)}
    assert detected and len(read_submission(folder / "gated.json")) == 30


def test_text_ids_of_another_frame(folder):
    """As a detector on square copies writes them: texts as ids, boxes and truth in the copy's pixels."""
    truth = json.loads((folder / "g.json").read_text())
    text = {image["id"]: image["file_name"][:-4] for image in truth["images"]}
    for image in truth["images"]:
        image |= {"id": text[image["id"]], "width": 100, "height": 100}
    for box in truth["annotations"]:
        box |= {"image_id": text[box["image_id"]], "bbox": [side / 2 for side in box["bbox"]],
                "area": box["area"] / 4}
    write_json(folder / "small.json", truth)
    entries = [entry | {"bbox": [side / 2 for side in entry["bbox"]]}
               for entry in json.loads((folder / "s.json").read_text()) if entry["category_id"] < 14]
    (folder / "t.json").write_text(json.dumps(entries))
    values, _ = run_evaluation(EvaluationRequest(str(folder / "small.json"), str(folder / "t.json")))
    expected = scores(folder, "s.csv")
    for key in ("coco/AP", "coco/AP40", "coco/AR100"):
        assert values[key] == pytest.approx(expected[key], abs=5e-3), key


def without_images(folder, count=5):
    """n.json without the entries of the first images, as Detectron2 writes images without detections."""
    entries = numbered(folder)
    absent = sorted({entry["image_id"] for entry in entries})[:count]
    (folder / "n.json").write_text(json.dumps([e for e in entries if e["image_id"] not in absent]))
    names = {image["id"]: image["file_name"][:-4]
             for image in json.loads((folder / "g.json").read_text())["images"]}
    return [names[number] for number in absent]


def test_an_image_without_an_entry_is_an_empty_prediction_everywhere(folder, main_of):
    """As evaluate.py counts it; one that failed by the status table is none."""
    *absent, failed = without_images(folder)
    truth, images = folder / "g.json", [f"i{number:03d}" for number in range(40) if number % 4]
    write_status(folder / "n.status.csv", [Status(failed, "", FAILED, "damaged")])
    read = read_submission(folder / "n.json", annotations=truth)
    assert sorted(read) == [image for image in images if image != failed]
    assert all(len(read[image]) == 0 for image in absent)
    assert main_of("gate.py", "fit", "--probabilities", folder / "p.csv", "--predictions", folder / "n.json",
                   "--annotations", truth, "--bootstrap", 20, "--out", folder / "gate.json") == 0
    assert json.loads((folder / "gate.json").read_text())["images"] == sorted(read)
    assert main_of("gate.py", "apply", "--predictions", folder / "n.json", "--probabilities",
                   folder / "p.csv", "--gate", folder / "gate.json", "--allow-in-sample", "--annotations",
                   truth, "--out", folder / "gated.csv") == 0
    assert sorted(read_submission(folder / "gated.csv")) == sorted(read)
    splits = read_inputs(Search((str(folder / "n.json"),), str(truth))).splits
    assert sorted(record.image_id for part in splits.values() for record in part) == sorted(read)


def test_a_table_has_the_ids_of_the_annotations_too(folder):
    (folder / "t.json").write_text(json.dumps([ENTRY]))
    write_csv(folder / "g.csv", pd.DataFrame({"image_id": ["a", "b", "b"]}))
    assert {image: len(boxes) for image, boxes in read_submission(
        folder / "t.json", annotations=folder / "g.csv").items()} == {"a": 1, "b": 0}


def test_images_that_a_table_lacks_are_left_out_with_a_warning(folder, main_of, caplog):
    write_submission(folder / "few.csv", dict(list(read_submission(folder / "s.csv").items())[:20]))
    warning = "10 of the 30 images of the annotations have no prediction and are left out, the first is i"
    read_inputs(Search((str(folder / "few.csv"),), str(folder / "g.json")))
    assert sum(warning in line for line in caplog.messages) == 1
    caplog.clear()
    assert main_of("gate.py", "fit", "--probabilities", folder / "p.csv", "--predictions",
                   folder / "few.csv", "--annotations", folder / "g.json", "--bootstrap", 20, "--out",
                   folder / "gate.json") == 0
    assert sum(warning in line for line in caplog.messages) == 1


@pytest.mark.parametrize("name", ["s.csv", "s.json"])
def test_boxes_of_another_frame_by_the_status_table_are_refused(folder, tool, name):
    """A run without sizes, on copies of 100 x 100 pixels: nothing may take its boxes for the originals'."""
    images = list(read_submission(folder / "s.csv"))
    write_status(folder / "s.status.csv", [Status(image, "", height=100, width=100) for image in images])
    meta, path, truth = folder / "meta.csv", folder / name, folder / "g.json"
    write_csv(meta, pd.DataFrame({"image_id": images, "dim0": 200, "dim1": 200}))
    with_p = ["--probabilities", folder / "p.csv", "--annotations", truth]
    for args in (["fuse.py", "--predictions", path, "--meta", meta, "--out", folder / "f.csv"],
                 ["gate.py", "fit", "--predictions", path, *with_p, "--out", folder / "gate.json"]):
        line = one_line(tool(*args))
        assert f"{name}: boxes of 30 images are in pixels of another size: image i001 was taken for" in line
    for annotations in (truth, meta):
        with pytest.raises(InputError, match="boxes of 30 images are in pixels of another size"):
            read_submission(path, read_sizes(meta) if annotations is meta else None, annotations)
    write_status(folder / "s.status.csv", [Status(image, "", height=200, width=200) for image in images])
    assert len(read_submission(path, annotations=truth)) == 30


def test_sizes_beside_a_table_of_annotations_show_another_frame(folder):
    write_status(folder / "s.status.csv", [Status("i001", "", height=100, width=100)])
    write_csv(folder / "meta.csv", pd.DataFrame({"image_id": ["i001"], "dim0": 200, "dim1": 200}))
    write_csv(folder / "g.csv", pd.DataFrame([["i001", "R1", "Aortic enlargement", 0, 1, 2, 30, 40]],
                                             columns=["image_id", "rad_id", "class_name", "class_id",
                                                      "x_min", "y_min", "x_max", "y_max"]))
    files, meta = {"annotations": str(folder / "g.csv")}, str(folder / "meta.csv")
    with pytest.raises(InputError, match=" size: image i001 .* 100 x 100, the original has 2"):
        run_evaluation(EvaluationRequest(predictions=str(folder / "s.csv"), meta=meta, **files))
    with pytest.raises(InputError, match="pixels of another size"):
        read_inputs(Search((str(folder / "s.csv"),), str(folder / "g.csv"), meta))


def test_categories_of_the_annotations_decide_what_category_ids_mean(folder):
    """Ids that begin at 1, in truth and results of another tool; our own files keep class ids."""
    expected = scores(folder, "s.csv")
    truth = json.loads((folder / "g.json").read_text())
    for entry in truth["categories"]:
        entry["id"] += 1
    for entry in truth["annotations"]:
        entry["category_id"] += 1
    write_json(folder / "g1.json", truth)
    entries = [entry | {"category_id": entry["category_id"] + 1} for entry in numbered(folder)]
    (folder / "n1.json").write_text(json.dumps(entries))

    def coco_ap(annotations, name):
        values, _ = run_evaluation(EvaluationRequest(str(folder / annotations), str(folder / name)))
        return values["coco/AP"]

    assert coco_ap("g1.json", "n1.json") == pytest.approx(expected["coco/AP"], abs=1e-9)
    assert coco_ap("g1.json", "s.json") == pytest.approx(expected["coco/AP"], abs=1e-9)
    (folder / "x.json").write_text(json.dumps([entries[0] | {"category_id": 0}]))
    with pytest.raises(InputError, match="x.json, entry 1: category_id 0, expected one of .* 1, 2, 3, .* 14"):
        read_submission(folder / "x.json", annotations=folder / "g1.json")


def test_the_evaluation_names_the_images_that_were_not_read(folder):
    *_, failed = without_images(folder)
    write_status(folder / "n.status.csv", [Status(failed, "", FAILED, "damaged")])
    _, text = run_evaluation(EvaluationRequest(str(folder / "g.json"), str(folder / "n.json")))
    assert ("note: 1 of 30 images have no prediction and count as empty; of these 1 were NOT READ, "
            f"the first is {failed} ({folder / 'n.status.csv'})") in text.splitlines()


def test_boxes_of_a_smaller_copy_are_noted(folder, caplog):
    warning = "boxes look unscaled: their far corners lie at "
    for name, divisor, count in (("n.json", 1, 0), ("small.json", 4, 1)):
        entries = [entry | {"bbox": [side / divisor for side in entry["bbox"]]} for entry in numbered(folder)]
        (folder / name).write_text(json.dumps(entries))
        caplog.clear()
        read_submission(folder / name, annotations=folder / "g.json")
        assert sum(f"{name}: {warning}" in line for line in caplog.messages) == count, name


@pytest.mark.parametrize(("name", "label_set", "text"), [
    ("s.json", VINBIGDATA, "1 were NOT READ and have no entry"),
    ("s.csv", VINBIGDATA, '1 were NOT READ and are "no finding" for Kaggle'),
    ("s.csv", NIH, "1 were NOT READ and have no entry"),
])
def test_predict_states_what_unread_images_are_in_its_file(tmp_path, capsys, name, label_set, text):
    args = command.parse(["--images", "in", "--out", str(tmp_path / name)])
    gated = no_finding(label_set=label_set)
    outcomes = [Outcome(Status("a", "", height=9, width=9), ImagePrediction(gated, None, gated)),
                Outcome(Status("b", "", FAILED, "no"))]
    assert command._report(args, command._write(args, ImageRun([], {}, {}), outcomes, label_set)) == 0
    assert text in capsys.readouterr().out
    assert {of.label_set for of in read_submission(tmp_path / name).values()} == {label_set}
