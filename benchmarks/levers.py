#!/usr/bin/env python
"""What each lever does to the score, on phantoms with all 14 findings, and what the engines cost.

    python benchmarks/levers.py --out outputs/levers                    # `make levers`: one engine
    python benchmarks/levers.py --out outputs/levers --engines torchvision detectron2 --seeds 1 2 3

Trains the demo's detector for each engine, seed and share of normal images, and scores it without a
classifier on held-out phantoms that nothing was chosen on: the weights as they are, their average, another
NMS threshold, test-time augmentation. A training that is there already is not repeated, so a run can be
interrupted and widened. Prints, for each engine, the base and what each lever adds to it with the same
seed: the mean and the range over seeds.
"""

import argparse
import json
import statistics
import subprocess
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from tabulate import tabulate

from vindr_det.config import ENGINES
from vindr_det.detection import engine as engines
from vindr_det.detection import states
from vindr_det.detection.checkpoint import Checkpoint, load_checkpoint, read_file
from vindr_det.detection.engine import Predictor
from vindr_det.detection.evaluation import validation_metrics
from vindr_det.detection.tta import Augmented
from vindr_det.files import write_json
from vindr_det.pipeline import predict_folder
from vindr_det.scoring import read_truth

ROOT = Path(__file__).resolve().parent.parent
CONFIG = ROOT / "configs/demo/vindr_frcnn_demo.yaml"
#: Normal images for each abnormal one: the base, and the lever.
RATIOS = (0.1, 1.0)
#: Iterations that the average of the weights reaches back, about.
REACH = 50
METRIC = "vindr/mAP40"

Variant = Callable[[Checkpoint, Mapping[str, Any]], Predictor]


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--out", type=Path, default=Path("outputs/levers"))
    parser.add_argument("--engines", nargs="+", default=["torchvision"], choices=ENGINES)
    parser.add_argument("--seeds", nargs="+", type=int, default=[1, 2])
    parser.add_argument("--iterations", type=int, default=400)
    args = parser.parse_args()
    data = make_data(args.out)
    for engine in args.engines:
        scores = {seed: measure(args.out, data, engine, seed, args.iterations) for seed in args.seeds}
        print(f"\n{engine}, {args.iterations} iterations, seeds {args.seeds}, {METRIC} held out\n")
        print(tabulate(rows(scores), headers="keys", disable_numparse=True))
        pace = statistics.median(s["seconds an iteration"] for s in scores.values())
        print(f"\n{pace:.3f} s an iteration (median)")


def tool(name: str, *options: Any) -> None:
    subprocess.run([sys.executable, str(ROOT / "tools" / name), *map(str, options)], check=True)


def make_data(out: Path) -> Path:
    """600 training and 160 test phantoms, prepared; once."""
    raw, data = out / "raw", out / "data"
    if (data / "annotations/folds.csv").is_file():
        return data
    tool("make_phantoms.py", "--out", raw, "--num-train", 600, "--num-test", 160, "--size", 448,
         "--seed", 11)
    for part in ("train", "test"):
        tool("prepare_images.py", "--images", raw / part, "--out", data / part, "--size", 256,
             "--keep-aspect")
    tool("convert_vindr.py", "--csv", raw / "train.csv", "--meta", raw / "train_meta.csv", "--images",
         data / "train", "--out", data / "annotations", "--folds", 12)
    return data


def measure(out: Path, data: Path, engine: str, seed: int, iterations: int) -> dict[str, float]:
    """The score of each variant for one engine and seed, and the pace of its training."""
    base, lever = (train(out, data, engine, seed, ratio, iterations) for ratio in RATIOS)
    scores = {}
    for name, variant in VARIANTS.items():
        scores[name] = score(base, variant, data)
    scores[f"normal ratio {RATIOS[1]} for {RATIOS[0]}"] = score(lever, VARIANTS["base"], data)
    scores["seconds an iteration"] = pace_of(base)
    return scores


def train(out: Path, data: Path, engine: str, seed: int, ratio: float, iterations: int) -> Path:
    folder = out / f"{engine}_seed{seed}_ratio{ratio}_{iterations}"
    if not (folder / "model_final.pth").is_file():
        tool("train_net.py", "--config", CONFIG, "--engine", engine, "--resume", "OUTPUT_DIR", folder,
             "VINDR.DATA_ROOT", data, "SEED", seed, "VINDR.NORMAL_RATIO", ratio,
             "VINDR.EMA_DECAY", 1 - 1 / REACH, "SOLVER.MAX_ITER", iterations)
    return folder


def score(folder: Path, variant: Variant, data: Path) -> float:
    """On the test phantoms; kept beside the model."""
    name = next(key for key, value in VARIANTS.items() if value is variant)
    kept = folder / "held_out.json"
    known = json.loads(kept.read_text()) if kept.is_file() else {}
    if name not in known:
        predictor = variant(load_checkpoint(folder / "model_final.pth"), raw_weights(folder))
        gated = predict_folder(data / "test", [predictor]).predictions
        found = {image_id: one.findings() for image_id, one in gated.items()}
        known[name] = validation_metrics(found, read_truth(data.parent / "raw/test_annotations.csv"))
        write_json(kept, known)
    return known[name][METRIC]


def raw_weights(folder: Path) -> Mapping[str, Any]:
    """The weights of the last step themselves, out of the state to resume from."""
    state = read_file(max((p for suffix in (".ckpt", ".pth") for p in states.saved(folder, suffix)),
                          key=states.iterations_of))
    weights = state.get("state_dict") or state["model"]
    return {key.removeprefix("network."): value for key, value in weights.items()}


def pace_of(folder: Path) -> float:
    lines = [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]
    return statistics.median(line["time"] for line in lines if "time" in line)


def build(checkpoint: Checkpoint, weights: Mapping[str, Any]) -> Predictor:
    return engines.load(checkpoint.engine).build_predictor(checkpoint.cfg, weights)


def with_nms(checkpoint: Checkpoint, weights: Mapping[str, Any]) -> Predictor:
    checkpoint.cfg.MODEL.ROI_HEADS.NMS_THRESH_TEST = 0.5
    return build(checkpoint, weights)


#: name -> how to predict with a training; the first is what the others are compared with.
VARIANTS: dict[str, Variant] = {
    "base": build,
    "EMA of the weights": lambda checkpoint, _: build(checkpoint, checkpoint.state),
    "NMS at .5 for .3": with_nms,
    "TTA, mirrored": lambda *of: Augmented(build(*of)),
    "TTA, scales .85 1 1.15": lambda *of: Augmented(build(*of), (0.85, 1.0, 1.15), flip=False),
}


def rows(scores: Mapping[int, Mapping[str, float]]) -> list[dict[str, str]]:
    """The base as it is, then each lever's gain over it, seed by seed."""
    result = []
    for name in [key for key in next(iter(scores.values())) if key != "seconds an iteration"]:
        values = [s[name] - (s["base"] if name != "base" else 0) for s in scores.values()]
        sign = "" if name == "base" else "+"
        result.append({"lever": name, "mean": f"{statistics.mean(values):{sign}.3f}",
                       "lowest": f"{min(values):{sign}.3f}", "highest": f"{max(values):{sign}.3f}"})
    return result


if __name__ == "__main__":
    main()
