#!/usr/bin/env python
"""Does an operating point keep what it promises on new images, and what does calibration undo?

    python benchmarks/points.py --seeds 20

Five small networks on made-up features stand in for five folds; images are set aside, thresholds chosen and
probabilities calibrated by the classifier's own code. Positives are trained on five times each, as a weighted
loss would have it, so that all logits are log 5 too high. New images: 20,000.
"""

import argparse
import warnings

import numpy as np
import pandas as pd
from sklearn.neural_network import MLPClassifier
from tabulate import tabulate

from vindr_det.classification import operating_points as points
from vindr_det.classification import report
from vindr_det.classification.config import defaults
from vindr_det.classification.labels import LabelTable, Tables
from vindr_det.classification.operating_points import Chosen, Label, Targets
from vindr_det.classification.splits import split

_TARGETS = Targets()
_POINTS = ("sensitivity_0.95", "specificity_0.95")


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--seeds", type=int, default=20)
    parser.add_argument("--images", type=int, default=5000)
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows = pd.concat([one_seed(seed, args.images) for seed in range(args.seeds)])
    table = []
    for (source, point), part in rows.groupby(["chosen on", "point"], sort=False):
        there = part["new images"]
        table.append([source, point, f"{part['reported'].mean():.4f}", f"{there.mean():.4f}",
                      f"{there.min():.4f} to {there.max():.4f}", f"{part['within'].mean():.0%}"])
    print(tabulate(table, ["chosen on", "point", "reported", "on new images", "from, to",
                           "within the reported interval"], disable_numparse=True))
    errors = rows.groupby("chosen on", sort=False)[["ece", "ece_calibrated"]].mean()
    print(f"\ncalibration error of the mean on new images\n{errors.round(4)}")


def features(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.random(count) < 0.3
    values = rng.normal(size=(count, 40))
    values[:, :10] += 0.55 * truth[:, None]
    return values, truth


def one_seed(seed: int, count: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values, truth = features(rng, count)
    new_values, new_truth = features(rng, 20_000)
    ids = np.array([str(place) for place in range(count)])
    table = LabelTable(ids, ("abnormal",), truth[:, None].astype(np.float32), ~truth, ids,
                       rng.integers(0, 5, count))
    splits = split(Tables(table), defaults())
    single, aside, new = [], [], []
    for fold, own in splits.folds.items():
        place = own.learn.image_ids.astype(int)
        place = np.concatenate([place, *[place[truth[place]]] * 4])
        model = MLPClassifier((16,), max_iter=int(rng.integers(8, 30)), random_state=fold).fit(
            values[place], truth[place])
        single.append(report.prediction_frame(
            own.held_out, model.predict_proba(values[own.held_out.image_ids.astype(int)])[:, 1:]))
        aside.append(model.predict_proba(values[splits.calibration.image_ids.astype(int)])[:, 1:])
        new.append(model.predict_proba(new_values)[:, 1:])
    told = {"single models, out of fold": pd.concat(single, ignore_index=True),
            "their mean, images set aside": report.prediction_frame(
                splits.calibration, np.mean(aside, axis=0))}
    held = pd.DataFrame({"image_id": np.arange(20_000).astype(str), "abnormal": new_truth * 1.0,
                         "p_abnormal": np.mean(new, axis=0)[:, 0]})
    return pd.concat([promise(name, labels_of(frame), labels_of(held)) for name, frame in told.items()])


def labels_of(frame: pd.DataFrame) -> list[Label]:
    return points.labels_of(frame, ["abnormal"], report.bootstrap_of(frame))


def promise(name: str, chosen_on: list[Label], new: list[Label]) -> pd.DataFrame:
    chosen: dict[str, Chosen] = points.choose(chosen_on, _TARGETS, name)
    reported, there = points.crossed_rates(chosen_on, chosen, _TARGETS), points.applied(new, chosen)
    errors = points.calibrations(new, chosen, crossed=False)["p_abnormal"]
    rows = []
    for point in _POINTS:
        rate, key = point.partition("_")[0], f"p_abnormal/{point}"
        low, high = reported[key][f"{rate}/ci95"]
        rows.append({"chosen on": name, "point": point, "reported": reported[key][rate],
                     "new images": there[key][rate], "within": low <= there[key][rate] <= high,
                     "ece": errors["ece"], "ece_calibrated": errors["ece_calibrated"]})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
