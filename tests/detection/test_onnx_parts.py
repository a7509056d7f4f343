"""The heavy parts of a detector in ONNX Runtime: the same detections, or torch."""

import logging

import numpy as np
import pytest
import torch
from conftest import DEMO, TINY, network_of
from torch import nn

from vindr_det.detection import engine as engines
from vindr_det.detection import onnx_parts
from vindr_det.detection.loading import load_config
from vindr_det.detection.onnx_parts import Session, with_onnx
from vindr_det.exceptions import InputError
from vindr_det.prediction import Models
from vindr_det.prediction_models import adjusted
from vindr_det.structures.boxes import box_iou_batch


def predictor_of(engine: str, *more):
    cfg = load_config(DEMO, engine, [*TINY, *more])
    torch.manual_seed(0)
    return engines.load(engine).build_predictor(cfg, network_of(engine, cfg).state_dict())


def pools(predictor) -> list[str]:
    return [name for name, module in predictor.network.named_modules()
            if "vindr_det.detection.pooling" in getattr(module.forward, "__module__", "")]


def sessions_of(predictor) -> list[str]:
    return [name for name, module in predictor.network.named_modules() if isinstance(module.forward, Session)]


def test_detections_are_those_of_torch(engine):
    """At sizes that the export did not see, in a batch of two shapes."""
    rng = np.random.default_rng(0)
    images = [rng.integers(0, 255, shape, dtype=np.uint8) for shape in ((96, 70), (64, 96))]
    expected = predictor_of(engine)(images)
    predictor = with_onnx(predictor_of(engine))
    assert len(sessions_of(predictor)) == 3 and len(pools(predictor)) == 1
    for ours, torchs in zip(predictor(images), expected, strict=True):
        assert len(ours) == len(torchs) > 0
        same = (box_iou_batch(ours.boxes, torchs.boxes) > 0.99) & (ours.labels[:, None] == torchs.labels)
        same &= np.abs(ours.scores[:, None] - torchs.scores) < 1e-3
        assert same.any(axis=0).all() and same.any(axis=1).all()


def test_a_part_whose_numbers_differ_or_that_cannot_be_exported_stays_in_torch(monkeypatch, caplog):
    caplog.set_level(logging.WARNING)
    original = onnx_parts._exported

    def broken(module, inputs, output):
        if isinstance(output, torch.Tensor):  # the box head
            raise RuntimeError("no")
        with torch.no_grad():
            weight = next(module.parameters())
            weight += (change := torch.full_like(weight, 0.1))
            data = original(module, inputs, output)
            weight -= change
        return data

    monkeypatch.setattr(onnx_parts, "_exported", broken)
    predictor = with_onnx(predictor_of("torchvision"))
    assert not sessions_of(predictor)
    assert "box_head stays in torch, since it cannot be exported (RuntimeError)" in caplog.text
    assert "backbone stays in torch, since its outputs differ by" in caplog.text


def test_structures_and_empty_inputs():
    class Heads(nn.Module):
        def forward(self, features):
            return {"a": [features["x"] * 2], "b": (features["x"] + 1, features["y"])}

    heads = Heads()
    call = {"x": torch.ones(1, 2, 3, 4), "y": torch.ones(2, 5)}
    session = Session(heads, (call,), heads(call))
    for rows in (3, 0):
        given = {"x": torch.randn(2, 2, 6, 5), "y": torch.randn(rows, 5)}
        output = session(given)
        assert torch.equal(output["a"][0], given["x"] * 2) and isinstance(output["a"], list)
        assert torch.equal(output["b"][0], given["x"] + 1) and torch.equal(output["b"][1], given["y"])


@pytest.mark.parametrize("nan", [0, 1])
def test_a_nan_is_a_difference_wherever_it_is(nan):
    output = [torch.ones(2), torch.ones(3)]
    other = [leaf.clone() for leaf in output]
    assert onnx_parts._difference(output, other) == 0
    other[nan][-1] = float("nan")
    assert not onnx_parts._difference(output, other) <= onnx_parts.TOLERANCE


def test_a_part_that_takes_one_image_alone_stays_in_torch(monkeypatch, caplog):
    monkeypatch.setattr(onnx_parts, "_free_sides", lambda tensor: [2, 3] if tensor.ndim == 4 else [0])
    predictor = with_onnx(predictor_of("torchvision"))
    assert "backbone" not in sessions_of(predictor) and "backbone stays in torch" in caplog.text


def test_half_precision_of_a_type_that_the_cpu_lacks_is_refused():
    """It would be float32 there, which is not what --half asks for."""
    with pytest.raises(InputError, match="--backend onnx with --half: expected the CPU and float32"):
        adjusted(Models([predictor_of("torchvision")]), backend="onnx", half=True)


def test_what_cannot_be_honored_is_refused(monkeypatch):
    half = predictor_of("torchvision", "SOLVER.AMP.ENABLED", "True", "VINDR.AMP_DTYPE", "bfloat16")
    with pytest.raises(InputError, match="--backend onnx with --half: expected the CPU and float32"):
        with_onnx(half)
    monkeypatch.setattr(onnx_parts.importlib, "import_module",
                        lambda name: (_ for _ in ()).throw(ImportError(name)))
    with pytest.raises(InputError, match="--backend onnx: the package onnx is not installed"):
        with_onnx(predictor_of("torchvision"))


def test_what_follows_a_part_may_work_in_place_on_its_output():
    """As Detectron2's sigmoid of a RetinaNet's scores does at small sizes."""
    predictor = predictor_of("torchvision")
    network = predictor.network
    head = type(network.roi_heads.box_head).forward
    network.roi_heads.box_predictor.register_forward_pre_hook(lambda _, inputs: (inputs[0].sigmoid_(),))
    calls = onnx_parts._examples(predictor, network)["roi_heads.box_head"]
    with torch.inference_mode():
        assert all(torch.allclose(head(network.roi_heads.box_head, *inputs), output, atol=1e-5)
                   for inputs, output in calls)
