"""Exported detectors give the detections of their checkpoints."""

import json
from pathlib import Path

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, network_of, one_line
from test_config import SMALL

from vindr_det.detection import predictors
from vindr_det.detection.checkpoint import Checkpoint
from vindr_det.detection.loading import load_checkpoint, load_config
from vindr_det.detection.predictors import load_predictors
from vindr_det.detection.torchvision import onnx as exporting
from vindr_det.exceptions import InputError
from vindr_det.imaging.read import read_image
from vindr_det.prediction import predict_folder
from vindr_det.structures.label_sets import FINDINGS

pytest.importorskip("onnx")


def test_a_comparison_of_nothing_is_not_called_a_check():
    assert str(exporting.Agreement(3, 0, 0.0, 0.0)).startswith("NOT CHECKED: neither the checkpoint nor")
    assert "the same 2 detections over 0.05 on 3 images" in str(exporting.Agreement(3, 2, 0.0, 0.0))


def checkpoint_of(config):
    """Random weights with some high scores, and no limit on boxes, which would cut between equal scores."""
    cfg = load_config(ROOT / "configs" / config, "torchvision", [
        *TINY, *SMALL, "TEST.DETECTIONS_PER_IMAGE", "5000", "MODEL.RETINANET.TOPK_CANDIDATES_TEST", "20000"])
    torch.manual_seed(3)
    network = network_of("torchvision", cfg)
    for name, parameter in network.named_parameters():
        if "cls_logits.weight" in name or "cls_score.weight" in name:
            torch.nn.init.normal_(parameter, std=0.1)
        elif "classification_head.conv" in name and parameter.dim() == 4:
            torch.nn.init.kaiming_normal_(parameter)  # as initialized, RetinaNet's gives -3 everywhere
        if name.endswith("cls_logits.bias"):
            torch.nn.init.constant_(parameter, -3.0)
    return Checkpoint("torchvision", cfg, network.state_dict(), {}, 7)


@pytest.mark.parametrize("config", ["vindr_frcnn.yaml", "vindr_mrcnn.yaml", "vindr_retinanet.yaml",
                                    "vindr_fcos.yaml"])
def test_every_architecture_exports(config, tmp_path, phantoms):
    checkpoint = checkpoint_of(config)
    exporting.export(checkpoint, tmp_path / "m.onnx")
    images = [read_image(path).pixels for path in sorted((phantoms / "raw/test").iterdir())[:3]]
    images += [images[0][:150], images[0][:, 40:], np.zeros((500, 300), np.uint8)]
    agreement = exporting.compare(checkpoint, tmp_path / "m.onnx", images)
    assert agreement.detections > 20 and agreement.images == 6
    assert agreement.score_difference < 1e-3 and agreement.pixels < 0.5
    assert len(exporting.OnnxPredictor(tmp_path / "m.onnx")(images, 1.5)) == 6


def test_the_file_describes_itself(tmp_path):
    checkpoint = checkpoint_of("vindr_frcnn.yaml")
    exporting.export(checkpoint, tmp_path / "m.onnx")
    session = exporting.OnnxPredictor(tmp_path / "m.onnx").session
    types = {i.name: i.type for i in (*session.get_inputs(), *session.get_outputs())}
    assert types.pop("labels") == "tensor(int64)" and set(types) == {"image", "boxes", "scores"}
    properties = session.get_modelmeta().custom_metadata_map
    assert json.loads(properties["classes"]) == list(FINDINGS)
    sizes = json.loads(properties["preprocessing"])
    assert (sizes["min_size"], sizes["max_size"], sizes["image_size"]) == (64, 96, 96)


def test_a_difference_is_refused(tmp_path, phantoms):
    checkpoint = checkpoint_of("vindr_frcnn.yaml")
    exporting.export(checkpoint, tmp_path / "m.onnx")
    checkpoint.state["roi_heads.box_predictor.cls_score.bias"] += torch.linspace(-2, 2, 15)
    images = exporting.images_of(phantoms / "raw/test", 2)
    assert len(images) == 2
    with pytest.raises(InputError, match="on image 0 only the checkpoint finds class"):
        exporting.compare(checkpoint, tmp_path / "m.onnx", images)


def test_the_tools_export_and_predict(trained, phantoms, tmp_path, tool):
    weights = trained("torchvision") / "model_final.pth"
    made = tool("export.py", "--weights", weights, "--out", tmp_path / "m.onnx")
    assert made.returncode == 0, made.stderr
    assert "finds the same" in made.stdout
    run = tool("predict.py", "--weights", tmp_path / "m.onnx", "--images", phantoms / "raw/test", "--out",
               tmp_path / "s.csv", "--batch-size", 4)
    assert run.returncode == 0, run.stderr
    assert "--batch-size 0: expected 1 or more" in one_line(
        tool("predict.py", "--weights", weights, "--out", tmp_path / "t.csv", "--batch-size", 0))
    exported = predict_folder(phantoms / "raw/test", load_predictors([tmp_path / "m.onnx"]), batch=4)
    eager = predict_folder(phantoms / "raw/test", load_predictors([weights]))
    for image_id, detections in eager.predictions.items():
        best = detections.scores.max()
        assert exported.predictions[image_id].scores.max() == pytest.approx(best, abs=1e-3)


def test_an_exported_file_is_weights_like_any_other(tmp_path, phantoms):
    """Without --images its config names the folder; --engine detectron2 refuses it."""
    checkpoint = checkpoint_of("vindr_frcnn.yaml")
    checkpoint.cfg.DATASETS.TEST, checkpoint.cfg.VINDR.DATA_ROOT = ("vindr_test",), "somewhere"
    exporting.export(checkpoint, tmp_path / "m.onnx")
    assert predictors.images_of(tmp_path / "m.onnx") == (Path("somewhere/test"), None)
    with pytest.raises(InputError, match="exported from the torchvision engine, expected detectron2"):
        load_predictors([tmp_path / "m.onnx"], "detectron2")


@pytest.mark.detectron2
def test_detectron2_is_refused(trained, tmp_path, tool):
    weights = trained("detectron2") / "model_final.pth"
    run = tool("export.py", "--weights", weights, "--out", tmp_path / "m.onnx")
    assert "weights of the detectron2 engine, expected torchvision" in one_line(run)
    assert not list(tmp_path.iterdir())
    with pytest.raises(InputError, match="detectron2 engine cannot be exported"):
        exporting.export(load_checkpoint(weights), tmp_path / "m.onnx")


def test_files_that_were_not_exported_here_are_refused(tmp_path, monkeypatch):
    import onnx

    (tmp_path / "a.onnx").write_bytes(b"nothing")
    with pytest.raises(InputError, match=r"a\.onnx: not an ONNX file"):
        load_predictors([tmp_path / "a.onnx"])
    value = onnx.helper.make_tensor_value_info("x", 1, [1])
    graph = onnx.helper.make_graph([onnx.helper.make_node("Identity", ["x"], ["y"])], "g", [value],
                                   [onnx.helper.make_tensor_value_info("y", 1, [1])])
    onnx.save(onnx.helper.make_model(graph, opset_imports=[onnx.helper.make_opsetid("", 17)], ir_version=8),
              tmp_path / "b.onnx")
    with pytest.raises(InputError, match=r"b\.onnx: carries no vindr_det config"):
        load_predictors([tmp_path / "b.onnx"])
    with pytest.raises(InputError, match=r"c\.onnx: no such file"):
        load_predictors([tmp_path / "c.onnx"])
    monkeypatch.setitem(__import__("sys").modules, "onnxruntime", None)
    with pytest.raises(InputError, match=r"onnxruntime is not installed; pip install onnx onnxruntime"):
        load_predictors([tmp_path / "b.onnx"])
