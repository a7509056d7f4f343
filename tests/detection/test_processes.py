"""Two processes over gloo against one."""

import json
import os
import socket
import subprocess
import sys

import pytest
import torch
from conftest import DEMO, ROOT, TINY, one_line

from vindr_det.detection.checkpoint import read_file
from vindr_det.detection.engine import Launch
from vindr_det.errors import InputError

# Nothing is sampled, every image has one size and gives as many proposals, and no norm looks at the
# batch: what is left is the arithmetic of two halves against the whole.
SAME = [*TINY, "SOLVER.IMS_PER_BATCH", "4", "SOLVER.MAX_ITER", "10", "TEST.EVAL_PERIOD", "0",
        "MODEL.RESNETS.NORM", "FrozenBN", "SOLVER.BASE_LR", "0.001", "MODEL.RPN.NMS_THRESH", "1.0",
        "MODEL.RPN.BATCH_SIZE_PER_IMAGE", "20000", "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "4000",
        "MODEL.RPN.PRE_NMS_TOPK_TRAIN", "2000", "MODEL.RPN.POST_NMS_TOPK_TRAIN", "100",
        "VINDR.AUGMENT", "[]", "VINDR.KEEP_ASPECT", "False"]


# Two processes with a thread for each core would only wait for each other.
ONE_THREAD = os.environ | {"OMP_NUM_THREADS": "1"}


def command(engine, out, data, *more):
    return [sys.executable, str(ROOT / "tools/train_net.py"), "--config", str(DEMO), "--engine", engine,
            *map(str, more), *SAME, "OUTPUT_DIR", str(out), "VINDR.DATA_ROOT", str(data)]


@pytest.fixture(scope="module")
def square(phantoms, tmp_path_factory):
    """The phantoms squeezed into squares, so that no batch is padded."""
    from vindr_det.prepare import prepare_folder
    from vindr_det.resize import Target

    root = tmp_path_factory.mktemp("square")
    prepare_folder(phantoms / "raw/train", root / "train", Target(96, False), 2)
    (root / "annotations").symlink_to(phantoms / "data/annotations")
    return root


def totals(folder):
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return [line["total_loss"] for line in lines if "total_loss" in line]


def compare(one, two):
    assert totals(one) == pytest.approx(totals(two), abs=1e-3)
    first, second = (read_file(folder / "model_final.pth")["model"] for folder in (one, two))
    assert max((first[key].double() - second[key].double()).abs().max() for key in first) < 1e-3
    moved = read_file(one / "model_final.pth")["model"]
    assert all(torch.isfinite(value).all() for value in moved.values())


@pytest.mark.slow
def test_two_processes_are_one_with_twice_the_batch(engine, square, tmp_path):
    for folder, more in (("one", ()), ("two", ("--num-gpus", 2))):
        run = subprocess.run(command(engine, tmp_path / folder, square, *more),
                             capture_output=True, text=True, timeout=280, env=ONE_THREAD)
        assert run.returncode == 0, run.stderr[-3000:]
    compare(tmp_path / "one", tmp_path / "two")


@pytest.mark.slow
def test_two_machines_of_one_process(engine, square, tmp_path):
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        port = free.getsockname()[1]
    where = ["--num-machines", 2, "--dist-url", f"tcp://127.0.0.1:{port}", "--machine-rank"]
    runs = [subprocess.Popen(
        [*command(engine, tmp_path / "two", square, *where, rank), "SOLVER.MAX_ITER", "2"],
        stdout=subprocess.DEVNULL, stderr=subprocess.PIPE, text=True, env=ONE_THREAD)
        for rank in (0, 1)]
    errors = [run.communicate(timeout=280)[1] for run in runs]
    assert [run.returncode for run in runs] == [0, 0], "\n".join(error[-3000:] for error in errors)
    assert read_file(tmp_path / "two/model_final.pth")["vindr"]["iteration"] == 2


@pytest.mark.parametrize("given, message", [
    ({"processes": 0}, "--num-gpus 0"), ({"machines": 2, "rank": 2}, "--machine-rank 2"),
    ({"machines": 2}, "--dist-url auto: expected tcp://host:port"),
    ({"machines": 2, "url": "tcp://host"}, "--dist-url tcp://host: expected"),
])
def test_bad_launches(given, message):
    with pytest.raises(InputError, match=message):
        Launch(**given)


def test_the_tool_refuses_a_bad_launch(tool):
    assert "--dist-url auto" in one_line(tool("train_net.py", "--config", DEMO, "--num-machines", "2"))
