#!/usr/bin/env python
"""Inference on the CPU: our predictors against the loops that users write, with the same weights and images.

    python benchmarks/bench_inference.py [--quick] [--size 512]

Detectron2's R50-FPN against its DefaultPredictor, torchvision's against a bare loop, the classifier against a
bare timm loop. Weights are random: their scores lie close together, which is the harder case for equal boxes.
Before the timing each detection must have one of the peer's, of the same class with an IoU over .99 and a
score within .001, and the other way round.
"""

import tempfile
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from bench import table
from comparison import Row, alternate
from numpy.typing import NDArray

from vindr_det import cli
from vindr_det.detection import engine as engines
from vindr_det.detection.loading import load_config
from vindr_det.detection.onnx_parts import with_onnx
from vindr_det.imaging.resize import Target, resize
from vindr_det.phantom.radiograph import render
from vindr_det.structures.boxes import box_iou_batch

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs/vindr_frcnn.yaml"
TARGET = 1.5

Detections = list[tuple[NDArray, NDArray, NDArray]]


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--quick", action="store_true", help="smallest sizes: checks the harness alone")
    parser.add_argument("--size", type=int, default=512, help="longest side in pixels")
    args = parser.parse_args(argv)
    print(table(list(rows(args.quick, args.size))))


def rows(quick: bool, size: int = 512) -> Iterator[Row]:
    """The rows of RESULTS.md."""
    size, count, turns = (128, 1, 1) if quick else (size, 3, 5)
    images = [(render(np.random.default_rng(seed), size, size * 7 // 8, labels=(0, 3, 10), bits=12).pixels
               >> 4).astype(np.uint8) for seed in range(count)]
    makers = {"torchvision": _bare_torchvision}
    if engines.detectron2_is_here():
        makers["detectron2"] = _default_predictor
    for engine, make in list(makers.items())[-1:] if quick else makers.items():
        for backend in ("onnx",) if quick else ("onnx", "torch"):
            yield _detector(engine, backend, make, images, size, turns)
    yield _classifier(images, turns)


def _detector(
    engine: str, backend: str, make: Callable[[Any, Any], Callable[[NDArray], Any]],
    images: Sequence[NDArray], size: int, turns: int,
) -> Row:
    torch.manual_seed(0)
    cfg = load_config(CONFIG, engine, ["MODEL.DEVICE", "cpu", "VINDR.IMAGE_SIZE", size, "MODEL.WEIGHTS", "",
                                       "INPUT.MIN_SIZE_TEST", size, "INPUT.MAX_SIZE_TEST", size])
    state = random_state(engine, cfg)
    ours, peer = engines.load(engine).build_predictor(cfg, state), make(cfg, state)
    if backend == "onnx":
        ours = with_onnx(ours)

    def of_ours() -> Detections:
        detected = [ours([image])[0] for image in images]
        return [(boxes.boxes, boxes.scores, boxes.labels) for boxes in detected]

    def of_peer() -> Detections:
        return [peer(image) for image in images]

    _require_same(of_ours(), of_peer())
    name = {"detectron2": "DefaultPredictor", "torchvision": "bare torchvision loop"}[engine]
    return alternate(f"inference, R50-FPN, {size} px, {torch.get_num_threads()} threads",
                     (f"{engine} engine, --backend {backend}", of_ours), (name, of_peer), turns=turns,
                     per=len(images), target=TARGET if backend == "onnx" else None, note="same boxes")


def random_state(engine: str, cfg: Any) -> Any:
    """Weights of a new network."""
    if engine == "detectron2":
        from vindr_det.detection.detectron2.architectures import build_model
    else:
        from vindr_det.detection.torchvision.model import build_model
    return build_model(cfg).state_dict()


def _default_predictor(cfg: Any, state: Any) -> Callable[[NDArray], Any]:
    from detectron2.engine import DefaultPredictor

    cfg = cfg.clone()
    cfg.defrost()
    with tempfile.TemporaryDirectory() as folder:
        cfg.MODEL.WEIGHTS = str(Path(folder) / "weights.pth")
        torch.save({"model": state}, cfg.MODEL.WEIGHTS)
        cfg.DATASETS.TEST = ()
        predictor = DefaultPredictor(cfg)

    def detect(image: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        instances = predictor(np.repeat(image[..., None], 3, axis=2))["instances"]
        return (instances.pred_boxes.tensor.numpy(), instances.scores.numpy(), instances.pred_classes.numpy())

    return detect


def _bare_torchvision(cfg: Any, state: Any) -> Callable[[NDArray], Any]:
    from vindr_det.detection.torchvision.model import build_model, set_sizes

    network = build_model(cfg)
    network.load_state_dict(state)
    set_sizes(network.eval(), cfg, training=False)

    def detect(image: NDArray) -> tuple[NDArray, NDArray, NDArray]:
        with torch.no_grad():
            output = network([torch.from_numpy(np.repeat(image[None].astype(np.float32), 3, axis=0))])[0]
        return output["boxes"].numpy(), output["scores"].numpy(), output["labels"].numpy() - 1

    return detect


def _require_same(ours: Detections, peer: Detections) -> None:
    for first, second in zip([*ours, *peer], [*peer, *ours], strict=True):
        same = (box_iou_batch(first[0], second[0]) > 0.99) & (first[2][:, None] == second[2])
        same &= np.abs(first[1][:, None] - second[1]) < 1e-3
        assert len(first[0]) == len(second[0]) > 0, "not as many detections"
        assert same.any(axis=1).all(), f"{(~same.any(axis=1)).sum()} of {len(same)} detections differ"


def _classifier(images: Sequence[NDArray], turns: int) -> Row:
    from vindr_det import load

    classifier = load("phantom").models.classifier
    model, size = classifier.models[0], classifier.cfg.INPUT.SIZE
    normalize = classifier.normalizations[0]

    def of_peer() -> list[float]:
        results = []
        for image in images:
            pixels = torch.from_numpy(resize(image, Target(size, False))).float()[None, None]
            with torch.no_grad():
                logits = model((pixels - 255 * normalize.mean) / (255 * normalize.std))
            results.append(float(logits.sigmoid()[0, 0]))
        return results

    def of_ours() -> list[float]:
        return classifier.probabilities(images)[:, 0].tolist()

    uncalibrated, classifier.calibrations = classifier.calibrations, {}
    assert np.allclose(of_ours(), of_peer(), atol=1e-6)
    classifier.calibrations = uncalibrated
    return alternate(f"classification, {size} px", ("classifier, calibrated", of_ours),
                     ("bare timm loop", of_peer), turns=turns, per=len(images),
                     note="same probabilities before the calibration")


if __name__ == "__main__":
    cli.run(main)
