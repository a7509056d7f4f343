#!/usr/bin/env python
"""Do operating points have the reported rates on new images, and what does calibration correct?

    python benchmarks/points.py --seeds 20

Five small networks on simulated features stand in for five folds; images are set aside, thresholds chosen and
probabilities calibrated by the classifier's own code. Each positive is trained on five times, as by a
weighted loss, so that all logits are log 5 too high. New images: 20,000.
"""

import warnings

import numpy as np
import pandas as pd
from sklearn.neural_network import MLPClassifier
from tabulate import tabulate

from vindr_det import cli
from vindr_det.classification import operating_points as points
from vindr_det.classification import report
from vindr_det.classification.config import defaults
from vindr_det.classification.label_table import LabelTable
from vindr_det.classification.operating_points import LabelPredictions, OperatingPoints, TargetRates
from vindr_det.classification.splits import Tables, split

_TARGETS = TargetRates()
_POINTS = ("sensitivity_0.95", "specificity_0.95")


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--seeds", type=int, default=20, help="number of simulated data sets")
    parser.add_argument("--images", type=int, default=5000, help="images of each")
    args = parser.parse_args()
    warnings.filterwarnings("ignore")
    rows = pd.concat([simulate(seed, args.images) for seed in range(args.seeds)])
    table = []
    for (source, point), part in rows.groupby(["chosen on", "point"], sort=False):
        rate = part["new images"]
        table.append([source, point, f"{part['reported'].mean():.4f}", f"{rate.mean():.4f}",
                      f"{rate.min():.4f} to {rate.max():.4f}", f"{part['within'].mean():.0%}"])
    print(tabulate(table, ["chosen on", "point", "reported", "on new images", "from, to",
                           "within the reported interval"], disable_numparse=True))
    errors = rows.groupby("chosen on", sort=False)[["ece", "ece_calibrated"]].mean()
    print(f"\ncalibration error of the mean on new images\n{errors.round(4)}")


def features(rng: np.random.Generator, count: int) -> tuple[np.ndarray, np.ndarray]:
    truth = rng.random(count) < 0.3
    values = rng.normal(size=(count, 40))
    values[:, :10] += 0.55 * truth[:, None]
    return values, truth


def simulate(seed: int, count: int) -> pd.DataFrame:
    rng = np.random.default_rng(seed)
    values, truth = features(rng, count)
    new_values, new_truth = features(rng, 20_000)
    ids = np.array([str(place) for place in range(count)])
    table = LabelTable(ids, ("abnormal",), truth[:, None].astype(np.float32), ~truth, ids,
                       rng.integers(0, 5, count))
    splits = split(Tables(table), defaults())
    single, aside, new = [], [], []
    for fold, own in splits.folds.items():
        place = own.train.image_ids.astype(int)
        place = np.concatenate([place, *[place[truth[place]]] * 4])
        model = MLPClassifier((16,), max_iter=int(rng.integers(8, 30)), random_state=fold).fit(
            values[place], truth[place])
        single.append(report.prediction_frame(
            own.held_out, model.predict_proba(values[own.held_out.image_ids.astype(int)])[:, 1:]))
        aside.append(model.predict_proba(values[splits.calibration.image_ids.astype(int)])[:, 1:])
        new.append(model.predict_proba(new_values)[:, 1:])
    predictions = {"single models, out of fold": pd.concat(single, ignore_index=True),
                   "their mean, images set aside": report.prediction_frame(
                       splits.calibration, np.mean(aside, axis=0))}
    held = pd.DataFrame({"image_id": np.arange(20_000).astype(str), "abnormal": new_truth * 1.0,
                         "p_abnormal": np.mean(new, axis=0)[:, 0]})
    return pd.concat([reported_and_new(name, label_predictions(frame), label_predictions(held))
                      for name, frame in predictions.items()])


def label_predictions(frame: pd.DataFrame) -> list[LabelPredictions]:
    return points.label_predictions(frame, ["abnormal"], report.bootstrap_of(frame))


def reported_and_new(
    name: str, fitted_on: list[LabelPredictions], new: list[LabelPredictions]
) -> pd.DataFrame:
    fitted: dict[str, OperatingPoints] = points.fit_points(fitted_on, _TARGETS, name)
    reported, on_new = points.cross_fitted_rates(fitted_on, fitted, _TARGETS), points.rates_at(new, fitted)
    errors = points.calibration_summary(new, fitted, crossed=False)["p_abnormal"]
    rows = []
    for point in _POINTS:
        rate, key = point.partition("_")[0], f"p_abnormal/{point}"
        low, high = reported[key][f"{rate}/ci95"]
        rows.append({"chosen on": name, "point": point, "reported": reported[key][rate],
                     "new images": on_new[key][rate], "within": low <= on_new[key][rate] <= high,
                     "ece": errors["ece"], "ece_calibrated": errors["ece_calibrated"]})
    return pd.DataFrame(rows)


if __name__ == "__main__":
    main()
