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
import math
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any
from unittest import mock

import torch
from comparison import Row, of_turns
from phantom_sets import detector_options, prepared

from vindr_det import cli

ROOT = Path(__file__).resolve().parent.parent
Clock = Callable[[], float]
Step = Callable[[Any], Any]
#: Losses of both may differ by so much, relatively: convolutions in another memory layout, other sums.
_TOLERANCE = 2e-3


class InTurns:
    """A loader: between two steps of the training that reads it, a step of the peer.

    Args:
        batches: come again and again.
        peer: the peer's step on a batch.
        steps: that are taken.
        clock: seconds.
        sized: whether it has a length.

    Attributes:
        ours: seconds of each step, of the first two of which the training's start is a part.
        theirs: likewise.
    """

    dataset: Any = ()

    def __init__(self, batches: Sequence[Any], peer: Step, steps: int, clock: Clock, sized: bool = False) -> None:
        self.batches, self.peer, self.steps, self.clock, self.sized = batches, peer, steps, clock, sized
        self.ours: list[float] = []
        self.theirs: list[float] = []

    def __iter__(self) -> Iterator[Any]:
        from vindr_det.training.sampler import seed_step

        for number in range(self.steps):
            batch = self.batches[number % len(self.batches)]
            state = torch.random.get_rng_state()
            seed_step(0, number)
            began = self.clock()
            self.peer(copy.copy(batch))
            self.theirs.append(self.clock() - began)
            torch.random.set_rng_state(state)
            began = self.clock()
            yield batch
            self.ours.append(self.clock() - began)

    def __len__(self) -> int:
        if self.sized:
            return self.steps
        raise TypeError("endless")


def rows(quick: bool, clock: Clock = time.perf_counter) -> Iterator[Row]:
    """A row per training."""
    torch.set_num_threads(1)
    with tempfile.TemporaryDirectory() as folder:
        data = prepared(Path(folder), 6, 128 if quick else 512)
        for number, step in enumerate((detectron2_row, torchvision_row, classifier_row)):
            yield step(Path(folder) / str(number), data, quick, clock)


def detectron2_row(out: Path, data: Path, quick: bool, clock: Clock) -> Row:
    """VindrTrainer against SimpleTrainer."""
    from detectron2.engine import SimpleTrainer
    from detectron2.modeling import build_model
    from detectron2.solver import build_optimizer
    from detectron2.utils.events import EventStorage

    from vindr_det.detection.detectron2.trainer import VindrTrainer

    cfg, size, steps = _detector_config("detectron2", data, quick, out)
    batches = _first(VindrTrainer.build_train_loader(cfg))
    network = build_model(cfg)
    peer = SimpleTrainer(network, [], build_optimizer(cfg, network))
    storage = EventStorage()

    def step(batch: Any) -> None:
        peer._data_loader_iter_obj = iter([[_as_their_mapper(image) for image in batch]])
        with storage:
            peer.run_step()
            storage.step()

    peer.iter = 0
    turns = InTurns(batches, step, steps, clock)

    class Trainer(VindrTrainer):
        @classmethod
        def build_train_loader(cls, cfg: Any, start: int = 0) -> Any:
            return turns

    trainer = Trainer(cfg)
    _same_weights(trainer.model, network)
    losses = _losses_of(trainer.model), _losses_of(network)
    trainer.train()
    return _row(f"training step, R50-FPN, {size} px, batch 2", "detectron2 engine", "SimpleTrainer", turns,
                losses, 0.98)


def _as_their_mapper(image: dict[str, Any]) -> dict[str, Any]:
    """An image as Detectron2's DatasetMapper hands it over: (3, H, W) uint8."""
    return image | {"image": image["image"].to(torch.uint8).expand(3, -1, -1).contiguous()}


def torchvision_row(out: Path, data: Path, quick: bool, clock: Clock) -> Row:
    """Our Lightning training against a loop around torchvision's own network."""
    from torchvision.models.detection import FasterRCNN
    from torchvision.models.detection.backbone_utils import resnet_fpn_backbone

    from vindr_det.detection.interface import SINGLE_PROCESS
    from vindr_det.detection.torchvision import train as training
    from vindr_det.detection.torchvision.data import train_loader
    from vindr_det.training.interruption import Interruption

    cfg, size, steps = _detector_config("torchvision", data, quick, out)
    batches = _first(train_loader(cfg, 0, 1, 0))
    module = training._module(cfg)
    depth = cfg.MODEL.RESNETS.DEPTH
    network = FasterRCNN(
        resnet_fpn_backbone(backbone_name=f"resnet{depth}", weights=None, trainable_layers=3), 15,
        min_size=size, max_size=size, image_mean=list(cfg.MODEL.PIXEL_MEAN), image_std=list(cfg.MODEL.PIXEL_STD))
    optimizer = torch.optim.SGD([part for part in network.parameters() if part.requires_grad],
                                cfg.SOLVER.BASE_LR, 0.9, weight_decay=1e-4)

    def step(batch: Any) -> None:
        images, targets, _ = batch
        losses = network([image.float().expand(3, -1, -1) for image in images], targets)
        optimizer.zero_grad()
        sum(losses.values()).backward()
        optimizer.step()

    turns = InTurns(batches, step, steps, clock)
    _same_weights(module.network, network, box_head__1="box_head.fc6", box_head__3="box_head.fc7")
    losses = _losses_of(module.network), _losses_of(network)
    out.mkdir()
    with mock.patch.object(training, "train_loader", lambda *_: turns):
        training._fit(cfg, module, SINGLE_PROCESS, None, Interruption())
    return _row(f"training step, R{depth}-FPN, {size} px, batch 2", "torchvision engine", "bare loop", turns,
                losses, 0.98)


def classifier_row(out: Path, data: Path, quick: bool, clock: Clock) -> Row:
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

    size, images, steps = (64, 4, 6) if quick else (256, 8, 12)
    cfg = defaults()
    cfg.merge_from_list(["MODEL.PRETRAINED", False, "SOLVER.EPOCHS", 1, "DEVICE", "cpu", "SOLVER.BATCH_SIZE",
                         images, "SOLVER.LR", 1e-5])
    torch.manual_seed(0)
    batches = [(torch.randn(images, 1, size, size), torch.rand(images, 1).round()) for _ in range(2)]
    network = timm.create_model(cfg.MODEL.NAME, pretrained=False, num_classes=1, in_chans=1).train()
    optimizer = create_optimizer_v2(network, "adamw", lr=cfg.SOLVER.LR, weight_decay=cfg.SOLVER.WEIGHT_DECAY)
    entropy = torch.nn.BCEWithLogitsLoss()

    def step(batch: Any) -> None:
        loss = entropy(network(batch[0]), batch[1])
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()

    own = build_model(cfg)
    _same_weights(own, network)
    module = ClassifierModule(cfg, own, build_loss(cfg, torch.ones(2, 1)), steps)
    turns = InTurns(batches, step, steps, clock, sized=True)
    out.mkdir()
    progress = FoldProgress(out, 0, ("abnormal",), Loggers([], out))
    keep = KeepWeights(out / "state.ckpt", History(out / "history.csv"), progress=progress)
    with train_fold.quiet():
        train_fold._trainer(cfg, out, [progress, keep], ["cpu"]).fit(module, turns)
    return _row(f"training step, EfficientNet-B2, {size} px, batch {images}", "classifier", "bare timm loop",
                turns, None, 0.97)


def _detector_config(engine: str, data: Path, quick: bool, out: Path) -> tuple[Any, int, int]:
    """The config, the size and the steps."""
    from vindr_det.detection.loading import load_config

    size, steps = (128, 5) if quick else (512, 9)
    options = detector_options(data, size, 2, steps, OUTPUT_DIR=out, MODEL__DEVICE="cpu",
                               SOLVER__AMP__ENABLED=False)
    return load_config(ROOT / "configs/vindr_frcnn.yaml", engine, options), size, steps


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


def _losses_of(network: torch.nn.Module) -> list[float]:
    """Gets the sum of the losses of each step."""
    sums: list[float] = []
    network.register_forward_hook(lambda _, __, losses: sums.append(float(sum(losses.values()).detach())))
    return sums


def _row(
    step: str, ours: str, peer: str, turns: InTurns, losses: tuple[list[float], list[float]] | None,
    target: float,
) -> Row:
    """A row of the steps after the first two, once the losses are the same."""
    note = ""
    if losses is not None:
        pairs = list(zip(*losses, strict=False))
        largest = max(abs(own / other - 1) for own, other in pairs)
        assert len(pairs) > 2 and math.isfinite(largest) and largest < _TOLERANCE, (step, pairs)
        note = f"losses equal within {largest:.0e}"
    kept = [times[2:] for times in (turns.ours, turns.theirs[: len(turns.ours)])]
    return of_turns(step, (ours, kept[0]), (peer, kept[1]), target=target, note=note)


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes")
    parser.add_argument("--processor", action="store_true", help="measure processor time")
    args = parser.parse_args(argv)
    from bench import table

    print(table(list(rows(args.quick, time.process_time if args.processor else time.perf_counter))))


if __name__ == "__main__":
    cli.run(main)
