"""Ctrl-C and SIGTERM: the step is finished, a state saved, one line printed; the resume is exact."""

import json
import os
import signal
import subprocess
import time

import pytest
import torch
from conftest import DEMO, ROOT, TINIEST
from torch.utils.data import DataLoader

from vindr_det.detection import engine as engines
from vindr_det.detection.loading import load_config
from vindr_det.detection.validation import LossMeans
from vindr_det.training.checkpoint_io import read_file
from vindr_det.training.interruption import Interrupted, Interruption, leave_signals_to_trainer
from vindr_det.training.states import SUFFIXES, iterations_of, saved


@pytest.fixture(autouse=True)
def ctrl_c_is_handled():
    """Python's handler of Ctrl-C, also where these tests run in the background."""
    before = signal.signal(signal.SIGINT, signal.default_int_handler)
    yield
    signal.signal(signal.SIGINT, before)


SHORT = [*TINIEST, "SOLVER.MAX_ITER", "4", "TEST.EVAL_PERIOD", "2", "SOLVER.CHECKPOINT_PERIOD", "4",
         "VINDR.EMA_DECAY", "0.9", "VINDR.REPEAT_THRESHOLD", "0.3", "VINDR.NORMAL_RATIO", "0.5"]


def train(engine, out, phantoms, *more, resume=False):
    options = [*SHORT, "OUTPUT_DIR", str(out), "VINDR.DATA_ROOT", str(phantoms / "data"), *more]
    engines.load(engine).train(load_config(DEMO, engine, options), resume=resume)


def same_models(straight, resumed):
    for name in ("model_final.pth", "model_best.pth"):
        first, second = read_file(straight / name), read_file(resumed / name)
        assert first["vindr"]["metrics"] == pytest.approx(second["vindr"]["metrics"], abs=1e-6)
        for key, value in first["model"].items():
            assert torch.allclose(value, second["model"][key], atol=1e-6), (name, key)


def validations(folder):
    path = folder / "metrics.json"
    lines = [json.loads(line) for line in path.read_text().splitlines()] if path.exists() else []
    return [line["iteration"] for line in lines if "vindr/mAP40" in line]


@pytest.mark.parametrize("at", [2, 4])
def test_a_signal_during_validation_leaves_it_to_the_resume(engine, at, phantoms, tmp_path, monkeypatch):
    train(engine, tmp_path / "straight", phantoms)
    out, add = tmp_path / "broken", LossMeans.add

    def interrupted(*args, **kwargs):
        if 2 * (1 + len(validations(out))) == at:
            os.kill(os.getpid(), signal.SIGINT)
        add(*args, **kwargs)

    monkeypatch.setattr(LossMeans, "add", interrupted)
    with pytest.raises(Interrupted, match="--resume continues from") as caught:
        train(engine, out, phantoms)
    assert caught.value.status == 130
    monkeypatch.undo()
    state, = saved(out, SUFFIXES[engine])
    assert iterations_of(state) == at and str(state) in str(caught.value)
    assert validations(out) == [1][: at // 2 - 1]
    assert not (out / "model_final.pth").exists()
    train(engine, out, phantoms, resume=True)
    assert validations(out) == validations(tmp_path / "straight") == [1, 3]
    same_models(tmp_path / "straight", out)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler


def test_a_signal_before_the_first_step(engine, phantoms, tmp_path, monkeypatch):
    """While the images are looked up, say."""
    from vindr_det.data import splits

    def warned(*args):
        os.kill(os.getpid(), signal.SIGTERM)
        return read(*args)

    read = splits.read_split
    monkeypatch.setattr(splits, "read_split", warned)
    before = signal.signal(signal.SIGTERM, lambda *_: pytest.fail("not handled"))
    try:
        with pytest.raises(Interrupted, match="there was no iteration to resume from yet") as caught:
            train(engine, tmp_path, phantoms)
    finally:
        signal.signal(signal.SIGTERM, before)
    assert caught.value.status == 143 and not saved(tmp_path, SUFFIXES[engine])
    assert not (tmp_path / "model_final.pth").exists()


@pytest.mark.parametrize("tasks", ["1", "2"])
def test_lightning_ignores_slurm(tasks, phantoms, tmp_path, monkeypatch):
    """Lightning would resume from any hpc_ckpt in its working folder, and write a new hpc_ckpt at SIGUSR1."""
    job = {"JOB_ID": "8", "NTASKS": tasks, "PROCID": "0", "LOCALID": "0", "NODEID": "0", "JOB_NAME": "train",
           "NODELIST": "localhost"}
    for key, value in job.items():
        monkeypatch.setenv(f"SLURM_{key}", value)
    monkeypatch.chdir(tmp_path)
    (tmp_path / "hpc_ckpt_1.ckpt").write_bytes(b"another training's")
    add = LossMeans.add

    def warned(*args, **kwargs):
        os.kill(os.getpid(), signal.SIGUSR1)
        add(*args, **kwargs)

    monkeypatch.setattr(LossMeans, "add", warned)
    with pytest.raises(Interrupted, match="--resume continues from") as caught:
        train("torchvision", tmp_path / "out", phantoms)
    assert caught.value.status == 128 + signal.SIGUSR1
    assert [iterations_of(state) for state in saved(tmp_path / "out", ".ckpt")] == [2]
    assert [path.name for path in tmp_path.rglob("hpc_*")] == ["hpc_ckpt_1.ckpt"]


def command(engine, out, phantoms, *more):
    return [ROOT / "tools/train_net.py", "--config", str(DEMO), "--engine", engine,
            *SHORT, "SOLVER.MAX_ITER", "14", "TEST.EVAL_PERIOD", "5", "SOLVER.CHECKPOINT_PERIOD", "3",
            "OUTPUT_DIR", str(out), "VINDR.DATA_ROOT", str(phantoms / "data"), *more]


def interrupt(run, out, number, group=False):
    """Send a signal once the training has saved its first state; returns its exit status and stderr."""
    while not list(out.glob("state_*")):
        assert run.poll() is None, run.errors.read_text()
        time.sleep(0.01)
    (os.killpg if group else os.kill)(run.pid, number)
    return run.wait(120), run.errors.read_text()


@pytest.mark.exhaustive
def test_interrupted_and_resumed_is_the_same_training(engine, phantoms, tmp_path, processes):
    straight, broken = tmp_path / "straight", tmp_path / "broken"
    run = processes.start(command(engine, broken, phantoms), session=True)
    code, errors = interrupt(run, broken, signal.SIGINT)
    assert code == 130 and "Traceback" not in errors, errors
    states = saved(broken, SUFFIXES[engine])
    assert errors.splitlines()[-1] == f"train_net.py: interrupted; --resume continues from {states[-1]}"
    assert not (broken / "model_final.pth").exists() and 3 <= iterations_of(states[-1]) < 14
    assert processes.run([*command(engine, broken, phantoms), "--resume"]).returncode == 0
    assert processes.run(command(engine, straight, phantoms)).returncode == 0
    same_models(straight, broken)


@pytest.mark.exhaustive
@pytest.mark.parametrize("number, group", [(signal.SIGINT, True), (signal.SIGTERM, False)])
def test_several_processes_end_together(engine, number, group, phantoms, tmp_path, processes):
    """A terminal's Ctrl-C reaches every process, a cluster's SIGTERM perhaps only the first."""
    run_command = [*command(engine, tmp_path, phantoms, "--num-gpus", "2"), "TEST.EVAL_PERIOD", "0",
                   "SOLVER.MAX_ITER", "40"]
    code, errors = interrupt(processes.start(run_command, session=True), tmp_path, number, group)
    assert code == 128 + number and "Traceback" not in errors, errors
    state = saved(tmp_path, SUFFIXES[engine])[-1]
    assert errors.count("interrupted; --resume continues from") == 1 and str(state) in errors
    assert 3 <= iterations_of(state) < 40 and not (tmp_path / "model_final.pth").exists()


def test_a_second_signal_stops_at_once(monkeypatch):
    clock = iter([100.0, 100.2, 102.0])
    monkeypatch.setattr("vindr_det.training.interruption.time.monotonic", lambda: next(clock))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    with Interruption() as interruption:
        os.kill(os.getpid(), signal.SIGTERM)
        assert not interruption.signal  # a process that was started to ignore it does
        for _ in range(2):  # a terminal and a launcher may both pass on the same Ctrl-C
            os.kill(os.getpid(), signal.SIGINT)
        assert interruption.signal == interruption.agreed() == signal.SIGINT
        assert list(interruption.until([1, 2])) == []
        with pytest.raises(KeyboardInterrupt):
            os.kill(os.getpid(), signal.SIGINT)
    assert signal.getsignal(signal.SIGINT) is signal.default_int_handler
    signal.signal(signal.SIGTERM, signal.SIG_DFL)


class Slow(torch.utils.data.Dataset):
    def __len__(self):
        return 60

    def __getitem__(self, row):
        time.sleep(0.02)
        return row


def test_a_loaders_workers_outlive_the_signals_that_their_trainer_handles():
    loader = DataLoader(Slow(), num_workers=1, worker_init_fn=leave_signals_to_trainer)
    iterator = iter(loader)
    seen = [int(next(iterator))]
    worker = iterator._workers[0]
    for name in ("INT", "TERM"):
        subprocess.run(["kill", f"-{name}", str(worker.pid)], check=True)
    seen += [int(row) for row in iterator]
    assert seen == list(range(60))
    other = iter(loader)
    next(other)
    other._workers[0].terminate()  # the trainer's own
    other._workers[0].join(10)
    assert other._workers[0].exitcode == 0


def test_ranks_agree_over_the_processors_also_beside_nccl(tmp_path, monkeypatch):
    from torch import distributed

    from vindr_det.training.interruption import max_over_ranks

    distributed.init_process_group("gloo", init_method=f"file://{tmp_path / 'store'}", world_size=1, rank=0)
    seen, reduce = [], distributed.all_reduce
    monkeypatch.setattr(distributed, "get_backend",
                        lambda group=None: "nccl" if group is distributed.group.WORLD else "gloo")
    monkeypatch.setattr(distributed, "all_reduce", lambda tensor, op, group: (
        seen.append((tensor.device.type, distributed.get_backend(group))), reduce(tensor, op, group=group)))
    try:
        assert [max_over_ranks(value) for value in (0, 10)] == [0, 10]
    finally:
        distributed.destroy_process_group()
    assert seen == [("cpu", "gloo")] * 2
    assert max_over_ranks(3) == 3
