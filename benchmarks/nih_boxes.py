#!/usr/bin/env python
"""NIH's boxes by a small detector from random weights, from phantoms and from a classifier's backbone.

    python benchmarks/nih_boxes.py --images raw/images --annotations raw/boxes.csv --labels raw/images.csv \\
        --seeds 1 2 3 --out outputs/nih_boxes

The same budget for each (configs/nih/frcnn.yaml), TTA in prediction, a patient in one part alone, no
checkpoint chosen on the validation images. Prints the scores on these with 95 % intervals by patient; the
paired differences from random weights of the same seed (without random weights, from the first beginning),
and their means over the seeds; the first detector scored as if every finding had its box, and one trained as
if; and the phantoms' detector by the findings that its label set shares with NIH's, before it saw any of
these images. The phantoms' detector and the classifier are trained once and begin all seeds: differences
between seeds say nothing about other phantoms or classifiers. Finished trainings are kept, by engine.
"""

import argparse
import hashlib
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
from running import ONE_THREAD, ROOT, phantom_data, tool
from tabulate import tabulate

from vindr_det import cli
from vindr_det.exceptions import InputError
from vindr_det.files import read_bytes, read_json, write_json
from vindr_det.structures.label_sets import NIH_BOXES

CONFIGS = ROOT / "configs/nih"
BEGINNINGS = ("random", "phantoms", "classifier")
#: Column -> key of metrics.json.
COLUMNS = {"AP40": NIH_BOXES.mean_ap, "AP50": "coco/AP50", "sensitivity@1": "froc/sensitivity@1",
           **{f"T {iou}": f"localization/accuracy@{iou}" for iou in ("0.1", "0.3", "0.5", "0.7")}}
SPLITS = ("train", "val")
#: A training: what it begins from, and its seed.
Run = tuple[str, Any]
TTA = ("--tta", "--tta-scales", 0.85, 1, 1.2)


def main(argv: Sequence[str] | None = None) -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--images", type=Path, required=True, help="folder of the images")
    parser.add_argument("--annotations", type=Path, required=True, help="boxes.csv")
    parser.add_argument("--labels", type=Path, required=True, help="images.csv: labels, patients, splits")
    parser.add_argument("--out", type=Path, default=Path("outputs/nih_boxes"), help="folder of the trainings")
    parser.add_argument("--beginnings", nargs="+", default=BEGINNINGS, choices=BEGINNINGS,
                        help="what to begin from")
    parser.add_argument("--seeds", nargs="+", type=int, default=[1], help="of the trainings")
    parser.add_argument("--engine", default="torchvision", choices=["torchvision", "detectron2"],
                        help="of the detectors")
    parser.add_argument("--complete", action="store_true",
                        help="also train as if every finding had its box (VINDR.UNKNOWN negative)")
    args = parser.parse_args(argv)
    args.out = args.out.resolve()
    make_data(args)
    reference = "random" if "random" in args.beginnings else args.beginnings[0]
    names = [reference, *(name for name in args.beginnings if name != reference)]
    runs = {(name, seed): train(args, name, seed) for name in names for seed in args.seeds}
    if args.complete:
        negative = f"{reference}, unknown is negative"
        runs[negative, args.seeds[0]] = train(
            args, reference, args.seeds[0], "-negative", "VINDR.UNKNOWN", "negative")
    report(args, runs, reference)


def make_data(args: argparse.Namespace) -> None:
    """COCO files, a table of labels for each split, and the validation boxes as if they were complete."""
    data = args.out / "data"
    require_same_source(args, data / "source.json")
    if (data / "complete.json").is_file():
        return
    tool("convert.py", "nih-boxes", "--annotations", args.annotations, "--labels", args.labels,
         "--images", args.images, "--out", data / "annotations")
    labels = pd.read_csv(data / "annotations/labels.csv")
    for split in SPLITS:
        truth = read_json(data / f"annotations/instances_{split}.json")
        inside = labels["image_id"].isin([Path(image["file_name"]).stem for image in truth["images"]])
        labels[inside].drop(columns="fold").to_csv(data / f"{split}.csv", index=False)
    for image in truth["images"]:  # of the last split, val
        image.pop("not_exhaustive_category_ids", None)
    write_json(data / "complete.json", truth)


def require_same_source(args: argparse.Namespace, path: Path) -> None:
    """Note what --out is made from; refuse an --out that was made from something else."""
    source = {"--images": str(args.images.resolve())} | {
        option: hashlib.sha256(read_bytes(table)).hexdigest()
        for option, table in (("--annotations", args.annotations), ("--labels", args.labels))}
    if not path.is_file() and not path.parent.exists():
        write_json(path, source)
    made = read_json(path) if path.is_file() else {}
    differing = [option for option, value in source.items() if made.get(option) != value]
    if differing:
        raise InputError(f"--out {args.out}: its data was made from other {' and '.join(differing)}, "
                         "expected the same or another --out")


def train(
    args: argparse.Namespace, beginning: str, seed: int, suffix: str = "", *changes: Any
) -> Path:
    """Train from one beginning with one seed; returns the predictions on the validation images."""
    out = args.out / args.engine / f"{beginning}_{seed}{suffix}"
    predictions = out / "val.csv"
    if not predictions.is_file():
        detector(args, "frcnn.yaml", out, "SEED", seed, "VINDR.DATA_ROOT", args.out / "data",
                 "VINDR.IMAGE_ROOT", args.images, "MODEL.WEIGHTS", weights(args, beginning), *changes)
        tool("predict.py", "--weights", out / "model_final.pth", "--dataset", "nih_val", *TTA,
             "--out", predictions)
    return predictions


def detector(args: argparse.Namespace, config: str, out: Path, *overrides: Any) -> None:
    """Train a detector, or go on where it was interrupted."""
    tool("train_net.py", "--config", CONFIGS / config, "--engine", args.engine, "--resume", "OUTPUT_DIR", out,
         *overrides, env=ONE_THREAD)


def weights(args: argparse.Namespace, beginning: str) -> Path | str:
    """The weights to begin with, trained once."""
    if beginning == "random":
        return ""
    if beginning == "phantoms":
        out = args.out / args.engine / beginning
        if not (out / "model_final.pth").is_file():
            data = phantom_data(args.out / "phantom_data", 1500, 10, 20, size=320, seed=5)
            detector(args, "frcnn_phantoms.yaml", out, "VINDR.DATA_ROOT", data)
        return out / "model_final.pth"
    out = args.out / beginning
    trained = out / "fold0.pth"
    if not trained.is_file():
        data = args.out / "data"
        tool("train_classifier.py", "--config", CONFIGS / "classifier.yaml", "OUTPUT_DIR", out, "DATA.IMAGES",
             args.images, "DATA.LABELS", data / "train.csv", "DATA.VALIDATION", data / "val.csv",
             env=ONE_THREAD)
    return trained


def report(args: argparse.Namespace, runs: Mapping[Run, Path], reference: str) -> None:
    """Print the tables of all trainings."""
    data = args.out / "data"
    truth, first = data / "annotations/instances_val.json", next(iter(runs))
    scores = {run: score(args, path, truth) for run, path in runs.items()}
    print(table("Scores [95 % by patient]", scores, COLUMNS))
    classes = {name: NIH_BOXES.class_ap.format(name) for name in NIH_BOXES.findings}
    print(table("AP40", scores, classes))
    print(table("Localization accuracy at T .3", scores,
                {name: f"localization/{name}@0.3" for name in NIH_BOXES.findings}))
    print(table("Scored as if every finding had its box",
                {first: score(args, runs[first], data / "complete.json")}, COLUMNS))
    others = {run: path for run, path in runs.items() if run[0] != reference}
    if others:
        print(differences(reference, {run: score(args, path, truth, "--compare", runs[reference, run[1]])
                                      for run, path in others.items()}))
    if "phantoms" in args.beginnings:
        print(table("The phantoms' detector by the findings in common",
                    {("phantoms", ""): score(args, before_any_image(args), truth, "--map-labels")},
                    COLUMNS | {"AP40": "voc/mAP40"}))


def before_any_image(args: argparse.Namespace) -> Path:
    """Predictions of the phantoms' detector on the validation images."""
    predictions = args.out / args.engine / "phantoms/val.csv"
    if not predictions.is_file():
        tool("predict.py", "--weights", predictions.with_name("model_final.pth"), "--dataset", "nih_val",
             *TTA, "--out", predictions, "VINDR.DATA_ROOT", args.out / "data", "VINDR.IMAGE_ROOT",
             args.images)
    return predictions


def score(args: argparse.Namespace, predictions: Path, truth: Path, *options: Any) -> Mapping[str, Any]:
    """The metrics of evaluate.py, with intervals by patient."""
    out = predictions.parent / "scores"
    tool("evaluate.py", "--predictions", predictions, "--annotations", truth, "--patients",
         args.out / "data/val.csv", "--bootstrap", 1000, "--out", out, *options, capture_output=True)
    return read_json(out / "metrics.json")


def table(title: str, scores: Mapping[Run, Mapping[str, Any]], columns: Mapping[str, str]) -> str:
    """Values with their intervals, a row per training."""
    rows = [[f"{name} {seed}", *(_with_interval(values, key) for key in columns.values())]
            for (name, seed), values in scores.items()]
    return f"\n{title}\n\n{tabulate(rows, ['', *columns], tablefmt='github')}"


def _with_interval(values: Mapping[str, Any], key: str) -> str:
    if values.get(key) is None:
        return "-"
    low_high: Sequence[float] = values.get(f"{key}/ci95", ())
    return f"{values[key]:.3f}" + (f" [{low_high[0]:.3f}, {low_high[1]:.3f}]" if low_high else "")


def differences(reference: str, compared: Mapping[Run, Mapping[str, Any]]) -> str:
    """Paired differences from the reference of the same seed, and their means over the seeds."""
    rows = [[f"{name} {seed}", *(f"{values[key]['difference']:+.3f} [{values[key]['ci95'][0]:+.3f}, "
                                 f"{values[key]['ci95'][1]:+.3f}]" for key in COLUMNS.values())]
            for (name, seed), values in compared.items()]
    for name in dict.fromkeys(name for name, _ in compared):
        seeds = [values for (other, _), values in compared.items() if other == name]
        rows.append([f"{name}, mean of {len(seeds)}", *(
            f"{np.mean([values[key]['difference'] for values in seeds]):+.3f}" for key in COLUMNS.values())])
    return (f"\nDifference from {reference} of the same seed\n\n"
            f"{tabulate(rows, ['', *COLUMNS], tablefmt='github')}")


if __name__ == "__main__":
    cli.run(main)
