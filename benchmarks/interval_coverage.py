#!/usr/bin/env python
"""How often 95 % intervals cover the true value: samples of images from a simulated population.

    python benchmarks/interval_coverage.py  # 200, 1,000, 3,000 images, 200 samples each
    python benchmarks/interval_coverage.py --annotations train.csv      # with VinBigData's own truth
    python benchmarks/interval_coverage.py --num-images 200 --samples 20   # a quick look
    python benchmarks/interval_coverage.py --binary                     # AUC and rates with few positives

Images have VinBigData's findings in VinBigData's shares; a detector's boxes on them are simulated, with
recall, scores, overlap and false positives of their own per finding. The true value is that of a population
of --population images, over the classes that the sample has. Beside it the percentile interval of a bootstrap
with replacement ("old"). Differences are those of two detectors on the same images.
"""

import time
from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from math import nan

import numpy as np
from tabulate import tabulate

from vindr_det import cli
from vindr_det.data.truth import read_truth
from vindr_det.evaluation.score import replicate_metrics
from vindr_det.metrics import classification
from vindr_det.metrics.bootstrap import Bootstrap, Floats, interval
from vindr_det.metrics.intervals import MIN_COUNT, Difference, Replicated
from vindr_det.metrics.matching import Table
from vindr_det.metrics.metric import MatchedPredictions
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import NO_FINDING_ID
from vindr_det.structures.records import Record

#: Per finding: images of VinBigData's 15,000 with it, consensus boxes, mean side, and of the simulated
#: detector the recall, the mean logit of scores, and the standard deviation of corners.
FINDINGS = np.array([
    (3067, 3201, 0.12, 0.92, 2.0, 0.07), (186, 226, 0.20, 0.55, -0.5, 0.11),
    (452, 724, 0.08, 0.50, -0.5, 0.11), (2300, 2335, 0.25, 0.93, 2.0, 0.06),
    (353, 428, 0.19, 0.60, 0.0, 0.11), (386, 687, 0.27, 0.75, 0.3, 0.11),
    (613, 915, 0.18, 0.65, -0.2, 0.11), (1322, 1942, 0.15, 0.60, -0.2, 0.11),
    (826, 1821, 0.06, 0.65, 0.2, 0.10), (1134, 1779, 0.15, 0.45, -0.6, 0.12),
    (1032, 1606, 0.13, 0.85, 0.8, 0.11), (1981, 3796, 0.08, 0.65, 0.0, 0.11),
    (96, 128, 0.26, 0.70, 0.5, 0.11), (1617, 3131, 0.11, 0.65, 0.0, 0.11)])
WITH, BOXES, SIDE, RECALL, SCORE, NOISE = FINDINGS.T
IMAGES, ABNORMAL = 15_000, 4_394
#: Pixels, of all images.
IMAGE_SIDE = 1000.0
#: Metrics with a row of their own; the APs of all classes share a row.
NAMES = ("vindr/mAP40", "coco/AP", "coco/AP50", "coco/AP75", "coco/AP40",
         *(f"froc/sensitivity@{at}" for at in ("0.125", "1", "8")),
         *(f"localization/accuracy@{at}" for at in ("0.1", "0.5", "0.7")))
CLASSES, PAIRED = "vindr/AP40/<class>", ("vindr/mAP40", "coco/AP", "froc/sensitivity@1")


@dataclass(frozen=True)
class Detector:
    """A simulated detector.

    Attributes:
        skill: added to the logits of recall and of scores.
        false_positives: factor on their number.
    """

    skill: float = 0.0
    false_positives: float = 1.0


A, B = Detector(0.3), Detector()


def main() -> None:
    parser = cli.parser(__doc__)
    parser.add_argument("--annotations", help="truth: COCO .json or VinBigData .csv; synthetic without it")
    parser.add_argument("--num-images", type=int, nargs="+", default=[200, 1000, 3000], help="per sample")
    parser.add_argument("--samples", type=int, default=200, help="samples of each size")
    parser.add_argument("--replicates", type=int, default=200, help="bootstrap replicates per interval")
    parser.add_argument("--population", type=int, default=400_000, help="images behind the true value")
    parser.add_argument("--skill", type=float, default=0.0, help="added to both detectors' logits")
    parser.add_argument("--binary", action="store_true", help="AUC and rates of a classifier instead")
    args = parser.parse_args()
    if args.binary:
        print(binary_table(args.samples, args.replicates))
        return
    rng = np.random.default_rng(0)
    truth = ([record.truth for record in read_truth(args.annotations)] if args.annotations
             else synthetic(rng, IMAGES))
    detectors = [replace(detector, skill=detector.skill + args.skill) for detector in (B, A)]
    since = time.perf_counter()
    true = population(truth, detectors, args.population)
    for images in args.num_images:
        print(table(images, [sample(truth, detectors, true, images, number, args.replicates)
                             for number in range(args.samples)]), flush=True)
        print(f"\n{(time.perf_counter() - since) / 60:.0f} minutes\n", flush=True)


def synthetic(rng: np.random.Generator, images: int) -> list[Predictions]:
    """True boxes; the findings of an abnormal image are independent of each other."""
    there = (rng.random((images, 1)) < ABNORMAL / IMAGES) & (rng.random((images, 14)) < WITH / ABNORMAL)
    counts = there * (1 + rng.poisson(BOXES / WITH - 1, there.shape))
    labels = [np.repeat(np.arange(14), row) for row in counts]
    return [Predictions(_anywhere(rng, of), np.ones(len(of)), of) for of in labels]


def _anywhere(rng: np.random.Generator, labels: np.ndarray) -> Floats:
    """(N, 4) xyxy."""
    side = np.clip(SIDE[labels][:, None] * np.exp(rng.normal(0, 0.35, (len(labels), 2))), 0.01, 0.9)
    low = rng.uniform(0, 1, side.shape) * (1 - side)
    return np.concatenate([low, low + side], axis=1) * IMAGE_SIDE


def draw(
    pool: Sequence[Predictions], detectors: Sequence[Detector], images: int, seed: Sequence[int]
) -> tuple[list[PredictionSet], list[Record]]:
    """Each detector's boxes on the same images, some of which are easier than others for all detectors."""
    rng = np.random.default_rng(seed)
    truths = [pool[at] for at in rng.integers(0, len(pool), images)]
    ids = [f"{number:06d}" for number in range(images)]
    ease, table = rng.normal(0, 0.6, images), Table.of(truths)
    records = [Record(name, f"{name}.png", int(IMAGE_SIDE), int(IMAGE_SIDE), truth)
               for name, truth in zip(ids, truths, strict=True)]
    files = [dict(zip(ids, detect(rng, table, ease, detector), strict=True)) for detector in detectors]
    return files, records


def detect(rng: np.random.Generator, truth: Table, ease: Floats, detector: Detector) -> list[Predictions]:
    """Detected boxes, some twice, false positives, more on abnormal images, and "no finding"."""
    abnormal = np.isin(np.arange(len(ease)), truth.image)
    odds = np.log(RECALL / (1 - RECALL))[truth.label] + 0.8 * ease[truth.image] + detector.skill
    seen = truth[rng.random(len(truth)) < 1 / (1 + np.exp(-odds))]
    seen = seen[np.repeat(np.arange(len(seen)), 1 + (rng.random(len(seen)) < 0.25))]
    own = seen.box()
    side = np.tile(own[:, 2:] - own[:, :2], 2)
    boxes = own + side * rng.normal(0, 1, side.shape) * NOISE[seen.label][:, None]
    logit = SCORE[seen.label] + detector.skill + 0.5 * ease[seen.image] + rng.normal(0, 1.3, len(seen))
    rate = (6 * BOXES / IMAGES + 0.15) * np.where(abnormal, 2, 0.5)[:, None] * detector.false_positives
    count = rng.poisson(rate * np.exp(rng.normal(0, 0.5, (len(ease), 1))))
    image, label = (np.repeat(of, count[count > 0]) for of in np.nonzero(count))
    normal = np.where(abnormal, -2, 2.5) + rng.normal(0, 1.7, len(ease))
    whole = Table(np.concatenate([seen.image, image, np.arange(len(ease))]),
                  np.concatenate([seen.label, label, np.full(len(ease), NO_FINDING_ID)]),
                  1 / (1 + np.exp(-np.concatenate(
                      [logit, SCORE[label] - 2 + rng.normal(0, 1.3, len(label)), normal]))),
                  np.concatenate([boxes, _anywhere(rng, label), np.tile([0.0, 0, 1, 1], (len(ease), 1))]),
                  np.arange(len(seen) + len(label) + len(ease)))
    return _by_image(whole, len(ease))


def _by_image(table: Table, images: int) -> list[Predictions]:
    order = np.argsort(table.image, kind="stable")
    ends = np.searchsorted(table.image[order], np.arange(images + 1))
    low, high = (corner(table.boxes[:, :2], table.boxes[:, 2:]) for corner in (np.minimum, np.maximum))
    boxes = np.concatenate([low, np.maximum(high, low + 1)], axis=1)
    whole = Predictions(boxes, table.score, table.label)[order]
    return [whole[start:end] for start, end in pairwise(ends)]


def population(
    pool: Sequence[Predictions], detectors: Sequence[Detector], images: int, at_once: int = 80_000
) -> list[Mapping[str, Floats]]:
    """Per detector: metric -> (K,) mean over parts, each large enough to have no bias."""
    parts = [draw(pool, detectors, min(at_once, images), (1, number))
             for number in range(max(1, images // at_once))]
    return [_mean_of([replicated(detections[at], records, 0) for detections, records in parts])
            for at in range(len(detectors))]


def _mean_of(parts: Sequence[Mapping[str, Replicated]]) -> Mapping[str, Floats]:
    return {name: np.mean([part[name].values for part in parts], axis=0) for name in parts[0]}


def replicated(
    predictions: PredictionSet, records: Sequence[Record], bootstrap: Bootstrap | int
) -> dict[str, Replicated]:
    """All metrics; with 0 for a bootstrap on the images as they are."""
    if not isinstance(bootstrap, Bootstrap):
        bootstrap = Bootstrap.of(np.arange(len(records)), 1).whole()
    return replicate_metrics(MatchedPredictions(predictions, records), bootstrap)


@dataclass
class Outcome:
    """Of a metric in one sample: whether intervals cover the true value, their widths, the error."""

    covered: float
    width: float
    covered_old: float
    width_old: float
    error: float
    bias: float


def sample(
    pool: Sequence[Predictions], detectors: Sequence[Detector], true: Sequence[Mapping[str, Floats]],
    images: int, number: int, replicates: int,
) -> dict[str, list[Outcome]]:
    """Metric -> outcomes: one, or one per class."""
    detections, records = draw(pool, detectors, images, (images, number))
    halves = Bootstrap.of(np.arange(images), replicates, number)
    old = with_replacement(images, replicates, number)
    both = Bootstrap(np.concatenate([halves.drawn, old.drawn]), halves.group_of)  # boxes are matched once
    metrics, better = replicated(detections[0], records, both), replicated(detections[1], records, halves)
    new = {name: replace(metric, drawn=metric.drawn[:replicates]) for name, metric in metrics.items()}
    before = {name: replace(metric, drawn=metric.drawn[replicates:]) for name, metric in metrics.items()}
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
    """The usual bootstrap: as many images as there are, with replacement."""
    rng = np.random.default_rng(seed)
    drawn = rng.multinomial(images, np.full(images, 1 / images), replicates)
    return Bootstrap(drawn.astype(np.uint8), np.arange(images))


def outcome(new: Replicated, old: Replicated, true: Floats) -> Outcome:
    """Of the mean over the classes that the sample has."""
    estimate = new.estimate()
    return _outcome((estimate.low, estimate.high), interval(old.means), _of_sample(true, new), estimate.value,
                    estimate.bias)


def _of_sample(true: Floats, metric: Replicated) -> float:
    return float(true[~np.isnan(metric.values)].mean())


def _outcome(
    new: tuple[float, float], old: tuple[float, float], true: float, value: float, bias: float
) -> Outcome:
    covered, covered_old = (nan if np.isnan(low) else float(low <= true <= high) for low, high in (new, old))
    return Outcome(covered, new[1] - new[0], covered_old, old[1] - old[0], value - true, bias)


def table(images: int, samples: Sequence[Mapping[str, Sequence[Outcome]]]) -> str:
    """One row per metric."""
    rows = []
    for name in samples[0]:
        outcomes = [outcome for outcomes_of in samples for outcome in outcomes_of.get(name, [])]
        mean = {key: np.mean([getattr(outcome, key) for outcome in outcomes]) for key in vars(outcomes[0])}
        texts = [f"{mean[key]:.3f}" for key in ("covered_old", "covered", "width_old", "width")]
        texts += [f"{mean[key]:+.4f}" for key in ("error", "bias")]
        rows.append([name, *("" if text == "nan" else text for text in texts)])
    return tabulate(rows, [f"{len(samples)} samples of {images} images", "old covers", "new covers",
                           "old width", "new width", "bias", "estimated"], disable_numparse=True,
                    tablefmt="github")


def binary_table(samples: int, replicates: int) -> str:
    """AUC, sensitivity, specificity of normally distributed scores; a patient has one or two images."""
    rows = []
    for auc in (0.75, 0.95):
        for positives in (5, 10, 30, 100):
            rows.append([f"{auc:g}", positives, *_binary_row(auc, positives, samples, replicates)])
    return tabulate(rows, ["AUC", "positives", "AUC old", "AUC new", "sensitivity", "specificity"],
                    disable_numparse=True, tablefmt="github")


def _binary_row(auc: float, positives: int, samples: int, replicates: int) -> list[str]:
    from scipy.stats import norm

    shift, rng = norm.ppf(auc) * np.sqrt(2), np.random.default_rng(positives)
    true = {"auc": auc, "sensitivity": norm.cdf(shift / 2), "specificity": norm.cdf(shift / 2)}
    covered: dict[str, list[bool]] = defaultdict(list)
    for _ in range(samples):
        truth = np.repeat([1, 0], [positives, max(300, positives)])
        scores = rng.normal(shift * truth)
        again = rng.random(len(truth)) < 0.5  # a patient's second image, equal to the first
        patients = np.concatenate([np.arange(len(truth)), np.flatnonzero(again)])
        truth, scores = truth[patients], scores[patients]
        halves = Bootstrap.of(patients, replicates)
        estimates = (classification.rates(truth, scores, shift / 2, halves)
                     | classification.measure(truth, scores, halves))
        for name, wanted in true.items():
            covered[name].append(estimates[name].low <= wanted <= estimates[name].high)
        drawn = with_replacement(halves.drawn.shape[1], replicates, 0)
        low, high = interval(np.concatenate([
            classification.auc(classification.curve(truth, scores, part))
            for part in Bootstrap(drawn.drawn, halves.group_of).parts()]))
        covered["old"].append(low <= auc <= high)
    return [f"{np.mean(covered[name]):.3f}" for name in ("old", "auc", "sensitivity", "specificity")]


if __name__ == "__main__":
    main()
