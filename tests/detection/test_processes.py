"""Two processes over gloo against a single process."""

import errno
import json
import os
import signal
import socket
import time
from types import SimpleNamespace

import pytest
import torch
from conftest import DEMO, ROOT, TINIEST, one_line

from vindr_det.detection.interface import Launch
from vindr_det.exceptions import InputError
from vindr_det.training.checkpoint_io import read_file

# No sampling, images of one size with equally many proposals, and no norm over the batch: what is left to
# differ is the arithmetic of two half batches against the whole.
SAME = [*TINIEST, "SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "5", "TEST.EVAL_PERIOD", "0",
        "MODEL.RESNETS.NORM", "FrozenBN", "SOLVER.BASE_LR", "0.001", "MODEL.RPN.NMS_THRESH", "1.0",
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "20000", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "4000",
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "2000", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "100",
        "VINDR.AUGMENT", "[]", "VINDR.KEEP_ASPECT", "False"]


# Two processes with a thread for each core would only wait for each other.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def command(engine, out, data, *more):
    return [ROOT / "tools/train_net.py", "--config", str(DEMO), "--engine", engine,
            *map(str, more), *SAME, "OUTPUT_DIR", str(out), "VINDR.DATA_ROOT", str(data)]


@pytest.fixture(scope="module")
def square(phantoms, tmp_path_factory):
    """The phantoms squeezed into squares, so that no batch is padded."""
    from vindr_det.imaging.prepare import prepare_folder
    from vindr_det.imaging.resize import Target

    root = tmp_path_factory.mktemp("square")
    prepare_folder(phantoms / "raw/train", root / "train", Target(96, False), 2)
    (root / "annotations").symlink_to(phantoms / "data/annotations")
    return root


def totals(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [line["total_loss"] for line in lines if "total_loss" in line]


def compare(single, double):
    assert totals(single) == pytest.approx(totals(double), abs=1e-3)
    first, second = (read_file(folder / "model_final.pth")["model"] for folder in (single, double))
    assert max((first[key].double() - second[key].double()).abs().max() for key in first) < 1e-3
    moved = read_file(single / "model_final.pth")["model"]
    assert all(torch.isfinite(value).all() for value in moved.values())


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(engine, square, tmp_path, processes):
    for folder, more in (("one", ()), ("two", ("--num-gpus", 2))):
        run = processes.run(command(engine, tmp_path / folder, square, *more), environment=ONE_THREAD)
        assert run.returncode == 0, run.stderr[-3000:]
    compare(tmp_path / "one", tmp_path / "two")


@pytest.mark.exhaustive
def test_two_machines_of_one_process(engine, square, tmp_path, processes):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--num-machines", 2, "--dist-url", f"tcp://127.0.0.1:{port}", "--machine-rank"]
    commands = [command(engine, tmp_path / "two", square, *where, rank) for rank in (0, 1)]
    runs = [processes.start([*words, "SOLVER.MAX_ITER", "2"], environment=ONE_THREAD) for words in commands]
    statuses = [run.wait() for run in runs]
    assert statuses == [0, 0], "\n".join(run.errors.read_text()[-3000:] for run in runs)
    assert read_file(tmp_path / "two/model_final.pth")["vindr"]["iteration"] == 2


@pytest.mark.parametrize("options, message", [
    ({"processes": 0}, "--num-gpus 0"), ({"machines": 2, "rank": 2}, "--machine-rank 2"),
    ({"machines": 2}, "--dist-url auto: expected tcp://host:port"),
    ({"machines": 2, "url": "tcp://host"}, "--dist-url tcp://host: expected"),
])
def test_bad_launches(options, message):
    with pytest.raises(InputError, match=message):
        Launch(**options)


def test_the_tool_refuses_a_bad_launch(tool):
    assert "--dist-url auto" in one_line(tool("train_net.py", "--config", DEMO, "--num-machines", "2"))


@pytest.mark.parametrize("device, gpus, options, message", [
    ("cpu", 0, {"processes": 9}, None), ("cuda", 2, {"processes": 2}, None), ("cuda:1", 2, {}, None),
    ("cuda", 0, {}, "MODEL.DEVICE is cuda, but this machine has no usable GPU"),
    ("cuda", 2, {"processes": 3}, "--num-gpus 3: this machine has 2 GPUs"),
    ("cuda:1", 2, {"processes": 2}, "MODEL.DEVICE is cuda:1: expected cuda"),
    ("cuda:2", 2, {}, "MODEL.DEVICE is cuda:2: this machine has 2 GPUs, numbered from 0"),
])
def test_devices_that_are_not_there_are_refused(monkeypatch, device, gpus, options, message):
    from vindr_det.detection.engine import check_device

    monkeypatch.setattr(torch.cuda, "is_available", lambda: gpus > 0)
    monkeypatch.setattr(torch.cuda, "device_count", lambda: gpus)
    cfg = SimpleNamespace(MODEL=SimpleNamespace(DEVICE=device))
    if message is None:
        check_device(cfg, Launch(**options))
    else:
        with pytest.raises(InputError, match=message):
            check_device(cfg, Launch(**options))


def test_several_gpus_where_there_is_none_are_refused(monkeypatch):
    """A fallback to the processor would take weeks unnoticed."""
    from vindr_det.detection.loading import load_config

    monkeypatch.setattr(torch.cuda, "is_available", lambda: False)
    config = ROOT / "configs/vindr_frcnn.yaml"
    with pytest.raises(InputError, match="--num-gpus 2: this machine has no usable GPU; add --device cpu"):
        load_config(config, "torchvision", processes=2)
    assert load_config(config, "torchvision", ["MODEL.DEVICE", "cpu"], 2).MODEL.DEVICE == "cpu"
    assert load_config(config, "torchvision").MODEL.DEVICE == "cpu"


class Broken(torch.utils.data.Dataset):
    def __len__(self):
        return 1

    def __getitem__(self, row):
        raise InputError("a.png: cannot be decoded as PNG")


def test_what_a_loaders_worker_met_is_one_line():
    """PyTorch raises it once more, with the worker's traceback in the text."""
    with pytest.raises(InputError) as caught:
        next(iter(torch.utils.data.DataLoader(Broken(), num_workers=1)))
    assert str(caught.value) == "a.png: cannot be decoded as PNG"


@pytest.mark.detectron2
@pytest.mark.parametrize("device, seen", [("cpu", ""), ("cuda", "0,1")])
def test_processes_of_cpus_do_not_see_the_gpus(monkeypatch, device, seen):
    """Detectron2 asks PyTorch for a GPU in each new process, and takes NCCL where there is one."""
    from vindr_det.detection.detectron2 import processes

    visible = []
    monkeypatch.setattr(processes, "detectron2_launch",
                        lambda *_, **__: visible.append(os.environ["CUDA_VISIBLE_DEVICES"]))
    monkeypatch.setenv("CUDA_VISIBLE_DEVICES", "0,1")
    monkeypatch.setattr(torch.cuda, "is_available", lambda: True)
    processes.run(print, Launch(processes=2), device, ())
    assert visible == [seen] and os.environ["CUDA_VISIBLE_DEVICES"] == "0,1"


@pytest.mark.detectron2
@pytest.mark.parametrize("of_ranks, own, expected", [
    ([None, None], None, None), ([None, "rank 1 diverged"], None, "rank 1 diverged"),
    (["rank 0 diverged", "rank 1 diverged"], "rank 0 diverged", "rank 0 diverged"),
])
def test_a_rank_that_is_well_stops_with_the_one_that_is_not(monkeypatch, of_ranks, own, expected):
    from vindr_det.detection.detectron2 import processes

    def work():
        if own:
            raise InputError(own)
        return 7

    monkeypatch.setattr(processes, "_any_rank", lambda _: any(of_ranks))
    monkeypatch.setattr(processes.comm, "all_gather", lambda text: of_ranks if text == own else None)
    if expected is None:
        assert processes.on_all_ranks(work) == 7
    else:
        with pytest.raises(InputError, match=expected):
            processes.on_all_ranks(work)


@pytest.mark.detectron2
@pytest.mark.parametrize("error, message", [
    (InputError("a.png: bad"), "a.png: bad"),
    (OSError(errno.ENOSPC, "No space left on device", "m.json"), "m.json: No space left on device"),
    (OSError(errno.ECHILD, "a bug"), None),
])
def test_a_process_reports_what_the_user_can_repair(error, message, monkeypatch):
    from vindr_det.detection.detectron2 import processes

    def work():
        raise error

    texts = []
    monkeypatch.setattr(processes.comm, "get_world_size", lambda: 2)
    with pytest.raises(SystemExit if message else OSError):
        processes._report(SimpleNamespace(put=texts.append), work, ())
    assert texts == ([message] if message else [])


@pytest.mark.detectron2
def test_a_process_that_dies_of_the_signal_is_no_traceback(phantoms, tmp_path, monkeypatch):
    """SIGTERM while the processes still import: only the first process handles it."""
    from torch.multiprocessing.spawn import ProcessExitedException

    from vindr_det.detection.detectron2 import engine, processes
    from vindr_det.detection.loading import load_config
    from vindr_det.training.interruption import Interrupted

    def died(*_):
        os.kill(os.getpid(), signal.SIGTERM)
        raise ProcessExitedException("process 1 terminated with signal SIGTERM", 1, 1, -15, "SIGTERM")

    monkeypatch.setattr(processes, "run", died)
    cfg = load_config(DEMO, "detectron2", [*TINIEST, "OUTPUT_DIR", str(tmp_path)])
    with pytest.raises(Interrupted, match="there was no iteration to resume from yet") as caught:
        engine.train(cfg, launch=Launch(processes=2))
    assert caught.value.status == 143


@pytest.mark.detectron2
def test_the_validation_losses_batch_is_a_part_of_a_batch(phantoms, tmp_path):
    """VINDR.ACCUMULATE is for memory, of which the validation loss takes as much as training."""
    from vindr_det.detection.detectron2.trainer import VindrTrainer
    from vindr_det.detection.loading import load_config

    cfg = load_config(DEMO, "detectron2", [
        *TINIEST, "SOLVER.IMS_PER_BATCH", "4", "VINDR.ACCUMULATE", "2", "OUTPUT_DIR", str(tmp_path),
        "VINDR.DATA_ROOT", str(phantoms / "data")])
    assert len(next(iter(VindrTrainer.build_loss_loader(cfg)))) == 2


@pytest.mark.slow
@pytest.mark.detectron2
def test_what_stops_one_process_stops_all_with_one_line(square, tmp_path, processes):
    """A damaged image comes to one rank alone; the other rank must not wait for it."""
    from shutil import copytree

    copytree(square, tmp_path / "data", symlinks=False)
    damaged = sorted((tmp_path / "data/train").glob("*.png"))
    for path in damaged[::2]:
        path.write_bytes(b"damaged")
    begin = time.monotonic()
    run = processes.run(
        [*command("detectron2", tmp_path / "out", tmp_path / "data", "--num-gpus", 2),
         "SOLVER.MAX_ITER", "50", "DATALOADER.NUM_WORKERS", "1"], environment=ONE_THREAD)
    assert time.monotonic() - begin < 200
    line = one_line(run)
    assert line.startswith("train_net.py: ") and line.endswith("cannot be decoded as PNG")
