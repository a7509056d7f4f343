"""The tools as a user runs them: help, exit status, one line for bad input, nothing half-written."""

import importlib.util
import re
import shutil

import numpy as np
import pytest
from conftest import ROOT, TINIEST, one_line

from vindr_det.exceptions import InputError

TOOLS = sorted(path.name for path in (ROOT / "tools").glob("*.py"))
#: Script -> its command, by the script's own first line.
COMMAND_OF = {name: match[1] for name in TOOLS
              if (match := re.search("vindr-det ([a-z-]+)", (ROOT / "tools" / name).read_text()))}


@pytest.mark.parametrize("name", COMMAND_OF)
def test_help_shows_a_command(tool, name):
    result = tool(name, "--help")
    assert result.returncode == 0
    assert f"vindr-det {COMMAND_OF[name]}" in result.stdout


def test_unknown_arguments_cost_one_line(tool):
    result = tool("predict.py", "--nope")
    assert result.returncode == 2 and len(result.stderr.strip().splitlines()) == 1


@pytest.mark.parametrize("name, args, message", [
    ("convert.py", ["vinbigdata", "--annotations", "no.csv", "--meta", "no.csv", "--out", "o"],
     "no.csv: no such file"),
    ("convert.py", ["nih", "--labels", "no.csv", "--out", "o"], "no.csv: no such file"),
    ("convert.py", ["nih-boxes", "--annotations", "no.csv", "--labels", "no.csv", "--out", "o"],
     "no.csv: no such file"),
    ("convert.py", ["vindr-cxr", "--out", "o"], "expected --annotations, --test-annotations or both"),
    ("convert.py", ["yolo", "--annotations", "no", "--out", "o"], "no: no such folder"),
    ("convert_tfrecords.py", ["--records", "no", "--out", "o"], "no: holds no TFRecord file"),
    ("describe.py", ["--annotations", "no.csv", "--out", "o"], "no.csv: no such file"),
    ("describe.py", ["--annotations", "no.json", "--out", "o"], "no.json: no such file"),
    ("plan.py", ["--annotations", "no.json", "--out", "o/p.yaml"], "no.json: no such file"),
    ("prepare_images.py", ["--images", "no", "--out", "o"], "no: no such folder"),
    ("make_phantoms.py", ["--out", "o", "--size", "5"], "--size 5: expected 128 to 4096"),
    ("train_net.py", ["--config", "no.yaml"], "no.yaml: no such file"),
    ("train_classifier.py", ["--config", "no.yaml"], "no.yaml: no such file"),
    ("train_classifier.py", ["--config", "no.yaml", "--fold", "x"], "--fold x: expected"),
    ("predict.py", ["--out", "o", "--weights", "no.pth", "--images", "no"], "no.pth: no such file"),
    ("evaluate.py", ["--predictions", "no.csv", "--annotations", "no.json"], "no.json: no such file"),
    ("check_submission.py", ["no.csv"], "no.csv: no such file"),
    ("predict.py", ["--out", "."], ".: is a folder, expected a file to write"),
    ("predict.py", ["--out", "o", "--weights", "no.pth", "--images", "no", "--gate", "no.json"],
     "no.json: no such file"),
    ("fuse.py", ["--predictions", "no.csv", "--meta", "no.csv", "--out", "o"], "no.csv: no such file"),
    ("gate.py",
     ["fit", "--probabilities", "no.csv", "--predictions", "p", "--annotations", "g", "--out", "o"],
     "no.csv: no such file"),
    ("gate.py", ["apply", "--predictions", "s", "--probabilities", "p", "--gate", "no.json", "--out", "o"],
     "no.json: no such file"),
    ("tune.py", ["--predictions", "no.csv", "--annotations", "no.json", "--out", "o/t.json"],
     "no.csv: no such file"),
    ("classify.py", ["--classifier", "no", "--images", "no", "--out", "o"], "no: holds no fold*.pth"),
    ("explain.py", ["--classifier", "no", "--images", "no", "--out", "o"], "no: holds no fold*.pth"),
    ("export.py", ["--weights", "no.pth", "--out", "o"], "no.pth: no such file"),
    ("evaluate_classifier.py", ["--predictions", "no.csv", "--labels", "no.csv"], "no.csv: no such file"),
    ("fit_anchors.py", ["--annotations", "no.json", "--config", "no.yaml"], "no.yaml: no such file"),
    ("dicom_out.py", ["--predictions", "no.json", "--images", "no", "--out", "o"], "no.json: no such file"),
    ("listen.py", ["--bundle", "phantom"], "no destination is given"),
    ("serve.py", ["--bundle", "no"], "no: "),
    ("serve.py", ["--bundle", "phantom", "--queue", "0"], "--queue 0: expected more than 0"),
    ("annotate.py", ["to", "cvat", "--annotations", "no.json", "--images", "no", "--out", "o"],
     "no.json: no such file"),
    ("annotate.py", ["from", "cvat", "--exported", "no", "--tasks", "no", "--out", "o"], "no such file"),
    ("link_detectron2.py", ["no"], "expected a wheel or a checkout"),
])
def test_missing_input_is_one_line_and_leaves_nothing(tool, tmp_path, name, args, message):
    result = tool(name, *args, cwd=tmp_path)
    line = one_line(result)
    assert line.startswith(f"{name}: ") and message in line
    assert not list(tmp_path.iterdir())


def test_eval_only_scores_a_checkpoint(tool, trained, phantoms, tmp_path):
    config = ROOT / "configs/demo/vindr_frcnn_demo.yaml"
    args = ["--config", config, "--engine", "torchvision", "--eval-only", "OUTPUT_DIR", tmp_path,
            "VINDR.DATA_ROOT", phantoms / "data"]
    assert "MODEL.WEIGHTS is empty" in one_line(tool("train_net.py", *args))
    weights = trained("torchvision") / "model_final.pth"
    result = tool("train_net.py", *args, *TINIEST, "MODEL.WEIGHTS", weights)
    assert result.returncode == 0, result.stderr
    assert "vindr/mAP40" in result.stdout and "validation_loss" in result.stdout


@pytest.fixture
def mixed(phantoms, tmp_path):
    """Three phantoms, one of them a CT with UIDs, one below; and two files that cannot be read."""
    import pydicom

    images = tmp_path / "images"
    (images / "below").mkdir(parents=True)
    first, second, third, *_ = sorted((phantoms / "raw/test").iterdir())
    for path, place in ((first, "one.dicom"), (third, "below/three.dicom")):
        (images / place).write_bytes(path.read_bytes())
    ct = pydicom.dcmread(second)
    ct.Modality, ct.StudyInstanceUID, ct.SeriesInstanceUID = "CT", "1.2", "1.2.3"
    ct.SOPInstanceUID = "1.2.3.4"
    ct.save_as(images / "two.dicom")
    cut = (images / "two.dicom").read_bytes()
    (images / "broken.dicom").write_bytes(cut[: cut.index(b"\xe0\x7f\x10\x00") + 100])
    (images / "film.tif").write_bytes(b"II*")
    return images


def rows_of(path):
    import csv

    return list(csv.DictReader(path.read_text().splitlines()))


def test_nobody_but_kaggle_hears_of_an_image_that_was_not_read(tool, trained, mixed, phantoms, tmp_path):
    weights, out = trained("torchvision") / "model_final.pth", tmp_path / "s.csv"
    args = ["--weights", weights, "--images", mixed, "--recursive", "--out", out]
    result = tool("predict.py", *args)
    assert result.returncode == 0, result.stderr
    assert "2 of 5 images were NOT READ" in result.stderr and "images are flagged" in result.stderr
    assert "failed: broken.dicom: " in result.stdout and "2 were NOT READ" in result.stdout
    rows = {row["image_id"]: row for row in rows_of(tmp_path / "s.status.csv")}
    assert {name: row["status"] for name, row in rows.items()} == {
        "one": "flagged", "two": "flagged", "three": "flagged", "broken": "failed", "film": "failed"}
    assert "modality CT is not radiography" in rows["two"]["reason"] and rows["one"]["height"]
    assert "modality" not in rows["one"]["reason"]  # small, as phantoms are
    for name in ("two", "broken"):
        assert [rows[name][f"{level}InstanceUID"] for level in ("Study", "Series", "SOP")] == [
            "1.2", "1.2.3", "1.2.3.4"]
    table = rows_of(tmp_path / "s.predictions.csv")
    assert {row["image_id"]: (row["status"], row["reason"]) for row in table} == {
        name: (row["status"], row["reason"]) for name, row in rows.items()}
    boxes = [row for row in table if row["class_name"]]
    assert {row["image_id"] for row in boxes} <= {"one", "two", "three"} and boxes
    assert all(row["class_id"] != "14" and float(row["x_min"]) < float(row["x_max"]) for row in boxes)
    assert {row["SOPInstanceUID"] for row in boxes if row["image_id"] == "two"} == {"1.2.3.4"}
    submission = {row["image_id"]: row["PredictionString"] for row in rows_of(out)}
    assert submission.keys() == rows.keys()
    assert submission["broken"] == submission["film"] == "14 1 0 0 1 1"
    checked = tool("check_submission.py", out)
    assert checked.returncode == 0 and "ok: 5 images" in checked.stdout
    (tmp_path / "t.csv").write_text("of an earlier run")
    strict = tool("predict.py", *args[:-1], tmp_path / "t.csv", "--strict")
    assert strict.returncode == 1 and "t.csv: not written (--strict)" in strict.stdout
    assert not (tmp_path / "t.csv").exists() and rows_of(tmp_path / "t.status.csv") == list(rows.values())
    scored = tool("evaluate.py", "--predictions", out, "--annotations", phantoms / "raw/test_annotations.csv")
    assert "2 of 5 images were not read, so that their rows do not count" in scored.stderr


def test_an_unread_image_weighs_nothing_in_a_fusion_and_passes_no_gate(tool, trained, tmp_path):
    """Read by one file of two: that one's boxes stay. Read by none: still not read, in every file after."""
    from vindr_det.data.in_sample import as_json
    from vindr_det.files import write_json, write_text

    box = "3 0.8 1 2 30 40 14 0.2 0 0 1 1"
    write_text(tmp_path / "a.csv", f"image_id,PredictionString\nx,{box}\ny,14 1 0 0 1 1\nz,{box}\n")
    write_text(tmp_path / "b.csv", f"image_id,PredictionString\nx,14 1 0 0 1 1\ny,14 1 0 0 1 1\nz,{box}\n")
    write_text(tmp_path / "a.status.csv", "image_id,file,status,reason\nx,x.png,ok,\ny,y.png,failed,cut\n")
    write_text(tmp_path / "b.status.csv", "image_id,status,reason\nx,failed,cut\ny,failed,cut\n")
    write_text(tmp_path / "m.csv", "image_id,dim0,dim1\nx,50,50\nz,50,50\n")
    for method in ("wbf", "nms"):
        fused = tool("fuse.py", "--predictions", tmp_path / "a.csv", tmp_path / "b.csv", "--meta",
                     tmp_path / "m.csv", "--out", tmp_path / "f.csv", "--method", method)
        assert fused.returncode == 0, fused.stderr
        rows = {row["image_id"]: row["PredictionString"] for row in rows_of(tmp_path / "f.csv")}
        assert rows["x"] == rows["z"] == box and rows["y"] == "14 1 0 0 1 1"
    states = {row["image_id"]: row for row in rows_of(tmp_path / "f.status.csv")}
    assert {name: row["status"] for name, row in states.items()} == {"x": "flagged", "y": "failed", "z": "ok"}
    assert states["x"]["reason"] == "was not read for 1 of the 2 files"
    write_json(tmp_path / "g.json", {"gate": {"form": "append"}, **as_json(["other"])})
    write_text(tmp_path / "p.csv", "image_id,p_abnormal\nx,0.9\nz,0.8\n")  # nor was y classified
    gated = tool("gate.py", "apply", "--predictions", tmp_path / "f.csv", "--probabilities",
                 tmp_path / "p.csv", "--gate", tmp_path / "g.json", "--out", tmp_path / "o.csv")
    assert gated.returncode == 0, gated.stderr
    rows = {row["image_id"]: row["PredictionString"] for row in rows_of(tmp_path / "o.csv")}
    assert rows["y"] == "14 1 0 0 1 1" and rows["x"].endswith("14 0.1 0 0 1 1")
    states = {row["image_id"]: row["status"] for row in rows_of(tmp_path / "o.status.csv")}
    assert states == {"x": "flagged", "z": "ok", "y": "failed"}


def test_one_file_and_an_out_that_is_no_file(tool, trained, mixed, tmp_path):
    weights = trained("torchvision") / "model_final.pth"
    result = tool("predict.py", "--weights", weights, "--images", mixed / "two.dicom", "--out",
                  tmp_path / "one.csv")
    assert result.returncode == 0, result.stderr
    assert [row["image_id"] for row in rows_of(tmp_path / "one.status.csv")] == ["two"]
    line = one_line(tool("predict.py", "--weights", weights, "--images", mixed, "--out", "/dev/null"))
    assert "/dev/null: is no regular file" in line


def test_predict_looks_several_times(tool, trained, phantoms, tmp_path):
    args = ["--weights", trained("torchvision") / "model_final.pth", "--images", phantoms / "raw/test",
            "--out", tmp_path / "s.csv"]
    assert "--tta-scales [0.0]: expected numbers from 0.1 to 4" in one_line(
        tool("predict.py", *args, "--tta-scales", "0"))
    result = tool("predict.py", *args, "--tta", "--tta-scales", "0.8", "1.2")
    assert result.returncode == 0, result.stderr
    assert "6 images" in result.stdout and "checked" in result.stdout


def test_predict_refuses_an_empty_folder_and_unreadable_ones(tool, trained, tmp_path):
    weights = trained("torchvision") / "model_final.pth"
    images = tmp_path / "images"
    images.mkdir()
    args = ["--weights", weights, "--images", images, "--out", tmp_path / "s.csv"]
    assert "holds no image" in one_line(tool("predict.py", *args))
    (images / "a.png").write_bytes(b"")
    (tmp_path / "s.csv").write_text("of an earlier run")
    assert "none of 1 images can be read; the first: a.png" in one_line(tool("predict.py", *args))
    assert not (tmp_path / "s.csv").exists()
    assert [row["status"] for row in rows_of(tmp_path / "s.status.csv")] == ["failed"]


def test_nothing_to_do_is_found_before_weights_are_loaded(tool, tmp_path):
    """The weights here are none, and nobody notices."""
    (tmp_path / "w.pth").write_bytes(b"no weights")
    (tmp_path / "images").mkdir()
    args = ["--images", tmp_path / "images"]
    predict = ["predict.py", "--weights", tmp_path / "w.pth", "--out", tmp_path / "s.csv", *args]
    assert "holds no image" in one_line(tool(*predict))
    (tmp_path / "images/a.tif").write_bytes(b"II*")
    assert "none of 1 images can be read; the first: a.tif: TIF is not read" in one_line(tool(*predict))
    (tmp_path / "model").mkdir()
    (tmp_path / "model/fold0.pth").write_bytes(b"no weights")
    explain = ["explain.py", "--classifier", tmp_path / "model", "--out", tmp_path / "maps", *args]
    assert "none of 1 images can be read; the first: a.tif" in one_line(tool(*explain))
    assert [row["file"] for row in rows_of(tmp_path / "maps/status.csv")] == ["a.tif"]


def test_predict_with_no_argument_but_out_after_a_training(tool, phantoms, tmp_path, engine):
    """The mission's config, shrunk by overrides; then `predict.py --out submission.csv` alone."""
    from conftest import TINY

    config = ROOT / "configs/vindr_frcnn.yaml"
    shrink = ["MODEL.WEIGHTS", "", "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0",
              "SOLVER.AMP.ENABLED", "False", "VINDR.DATA_ROOT", phantoms / "data"]
    run = tool("train_net.py", "--config", config, "--engine", engine, *TINY, *shrink, cwd=tmp_path)
    assert run.returncode == 0, run.stderr
    result = tool("predict.py", "--out", "submission.csv", cwd=tmp_path)
    assert result.returncode == 0, result.stderr
    checked = tool("check_submission.py", tmp_path / "submission.csv", "--sample",
                   phantoms / "raw/sample_submission.csv", "--meta", phantoms / "raw/test_meta.csv")
    assert checked.returncode == 0, checked.stdout


def test_evaluate_scores_the_truth_as_perfect(tool, phantoms, tmp_path):
    from vindr_det.data.truth import read_truth
    from vindr_det.structures.records import truth_of
    from vindr_det.submission import write_submission

    truth = truth_of(read_truth(phantoms / "raw/test_annotations.csv"))
    write_submission(tmp_path / "s.csv", truth)
    result = tool("evaluate.py", "--predictions", tmp_path / "s.csv", "--annotations",
                  phantoms / "raw/test_annotations.csv", "--chance", "--out", tmp_path)
    assert result.returncode == 0, result.stderr
    import json

    metrics = json.loads((tmp_path / "metrics.json").read_text())
    assert metrics["vindr/mAP40"] == 1.0 and metrics["coco/AP"] == pytest.approx(1.0)
    assert metrics["chance/vindr/mAP40"] < 0.7


def test_visualize_draws(tool, phantoms, tmp_path):
    import cv2

    result = tool("visualize.py", "--images", phantoms / "data/test", "--annotations",
                  phantoms / "raw/test_annotations.csv", "--out", tmp_path, "--count", "2")
    assert result.returncode == 0, result.stderr
    pictures = [cv2.imread(str(path)) for path in tmp_path.glob("*.png")]
    assert len(pictures) == 2
    assert any(np.ptp(p.astype(int), axis=2).max() > 80 for p in pictures)  # boxes in color on gray images


def test_visualize_goes_on_after_an_unreadable_image(tool, phantoms, tmp_path):
    import shutil

    shutil.copytree(phantoms / "data/test", tmp_path / "images")
    next((tmp_path / "images").glob("*.png")).write_bytes(b"broken")
    result = tool("visualize.py", "--images", tmp_path / "images", "--annotations",
                  phantoms / "raw/test_annotations.csv", "--out", tmp_path / "out", "--count", "6")
    assert result.returncode == 0 and "5 pictures" in result.stdout and "W no picture: " in result.stderr
    assert len(list((tmp_path / "out").glob("*.png"))) == 5
    assert (tmp_path / "out/index.html").read_text().count("<figure ") == 6


def test_visualize_shows_the_augmentation(tool, phantoms, tmp_path):
    import cv2

    from vindr_det.imaging.montage import GAP

    result = tool("visualize.py", "--images", phantoms / "data/train", "--annotations",
                  phantoms / "data/annotations/instances_all.json", "--out", tmp_path, "--count", "2",
                  "--augment", ROOT / "configs/vindr_frcnn.yaml")
    assert result.returncode == 0, result.stderr
    grid = cv2.imread(str(tmp_path / "augmentations.png"))
    cells = [grid[:300, start : start + 290] for start in range(0, grid.shape[1], (grid.shape[1] + GAP) // 6)]
    assert len(cells) == 6
    assert all(np.ptp(cell.astype(int), axis=2).max() > 80 for cell in cells)  # boxes in color on gray images
    assert sum(not np.array_equal(cells[0], cell) for cell in cells[1:]) >= 3


def test_predict_takes_a_fitted_gate(tool, trained, phantoms, tmp_path):
    """A gate that lets no image through; one that needs no classifier; one that has none."""
    from conftest import classifier_config

    from vindr_det.classification.train import train
    from vindr_det.data.in_sample import as_json
    from vindr_det.files import write_json
    from vindr_det.postprocessing.gate import Hard, NoClassifier
    from vindr_det.submission import read_submission

    train(classifier_config(phantoms, tmp_path / "classifier"), [0])
    seen = [path.stem for path in (phantoms / "raw/test").glob("*.dicom")]
    for name, gate, ids in (("shut", Hard(1.0, 1.0), ["another"]), ("none", NoClassifier(), seen)):
        write_json(tmp_path / f"{name}.json", {"gate": gate.as_json(), **as_json(ids)})
    base = ["--weights", trained("torchvision") / "model_final.pth", "--images", phantoms / "raw/test"]
    shut = [*base, "--gate", tmp_path / "shut.json", "--out", tmp_path / "s.csv"]
    assert "a gate of form hard expects --classifier" in one_line(tool("predict.py", *shut))
    run = tool("predict.py", *shut, "--classifier", tmp_path / "classifier")
    assert run.returncode == 0, run.stderr
    gated = read_submission(tmp_path / "s.csv")
    assert all(detections.labels.tolist() == [14] for detections in gated.values())
    none = [*base, "--gate", tmp_path / "none.json", "--out", tmp_path / "n.csv"]
    assert "was fitted on 6 of these 6 images" in one_line(tool("predict.py", *none))
    assert not (tmp_path / "n.csv").exists()
    run = tool("predict.py", *none, "--allow-in-sample")
    assert run.returncode == 0, run.stderr
    assert tool("predict.py", *base, "--out", tmp_path / "p.csv").returncode == 0
    assert (tmp_path / "n.csv").read_text() == (tmp_path / "p.csv").read_text()


def test_a_linked_checkout_has_its_model_zoo(tmp_path):
    """As after Detectron2's own setup.py; again, and in a folder that cannot be written, does nothing."""
    spec = importlib.util.spec_from_file_location("link", ROOT / "tools/link_detectron2.py")
    link = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(link)
    (tmp_path / "configs/common").mkdir(parents=True)
    link.link_model_zoo(tmp_path)  # no detectron2/model_zoo here
    (tmp_path / "detectron2/model_zoo").mkdir(parents=True)
    for _ in range(2):
        link.link_model_zoo(tmp_path)
        assert (tmp_path / "detectron2/model_zoo/configs/common").is_dir()


def test_no_tool_writes_over_what_it_reads(tool, phantoms, tmp_path):
    """The pictures of a folder, under their own names, also by way of links."""
    import shutil

    images, links = tmp_path / "images", tmp_path / "links"
    shutil.copytree(phantoms / "data/test", images)
    links.mkdir()
    for path in images.glob("*.png"):
        (links / path.name).symlink_to(path)
    before = {path: path.read_bytes() for path in images.iterdir()}
    (tmp_path / "model").mkdir()
    (tmp_path / "model/fold0.pth").write_bytes(b"no weights")
    (tmp_path / "w.pth").write_bytes(b"no weights")
    truth = ["--annotations", phantoms / "raw/test_annotations.csv"]
    for name, *args in [
        ("explain.py", "--classifier", tmp_path / "model", "--images", images, "--out", images),
        ("visualize.py", "--images", links, "--out", images, *truth),
        ("prepare_images.py", "--images", links, "--out", images),
        ("predict.py", "--weights", tmp_path / "w.pth", "--images", images, "--out", images / "meta.csv"),
    ]:
        assert "--out is among the originals" in one_line(tool(name, *args)), name
    assert {path: path.read_bytes() for path in images.iterdir()} == before


def test_boxes_in_the_pixels_of_resized_files_are_not_called_checked(trained, phantoms, tmp_path, main_of,
                                                                     capsys, caplog):
    """A folder of squares as others publish them, then with the table of sizes beside it."""
    from vindr_det.imaging.prepare import prepare_folder
    from vindr_det.imaging.resize import Target

    prepare_folder(phantoms / "raw/test", tmp_path / "squares/test", Target(64, False), 1)
    for table in ("meta.csv", "qc.csv", "prepare.json"):
        (tmp_path / "squares/test" / table).unlink()
    meta, out = phantoms / "raw/test_meta.csv", tmp_path / "s.csv"
    args = ["predict.py", "--weights", trained("torchvision") / "model_final.pth", "--images",
            tmp_path / "squares/test", "--out", out]
    assert main_of(*args) == 0
    assert "NOT CHECKED, since 6 images have their boxes in the files' pixels" in capsys.readouterr().out
    assert any("6 of 6 images are PNG or JPEG files" in line for line in caplog.messages)
    with pytest.raises(InputError, match="s.csv: . errors"):
        main_of("check_submission.py", out, "--meta", meta)
    assert "boxes of 6 images are in pixels of another size" in capsys.readouterr().out
    assert main_of("check_submission.py", out) == 0
    assert "without --meta boxes are not checked against" in capsys.readouterr().out
    shutil.copy(meta, tmp_path / "squares")
    assert main_of(*args) == main_of("check_submission.py", out, "--meta", meta) == 0
    printed = capsys.readouterr().out
    assert "boxes, checked\n" in printed and "NOT CHECKED" not in printed and "without --meta" not in printed
