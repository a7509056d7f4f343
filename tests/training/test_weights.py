import os
import pickle

import numpy as np
import pytest
import torch

from vindr_det.exceptions import InputError
from vindr_det.training.checkpoint_io import read_pickle
from vindr_det.training.weights import filter_compatible


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


def test_what_does_not_fit_is_said(caplog):
    own = {"a": torch.zeros(2), "head": torch.zeros(15, 4), "new": torch.zeros(1)}
    state = {"a": torch.ones(2), "head": torch.ones(91, 4), "old": torch.ones(1)}
    caplog.set_level("INFO")
    assert set(filter_compatible("w.pth", state, own)) == {"a"}
    assert "1 of the model's 3 weights loaded" in caplog.text
    assert "head ((91, 4) there, (15, 4) here)" in caplog.text and "start from random values" in caplog.text
    assert "that it lacks: new" in caplog.text and "no place here: old" in caplog.text
    with pytest.raises(InputError, match="none of its 1 weights has a place"):
        filter_compatible("w.pth", {"x": torch.ones(1)}, own)


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
