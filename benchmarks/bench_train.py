#!/usr/bin/env python
"""A training step of each engine and of the classifier against a bare loop, on the CPU.

    python benchmarks/bench_train.py                   R50-FPN at 512 px, EfficientNet-B2 at 256 px
    python benchmarks/bench_train.py --quick
    python benchmarks/bench_train.py --processor       processor time, where the machine does other work too

Both train on the same batches, read before, from the same weights with the same random numbers: the losses of
all steps are compared first. The peer takes its step between two of ours, so ours is all that the whole
training does from one batch to the next: hooks, model EMA, checks, logging, the framework's loop. The peers:
Detectron2's ``SimpleTrainer``; torchvision's network in a loop with SGD; timm's network in a loop with AdamW.
"""

import copy
import logging
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from comparison import Row, of_turns
from phantom_sets import detector_options, prepared

from vindr_det import cli
from vindr_det.training.sampler import seed_step

ROOT = Path(__file__).resolve().parent.parent
Clock = Callable[[], float]
Step = Callable[[Any], Any]
#: Losses of both may differ by so much, relatively: convolutions in another memory layout, other sums.
_TOLERANCE = 2e-3
#: On a GPU, where sums come in any order and half precision has 11 bits; of the first step alone, since equal
#: proposals may be sampled in another order after it.
_ON_GPU = 5e-2
#: torchvision's own settings, where configs here have Detectron2's.
_TORCHVISIONS = {"MODEL__RPN__PRE_NMS_TOPK_TRAIN": 2000, "MODEL__RPN__POST_NMS_TOPK_TRAIN": 2000,
                 "MODEL__ROI_BOX_HEAD__POOLER_SAMPLING_RATIO": 2, "MODEL__RESNETS__STRIDE_IN_1X1": False}


@dataclass(frozen=True)
class Setting:
    """Where and what is trained.

    Attributes:
        device: cpu or cuda.
        size: longest side of the detectors' images in pixels.
        batch: of the detectors.
        classifier: side and batch of the classifier's images.
        turns: blocks of steps, of which the first two do not count.
        block: steps from one turn of the peer to the next.
        half: mixed precision (float16), of ours and of the peer.
        clock: seconds.
    """

    device: str = "cpu"
    size: int = 512
    batch: int = 2
    classifier: tuple[int, int] = (256, 8)
    turns: int = 9
    block: int = 1
    half: bool = False
    clock: Clock = time.perf_counter

    @property
    def steps(self) -> int:
        """Of each training."""
        return self.turns * self.block

    def autocast(self) -> torch.autocast:
        """The peer's precision."""
        return torch.autocast(self.device, torch.float16, enabled=self.half)


def gpu_clock() -> float:
    """Seconds, once the GPU has done what it was given."""
    torch.cuda.synchronize()
    return time.perf_counter()


class InTurns:
    """A loader: between two blocks of steps of the training that reads it, a block of the peer.

    Args:
        batches: come again and again.
        peer: the peer's step on a batch.
        setting: turns, block and clock.
        sized: whether it has a length.

    Attributes:
        ours: seconds per step of each turn; the training's start is a part of the first two.
        theirs: likewise.
    """

    dataset: Any = ()

    def __init__(self, batches: Sequence[Any], peer: Step, setting: Setting, sized: bool = False) -> None:
        self.batches, self.peer, self.setting, self.sized = batches, peer, setting, sized
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def __iter__(self) -> Iterator[Any]:
        clock, block = self.setting.clock, self.setting.block
        for first in range(0, self.setting.steps, block):
            state = _generator(self.setting.device).get_state()
            began = clock()
            for number in range(first, first + block):
                seed_step(0, number)  # as ours
                self.peer(copy.copy(self._batch(number)))
            self.theirs.append((clock() - began) / block)
            _generator(self.setting.device).set_state(state)
            began = clock()
            for number in range(first, first + block):
                yield self._batch(number)
            self.ours.append((clock() - began) / block)

    def _batch(self, number: int) -> Any:
        return self.batches[number % len(self.batches)]

    def __len__(self) -> int:
        if self.sized:
            return self.setting.steps
        raise TypeError("endless")


def _generator(device: str) -> torch.Generator:
    return torch.cuda.default_generators[0] if device == "cuda" else torch.default_generator


def rows(quick: bool, clock: Clock = time.perf_counter) -> Iterator[Row]:
    """A row per training."""
    torch.set_num_threads(1)
    setting = Setting(size=128, classifier=(64, 4), turns=5) if quick else Setting()
    yield from all_rows(replace(setting, clock=clock))


def all_rows(setting: Setting) -> Iterator[Row]:
    """A row per training in a setting."""
    logging.disable(logging.WARNING)
    with tempfile.TemporaryDirectory() as folder:
        data = prepared(Path(folder), max(6, 3 * setting.batch), setting.size)
        for number, row in enumerate((detectron2_row, torchvision_row, classifier_row)):
            yield row(Path(folder) / str(number), data, setting)


def detectron2_row(out: Path, data: Path, setting: Setting) -> Row:
    """VindrTrainer against SimpleTrainer, or AMPTrainer."""
    from detectron2.engine import AMPTrainer, SimpleTrainer
    from detectron2.modeling import build_model
    from detectron2.solver import build_optimizer
    from detectron2.utils.events import EventStorage

    from vindr_det.detection.detectron2.trainer import VindrTrainer

    cfg = detector_config("detectron2", data, setting, out)
    batches = _first(VindrTrainer.build_train_loader(cfg))
    network = build_model(cfg)
    peer = (AMPTrainer if setting.half else SimpleTrainer)(network, [], build_optimizer(cfg, network))
    storage = EventStorage()

    def step(batch: Any) -> None:
        peer._data_loader_iter_obj = iter([[_as_their_mapper(image) for image in batch]])
        with storage:
            peer.run_step()
            storage.step()

    peer.iter = 0
    turns = InTurns(batches, step, setting)

    class Trainer(VindrTrainer):
        @classmethod
        def build_train_loader(cls, cfg: Any, start: int = 0) -> Any:
            return turns

    trainer = Trainer(cfg)
    _same_weights(trainer.model, network)
    losses = _losses_of(trainer.model), _losses_of(network)
    trainer.train()
    return _row(_step_of(setting), "detectron2 engine", type(peer).__name__, turns, losses, 0.98)


def _as_their_mapper(image: dict[str, Any]) -> dict[str, Any]:
    """An image as Detectron2's DatasetMapper hands it over: (3, H, W) uint8."""
    return image | {"image": image["image"].to(torch.uint8).expand(3, -1, -1).contiguous()}


def torchvision_row(out: Path, data: Path, setting: Setting) -> Row:
    """Our Lightning training against a loop around torchvision's own network."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    from vindr_det.detection.interface import SINGLE_PROCESS
    from vindr_det.detection.torchvision import train as training
    from vindr_det.detection.torchvision.data import train_loader
    from vindr_det.training.interruption import Interruption

    cfg = detector_config("torchvision", data, setting, out, **_TORCHVISIONS)
    batches = _first(train_loader(cfg, 0, 1, 0))
    module = training._module(cfg)
    network = FasterRCNN(
        resnet_fpn_backbone(backbone_name="resnet50", weights=None, trainable_layers=3), 15,
        min_size=setting.size, max_size=setting.size, image_mean=list(cfg.MODEL.PIXEL_MEAN),
        image_std=list(cfg.MODEL.PIXEL_STD)).to(setting.device)
    optimizer = torch.optim.SGD([part for part in network.parameters() if part.requires_grad],
                                cfg.SOLVER.BASE_LR, 0.9, weight_decay=1e-4)

    scaler = torch.amp.GradScaler(setting.device, enabled=setting.half)

    def step(batch: Any) -> None:
        images = [image.to(setting.device).float().expand(3, -1, -1) for image in batch[0]]
        targets = [{key: value.to(setting.device) for key, value in target.items()} for target in batch[1]]
        with setting.autocast():
            losses = network(images, targets)
        optimizer.zero_grad()
        scaler.scale(sum(losses.values())).backward()
        scaler.step(optimizer)
        scaler.update()

    turns = InTurns(batches, step, setting)
    _same_weights(module.network, network, box_head__1="box_head.fc6", box_head__3="box_head.fc7")
    losses = _losses_of(module.network), _losses_of(network)
    out.mkdir()
    with mock.patch.object(training, "train_loader", lambda *_: turns):
        training._fit(cfg, module, SINGLE_PROCESS, None, Interruption())
    return _row(_step_of(setting), "torchvision engine", "bare loop", turns, losses, 0.98)


def classifier_row(out: Path, data: Path, setting: Setting) -> Row:
    """Our classifier's fold against a loop around timm's network."""
    import timm
    from timm.optim import create_optimizer_v2

    from vindr_det.classification import train_fold
    from vindr_det.classification.config import defaults
    from vindr_det.classification.history import History
    from vindr_det.classification.lightning_module import ClassifierModule, KeepWeights
    from vindr_det.classification.losses import build_loss
    from vindr_det.classification.model import build_model
    from vindr_det.classification.progress import FoldProgress
    from vindr_det.training.loggers import Loggers

    size, images = setting.classifier
    cfg = defaults()
    cfg.merge_from_list(["MODEL.PRETRAINED", False, "SOLVER.EPOCHS", 1, "DEVICE", setting.device,
                         "SOLVER.BATCH_SIZE", images, "SOLVER.LR", 1e-5, "SOLVER.SCHEDULE", "constant",
                         "SOLVER.WARMUP_EPOCHS", 0.0, "SOLVER.PRECISION",
                         "16-mixed" if setting.half else "32-true"])
    torch.manual_seed(0)
    batches = [(torch.randn(images, 1, size, size), torch.rand(images, 1).round()) for _ in range(2)]
    network = timm.create_model(cfg.MODEL.NAME, pretrained=False, num_classes=1, in_chans=1).train()
    network.to(setting.device)
    optimizer = create_optimizer_v2(network, "adamw", lr=cfg.SOLVER.LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)
    entropy = torch.nn.BCEWithLogitsLoss()

    scaler = torch.amp.GradScaler(setting.device, enabled=setting.half)
    sums: tuple[list[Any], list[Any]] = [], []

    def step(batch: Any) -> None:
        with setting.autocast():
            loss = entropy(network(batch[0].to(setting.device)), batch[1].to(setting.device))
        sums[1].append(loss.detach())
        optimizer.zero_grad()
        scaler.scale(loss).backward()
        scaler.step(optimizer)
        scaler.update()

    own = build_model(cfg)
    _same_weights(own, network)
    loss = build_loss(cfg, torch.ones(2, 1))

    def kept(*given: Any) -> Any:
        value = loss(*given)
        sums[0].append(value.detach())
        return value

    module = ClassifierModule(cfg, own, kept, setting.steps)
    turns = InTurns(batches, step, setting, sized=True)
    out.mkdir()
    progress = FoldProgress(out, 0, ("abnormal",), Loggers([], out))
    keep = KeepWeights(out / "state.ckpt", History(out / "history.csv"), progress=progress)
    with train_fold.quiet():
        train_fold._trainer(cfg, out, [progress, keep], [
            "cpu" if setting.device == "cpu" else "cuda:0"]).fit(module, turns)
    return _row(f"training step, EfficientNet-B2, {size} px, batch {images}", "classifier", "bare timm loop",
                turns, sums, 0.97)


def detector_config(engine: str, data: Path, setting: Setting, out: Path, **more: Any) -> Any:
    """R50-FPN in a setting; ``more`` as of :func:`phantom_sets.detector_options`."""
    from vindr_det.detection.loading import load_config

    options = {"OUTPUT_DIR": out, "MODEL__DEVICE": setting.device, "SOLVER__AMP__ENABLED": setting.half,
               **more}
    return load_config(ROOT / "configs/vindr_frcnn.yaml", engine, detector_options(
        data, setting.size, setting.batch, setting.steps, **options))


def state_of(cfg: Any) -> dict[str, torch.Tensor]:
    """Random weights of a config's Detectron2 model, on the CPU."""
    from detectron2.modeling import build_model

    torch.manual_seed(0)
    return {key: value.cpu() for key, value in build_model(cfg).state_dict().items()}


def _step_of(setting: Setting) -> str:
    half = ", mixed precision" if setting.half else ""
    return f"training step, R50-FPN, {setting.size} px, batch {setting.batch}{half}"


def _first(loader: Any, count: int = 2) -> list[Any]:
    batches = iter(loader)
    return [next(batches) for _ in range(count)]


def _same_weights(ours: torch.nn.Module, theirs: torch.nn.Module, **renamed: str) -> None:
    """Both start from the same; ``renamed`` are parts of names that differ."""
    state = {}
    for key, value in ours.state_dict().items():
        name = next((key.replace(own.replace("__", "."), other) for own, other in renamed.items()
                     if own.replace("__", ".") in key), key)
        state[name] = value
    theirs.load_state_dict(state)
    theirs.train(ours.training)


def _losses_of(network: torch.nn.Module) -> list[Any]:
    """Gets the sum of the losses of each step."""
    sums: list[Any] = []
    network.register_forward_hook(lambda _, __, losses: sums.append(sum(losses.values()).detach()))
    return sums


def _row(
    step: str, ours: str, peer: str, turns: InTurns, losses: tuple[list[Any], list[Any]], target: float
) -> Row:
    """A row of the turns after the first two, once the first losses are the same."""
    on_gpu = any(part.is_cuda for part in losses[0])
    compared = 1 if on_gpu else 3
    pairs = [(float(own), float(other)) for own, other in zip(*losses, strict=False)][:compared]
    largest = max(abs(own / other - 1) for own, other in pairs)
    assert len(pairs) == compared and largest < (_ON_GPU if on_gpu else _TOLERANCE), (step, pairs)
    count = min(len(turns.ours), len(turns.theirs))
    kept = [times[2:count] for times in (turns.ours, turns.theirs)]
    return of_turns(step, (ours, kept[0]), (peer, kept[1]), target=target,
                    note=f"losses of {compared} steps equal within {largest:.0e}")


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes")
    parser.add_argument("--processor", action="store_true", help="measure processor time")
    args = parser.parse_args(argv)
    from bench import table

    print(table(list(rows(args.quick, time.process_time if args.processor else time.perf_counter))))


if __name__ == "__main__":
    cli.run(main)
