#!/usr/bin/env python
"""All that needs a GPU, in under nine minutes: ratios to peers, and every line that only a GPU runs.

    python benchmarks/gpu.py                        on a machine with a GPU and Detectron2
    python benchmarks/gpu.py --tiny --device cpu    checks this script without one

It makes its data. Each part prints its result as soon as it has it; one that fails is one line, and the
status is 1. Parts that would begin after --minutes are left out. Ratios are images per second of ours over
the peer's, in turns, above 1 for ours; the GPU's load is nvidia-smi's share of time in which anything ran.
"""

import functools
import logging
import subprocess
import tempfile
import threading
import time
import traceback
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from statistics import mean
from typing import Any
from unittest import mock

import bench_train
import torch
from bench import table
from bench_train import ROOT, Setting, detector_config, gpu_clock
from comparison import Row, of_turns
from phantom_sets import detector_options, prepared

from vindr_det import cli

_DEMO = "configs/demo/vindr_frcnn_demo.yaml"
_NEVER = 10**6
Part = tuple[str, Callable[[Path], Any]]


@dataclass(frozen=True)
class Machine:
    """What the parts run with.

    Attributes:
        device: cuda, or cpu to check the script.
        tiny: smallest sizes.
        workers: loader processes.
        data: VINDR.DATA_ROOT of the phantoms.
    """

    device: str
    tiny: bool
    workers: int
    data: Path

    @property
    def setting(self) -> Setting:
        """Of the steps, in mixed precision on a GPU."""
        if self.tiny:
            return Setting(self.device, size=128, classifier=(64, 2), turns=4, half=self.device == "cuda")
        return Setting(self.device, size=1024, batch=8, classifier=(256, 64), turns=6, block=5,
                       half=self.device == "cuda",
                       clock=gpu_clock if self.device == "cuda" else time.perf_counter)


def main(argv: Sequence[str] | None = None) -> int:
    parser = cli.parser(__doc__)
    parser.add_argument("--device", default="cuda", choices=("cuda", "cpu"), help="to run on")
    parser.add_argument("--tiny", action="store_true", help="smallest sizes")
    parser.add_argument("--workers", type=int, default=8, help="loader processes")
    parser.add_argument("--minutes", type=float, default=8.0, help="after which no part begins")
    parser.add_argument("--only", type=str, default="", help="parts whose name has this text")
    args = parser.parse_args(argv)
    logging.disable(logging.WARNING)
    began, failures = time.monotonic(), 0
    with tempfile.TemporaryDirectory() as folder:
        images = 24 if args.tiny else 96
        size = 128 if args.tiny else 1024
        data = prepared(Path(folder) / "data", images, size, 1 if args.tiny else None)
        machine = Machine(args.device, args.tiny, 0 if args.tiny else args.workers, data)
        print(f"{_gpu(args.device)}, torch {torch.__version__}; {images} phantoms of {size} px in "
              f"{time.monotonic() - began:.0f} s", flush=True)
        for number, (name, work) in enumerate(parts(machine)):
            if args.only in name:
                late = time.monotonic() - began > 60 * args.minutes
                failures += 0 if late else _run(name, work, Path(folder) / str(number))
                if late:
                    print(f"| {name} | left out: {args.minutes:g} minutes are over |", flush=True)
    print(f"{time.monotonic() - began:.0f} s, {failures} failed")
    return int(failures > 0)


def _gpu(device: str) -> str:
    return torch.cuda.get_device_name() if device == "cuda" else "CPU"


def _run(name: str, work: Callable[[Path], Any], out: Path) -> int:
    """Print the result of a part; 1 where it failed."""
    began = time.monotonic()
    try:
        result = work(out)
    except Exception as error:
        place = traceback.extract_tb(error.__traceback__)[-1]
        text = " ".join(str(error).split())[:300]
        print(f"| {name} | FAILED: {type(error).__name__}: {text} ({place.filename}:{place.lineno}) |",
              flush=True)
        return 1
    seconds = time.monotonic() - began
    text = table([result]).splitlines()[-1] if isinstance(result, Row) else f"| {name} | {result or 'ran'} |"
    print(f"{text} {seconds:.0f} s", flush=True)
    return 0


def parts(machine: Machine) -> Iterator[Part]:
    """All parts, the most telling first."""
    full = replace(machine.setting, half=False)
    yield "trainer fp32", lambda out: default_trainer_row(out, machine, peer_half=False)
    yield "trainer amp", lambda out: default_trainer_row(out, machine, peer_half=True)
    yield "inference", lambda out: inference_row(out, machine)
    yield "gpu load", lambda out: load_with_real_loader(out, machine)
    for name in ("detectron2", "torchvision", "classifier"):
        row = getattr(bench_train, f"{name}_row")
        yield f"step {name} amp", functools.partial(_step, row, machine.data, machine.setting)
    yield "step detectron2 fp32", functools.partial(_step, bench_train.detectron2_row, machine.data, full)
    yield "step torchvision fp32", functools.partial(_step, bench_train.torchvision_row, machine.data, full)
    yield from lines(machine)


def _step(row: Callable[..., Row], data: Path, setting: Setting, out: Path) -> Row:
    return row(out, data, setting)


def stepper(trainer: Any, batch: int, device: str) -> Callable[[int], float]:
    """A function that takes so many steps of a trainer and returns their seconds per image."""
    from detectron2.utils.events import EventStorage

    trainer.iter = trainer.start_iter = 0
    trainer.max_iter = _NEVER
    trainer.storage = EventStorage(0)
    clock = gpu_clock if device == "cuda" else time.perf_counter
    with trainer.storage:
        trainer.before_train()

    def steps(count: int) -> float:
        began = clock()
        with trainer.storage:
            for _ in range(count):
                trainer.before_step()
                trainer.run_step()
                trainer.after_step()
                trainer.iter += 1
        return (clock() - began) / count / batch

    return steps


def default_trainer_row(out: Path, machine: Machine, peer_half: bool) -> Row:
    """Our trainer as its recipe has it (mixed precision, EMA) against DefaultTrainer, both reading files."""
    from detectron2.engine import DefaultTrainer

    from vindr_det.detection.detectron2.datasets import register_datasets
    from vindr_det.detection.detectron2.trainer import VindrTrainer

    setting = machine.setting
    register_datasets(machine.data, ["vindr_train_fold0"])
    ours, theirs = (detector_config("detectron2", machine.data, replace(setting, half=half), out / name,
                                    DATALOADER__NUM_WORKERS=machine.workers)
                    for name, half in (("ours", setting.half), ("theirs", peer_half and setting.half)))
    for cfg in (ours, theirs):
        Path(cfg.OUTPUT_DIR).mkdir(parents=True)
    theirs.DATASETS.TEST = ()
    own = stepper(VindrTrainer(ours), setting.batch, machine.device)
    peer = stepper(DefaultTrainer(theirs), setting.batch, machine.device)
    count, turns = (1, 3) if machine.tiny else (10, 6)
    times = [(own(count), peer(count)) for _ in range(turns)][1:]
    half = ", mixed precision" if peer_half else ", float32"
    own_times, peer_times = map(list, zip(*times, strict=True))
    return of_turns(f"training from files, R50-FPN, {setting.size} px", ("detectron2 engine", own_times),
                    (f"DefaultTrainer{half}", peer_times), per=1.0, target=1.05 if peer_half else 1.5)


def inference_row(out: Path, machine: Machine) -> Row:
    """Our predictor in batches and half precision against DefaultPredictor, on the same images in memory."""
    import cv2
    from detectron2.engine import DefaultPredictor

    from vindr_det.detection.detectron2.predictor import Detectron2Predictor

    setting = machine.setting
    cfg = detector_config("detectron2", machine.data, setting, out)
    cfg.MODEL.ROI_HEADS.SCORE_THRESH_TEST = 0.05
    out.mkdir()
    state = bench_train.state_of(cfg)
    torch.save({"model": state}, out / "weights.pth")
    theirs = cfg.clone()
    theirs.MODEL.WEIGHTS = str(out / "weights.pth")
    theirs.DATASETS.TEST = ()
    ours, peer = Detectron2Predictor(cfg, state), DefaultPredictor(theirs)
    files = sorted((machine.data / "train").glob("*.png"))[: 4 if machine.tiny else 32]
    gray = [cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in files]
    colors = [cv2.cvtColor(image, cv2.COLOR_GRAY2BGR) for image in gray]
    batches = [gray[start : start + 8] for start in range(0, len(gray), 8)]
    clock = setting.clock
    times: list[tuple[float, float]] = []
    for _ in range(3 if machine.tiny else 6):
        began = clock()
        for batch in batches:
            ours(batch)
        middle = clock()
        for image in colors:
            peer(image)["instances"].to("cpu")
        times.append(((middle - began) / len(gray), (clock() - middle) / len(gray)))
    own_times, peer_times = map(list, zip(*times[1:], strict=True))
    return of_turns(f"inference, R50-FPN, {setting.size} px", ("detectron2 engine, batches", own_times),
                    ("DefaultPredictor", peer_times), per=1.0, target=2.0)


def load_with_real_loader(out: Path, machine: Machine) -> str:
    """The GPU's mean load while our trainer reads, augments and trains."""
    from vindr_det.detection.detectron2.trainer import VindrTrainer

    setting = machine.setting
    cfg = detector_config("detectron2", machine.data, setting, out, DATALOADER__NUM_WORKERS=machine.workers)
    out.mkdir()
    trainer = VindrTrainer(cfg)
    steps = stepper(trainer, setting.batch, machine.device)
    steps(1 if machine.tiny else 10)
    with Load(machine.device) as load:
        seconds = steps(2 if machine.tiny else 60)
    waits = [value for value, _ in trainer.storage.history("data_time").values()][-60:]
    share = mean(waits) / (seconds * setting.batch)
    return (f"GPU busy {load.mean:.0f} % (target 90), {1 / seconds:.1f} images/s, {share:.0%} of the time "
            f"waiting for images, {machine.workers} workers")


class Load:
    """nvidia-smi's utilization within the context.

    Attributes:
        mean: percent; NaN without a GPU.
    """

    def __init__(self, device: str) -> None:
        self.device, self.mean = device, float("nan")
        self._values: list[float] = []

    def __enter__(self) -> "Load":
        if self.device == "cuda":
            self._process = subprocess.Popen(
                ["nvidia-smi", "--query-gpu=utilization.gpu", "--format=csv,noheader,nounits", "-lms", "200",
                 "-i", "0"], stdout=subprocess.PIPE, text=True)
            self._thread = threading.Thread(target=self._read, daemon=True)
            self._thread.start()
        return self

    def _read(self) -> None:
        for line in self._process.stdout or ():
            self._values.append(float(line))

    def __exit__(self, *_: Any) -> None:
        if self.device == "cuda":
            self._process.terminate()
            self._thread.join(5)
            self.mean = mean(self._values) if self._values else float("nan")


def lines(machine: Machine) -> Iterator[Part]:
    """Whole short trainings, validations and predictions of what only a GPU runs."""
    clip = {"SOLVER__CLIP_GRADIENTS__ENABLED": True}
    for engine in ("detectron2", "torchvision"):
        for name, more in {
            "float16": {}, "bfloat16": {"VINDR__AMP_DTYPE": "bfloat16"},
            "float16, clipped by value": clip,
            "float16, clipped by norm": clip | {"SOLVER__CLIP_GRADIENTS__CLIP_TYPE": "full_model"},
            "float16, contiguous, AdamW": {"VINDR__CHANNELS_LAST": "never", "VINDR__OPTIMIZER": "AdamW"},
        }.items():
            yield f"{engine} {name}", functools.partial(train_and_predict, machine, engine, more)
        yield f"{engine} one process of several", functools.partial(shared_training, machine, engine)
    precisions = ("16-mixed", "bf16-mixed") if machine.device == "cuda" else ("bf16-mixed",)
    for precision in precisions:
        yield f"classifier {precision}", functools.partial(train_classifier, machine, precision, False)
    for engine in ("detectron2", "torchvision"):
        yield f"{engine} compiled", functools.partial(train_and_predict, machine, engine,
                                                      {"VINDR__COMPILE": True})
    yield "classifier compiled", functools.partial(train_classifier, machine, precisions[0], True)


def train_and_predict(machine: Machine, engine: str, more: dict[str, Any], out: Path) -> str:
    """Six iterations with two validations, a resume, and detections of the final model in its precision."""
    import cv2

    from vindr_det.detection import engine as engines
    from vindr_det.detection.loading import load_checkpoint, load_config

    cfg = load_config(ROOT / _DEMO, engine, _line_options(machine, out, more))
    engines.load(engine).train(cfg)
    cfg.SOLVER.MAX_ITER = 6
    engines.load(engine).train(cfg, resume=True)
    checkpoint = load_checkpoint(out / "model_final.pth")
    checkpoint.cfg.MODEL.DEVICE = machine.device
    predictor = engines.load(engine).build_predictor(checkpoint.cfg, checkpoint.state)
    files = sorted((machine.data / "train").glob("*.png"))[:2]
    detections = predictor([cv2.imread(str(path), cv2.IMREAD_GRAYSCALE) for path in files])
    return f"ran, coco/AP {checkpoint.metrics.get('coco/AP', 0):.3f}, {sum(map(len, detections))} boxes"


def _line_options(machine: Machine, out: Path, more: dict[str, Any]) -> list[str]:
    small = {"OUTPUT_DIR": out, "MODEL__DEVICE": machine.device, "SOLVER__AMP__ENABLED": True,
             "VINDR__VALIDATION": "('vindr_val_fold0',)", "TEST__EVAL_PERIOD": 2,
             "DATALOADER__NUM_WORKERS": min(2, machine.workers), "VINDR__LOGGERS": "()",
             "SOLVER__CHECKPOINT_PERIOD": 2}
    return detector_options(machine.data, 128 if machine.tiny else 256, 2, 4, **small, **more)


def shared_training(machine: Machine, engine: str, out: Path) -> None:
    """A group of one process, as each of several is in (NCCL on GPUs, Gloo on the CPU)."""
    from vindr_det.classification.launch import free_port
    from vindr_det.detection import engine as engines
    from vindr_det.detection.loading import load_config

    cfg = load_config(ROOT / _DEMO, engine, _line_options(machine, out, {}))
    if engine == "torchvision":
        import lightning as L

        with mock.patch.object(L, "Trainer", functools.partial(L.Trainer, strategy="ddp")):
            engines.load(engine).train(cfg)
        if torch.distributed.is_initialized():
            torch.distributed.destroy_process_group()
        return
    from detectron2.utils import comm
    from torch.nn.parallel import DistributedDataParallel

    from vindr_det.detection.detectron2 import processes
    from vindr_det.detection.detectron2.trainer import VindrTrainer

    gpu = machine.device == "cuda"
    torch.distributed.init_process_group("nccl" if gpu else "gloo", f"tcp://127.0.0.1:{free_port()}",
                                         rank=0, world_size=1)
    comm.create_local_process_group(1)
    out.mkdir()
    try:
        with mock.patch.object(processes, "wrapped", lambda model, _: DistributedDataParallel(
                model, device_ids=[0] if gpu else None, broadcast_buffers=False)):
            trainer = VindrTrainer(cfg)
        trainer.resume_or_load(False)
        trainer.train()
    finally:
        comm._LOCAL_PROCESS_GROUP = None
        torch.distributed.destroy_process_group()


def train_classifier(machine: Machine, precision: str, compiled: bool, out: Path) -> str:
    """A fold of two epochs."""
    from vindr_det.classification.config import load_config
    from vindr_det.classification.train import train

    options = {"DEVICE": machine.device, "SOLVER.PRECISION": precision, "SOLVER.COMPILE": compiled,
               "OUTPUT_DIR": out, "DATA.IMAGES": machine.data / "train", "SOLVER.EPOCHS": 2,
               "DATA.LABELS": machine.data / "annotations/labels.csv", "DATA.CALIBRATION_SHARE": 0.0,
               "SOLVER.BATCH_SIZE": 2, "NUM_WORKERS": min(2, machine.workers), "LOGGERS": []}
    cfg = load_config(ROOT / "configs/classifier/demo/vindr_binary.yaml",
                      [str(text) for pair in options.items() for text in pair])
    return f"ran, AUC of fold 0 {train(cfg, [0])['auc/fold0']}"


if __name__ == "__main__":
    cli.run(main)
