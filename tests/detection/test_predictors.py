"""Which images a checkpoint predicts, and what a prediction may change of its config."""

import shutil
from types import SimpleNamespace

import pytest

from vindr_det.data.coco import read_coco
from vindr_det.detection import predictors
from vindr_det.detection.loading import load_checkpoint
from vindr_det.detection.predictors import Changes, images_of, load_predictors
from vindr_det.detection.validation import validation_metrics
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import VINBIGDATA
from vindr_det.submission import read_submission

THREE = ["TEST.DETECTIONS_PER_IMAGE", "3", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "0"]


def findings(path):
    return {image_id: boxes.findings() for image_id, boxes in read_submission(path).items()}


def test_a_data_set_is_predicted_and_nothing_else(engine, trained, phantoms, tmp_path, main_of):
    """The scores of its predictions are those that the training measured on it."""
    weights, out = trained(engine) / "model_final.pth", tmp_path / "val.csv"
    assert main_of("predict.py", "--weights", weights, "--dataset", "vindr_val_fold0", "--out", out) == 0
    records = read_coco(phantoms / "data/annotations/instances_val_fold0.json")
    assert list(read_submission(out)) == [record.image_id for record in records]
    assert 0 < len(records) < len(list((phantoms / "data/train").glob("*.png")))
    measured, scored = load_checkpoint(weights).metrics, validation_metrics(findings(out), records)
    for key in ("vindr/mAP40", "coco/AP40", "coco/AP50"):
        assert scored[key] == pytest.approx(measured[key], abs=5e-3), key  # batches of other sizes


def test_score_threshold_and_number_of_boxes_at_prediction(engine, trained, phantoms, tmp_path, main_of):
    weights, out = trained(engine) / "model_final.pth", tmp_path / "s.csv"
    base = ["--weights", weights, "--images", phantoms / "data/test", "--out", out]
    assert main_of("predict.py", *base, "--limit", "2", *THREE) == 0
    assert [len(boxes) for boxes in findings(out).values()] == [3, 3]
    assert main_of("predict.py", *base, "--limit", "2", "MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1") == 0
    assert [len(boxes) for boxes in findings(out).values()] == [0, 0]


@pytest.mark.parametrize("overrides, message", [
    (["SOLVER.MAX_ITER", "3"], "key SOLVER.MAX_ITER is fixed by the training, expected TEST.DETECTIONS"),
    (["MODEL.DEVICE", "cpu"], "MODEL.DEVICE is fixed"), (["DATASETS.TEST", "()"], "DATASETS.TEST is fixed"),
    (["MODEL.ROI_HEADS.SCORE_THRES_TEST", "0"], "did you mean MODEL.ROI_HEADS.SCORE_THRESH_TEST"),
    (["TEST.DETECTIONS_PER_IMAGE", "0"], "TEST.DETECTIONS_PER_IMAGE is 0, expected 1 or more"),
    (["MODEL.ROI_HEADS.SCORE_THRESH_TEST", "1.5"], "SCORE_THRESH_TEST is 1.5, expected 0 to 1"),
    (["TEST.DETECTIONS_PER_IMAGE"], "expected KEY VALUE pairs"),
])
def test_keys_that_a_prediction_cannot_change(trained, overrides, message):
    with pytest.raises(InputError, match=message):
        load_predictors([trained("torchvision") / "model_final.pth"], changes=Changes(overrides))


def test_an_exported_file_has_its_settings_inside(tmp_path):
    with pytest.raises(InputError, match=r"m.onnx: an exported file cannot change TEST.DETECTIONS_PER_IMAGE"):
        load_predictors([tmp_path / "m.onnx"], changes=Changes(THREE))


@pytest.mark.parametrize("half, warnings", [(False, 0), (True, 1)])
def test_an_exported_file_computes_in_float32(tmp_path, monkeypatch, caplog, half, warnings):
    monkeypatch.setattr(predictors, "_load_onnx", lambda path: SimpleNamespace(label_set=VINBIGDATA))
    load_predictors([tmp_path / "m.onnx"], half=half)
    expected = f"{tmp_path / 'm.onnx'}: computes in float32: half precision needs a checkpoint (.pth)"
    assert [record.message for record in caplog.records] == [expected] * warnings


def test_the_data_may_have_moved(trained, phantoms, tmp_path):
    shutil.copytree(phantoms / "data/annotations", tmp_path / "moved/annotations")
    changes = Changes(["VINDR.DATA_ROOT", str(tmp_path / "moved"),
                       "VINDR.IMAGE_ROOT", str(phantoms / "data")])
    images, choice = images_of(trained("torchvision") / "model_final.pth", "vindr_val_fold1", changes)
    records = read_coco(tmp_path / "moved/annotations/instances_val_fold1.json")
    assert images == phantoms / "data/train" and not choice.recursive
    assert choice.wanted == {record.file_name: record.image_id for record in records}
    assert images_of(trained("torchvision") / "model_final.pth") == (phantoms / "data/test", None)


def test_images_that_the_checkpoint_was_trained_on_are_counted(trained, phantoms, tmp_path, caplog):
    """Trained on all folds but 0, so that validation fold 1 is in it, and fold 0 is not."""
    weights, counts = trained("torchvision") / "model_final.pth", {}
    for name in ("val_fold0", "val_fold1", "all"):
        caplog.clear()
        images_of(weights, f"vindr_{name}")
        counts[name] = [message.split(" were trained on")[0] for message in caplog.messages]
    files = {name: {record.file_name for record in read_coco(
        phantoms / f"data/annotations/instances_{name}.json")} for name in ("train_fold0", *counts)}
    shared = {name: len(files[name] & files["train_fold0"]) for name in counts}
    assert shared["val_fold0"] == 0 < shared["val_fold1"] < shared["all"] < len(files["all"])
    assert counts == {name: [f"{count} of the {len(files[name])} images of vindr_{name}"] * bool(count)
                      for name, count in shared.items()}
    (tmp_path / "annotations").mkdir()  # the training's annotations are gone
    shutil.copy(phantoms / "data/annotations/instances_val_fold1.json", tmp_path / "annotations")
    caplog.clear()
    images_of(weights, "vindr_val_fold1", Changes(["VINDR.DATA_ROOT", str(tmp_path)]))
    assert not caplog.messages


@pytest.mark.parametrize("args, message", [
    (["--dataset", "vindr_val_fold0", "--images", "."], "names all images, expected no --images and no --id"),
    (["--dataset", "fold0"], "data set 'fold0' is unknown, expected vindr_all"),
    (["--images", ".", "--limit", "-1"], "--limit -1: expected 0 or more"),
])
def test_what_predict_refuses(main_of, trained, tmp_path, args, message):
    weights = trained("torchvision") / "model_final.pth"
    with pytest.raises(InputError, match=message):
        main_of("predict.py", "--weights", weights, "--out", tmp_path / "s.csv", *args)
    assert not list(tmp_path.iterdir())
