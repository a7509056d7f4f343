"""TensorBoard, Weights & Biases and MLflow with their real libraries, offline: what was logged is in their
files."""

import json
import os
import re

import numpy as np
import pytest

from vindr_det.config_values import LOGGERS
from vindr_det.exceptions import InputError
from vindr_det.training import loggers
from vindr_det.training.loggers import Loggers, require_loggers, runs_file
from vindr_det.training.states import clear

#: The last name is of a label set whose names MLflow refuses.
VALUES = {"total_loss": 0.5, "vindr/AP40/Nodule/Mass": 0.25, "voc/AP40/Fibrosis (scar) & more": 1.0}
#: With a text of over 250 characters in all, and the empty values that a config has.
CONFIG = "SEED: 3\nSOLVER:\n  STEPS: [10, 20]\n  NAME: ''\nTEXT: " + "x" * 300 + "\nVINDR:\n  PATIENCE: 7\n"
PICTURE = np.zeros((8, 12, 3), np.uint8)
PICTURE[..., 0] = 200  # red


def logged(name, tmp_path, monkeypatch, steps=(20, 40), **options):
    pytest.importorskip(LOGGERS[name])
    monkeypatch.setenv("WANDB_MODE", "offline")
    monkeypatch.setenv("WANDB_SILENT", "true")
    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    writers = Loggers([name], tmp_path / "out", **options)
    for step in steps:
        writers.numbers({key: value * step for key, value in VALUES.items()}, step)
    writers.picture("train_batch0", PICTURE, 20)
    writers.close()
    return tmp_path / "out"


def test_none_writes_nothing(tmp_path):
    writers = Loggers([], tmp_path / "out")
    writers.numbers(VALUES, 1)
    writers.picture("x", PICTURE, 1)
    writers.close()
    assert not (tmp_path / "out").exists()


@pytest.mark.parametrize("run, where", [("", ""), ("fold0", "events/fold0")])
def test_tensorboard(tmp_path, monkeypatch, run, where):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(logged("tensorboard", tmp_path, monkeypatch, run=run) / where))
    events.Reload()
    values = [(event.step, event.value) for event in events.Scalars("vindr/AP40/Nodule/Mass")]
    assert values == [(20, 5.0), (40, 10.0)]
    assert (events.Images("train_batch0")[0].width, events.Images("train_batch0")[0].height) == (12, 8)


def test_wandb_offline(tmp_path, monkeypatch):
    out = logged("wandb", tmp_path, monkeypatch, config=CONFIG)
    import wandb

    wandb.teardown()  # its own process has written all
    file, = out.glob("wandb/offline-run-*/run-*.wandb")
    data = file.read_bytes()
    for text in (b"vindr/AP40/Nodule/Mass", b"total_loss", b"VINDR.PATIENCE", b"train_batch0"):
        assert text in data, text
    assert len(list(out.glob("wandb/offline-run-*/files/media/images/train_batch0*.png"))) == 1
    # Field 16 of the file's protocol is the value of a name; the history has each, and so has the summary.
    steps = re.findall(rb"trainer/global_step\x82\x01\x02(\d\d)", data)
    assert sorted(steps) == [b"20"] * 4 + [b"40"] * 2


def test_mlflow_in_a_folder(tmp_path, monkeypatch):
    out = logged("mlflow", tmp_path, monkeypatch, config=CONFIG)
    run, = (path.parent for path in out.glob("mlruns/*/*/meta.yaml"))
    lines = (run / "metrics/vindr/AP40/Nodule/Mass").read_text().splitlines()
    assert [(float(line.split()[1]), int(line.split()[2])) for line in lines] == [(5.0, 20), (10.0, 40)]
    assert [path.name for path in run.glob("metrics/voc/AP40/*")] == ["Fibrosis _scar_ _ more"]
    assert [path.name for path in run.glob("artifacts/pictures/*")] == ["train_batch0_0000020.png"]
    assert {path.name: path.read_text() for path in (run / "params").iterdir()} == {
        "SEED": "3", "SOLVER.STEPS": "[10, 20]", "SOLVER.NAME": "", "VINDR.PATIENCE": "7", "TEXT": "x" * 250}


@pytest.mark.parametrize("run", ["", "fold0"])
@pytest.mark.parametrize("name, files", [("wandb", "wandb/offline-run-*-*"),
                                         ("mlflow", "mlruns/*/*/meta.yaml")])
def test_a_resumed_training_continues_its_run(tmp_path, monkeypatch, name, files, run):
    """Also with another config; one that begins anew in the same folder has a run of its own."""
    def runs():
        return {path.name.split("-")[3] if name == "wandb" else path.parent.name for path in out.glob(files)}

    out = logged(name, tmp_path, monkeypatch, config=CONFIG, run=run)
    first = runs()
    assert len(first) == 1 and json.loads(runs_file(out, run).read_text()) == dict.fromkeys([name], *first)
    logged(name, tmp_path, monkeypatch, [60], config=CONFIG.replace("7", "8"), run=run)
    assert runs() == first
    if name == "mlflow":
        assert "MLFLOW_TRACKING_URI" not in os.environ  # else another training would log in this folder
        lines = next(out.glob("mlruns/*/*/metrics/total_loss")).read_text().splitlines()
        assert [line.split()[2] for line in lines] == ["20", "40", "60"]
    began = Loggers([name], out, run)
    clear(out) if not run else runs_file(out, run).unlink()
    began.numbers(VALUES, 20)
    began.close()
    assert len(runs()) == 2 and runs() > first


def test_a_missing_library_is_named_before_the_training(monkeypatch):
    require_loggers("LOGGERS", [])
    for name, package in (("wandb", "wandb"), ("mlflow", "mlflow-skinny")):
        monkeypatch.setitem(loggers.LOGGERS, name, "no_such_module")
        with pytest.raises(InputError, match=f"VINDR.LOGGERS {name}: no_such_module is not installed, "
                           f"expected pip install {package}, or VINDR.LOGGERS without it"):
            require_loggers("VINDR.LOGGERS", ["tensorboard", name])


def test_a_logger_that_fails_costs_no_training(tmp_path, caplog):
    (tmp_path / "out").write_text("a file in the folder's place")
    writers = Loggers(["tensorboard"], tmp_path / "out")
    writers.numbers(VALUES, 1)
    writers.numbers(VALUES, 2)
    assert caplog.text.count("tensorboard: left out from here on") == 1
