#!/usr/bin/env python
"""Time of a training step on one core: what vindr-det plan --budget reckons with.

    python benchmarks/step_times.py
    python benchmarks/step_times.py --config configs/vindr_frcnn.yaml --sizes 256 384 512 --steps 1

Trains the torchvision engine's detector of a config on squares of noise with two boxes each, and prints the
processor's seconds per image, and the line through them: seconds + seconds per million pixels.
"""

from collections.abc import Sequence
from pathlib import Path
from time import process_time

import numpy as np

from vindr_det import cli

RECIPE = Path(__file__).resolve().parent.parent / "configs/vindr_frcnn_r18.yaml"


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--config", default=str(RECIPE), help="the detector's YAML")
    parser.add_argument("--sizes", type=int, nargs="+", default=[192, 256, 320, 512], help="sides in pixels")
    parser.add_argument("--steps", type=int, default=4, help="steps per size, after one that does not count")
    args = parser.parse_args(argv)

    import torch

    torch.set_num_threads(1)
    seconds = [seconds_per_image(args.config, size, args.steps) for size in args.sizes]
    for size, value in zip(args.sizes, seconds, strict=True):
        print(f"{size} px: {value:.3f} s per image", flush=True)
    slope, start = np.polyfit(np.square(args.sizes) / 1e6, seconds, 1)
    print(f"{start:.3f} s + {slope:.3f} s per million pixels")


def seconds_per_image(config: str, size: int, steps: int) -> float:
    """Processor seconds per image and step at a size."""
    import torch

    from vindr_det.detection.loading import load_config
    from vindr_det.detection.torchvision.model import build_model

    sides = ["INPUT.MIN_SIZE_TRAIN", f"({size},)", "INPUT.MAX_SIZE_TRAIN", str(size), "MODEL.WEIGHTS", ""]
    cfg = load_config(config, "torchvision", [*sides, "MODEL.DEVICE", "cpu"])
    torch.manual_seed(0)
    model = build_model(cfg).train()
    optimizer = torch.optim.SGD([part for part in model.parameters() if part.requires_grad], lr=1e-6)
    batch = cfg.SOLVER.IMS_PER_BATCH
    boxes = torch.tensor([[0.1, 0.1, 0.4, 0.4], [0.3, 0.5, 0.9, 0.8]]) * size
    targets = [{"boxes": boxes, "labels": torch.tensor([1, 2]), "weights": torch.ones(2)}] * batch
    began = 0.0
    for step in range(steps + 1):
        began = process_time() if step == 1 else began
        images = [torch.rand(3, size, size) * 255 for _ in range(batch)]
        loss = sum(model(images, targets).values())
        optimizer.zero_grad()
        loss.backward()
        optimizer.step()
    return (process_time() - began) / steps / batch


if __name__ == "__main__":
    cli.run(main)
