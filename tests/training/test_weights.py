import os
import pickle
from pathlib import Path

import numpy as np
import pytest
import torch

from vindr_det.exceptions import InputError
from vindr_det.training.checkpoint_io import read_pickle
from vindr_det.training.weights import detector_weights, file_data
from vindr_det.training.weights_account import account, tell


class Evil:
    def __reduce__(self):
        return os.system, ("touch evil_was_here",)


def test_a_model_zoo_pickle_is_read(tmp_path):
    array = np.arange(6, dtype=np.float32).reshape(2, 3)
    (tmp_path / "a.pkl").write_bytes(pickle.dumps({"model": {"w": array}, "__author__": "us"}))
    assert np.array_equal(read_pickle(tmp_path / "a.pkl")["model"]["w"], array)
    blobs = {"blobs": {"w": array, "w_momentum": array, "n": np.float32(3)}}
    (tmp_path / "b.pkl").write_bytes(pickle.dumps(blobs, protocol=2))
    read = read_pickle(tmp_path / "b.pkl")
    assert set(read["model"]) == {"w", "n"} and read["matching_heuristics"]


@pytest.mark.parametrize("content", [
    pickle.dumps({"model": Evil(), "__author__": "x"}), pickle.dumps(Evil()), b"", b"nothing",
    pickle.dumps(torch.nn.Linear), pickle.dumps([1]),
])
def test_a_pickle_with_code_is_refused_and_not_run(tmp_path, monkeypatch, content):
    monkeypatch.chdir(tmp_path)
    (tmp_path / "a.pkl").write_bytes(content)
    with pytest.raises(InputError, match=r"a\.pkl: (not a pickle|holds a list)"):
        read_pickle(tmp_path / "a.pkl")
    assert not (tmp_path / "evil_was_here").exists()


def test_what_does_not_fit_is_told(caplog):
    own = {"a.weight": torch.zeros(2), "b.weight": torch.zeros(2), "head.weight": torch.zeros(15, 4),
           "new.weight": torch.zeros(1)}
    state = {"a.weight": torch.ones(2), "b.weight": torch.ones(2), "head.weight": torch.ones(91, 4)}
    caplog.set_level("INFO")
    assert set(detector_weights("w.pth", state, own, "torchvision")) == {"a.weight", "b.weight"}
    assert "2 of its 3 tensors loaded, 2 of the model's 4" in caplog.text
    assert "1 weights of another shape, left out: head.weight (91, 4)" in caplog.text
    assert "2 weights that it lacks, which start anew: head.weight, new.weight" in caplog.text


@pytest.mark.parametrize("state, message", [
    ({}, "w.pth: holds no tensors, expected a state dict"),
    ({"a": "text", "epoch": 3}, "w.pth: holds no tensors"),
])
def test_a_file_without_tensors(tmp_path, state, message):
    torch.save({"state_dict": state}, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message):
        file_data(str(tmp_path / "w.pth"))


def test_files_hold_their_tensors_under_several_names(tmp_path):
    weights = {"a.weight": torch.arange(3.0)}
    for number, data in enumerate(({"model": weights}, {"state_dict": weights, "epoch": 2}, weights)):
        path = tmp_path / f"{number}.pth"
        torch.save(data, path)
        assert torch.equal(file_data(str(path))["model"]["a.weight"], weights["a.weight"])
    (tmp_path / "w.pkl").write_bytes(pickle.dumps(
        {"model": {"a.weight": np.arange(3, dtype=np.float32)}, "__author__": "us"}))
    assert torch.equal(file_data(str(tmp_path / "w.pkl"))["model"]["a.weight"], weights["a.weight"])


@pytest.mark.parametrize("weights, url", [
    ("detectron2://COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/model_final_280758.pkl",
     "https://dl.fbaipublicfiles.com/detectron2/COCO-Detection/faster_rcnn_R_50_FPN_3x/137849458/"
     "model_final_280758.pkl"),
    ("torchvision://fasterrcnn_resnet50_fpn",
     "https://download.pytorch.org/models/fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"),
])
def test_both_catalogs_of_detectors_are_downloaded(tmp_path, monkeypatch, weights, url):
    def download(asked, target, **options):
        assert asked == url
        if target.endswith(".pth"):
            torch.save({"a.weight": torch.ones(2)}, target)
        else:
            arrays = {"a.weight": np.ones(2, np.float32)}
            Path(target).write_bytes(pickle.dumps({"model": arrays, "__author__": "us"}))

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path))
    monkeypatch.setattr(torch.hub, "download_url_to_file", download)
    assert list(file_data(weights)["model"]) == ["a.weight"]


@pytest.mark.detectron2
def test_detectron2_starts_from_a_pickle(phantoms, tmp_path):
    from conftest import DEMO, TINY

    from vindr_det.detection.detectron2.trainer import VindrTrainer
    from vindr_det.detection.loading import load_config

    options = [*TINY, "OUTPUT_DIR", str(tmp_path), "VINDR.DATA_ROOT", str(phantoms / "data")]
    cfg = load_config(DEMO, "detectron2", options)
    donor = VindrTrainer(cfg)
    weights = {key: value.numpy() + 1 for key, value in donor.model.state_dict().items()
               if key.startswith("backbone") and value.is_floating_point()}
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": weights, "__author__": "us"}))
    cfg.MODEL.WEIGHTS = str(tmp_path / "zoo.pkl")
    trainer = VindrTrainer(cfg)
    trainer.resume_or_load(resume=False)
    for key, value in trainer.model.state_dict().items():
        if key in weights:
            assert np.array_equal(value.numpy(), weights[key]), key
    (tmp_path / "zoo.pkl").write_bytes(pickle.dumps({"model": Evil(), "__author__": "us"}))
    with pytest.raises(InputError, match="it names .*system"):
        trainer.resume_or_load(resume=False)


def test_a_file_that_gives_less_than_half_of_the_model_is_refused():
    """Counters of norms count on neither side."""
    own = {f"{name}.weight": torch.zeros(2) for name in "abcde"}
    own |= {f"{name}.num_batches_tracked": torch.tensor(0) for name in "abcde"}
    counters = {name: value for name, value in own.items() if "num" in name}
    with pytest.raises(InputError, match=r"gives this model 2 of its 5 weights, .*none to c.weight; exp"):
        detector_weights("w.pth", {name: own[name] for name in ("a.weight", "b.weight")} | counters, own,
                         "torchvision")
    three = {name: own[name] for name in ("a.weight", "b.weight", "c.weight")}
    assert set(detector_weights("w.pth", three, own, "torchvision")) == set(three)


def test_class_heads_do_not_count_among_what_a_file_does_not_give():
    own = {name: torch.zeros(2) for name in ("a.weight", "head.weight", "head.bias")}
    state = {"a.weight": torch.zeros(2), "head.weight": torch.zeros(9), "head.bias": torch.zeros(9)}
    for heads in ((), ("head.weight", "head.bias")):
        told = account(state, {name: name for name in state}, own, heads)
        if heads:
            tell("w.pth", "a family", told, state)
            assert told.lacking_heads == ["head.weight", "head.bias"]
        else:
            with pytest.raises(InputError, match="expected most of them"):
                tell("w.pth", "a family", told, state)
