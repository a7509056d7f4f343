"""Our parts in other people's Detectron2 projects: the README's script and Detectron2's own tools."""

import json
import os
import re
import subprocess
import sys

import pytest
import torch
from conftest import ROOT, TINY

pytestmark = pytest.mark.detectron2

SCRIPT = re.search(r"```python\n(.*?)```", (ROOT / "README.md").read_text(encoding="utf-8"), re.S)[1]
#: The repository's own YAML with a network that two cores train in seconds.
SMALL = [*TINY, "SOLVER.AMP.ENABLED", "False", "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS",
         "64", "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.FPN.OUT_CHANNELS", "32",
         "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.WEIGHTS", "torchvision://resnet18"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A machine without network on which torchvision's ResNet-18 has been downloaded."""
    from torchvision.models import get_model_weights, resnet18

    home = tmp_path_factory.mktemp("home")
    name = get_model_weights("resnet18").DEFAULT.url.rsplit("/", 1)[1]
    (home / "hub/checkpoints").mkdir(parents=True)
    torch.manual_seed(5)
    torch.save(resnet18().state_dict(), home / "hub/checkpoints" / name)
    return home


@pytest.fixture
def downloaded(home, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setenv("FVCORE_CACHE", str(home / "cache"))


def written(folder):
    """Each key's last value in metrics.json, which must be JSON indeed."""
    def refuse(word):
        raise AssertionError(f"metrics.json holds {word}")

    lines = (folder / "metrics.json").read_text().splitlines()
    return {k: v for line in lines for k, v in json.loads(line, parse_constant=refuse).items()}


def arguments(data, out, *more):
    return ["--config-file", str(ROOT / "configs/vindr_frcnn.yaml"), "--dist-url", "auto", *more, *SMALL,
            "OUTPUT_DIR", str(out), "VINDR.DATA_ROOT", str(data)]


def test_the_readmes_script_trains_the_repositorys_yaml(phantoms, tmp_path, downloaded):
    from detectron2.engine import default_argument_parser

    scope: dict = {"__name__": "train_net"}
    exec(SCRIPT, scope)
    scope["main"](default_argument_parser().parse_args(arguments(phantoms / "data", tmp_path)))
    found = written(tmp_path)
    for key in ("total_loss", "validation_loss", "validation_abnormal/loss", "vindr/mAP40", "coco/AP"):
        assert isinstance(found[key], float), key


# DefaultTrainer tells DistributedDataParallel a device id, which it takes for GPUs alone.
ON_CPUS = """
import detectron2.engine.defaults as defaults
made = defaults.create_ddp_model
defaults.create_ddp_model = lambda model, **options: made(model, **options | {"device_ids": None})
"""


@pytest.mark.slow
def test_the_readmes_script_trains_on_two_processes(phantoms, tmp_path, home):
    (tmp_path / "train_net.py").write_text(ON_CPUS + SCRIPT)
    home_of = {"TORCH_HOME": str(home), "FVCORE_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    command = [sys.executable, str(tmp_path / "train_net.py"),
               *arguments(phantoms / "data", tmp_path, "--num-gpus", "2")]
    run = subprocess.run(command, capture_output=True, text=True, timeout=280, env=os.environ | home_of)
    assert run.returncode == 0, run.stderr[-3000:]
    assert {"validation_loss", "vindr/mAP40"} <= written(tmp_path).keys()
