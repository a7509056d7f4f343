"""Several processes: the folds and images of each, and locks on their files."""

import json

import filelock
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import classifier_config

from vindr_det.classification import launch
from vindr_det.classification import train as training
from vindr_det.classification.sampler import EpochSampler, Shard
from vindr_det.classification.splits import read_tables
from vindr_det.classification.train import train
from vindr_det.exceptions import InputError
from vindr_det.tables import read_csv, write_csv
from vindr_det.training.checkpoint_io import read_file


def config(phantoms, out, *more):
    return classifier_config(phantoms, out, "MODEL.NAME", "test_resnet", *more)


@pytest.mark.parametrize("folds, count, expected", [
    ([], 2, []), ([0], 2, [[0]]), ([0, 1, 2, 3, 4], 2, [[0, 2, 4], [1, 3]]), ([0, 1, 2], 8, [[0], [1], [2]]),
    ([3, 1], 1, [[3, 1]])])
def test_folds_per_process(folds, count, expected):
    assert launch.folds_per_process(folds, count) == expected


@pytest.mark.parametrize("folds, where, parallel, expected", [
    ([0, 1], ["cpu"], "", [([0, 1], ["cpu"])]),
    ([0, 1, 2], ["cuda:0", "cuda:1"], "", [([0, 2], ["cuda:0"]), ([1], ["cuda:1"])]),
    ([0, 1, 2], ["cuda:0", "cuda:1"], "ddp", [([0, 1, 2], ["cuda:0", "cuda:1"])]),
    ([3], ["cuda:0", "cuda:1"], "", [([3], ["cuda:0", "cuda:1"])]),
    ([3], ["cuda:0", "cuda:1"], "folds", [([3], ["cuda:0"])])])
def test_folds_and_devices_of_each_process(folds, where, parallel, expected):
    assert training._assign(folds, where, parallel) == expected


@pytest.mark.parametrize("wanted, available, count, expected", [
    ("cpu", 4, 2, ["cpu", "cpu"]), ("auto", 4, 3, ["cuda:0", "cuda:1", "cuda:2"]), ("auto", 0, 1, ["cpu"]),
    ("cuda", 1, 1, ["cuda:0"]), ("cuda:1", 4, 2, ["cuda:1", "cuda:2"])])
def test_devices(monkeypatch, wanted, available, count, expected):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available > 0)
    assert launch.devices(wanted, count) == expected


@pytest.mark.parametrize("wanted, available, count, message", [
    ("cuda", 0, 1, "DEVICE is cuda, but this machine has no usable GPU"),
    ("cuda:1", 1, 1, "DEVICE is cuda:1 with --num-gpus 1: this machine has 1 GPUs"),
    ("auto", 2, 3, "--num-gpus 3: this machine has 2"), ("cpu", 0, 0, "--num-gpus 0: expected 1 or more")])
def test_missing_devices(monkeypatch, wanted, available, count, message):
    monkeypatch.setattr(torch.cuda, "device_count", lambda: available)
    monkeypatch.setattr(torch.cuda, "is_available", lambda: available > 0)
    with pytest.raises(InputError, match=message):
        launch.devices(wanted, count)


def test_half_precision_needs_a_gpu(phantoms, tmp_path):
    with pytest.raises(InputError, match="PRECISION is 16-mixed, which needs a GPU"):
        train(config(phantoms, tmp_path, "SOLVER.PRECISION", "16-mixed"))


@pytest.mark.parametrize("name", ["shuffle", "weighted"])
def test_processes_share_the_steps_of_a_single_process(phantoms, tmp_path, name):
    """Batches of four are the same images whether a single process takes four or two take two each."""
    table = read_tables(config(phantoms, tmp_path)).table[np.arange(23)]
    for epoch in (0, 1):
        samplers = [EpochSampler(table.targets, 7, name, shard)
                    for shard in (Shard(), Shard(0, 2), Shard(1, 2))]
        for sampler in samplers:
            sampler.set_epoch(epoch)
        whole, first, second = map(list, samplers)
        assert len(first) == len(second) == len(samplers[1]) == 11
        for step in range(5):
            shared = first[2 * step:2 * step + 2] + second[2 * step:2 * step + 2]
            assert sorted(shared) == sorted(whole[4 * step:4 * step + 4])


def test_a_batch_that_cannot_be_shared(phantoms, tmp_path):
    from vindr_det.classification.data import train_loader

    cfg = config(phantoms, tmp_path, "SOLVER.BATCH_SIZE", "15")
    with pytest.raises(InputError, match="BATCH_SIZE is 15, expected a multiple of 2"):
        train_loader(cfg, read_tables(cfg).table, 0, shard=Shard(0, 2))


@pytest.mark.slow
def test_two_processes_train_one_model(phantoms, tmp_path):
    """Both ways give the files of a single process; without batch norm the models are nearly equal."""
    more = ["SOLVER.EPOCHS", "2", "MODEL.NAME", "test_vit", "SOLVER.EMA_DECAY", "0.5", "INPUT.SIZE", "32",
            "SOLVER.BATCH_SIZE", "4", "SOLVER.SELECT", "inner", "DATA.CALIBRATION_SHARE", "0.3"]
    metrics = train(config(phantoms, tmp_path / "alone", *more), [0, 1])
    assert train(config(phantoms, tmp_path / "folds", *more), [0, 1], processes=2) == metrics
    train(config(phantoms, tmp_path / "ddp", *more), [1], processes=2)
    alone, shared = (read_file(tmp_path / name / "fold1.pth")["model"] for name in ("alone", "ddp"))
    for key in alone:
        assert torch.allclose(alone[key], shared[key], atol=2e-4), key
    assert not list((tmp_path / "ddp").glob("*.ckpt")) and not list((tmp_path / "ddp").glob(".partial*"))


def test_the_line_of_a_process_that_fails_comes_back():
    with pytest.raises(InputError, match=r"^nowhere.csv: no such file$"):
        launch.run(read_csv, [("nowhere.csv",)])


def with_test_list(phantoms, tmp_path):
    table = pd.read_csv(phantoms / "data/annotations/labels.csv")
    write_csv(tmp_path / "test.csv", table[table["fold"] == 2].assign(fold=-1))
    write_csv(tmp_path / "learn.csv", table[table["fold"] != 2])
    return config(phantoms, tmp_path / "out", "DATA.LABELS", str(tmp_path / "learn.csv"), "DATA.TEST",
                  str(tmp_path / "test.csv"))


def test_a_fold_that_another_process_is_writing_is_not_read(phantoms, tmp_path):
    """It has written its model and its out-of-fold predictions, and not yet those of the test list."""
    cfg = with_test_list(phantoms, tmp_path)
    train(cfg, [1])
    (tmp_path / "out/fold1_test.csv").unlink()
    metrics = train(cfg, [0])
    assert "auc/fold0" in metrics and "auc/fold1" not in metrics
    assert len(pd.read_csv(tmp_path / "out/oof_predictions.csv")) == 8
    metrics = train(cfg, [1], resume=True)
    assert {"auc/fold0", "auc/fold1"} <= set(metrics)


def test_files_are_not_read_while_another_process_replaces_them(phantoms, tmp_path, monkeypatch):
    """Reading and removing other folds' files happen under one lock, and so does what is written of all."""
    from vindr_det.classification import run_folder

    held = []
    for module, name in ((training, "_summarize"), (run_folder, "prepare")):
        real = getattr(module, name)

        def watched(*args, real=real):
            with pytest.raises(filelock.Timeout):
                filelock.FileLock(tmp_path / ".report.lock", timeout=0).acquire()
            held.append(real.__name__)
            return real(*args)

        monkeypatch.setattr(module, name, watched)
    train(config(phantoms, tmp_path), [0])
    assert held == ["prepare", "_summarize"]


def test_two_processes_do_not_train_one_fold(phantoms, tmp_path):
    cfg = config(phantoms, tmp_path)
    train(cfg, [0])
    before = json.loads((tmp_path / "metrics.json").read_text())
    with (filelock.FileLock(tmp_path / ".fold0.lock"),
          pytest.raises(InputError, match="another process trains fold 0 there")):
        train(cfg)
    assert (tmp_path / "fold0.pth").is_file()  # that process may be using it
    assert json.loads((tmp_path / "metrics.json").read_text()) == before


def test_models_of_several_trainings_are_not_averaged(phantoms, tmp_path):
    from vindr_det.classification.predict import Classifier

    train(config(phantoms, tmp_path), [0])
    data = torch.load(tmp_path / "fold0.pth", weights_only=True)
    data["vindr_classifier"]["normalization"] = {"mean": 0.1, "std": 0.2}
    torch.save(data, tmp_path / "fold1.pth")
    with pytest.raises(InputError, match="its models differ in labels, size or normalization"):
        Classifier(tmp_path)
