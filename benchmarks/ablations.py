#!/usr/bin/env python
"""Ablations: what each technique does to the score, on phantoms with all 14 findings, and the engines' pace.

    python benchmarks/ablations.py --out outputs/ablations      # `make ablations`: 25 minutes on two cores
    python benchmarks/ablations.py --out outputs/ablations --engines torchvision detectron2 --seeds 1 2 3

Trains the demo's detector for each engine, seed and share of normal images, and scores it without a
classifier on held-out phantoms that nothing was chosen on: the weights of the last step, their EMA, another
NMS threshold, test-time augmentation (TTA). Two trainings run at a time with one thread each. Existing
results are kept, so that a run can be interrupted and extended. Prints, for each engine, the base and what
each technique adds to it with the same seed: the mean and the range over seeds.
"""

import json
import os
import statistics
from collections.abc import Callable, Iterable, Mapping
from concurrent.futures import ProcessPoolExecutor, ThreadPoolExecutor
from functools import partial
from multiprocessing import get_context
from pathlib import Path
from typing import Any

from running import ONE_THREAD, ROOT, phantom_data, tool
from tabulate import tabulate

from vindr_det import cli
from vindr_det.config_schema import ENGINES
from vindr_det.data.truth import read_truth
from vindr_det.detection import engine as engines
from vindr_det.detection.checkpoint import Checkpoint
from vindr_det.detection.interface import Predictor
from vindr_det.detection.loading import load_checkpoint
from vindr_det.detection.validation import validation_metrics
from vindr_det.device import best_device
from vindr_det.files import write_json
from vindr_det.postprocessing.tta import TTAPredictor
from vindr_det.prediction import predict_folder
from vindr_det.training import states
from vindr_det.training.checkpoint_io import read_file

CONFIG = ROOT / "configs/demo/vindr_frcnn_demo.yaml"
#: Normal images per abnormal one: of the base, and of its ablation.
RATIOS = (0.1, 1.0)
#: Iterations over which the EMA of the weights averages, about.
EMA_ITERATIONS = 50
METRIC = "vindr/mAP40"

Variant = Callable[[Checkpoint, Mapping[str, Any]], Predictor]


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--out", type=Path, default=Path("outputs/ablations"), help="folder to create")
    parser.add_argument("--engines", nargs="+", default=["torchvision"], choices=ENGINES,
                        help="to train with")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2], help="one training each")
    parser.add_argument("--iterations", type=int, default=600, help="per training")
    args = parser.parse_args()
    data = phantom_data(args.out, train=1500, test=160, folds=25)
    folders = {(engine, seed, ratio): args.out / f"{engine}_seed{seed}_ratio{ratio}_{args.iterations}"
               for engine in args.engines for seed in args.seeds for ratio in RATIOS}
    with ThreadPoolExecutor(2) as pool:
        list(pool.map(partial(train, data, args.iterations), *zip(*folders.items(), strict=True)))
    score_all(data, folders)
    for engine in args.engines:
        report(engine, {seed: [folders[engine, seed, ratio] for ratio in RATIOS] for seed in args.seeds})


def train(data: Path, iterations: int, run: tuple[str, int, float], folder: Path) -> None:
    """One training (engine, seed, ratio), unless its model exists; its output goes to a file."""
    engine, seed, ratio = run
    if (folder / "model_final.pth").is_file():
        return
    print(f"training {folder.name}", flush=True)
    folder.mkdir(parents=True, exist_ok=True)
    with (folder / "train.log").open("a") as log:
        tool("train_net.py", "--config", CONFIG, "--engine", engine, "--resume", "OUTPUT_DIR", folder,
             "VINDR.DATA_ROOT", data, "SEED", seed, "INPUT.RANDOM_FLIP", "horizontal",
             "VINDR.NORMAL_RATIO", ratio, "VINDR.EMA_DECAY", 1 - 1 / EMA_ITERATIONS,
             "SOLVER.MAX_ITER", iterations, env=ONE_THREAD, stdout=log, stderr=log)


def score_all(data: Path, folders: Mapping[tuple[str, int, float], Path]) -> None:
    """Score every variant of the base trainings, and the base variant of the others."""
    jobs = [(folder, name) for (_, _, ratio), folder in folders.items()
            for name in (VARIANTS if ratio == RATIOS[0] else ["base"])]
    os.environ |= {"OMP_NUM_THREADS": "1", "PYTHONWARNINGS": "ignore"}
    with ProcessPoolExecutor(2, get_context("spawn")) as pool:
        list(pool.map(partial(score, data), *zip(*jobs, strict=True)))


def score(data: Path, folder: Path, name: str) -> None:
    """Score a variant on the test phantoms; the metrics go to a file beside the model."""
    target = scores_of(folder, name)
    if not target.is_file():
        predictor = VARIANTS[name](load_checkpoint(folder / "model_final.pth"), raw_weights(folder))
        gated = predict_folder(data / "test", [predictor]).predictions
        boxes = {image_id: detections.findings() for image_id, detections in gated.items()}
        truth = read_truth(data.parent / "raw/test_annotations.csv")
        write_json(target, validation_metrics(boxes, truth))


def scores_of(folder: Path, name: str) -> Path:
    return folder / f"held_out_{list(VARIANTS).index(name)}.json"


def raw_weights(folder: Path) -> Mapping[str, Any]:
    """The weights of the last step without the EMA, from the state to resume from."""
    state = read_file(max((p for suffix in (".ckpt", ".pth") for p in states.saved(folder, suffix)),
                          key=states.iterations_of))
    weights = state.get("state_dict") or state["model"]
    return {key.removeprefix("network."): value for key, value in weights.items()}


def build(checkpoint: Checkpoint, weights: Mapping[str, Any]) -> Predictor:
    checkpoint.cfg.MODEL.DEVICE = best_device()
    return engines.load(checkpoint.engine).build_predictor(checkpoint.cfg, weights)


def with_nms(checkpoint: Checkpoint, weights: Mapping[str, Any]) -> Predictor:
    checkpoint.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = 0.5
    return build(checkpoint, weights)


#: name -> the predictor of a checkpoint; the others are compared with the first.
VARIANTS: dict[str, Variant] = {
    "base": build,
    "EMA of the weights": lambda checkpoint, _: build(checkpoint, checkpoint.state),
    "NMS at .5 for .3": with_nms,
    "TTA, mirrored": lambda *trained: TTAPredictor(build(*trained)),
    "TTA, scales .85 1 1.15": lambda *trained: TTAPredictor(build(*trained), (0.85, 1.0, 1.15), flip=False),
}


def report(engine: str, folders: Mapping[int, list[Path]]) -> None:
    """Print the base, then each ablation's gain over it with the same seed."""
    base = [read_score(first, "base") for first, _ in folders.values()]
    rows = [row("base", base, "")]
    for name in list(VARIANTS)[1:]:
        rows.append(gain(name, (read_score(first, name) for first, _ in folders.values()), base))
    more = (read_score(second, "base") for _, second in folders.values())
    rows.append(gain(f"{RATIOS[1]:g} normal images for {RATIOS[0]:g}", more, base))
    print(f"\n{engine}: held-out {METRIC}, seeds {list(folders)}\n")
    print(tabulate(rows, headers="keys", disable_numparse=True))
    print(f"\n{statistics.median(pace_of(first) for first, _ in folders.values()):.3f} s per iteration")


def read_score(folder: Path, name: str) -> float:
    return json.loads(scores_of(folder, name).read_text())[METRIC]


def gain(name: str, scores: Iterable[float], base: list[float]) -> dict[str, str]:
    return row(name, [score - start for score, start in zip(scores, base, strict=True)], "+")


def row(name: str, values: list[float], sign: str) -> dict[str, str]:
    return {"technique": name, "mean": f"{statistics.mean(values):{sign}.3f}",
            "lowest": f"{min(values):{sign}.3f}", "highest": f"{max(values):{sign}.3f}"}


def pace_of(folder: Path) -> float:
    """Median seconds per iteration."""
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return statistics.median(line["time"] for line in lines if "time" in line)


if __name__ == "__main__":
    main()
