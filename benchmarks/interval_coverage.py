#!/usr/bin/env python
"""How often 95 % intervals hold the true value: samples of images from a population that is known.

    python benchmarks/interval_coverage.py  # 200, 1,000, 3,000 images, 200 samples each
    python benchmarks/interval_coverage.py --csv train.csv              # with VinBigData's own truth
    python benchmarks/interval_coverage.py --images 200 --samples 20    # a look
    python benchmarks/interval_coverage.py --classifier                 # AUC and rates with few positives

Images have VinBigData's findings in VinBigData's shares; a detector's boxes on them are simulated, with
recall, scores, overlap and false boxes of their own for each finding. The true value is that of a population
of --population images, over the classes that the sample has. Beside it the percentile interval of a bootstrap
with replacement ("old"). Differences are those of two detectors on the same images.
"""

import argparse
import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import nan

import numpy as np
from tabulate import tabulate

from vindr_det.data.truth import read_truth
from vindr_det.evaluation import score as scoring
from vindr_det.metrics import classification
from vindr_det.metrics.bootstrap import Bootstrap, Floats, interval
from vindr_det.metrics.intervals import MIN_COUNT, Difference, Replicated
from vindr_det.metrics.matching import Table
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.records import Record

#: Per finding: images of VinBigData's 15,000, consensus boxes, mean side, what the detector finds of it, its
#: scores' mean logit, and how far its corners are off.
FINDINGS = np.array([
    (3067, 3201, 0.12, 0.92, 2.0, 0.07), (186, 226, 0.20, 0.55, -0.5, 0.11),
    (452, 724, 0.08, 0.50, -0.5, 0.11), (2300, 2335, 0.25, 0.93, 2.0, 0.06),
    (353, 428, 0.19, 0.60, 0.0, 0.11), (386, 687, 0.27, 0.75, 0.3, 0.11),
    (613, 915, 0.18, 0.65, -0.2, 0.11), (1322, 1942, 0.15, 0.60, -0.2, 0.11),
    (826, 1821, 0.06, 0.65, 0.2, 0.10), (1134, 1779, 0.15, 0.45, -0.6, 0.12),
    (1032, 1606, 0.13, 0.85, 0.8, 0.11), (1981, 3796, 0.08, 0.65, 0.0, 0.11),
    (96, 128, 0.26, 0.70, 0.5, 0.11), (1617, 3131, 0.11, 0.65, 0.0, 0.11)])
WITH, BOXES, SIDE, RECALL, SCORE, OFF = FINDINGS.T
IMAGES, ABNORMAL = 15_000, 4_394
MOST = 1000.0
#: Metrics with a row of their own; each class's AP is counted together.
NAMES = ("vindr/mAP40", "coco/AP", "coco/AP50", "coco/AP75", "coco/AP40",
         *(f"froc/sensitivity@{at}" for at in ("0.125", "1", "8")),
         *(f"localization/accuracy@{at}" for at in ("0.1", "0.5", "0.7")))
CLASSES, PAIRED = "vindr/AP40/<class>", ("vindr/mAP40", "coco/AP", "froc/sensitivity@1")


@dataclass(frozen=True)
class Detector:
    """Attributes:
        skill: added to all logits of finding and of score.
        false: times as many false boxes.
    """

    skill: float = 0.0
    false: float = 1.0


A, B = Detector(0.3), Detector()


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__,
                                     formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--csv", help="VinBigData's annotation table; default: synthetic truth")
    parser.add_argument("--images", type=int, nargs="+", default=[200, 1000, 3000])
    parser.add_argument("--samples", type=int, default=200)
    parser.add_argument("--replicates", type=int, default=200)
    parser.add_argument("--population", type=int, default=400_000)
    parser.add_argument("--skill", type=float, default=0.0, help="of the detector")
    parser.add_argument("--classifier", action="store_true", help="AUC and rates instead")
    args = parser.parse_args()
    if args.classifier:
        print(classifier_table(args.samples, args.replicates))
        return
    rng = np.random.default_rng(0)
    truth = [one.truth for one in read_truth(args.csv)] if args.csv else synthetic(rng, IMAGES)
    detectors = [Detector(one.skill + args.skill, one.false) for one in (B, A)]
    since = time.perf_counter()
    true = population(truth, detectors, args.population)
    for images in args.images:
        print(table(images, [sample(truth, detectors, true, images, number, args.replicates)
                             for number in range(args.samples)]), flush=True)
        print(f"\n{(time.perf_counter() - since) / 60:.0f} minutes\n", flush=True)


def synthetic(rng: np.random.Generator, images: int) -> list[Predictions]:
    """True boxes; findings of an abnormal image come independently of each other."""
    there = (rng.random((images, 1)) < ABNORMAL / IMAGES) & (rng.random((images, 14)) < WITH / ABNORMAL)
    counts = there * (1 + rng.poisson(BOXES / WITH - 1, there.shape))
    labels = [np.repeat(np.arange(14), row) for row in counts]
    return [Predictions(_anywhere(rng, of), np.ones(len(of)), of) for of in labels]


def _anywhere(rng: np.random.Generator, labels: np.ndarray) -> Floats:
    """(N, 4) xyxy."""
    side = np.clip(SIDE[labels][:, None] * np.exp(rng.normal(0, 0.35, (len(labels), 2))), 0.01, 0.9)
    low = rng.uniform(0, 1, side.shape) * (1 - side)
    return np.concatenate([low, low + side], axis=1) * MOST


def draw(
    pool: Sequence[Predictions], detectors: Sequence[Detector], images: int, seed: Sequence[int]
) -> tuple[list[PredictionSet], list[Record]]:
    """Each detector's boxes on the same images, of which some are easier than others for all of them."""
    rng = np.random.default_rng(seed)
    truths = [pool[at] for at in rng.integers(0, len(pool), images)]
    ids = [f"{number:06d}" for number in range(images)]
    ease, table = rng.normal(0, 0.6, images), Table.of(truths)
    records = [Record(name, f"{name}.png", int(MOST), int(MOST), truth)
               for name, truth in zip(ids, truths, strict=True)]
    return [dict(zip(ids, detect(rng, table, ease, detector), strict=True)) for detector in detectors], records


def detect(rng: np.random.Generator, truth: Table, ease: Floats, detector: Detector) -> list[Predictions]:
    """Found boxes, some of them twice, false ones, more of them on abnormal images, and "no finding"."""
    abnormal = np.isin(np.arange(len(ease)), truth.image)
    odds = np.log(RECALL / (1 - RECALL))[truth.label] + 0.8 * ease[truth.image] + detector.skill
    found = truth[rng.random(len(truth)) < 1 / (1 + np.exp(-odds))]
    found = found[np.repeat(np.arange(len(found)), 1 + (rng.random(len(found)) < 0.25))]
    side = np.tile(found.box[:, 2:] - found.box[:, :2], 2)
    boxes = found.box + side * rng.normal(0, 1, side.shape) * OFF[found.label][:, None]
    logit = SCORE[found.label] + detector.skill + 0.5 * ease[found.image] + rng.normal(0, 1.3, len(found))
    rate = (6 * BOXES / IMAGES + 0.15) * np.where(abnormal, 2, 0.5)[:, None] * detector.false
    count = rng.poisson(rate * np.exp(rng.normal(0, 0.5, (len(ease), 1))))
    image, label = (np.repeat(of, count[count > 0]) for of in np.nonzero(count))
    normal = np.where(abnormal, -2, 2.5) + rng.normal(0, 1.7, len(ease))
    whole = Table(np.concatenate([found.image, image, np.arange(len(ease))]),
                  np.concatenate([found.label, label, np.full(len(ease), 14)]),
                  1 / (1 + np.exp(-np.concatenate(
                      [logit, SCORE[label] - 2 + rng.normal(0, 1.3, len(label)), normal]))),
                  np.concatenate([boxes, _anywhere(rng, label), np.tile([0.0, 0, 1, 1], (len(ease), 1))]))
    return _by_image(whole, len(ease))


def _by_image(table: Table, images: int) -> list[Predictions]:
    order = np.argsort(table.image, kind="stable")
    ends = np.searchsorted(table.image[order], np.arange(images + 1))
    low, high = (way(table.box[:, :2], table.box[:, 2:]) for way in (np.minimum, np.maximum))
    boxes = np.concatenate([low, np.maximum(high, low + 1)], axis=1)
    whole = Predictions(boxes, table.score, table.label)[order]
    return [whole[start:end] for start, end in pairwise(ends)]


def population(
    pool: Sequence[Predictions], detectors: Sequence[Detector], images: int, at_once: int = 80_000
) -> list[Mapping[str, Floats]]:
    """For each detector metric -> (K,): the mean over parts, which are large enough to have no bias."""
    parts = [draw(pool, detectors, min(at_once, images), (1, number))
             for number in range(max(1, images // at_once))]
    return [_mean_of([replicated(found[at], records, 0) for found, records in parts])
            for at in range(len(detectors))]


def _mean_of(parts: Sequence[Mapping[str, Replicated]]) -> Mapping[str, Floats]:
    return {name: np.mean([part[name].values for part in parts], axis=0) for name in parts[0]}


def replicated(
    predictions: PredictionSet, records: Sequence[Record], bootstrap: Bootstrap | int
) -> dict[str, Replicated]:
    """All metrics; with 0 for a bootstrap of the images alone."""
    if not isinstance(bootstrap, Bootstrap):
        bootstrap = Bootstrap.of(np.arange(len(records)), 1).whole()
    return scoring.replicated(predictions, records, bootstrap)


@dataclass
class Outcome:
    """Of one metric in one sample: does an interval hold the truth, its width, the point value's error."""

    held: float
    width: float
    held_old: float
    width_old: float
    error: float
    bias: float


def sample(
    pool: Sequence[Predictions], detectors: Sequence[Detector], true: Sequence[Mapping[str, Floats]],
    images: int, number: int, replicates: int,
) -> dict[str, list[Outcome]]:
    """Metric -> outcomes: one, or one per class."""
    found, records = draw(pool, detectors, images, (images, number))
    halves = Bootstrap.of(np.arange(images), replicates, number)
    old = with_replacement(images, replicates, number)
    both = Bootstrap(np.concatenate([halves.drawn, old.drawn]), halves.group_of)  # boxes are matched once
    metrics, better = replicated(found[0], records, both), replicated(found[1], records, halves)
    new = {name: replace(one, drawn=one.drawn[:replicates]) for name, one in metrics.items()}
    before = {name: replace(one, drawn=one.drawn[replicates:]) for name, one in metrics.items()}
    result: dict[str, list[Outcome]] = defaultdict(list)
    for name, metric in new.items():
        if name in NAMES:
            result[name].append(outcome(metric, before[name], true[0][name]))
        elif metric.images[0] >= MIN_COUNT:
            result[CLASSES].append(outcome(metric, before[name], true[0][name]))
    for name in PAIRED:
        gain = Difference.of(better[name], new[name]).gain
        wanted = _of_sample(true[1][name], new[name]) - _of_sample(true[0][name], new[name])
        result[f"difference of {name}"].append(
            _outcome((gain.low, gain.high), (nan, nan), wanted, gain.value, 0.0))
    return result


def with_replacement(images: int, replicates: int, seed: int) -> Bootstrap:
    """As many images as there are, with replacement: the bootstrap of before."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(images, np.full(images, 1 / images), replicates)
    return Bootstrap(drawn.astype(np.uint8), np.arange(images))


def outcome(new: Replicated, old: Replicated, true: Floats) -> Outcome:
    """Of the mean over the classes that the sample has."""
    one = new.estimate()
    return _outcome((one.low, one.high), interval(old.means), _of_sample(true, new), one.value, one.bias)


def _of_sample(true: Floats, metric: Replicated) -> float:
    return float(true[~np.isnan(metric.values)].mean())


def _outcome(
    new: tuple[float, float], old: tuple[float, float], true: float, value: float, bias: float
) -> Outcome:
    held, held_old = (nan if np.isnan(low) else float(low <= true <= high) for low, high in (new, old))
    return Outcome(held, new[1] - new[0], held_old, old[1] - old[0], value - true, bias)


def table(images: int, samples: Sequence[Mapping[str, Sequence[Outcome]]]) -> str:
    """A row per metric."""
    rows = []
    for name in samples[0]:
        every = [one for each in samples for one in each.get(name, [])]
        mean = {key: np.mean([getattr(one, key) for one in every]) for key in vars(every[0])}
        texts = [f"{mean[key]:.3f}" for key in ("held_old", "held", "width_old", "width")]
        texts += [f"{mean[key]:+.4f}" for key in ("error", "bias")]
        rows.append([name, *("" if text == "nan" else text for text in texts)])
    return tabulate(rows, [f"{len(samples)} samples of {images} images", "old covers", "new covers",
                           "old width", "new width", "bias", "estimated"], disable_numparse=True,
                    tablefmt="github")


def classifier_table(samples: int, replicates: int) -> str:
    """AUC, sensitivity and specificity of normally distributed scores; patients have one image or two."""
    rows = []
    for auc in (0.75, 0.95):
        for positives in (5, 10, 30, 100):
            rows.append([f"{auc:g}", positives, *_classifier_row(auc, positives, samples, replicates)])
    return tabulate(rows, ["AUC", "positives", "AUC old", "AUC new", "sensitivity", "specificity"],
                    disable_numparse=True, tablefmt="github")


def _classifier_row(auc: float, positives: int, samples: int, replicates: int) -> list[str]:
    from scipy.stats import norm

    shift, rng = norm.ppf(auc) * np.sqrt(2), np.random.default_rng(positives)
    true = {"auc": auc, "sensitivity": norm.cdf(shift / 2), "specificity": norm.cdf(shift / 2)}
    held: dict[str, list[bool]] = defaultdict(list)
    for _ in range(samples):
        truth = np.repeat([1, 0], [positives, max(300, positives)])
        scores = rng.normal(shift * truth)
        again = rng.random(len(truth)) < 0.5  # a patient's second image, which tells nothing new
        patients = np.concatenate([np.arange(len(truth)), np.flatnonzero(again)])
        truth, scores = truth[patients], scores[patients]
        halves = Bootstrap.of(patients, replicates)
        found = classification.measure(truth, scores, halves)["auc"]
        found_all = classification.rates(truth, scores, shift / 2, halves) | {"auc": found}
        for name, wanted in true.items():
            held[name].append(found_all[name].low <= wanted <= found_all[name].high)
        drawn = with_replacement(halves.drawn.shape[1], replicates, 0)
        low, high = interval(np.concatenate([
            classification.auc(classification.curve(truth, scores, part))
            for part in Bootstrap(drawn.drawn, halves.group_of).parts()]))
        held["old"].append(low <= auc <= high)
    return [f"{np.mean(held[name]):.3f}" for name in ("old", "auc", "sensitivity", "specificity")]


if __name__ == "__main__":
    main()
