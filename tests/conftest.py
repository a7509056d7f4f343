"""Shared fixtures: a small phantom set, the real inputs where they are, and both engines."""

import ctypes
import functools
import gc
import importlib.util
import json
import os
import shutil
import subprocess
import sys
from collections import Counter
from pathlib import Path
from typing import Any

import pytest
from warm_processes import Server

if "PYTEST_XDIST_WORKER" in os.environ:  # workers with one thread per core each would wait for each other
    os.environ.setdefault("OMP_NUM_THREADS", "1")
if sys.platform == "linux":  # memory that is given back after each tensor costs a page fault per 4 KB
    for name, number, value in (("TRIM", -1, 1 << 30), ("MMAP", -3, 1 << 30)):
        os.environ.setdefault(f"MALLOC_{name}_THRESHOLD_", str(value))  # of processes that begin here
        getattr(ctypes.CDLL(None), "mallopt", lambda *_: 0)(number, value)

ROOT = Path(__file__).resolve().parent.parent
HAS_DETECTRON2 = importlib.util.find_spec("detectron2") is not None

#: What makes the demo's config finish in seconds.
TINY = [
    "MODEL.DEVICE", "cpu", "SOLVER.IMS_PER_BATCH", "2", "SOLVER.MAX_ITER", "3",
    "SOLVER.WARMUP_ITERS", "1", "SOLVER.STEPS", "(2,)", "TEST.EVAL_PERIOD", "2",
    "SOLVER.CHECKPOINT_PERIOD", "2", "INPUT.MIN_SIZE_TRAIN", "(64,)", "INPUT.MIN_SIZE_TEST", "64",
    "INPUT.MAX_SIZE_TRAIN", "96", "INPUT.MAX_SIZE_TEST", "96", "VINDR.IMAGE_SIZE", "96",
    "MODEL.RPN.POST_NMS_TOPK_TRAIN", "40", "MODEL.RPN.POST_NMS_TOPK_TEST", "40",
    "MODEL.ROI_HEADS.BATCH_SIZE_PER_IMAGE", "16", "DATALOADER.NUM_WORKERS", "0", "VINDR.LOGGERS", "()",
]
#: A PNG of one black pixel.
BLANK = bytes.fromhex("89504e470d0a1a0a0000000d494844520000000100000001080000000"
                      "03a7e9b550000000a49444154789c636000000002000148afa4710000000049454e44ae426082")
#: With a network of 600,000 weights, where that of the demo has twelve million and writes 100 MB per state.
TINIEST = [
    *TINY, "MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "VINDR.TIMM_MODEL", "test_resnet",
    "MODEL.FPN.OUT_CHANNELS", "32", "MODEL.ROI_BOX_HEAD.FC_DIM", "32",
]
DEMO = ROOT / "configs/demo/vindr_frcnn_demo.yaml"
CLASSIFIER_DEMO = ROOT / "configs/classifier/demo/vindr_binary.yaml"


def pytest_collection_modifyitems(config, items):
    if "exhaustive" not in config.option.markexpr:
        left_out = [item for item in items if "exhaustive" in item.keywords]
        config.hook.pytest_deselected(items=left_out)
        items[:] = [item for item in items if "exhaustive" not in item.keywords]
    for item in items:
        if "detectron2" in item.keywords and not HAS_DETECTRON2:
            item.add_marker(pytest.mark.skip(reason="Detectron2 does not import (INSTALL.md)"))


def pytest_collection_finish():
    gc.collect()
    gc.freeze()  # what is imported and collected lives to the end
    gc.set_threshold(5_000, 10, 20)  # a look through all objects takes a quarter of a second


def pytest_report_header():
    where = os.environ.get("VINDR_TEST_DATA", "not set, its tests skip")
    return [f"detectron2: {'here' if HAS_DETECTRON2 else 'not here, its tests skip'}",
            f"VINDR_TEST_DATA: {where}"]


@pytest.fixture(scope="session")
def data() -> Path:
    """The real inputs, which CONTRIBUTING.md describes."""
    folder = os.environ.get("VINDR_TEST_DATA")
    if not folder:
        pytest.skip("VINDR_TEST_DATA is not set")
    return Path(folder)


@pytest.fixture(autouse=True)
def blank_figures(request, monkeypatch):
    """Figures are written blank: matplotlib draws those of a tiny training for longer than it trains.

    The mark ``figures`` draws them, and so does :func:`trained`.
    """
    from matplotlib.figure import Figure

    @functools.wraps(Figure.savefig)
    def blank(figure, path, **_options):
        Path(path).write_bytes(BLANK)

    if "figures" not in request.keywords:
        monkeypatch.setattr(Figure, "savefig", blank)


@pytest.fixture(scope="session")
def phantoms(tmp_path_factory) -> Path:
    """24 training and 6 test phantoms as DICOM (raw/) and prepared (data/)."""
    from vindr_det.data.convert import convert
    from vindr_det.data.release import Conversion
    from vindr_det.imaging.prepare import prepare_folder
    from vindr_det.imaging.resize import Target
    from vindr_det.phantom import make_dataset

    root = tmp_path_factory.mktemp("phantoms")
    make_dataset(root / "raw", 24, 6, 192, seed=3, workers=2)
    for split in ("train", "test"):
        prepare_folder(root / "raw" / split, root / "data" / split, Target(128, True), 2)
    convert("vinbigdata", root / "data/annotations", Conversion(folds=3), annotations=root / "raw/train.csv",
            meta=root / "raw/train_meta.csv", images=root / "data/train")
    return root


def of_another_label_set(source: Path, out: Path, label_set: Any) -> None:
    """A folder of COCO files whose boxes become findings of another set."""
    shutil.copytree(source, out)
    for path in out.glob("instances_*.json"):
        coco = json.loads(path.read_text())
        for box in coco["annotations"]:
            box["category_id"] %= len(label_set)
        coco["categories"] = [{"id": i, "name": name} for i, name in enumerate(label_set.findings)]
        coco["info"] = {"label_set": label_set.name}
        path.write_text(json.dumps(coco))


@pytest.fixture(params=["torchvision", pytest.param("detectron2", marks=pytest.mark.detectron2)])
def engine(request) -> str:
    """Both engines in turn."""
    return request.param


@pytest.fixture(scope="session")
def trained(phantoms, tmp_path_factory):
    """``trained(engine)``: the output folder of a tiny training that all tests share."""
    from matplotlib.figure import Figure

    from vindr_det.detection import engine as engines
    from vindr_det.detection.loading import load_config

    made: dict[str, Path] = {}

    def train(name: str) -> Path:
        if name not in made:
            out = tmp_path_factory.mktemp(f"trained_{name}")
            cfg = load_config(DEMO, name, [*TINIEST, "OUTPUT_DIR", str(out), "VINDR.LOGGERS",
                                           "['tensorboard']", "VINDR.DATA_ROOT", str(phantoms / "data")])
            with pytest.MonkeyPatch.context() as patch:
                patch.setattr(Figure, "savefig", getattr(Figure.savefig, "__wrapped__", Figure.savefig))
                engines.load(name).train(cfg)
            made[name] = out
        return made[name]

    return train


def network_of(engine: str, cfg):
    """An engine's detector with random weights."""
    if engine == "detectron2":
        from vindr_det.detection.detectron2.architectures import build_model
    else:
        from vindr_det.detection.torchvision.model import build_model
    return build_model(cfg)


def begun(engine: str, cfg):
    """An engine's detector in evaluation mode, with MODEL.WEIGHTS loaded as its training does."""
    import torch

    torch.manual_seed(1)
    network = network_of(engine, cfg)
    if engine == "torchvision":
        from vindr_det.detection.torchvision.train import load_weights

        load_weights(network, cfg)
    else:
        from vindr_det.detection.detectron2.checkpointer import VindrCheckpointer

        VindrCheckpointer(network, cfg, metadata=dict).load(cfg.MODEL.WEIGHTS, checkpointables=[])
    return network.eval()


def classifier_config(phantoms: Path, out: Path, *more: str):
    """The demo's classifier on the phantoms, in seconds."""
    from vindr_det.classification.config import load_config

    return load_config(CLASSIFIER_DEMO, [
        "DATA.IMAGES", str(phantoms / "data/train"), "OUTPUT_DIR", str(out),
        "DATA.LABELS", str(phantoms / "data/annotations/labels.csv"),
        # ResNet-18's eleven million weights cost seconds per step, checkpoint and load.
        "MODEL.NAME", "test_resnet", "SOLVER.EPOCHS", "1", "INPUT.SIZE", "64", *more])


@pytest.fixture
def main_of():
    """``main_of("predict.py", ...)``: what a tool's main returns, without the seconds of a new process."""

    def run(name: str, *args) -> int:
        path = ROOT / "tools" / name
        spec = importlib.util.spec_from_file_location(f"tool_{path.stem}", path)
        module = importlib.util.module_from_spec(spec)
        spec.loader.exec_module(module)
        return module.main([str(argument) for argument in args]) or 0

    return run


@pytest.fixture(scope="session")
def processes():
    """Scripts as processes that need not import torch first: ``processes.run([script, *arguments])``."""
    server = Server()
    yield server
    server.close()


@pytest.fixture
def tool(processes):
    """``tool("predict.py", ...)`` runs a tool in a process of its own."""

    def run(name: str, *args, cwd: Path | None = None) -> subprocess.CompletedProcess:
        return processes.run([ROOT / "tools" / name, *args], cwd)

    return run


def one_line(result: subprocess.CompletedProcess) -> str:
    """The last line of a refusal: exit status 2 and no traceback."""
    assert result.returncode == 2, (result.returncode, result.stdout, result.stderr)
    assert "Traceback" not in result.stderr
    return result.stderr.strip().splitlines()[-1]


@pytest.fixture
def questions(monkeypatch):
    """Counts what is asked of the disk about names."""
    asked = Counter()
    for name in ("stat", "lstat", "readlink"):
        real = getattr(os, name)

        def counting(*args, name=name, real=real, **more):
            asked[name] += 1
            return real(*args, **more)

        monkeypatch.setattr(os, name, counting)
    return asked
