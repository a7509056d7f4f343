"""A training that was killed and resumed is the training that was not."""

import json
import shutil
import signal
import time

import pytest
import torch
import yaml
from conftest import DEMO, ROOT, TINIEST, one_line

from vindr_det.exceptions import DivergedError, InputError
from vindr_det.training.checkpoint_io import read_file
from vindr_det.training.resume import state_to_resume

LONG = ["SOLVER.MAX_ITER", "40", "SOLVER.STEPS", "(30,)", "TEST.EVAL_PERIOD", "20",
        "SOLVER.CHECKPOINT_PERIOD", "20", "VINDR.EMA_DECAY", "0.9", "VINDR.REPEAT_THRESHOLD", "0.3",
        "INPUT.RANDOM_FLIP", "horizontal"]


def command(engine, out, data, *more):
    return [ROOT / "tools/train_net.py", "--config", str(DEMO), "--engine", engine,
            *more, *TINIEST, *LONG, "OUTPUT_DIR", str(out), "VINDR.DATA_ROOT", str(data)]


def losses(folder):
    """The lines of metrics.json without times."""
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [{key: value for key, value in line.items() if "time" not in key and "eta" not in key}
            for line in lines]


def train_and_kill(run, state):
    """Kill the run a moment after it has saved ``state``."""
    while not state.exists():
        assert run.poll() is None, run.errors.read_text()
        time.sleep(0.01)
    time.sleep(0.05)
    run.kill()
    assert run.wait() == -signal.SIGKILL


@pytest.mark.slow
def test_killed_and_resumed_is_the_same_training(engine, phantoms, tmp_path, processes):
    data, suffix = phantoms / "data", "ckpt" if engine == "torchvision" else "pth"
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    assert processes.run(command(engine, straight, data)).returncode == 0
    train_and_kill(processes.start(command(engine, broken, data)), broken / f"state_0000020.{suffix}")
    assert not (broken / "model_final.pth").exists()
    assert processes.run(command(engine, broken, data, "--resume")).returncode == 0
    for name in ("model_final.pth", "model_best.pth"):
        expected, resumed = read_file(straight / name), read_file(broken / name)
        assert expected["vindr"]["iteration"] == resumed["vindr"]["iteration"]
        for key, value in expected["model"].items():
            difference = (value.double() - resumed["model"][key].double()).abs().max()
            assert difference <= 1e-6, (name, key, difference)
    expected = losses(straight)
    assert len(expected) == len(losses(broken))
    for line, other in zip(expected, losses(broken), strict=True):
        assert line == pytest.approx(other, abs=1e-6)
    states = sorted(path.name for path in broken.glob("state_*"))
    assert states == [f"state_0000020.{suffix}", f"state_0000040.{suffix}"]


def train(engine, out, data, *more, resume=False):
    from vindr_det.detection import engine as engines
    from vindr_det.detection.loading import load_config

    options = [*TINIEST, "TEST.EVAL_PERIOD", "1", "OUTPUT_DIR", str(out), "VINDR.DATA_ROOT", str(data)]
    engines.load(engine).train(load_config(DEMO, engine, [*options, *more]), resume=resume)


@pytest.fixture
def scripted(monkeypatch, engine):
    """``scripted(.6, .5)``: what the next validations will measure."""
    module = ("vindr_det.detection.torchvision.lightning_module" if engine == "torchvision"
              else "vindr_det.detection.detectron2.evaluator")

    def script(*values):
        left = list(values)
        monkeypatch.setattr(f"{module}.validation_metrics", lambda *_: {"vindr/mAP40": left.pop(0)})

    return script


def test_the_best_of_the_first_half_survives_a_worse_second(engine, scripted, phantoms, tmp_path):
    scripted(0.2, 0.6, 0.5)
    train(engine, tmp_path, phantoms / "data", "SOLVER.MAX_ITER", "3")
    best = (tmp_path / "model_best.pth").read_bytes()
    assert read_file(tmp_path / "model_best.pth")["vindr"]["iteration"] == 2
    scripted(0.4, 0.3)
    train(engine, tmp_path, phantoms / "data", "SOLVER.MAX_ITER", "5", resume=True)
    assert (tmp_path / "model_best.pth").read_bytes() == best
    assert read_file(tmp_path / "model_final.pth")["vindr"]["iteration"] == 5
    scripted(0.7)
    train(engine, tmp_path, phantoms / "data", "SOLVER.MAX_ITER", "6", resume=True)
    assert read_file(tmp_path / "model_best.pth")["vindr"]["iteration"] == 6


def test_patience_ends_the_training(engine, scripted, phantoms, tmp_path):
    scripted(0.1, 0.3, 0.2, 0.3, 0.9)
    train(engine, tmp_path, phantoms / "data", "SOLVER.MAX_ITER", "9", "VINDR.PATIENCE", "2",
          "VINDR.KEEP_CHECKPOINTS", "1", "SOLVER.CHECKPOINT_PERIOD", "1")
    assert read_file(tmp_path / "model_final.pth")["vindr"]["iteration"] == 4
    assert read_file(tmp_path / "model_best.pth")["vindr"]["iteration"] == 2
    assert [path.stem for path in tmp_path.glob("state_*")] == ["state_0000004"]
    before = contents(tmp_path)
    more = ("SOLVER.MAX_ITER", "9", "VINDR.KEEP_CHECKPOINTS", "1", "SOLVER.CHECKPOINT_PERIOD", "1")
    train(engine, tmp_path, phantoms / "data", "VINDR.PATIENCE", "2", *more, resume=True)
    assert contents(tmp_path) == before  # waited long enough already
    scripted(0.1, 0.9)
    train(engine, tmp_path, phantoms / "data", "VINDR.PATIENCE", "3", *more, resume=True)
    assert read_file(tmp_path / "model_final.pth")["vindr"]["iteration"] == 5


def contents(folder):
    """What must not change."""
    return {path.name: path.read_bytes() for path in folder.iterdir()
            if path.is_file() and path.name != "log.txt"}


@pytest.fixture
def finished(engine, trained, tmp_path):
    """A finished training of three iterations."""
    return shutil.copytree(trained(engine), tmp_path / "finished")


def test_a_resume_of_a_finished_training_changes_nothing(engine, finished, phantoms, caplog):
    caplog.set_level("INFO")
    before = contents(finished)
    for more in ((), ("SOLVER.MAX_ITER", "2", "SOLVER.STEPS", "()")):
        train(engine, finished, phantoms / "data", *more, resume=True)
    assert contents(finished) == before and read_file(finished / "model_final.pth")["vindr"]["metrics"]
    assert "the training is finished after 3 iterations (a larger SOLVER.MAX_ITER resumes it)" in caplog.text


def test_a_resume_of_the_other_engines_training_is_refused(engine, finished, phantoms, tool):
    other = {"detectron2": "torchvision", "torchvision": "detectron2"}[engine]
    config = finished / "config.yaml"
    config.write_text(config.read_text().replace(f"ENGINE: {engine}", f"ENGINE: {other}"))
    before = contents(finished)
    line = one_line(tool("train_net.py", "--config", DEMO, "--engine", engine, "--resume", *TINIEST,
                         "OUTPUT_DIR", finished, "VINDR.DATA_ROOT", phantoms / "data"))
    assert f"holds a training of the {other} engine" in line and f"add --engine {other}" in line
    assert contents(finished) == before


def test_a_resume_without_a_state_keeps_the_models(engine, finished, phantoms):
    for state in finished.glob("state_*"):
        state.unlink()
    before = contents(finished)
    with pytest.raises(InputError, match=r"holds model_final.pth but no state to resume from"):
        train(engine, finished, phantoms / "data", resume=True)
    assert contents(finished) == before


def test_a_training_that_was_killed_before_its_last_line_is_ended(engine, finished, phantoms):
    """All iterations are made, but model_final.pth is missing."""
    before = contents(finished)
    final = read_file(finished / "model_final.pth")
    (finished / "model_final.pth").unlink()
    train(engine, finished, phantoms / "data", resume=True)
    again = read_file(finished / "model_final.pth")
    assert again["vindr"]["metrics"] == final["vindr"]["metrics"] and again["vindr"]["iteration"] == 3
    assert all(torch.equal(value, again["model"][key]) for key, value in final["model"].items())
    for name in ("metrics.json", "model_best.pth"):
        assert (finished / name).read_bytes() == before[name]


@pytest.mark.parametrize("more, message", [
    (["MODEL.FPN.OUT_CHANNELS", "16"], r"state_0000003.*weights of another shape, .*\(32.*there, \(16"),
    (["VINDR.OPTIMIZER", "AdamW"], "VINDR.OPTIMIZER is 'AdamW', expected 'SGD' as in .*state_0000003"),
    (["MODEL.MASK_ON", "True"], "weights that it lacks, such as"),
])
def test_a_state_of_another_model_is_refused(engine, finished, phantoms, more, message):
    before = contents(finished)
    with pytest.raises(InputError, match=message):
        train(engine, finished, phantoms / "data", "SOLVER.MAX_ITER", "5", *more, resume=True)
    assert contents(finished) == before


@pytest.mark.parametrize("key, value, message", [
    ("SOLVER.BASE_LR", "0.5", r"SOLVER.BASE_LR is 0.5, expected 0.\d+ as in .*state_0000003"),
    ("SOLVER.WEIGHT_DECAY", "0.5", "SOLVER.WEIGHT_DECAY is 0.5, expected 0.0001"),
    ("SOLVER.MOMENTUM", "0.5", "SOLVER.MOMENTUM is 0.5, expected 0.9"),
    ("SOLVER.IMS_PER_BATCH", "4", "SOLVER.IMS_PER_BATCH is 4, expected 2"),
    ("DATASETS.TRAIN", "('vindr_train_fold1',)", r"DATASETS.TRAIN is \('vindr_train_fold1',\), expected"),
    ("VINDR.ACCUMULATE", "2", "VINDR.ACCUMULATE is 2, expected 1"),
    ("VINDR.NORMAL_RATIO", "0.5", "VINDR.NORMAL_RATIO is 0.5, expected"),
    ("VINDR.BEST_METRIC", "coco/AP", "VINDR.BEST_METRIC is 'coco/AP', expected 'vindr/mAP40'"),
    ("MODEL.RPN.NMS_THRESH", "0.5", "MODEL.RPN.NMS_THRESH is 0.5, expected 0.7"),
    ("SOLVER.STEPS", "()", None), ("SOLVER.CHECKPOINT_PERIOD", "9", None), ("OUTPUT_DIR", "o", None),
    ("DATALOADER.NUM_WORKERS", "3", None), ("TEST.EVAL_PERIOD", "3", None), ("VINDR.PATIENCE", "3", None),
    ("VINDR.DATA_ROOT", "elsewhere", None), ("MODEL.DEVICE", "cuda", None),
])
def test_what_a_state_fixes_cannot_change(engine, trained, key, value, message):
    """The optimizer's state would silently override some keys, and contradict others."""
    from vindr_det.config import config_from_text, merge_overrides
    from vindr_det.detection import engine as engines
    from vindr_det.training.resume import require_resumable

    state = state_to_resume(trained(engine), engine)
    meta = read_file(state)["vindr"]
    cfg = config_from_text(meta["config"], engines.load(engine).defaults(), "")
    require_resumable(state, meta, {}, {}, cfg)
    merge_overrides(cfg, ["SOLVER.MAX_ITER", "9", key, value], "")
    if message is None:
        require_resumable(state, meta, {}, {}, cfg)
    else:
        with pytest.raises(InputError, match=message):
            require_resumable(state, meta, {}, {}, cfg)


def test_the_best_value_of_an_earlier_versions_state_is_kept(trained):
    """Lightning finds a callback's state by its key, which was the class's name then."""
    callbacks = read_file(state_to_resume(trained("torchvision"), "torchvision"))["callbacks"]
    assert callbacks.get("BestAndFinal")


def test_a_changed_schedule_is_followed(engine, finished, phantoms, monkeypatch):
    """From the first step on, for which the optimizer's state has the old learning rate."""
    rates, step = [], torch.optim.SGD.step

    def noted(self, *args, **kwargs):
        rates.append(self.param_groups[0]["lr"])
        return step(self, *args, **kwargs)

    monkeypatch.setattr(torch.optim.SGD, "step", noted)
    train(engine, finished, phantoms / "data", "SOLVER.MAX_ITER", "4", "SOLVER.LR_SCHEDULER_NAME",
          "WarmupMultiStepLR", "SOLVER.STEPS", "(1, 2, 3)", "SOLVER.GAMMA", "0.5", resume=True)
    base = yaml.safe_load((finished / "config.yaml").read_text())["SOLVER"]["BASE_LR"]
    assert rates == pytest.approx([0.125 * base])


def test_a_fresh_training_killed_at_once_leaves_no_other_to_resume(engine, finished, phantoms, monkeypatch):
    """The folder holds a finished training; the new training in it is killed before its first state."""
    class Killed(BaseException):
        pass

    def kill(*_, **__):
        raise Killed

    module = ("torchvision.lightning_module.DetectorModule" if engine == "torchvision"
              else "detectron2.train_step.VindrStep")
    step = "training_step" if engine == "torchvision" else "run_step"
    monkeypatch.setattr(f"vindr_det.detection.{module}.{step}", kill)
    old = (finished / "model_final.pth").read_bytes()
    with pytest.raises(Killed):
        train(engine, finished, phantoms / "data", "SOLVER.BASE_LR", "0.0001")
    assert state_to_resume(finished, engine) is None and not losses(finished)
    assert (finished / "earlier_model_final.pth").read_bytes() == old
    monkeypatch.undo()
    train(engine, finished, phantoms / "data", "SOLVER.BASE_LR", "0.0001", resume=True)
    meta = read_file(finished / "model_final.pth")["vindr"]
    assert yaml.safe_load(meta["config"])["SOLVER"]["BASE_LR"] == 0.0001


def test_a_training_resumes_in_another_precision(engine, phantoms, tmp_path):
    more = ("SOLVER.STEPS", "()", "VINDR.AMP_DTYPE", "bfloat16", "TEST.EVAL_PERIOD", "0")
    for number, half in enumerate(("False", "True", "False"), 1):
        train(engine, tmp_path, phantoms / "data", *more, "SOLVER.MAX_ITER", str(number),
              "SOLVER.AMP.ENABLED", half, resume=number > 1)
    assert read_file(tmp_path / "model_final.pth")["vindr"]["iteration"] == 3


def test_a_batch_in_parts_is_as_many_steps(engine, phantoms, tmp_path):
    train(engine, tmp_path, phantoms / "data", "VINDR.ACCUMULATE", "2", "SOLVER.IMS_PER_BATCH", "4",
          "SOLVER.MAX_ITER", "2", "SOLVER.CHECKPOINT_PERIOD", "1")
    assert read_file(tmp_path / "model_final.pth")["vindr"]["iteration"] == 2
    assert len(list(tmp_path.glob("state_*"))) == 2
    iterations = [line["iteration"] for line in losses(tmp_path) if "vindr/mAP40" in line]
    assert iterations == [0, 1]


def test_a_batch_that_cannot_be_divided_is_refused(engine, phantoms, tmp_path):
    with pytest.raises(InputError, match="SOLVER.IMS_PER_BATCH is 3, expected a multiple of 2"):
        train(engine, tmp_path, phantoms / "data", "VINDR.ACCUMULATE", "2", "SOLVER.IMS_PER_BATCH", "3")


def test_a_diverging_training_names_the_images(engine, phantoms, tmp_path, tool):
    result = tool("train_net.py", "--config", DEMO, "--engine", engine, *TINIEST, "SOLVER.BASE_LR", "1e30",
                  "SOLVER.MAX_ITER", "9", "SOLVER.CLIP_GRADIENTS.ENABLED", "False", "OUTPUT_DIR",
                  tmp_path, "VINDR.DATA_ROOT", phantoms / "data")
    assert result.returncode == 2
    line = result.stderr.strip().splitlines()[-1]
    assert "loss is not finite at iteration" in line and "on images" in line and "learning rate" in line


def test_the_model_ema_is_what_is_saved(engine, phantoms, tmp_path):
    """With a high decay the saved weights differ from the trained weights of the state."""
    train(engine, tmp_path, phantoms / "data", "VINDR.EMA_DECAY", "0.99", "SOLVER.MAX_ITER", "4",
          "SOLVER.WARMUP_ITERS", "0")
    suffix = "ckpt" if engine == "torchvision" else "pth"
    state = read_file(tmp_path / f"state_0000004.{suffix}")
    raw = state["state_dict"] if engine == "torchvision" else state["model"]
    raw = {key.removeprefix("network."): value for key, value in raw.items()}
    saved = read_file(tmp_path / "model_final.pth")["model"]
    assert saved.keys() == raw.keys()
    assert any((saved[key] != raw[key]).any() for key in saved if "weight" in key)


def test_only_boxes_that_enough_readers_drew_are_trained_on(phantoms):
    from vindr_det.data.splits import training_records
    from vindr_det.detection.loading import load_config

    counts, images = {}, {}
    for min_count in (1, 2, 3):
        cfg = load_config(DEMO, "torchvision", ["VINDR.DATA_ROOT", str(phantoms / "data"),
                                                "VINDR.MIN_READERS", str(min_count),
                                                "VINDR.NORMAL_RATIO", "-1"])
        records = [record for record, _ in training_records(cfg)]
        counts[min_count] = sum(len(record.truth) for record in records)
        images[min_count] = {record.image_id for record in records if record.normal}
    assert counts[1] > counts[2] > counts[3] > 0
    assert images[1] == images[2] == images[3]  # an image that lost its boxes is not a normal image


def test_a_resume_never_continues_an_earlier_training(engine, phantoms, tmp_path):
    """A long training, then a fresh short one in the same folder, then a resume of the short one."""
    period = ("SOLVER.CHECKPOINT_PERIOD", "1", "VINDR.KEEP_CHECKPOINTS", "2", "TEST.EVAL_PERIOD", "0")
    train(engine, tmp_path, phantoms / "data", "SOLVER.MAX_ITER", "5", *period)
    train(engine, tmp_path, phantoms / "data", "SOLVER.MAX_ITER", "2", *period)
    assert sorted(path.stem for path in tmp_path.glob("state_*")) == ["state_0000001", "state_0000002"]
    train(engine, tmp_path, phantoms / "data", "SOLVER.MAX_ITER", "3", *period, resume=True)
    assert read_file(tmp_path / "model_final.pth")["vindr"]["iteration"] == 3
    assert [line["iteration"] for line in losses(tmp_path) if "total_loss" in line] == [1, 2]


def test_a_diverged_loss_names_images_and_losses():
    text = str(DivergedError(7, ["a", "b"], {"loss_cls": float("nan")}))
    assert "iteration 7 on images a, b (loss_cls nan)" in text and "\n" not in text
