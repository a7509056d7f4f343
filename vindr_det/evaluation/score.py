"""A prediction file against annotations: values, intervals, comparisons and tables of a list of metrics.

Everything here reads the list that it is given (:data:`vindr_det.metrics.registry.METRICS`); no metric is
known by name but the competition's mean, of which ties and the permutation baseline are measured.
"""

import math
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate
from tqdm import tqdm

from vindr_det.metrics import ties, voc
from vindr_det.metrics.bootstrap import Bootstrap, image_bootstrap
from vindr_det.metrics.coco import coco_ap
from vindr_det.metrics.intervals import MIN_COUNT, Difference, Replicated
from vindr_det.metrics.matching import IOU_THRESHOLD, assign, mean_over_classes
from vindr_det.metrics.metric import MatchedPredictions, Metric, format_value
from vindr_det.metrics.registry import METRICS
from vindr_det.structures.detections import PredictionSet
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record, truth_of, unknown_of

#: Prefix and suffixes of keys that the summary table leaves out, whatever the metrics.
_NOTES, _INTERVALS = "ties/", ("/ci95", "/bias")


def compute_metrics(matched: MatchedPredictions, metrics: Sequence[Metric] = METRICS) -> dict[str, float]:
    """Key -> value of all metrics; NaN where nothing can be measured."""
    return {key: value for metric in metrics for key, value in metric.compute(matched).items()}


def replicate_metrics(
    matched: MatchedPredictions, bootstrap: Bootstrap, metrics: Sequence[Metric] = METRICS
) -> dict[str, Replicated]:
    """Key -> value and replicates of all metrics that have any; those of the summary table first.

    Args:
        matched: the predictions.
        bootstrap: of the images, sorted by id; the same one makes two files' values pairs.
        metrics: the list.
    """
    shown = tqdm(metrics, desc="bootstrap", unit="metric", disable=None, delay=2)
    replicates = {key: values for metric in shown
                  for key, values in metric.replicates(matched, bootstrap).items()}
    return dict(sorted(replicates.items(), key=lambda item: _is_detail(item[0], metrics)))


def _is_detail(key: str, metrics: Sequence[Metric]) -> bool:
    return any(metric.is_detail(key) for metric in metrics)


def confidence_intervals(
    matched: MatchedPredictions, num_replicates: int, seed: int = 0, metrics: Sequence[Metric] = METRICS,
    patients: Mapping[str, str] | None = None,
) -> dict[str, Any]:
    """``<key>/ci95``, [low, high], and ``<key>/bias``; see :class:`Replicated`.

    The value of a single class whose ground truth is on fewer than :data:`MIN_COUNT` images (patients, where
    image id -> patient is given) has none, nor has a mean over classes if so few have any finding.
    """
    result: dict[str, Any] = {}
    bootstrap = image_bootstrap(matched.records, num_replicates, seed, patients)
    abnormal = _abnormal(matched.records, bootstrap)
    for key, replicated in replicate_metrics(matched, bootstrap, metrics).items():
        estimate = replicated.estimate()
        if not _is_rare(replicated, abnormal) and not math.isnan(estimate.value):
            result |= {f"{key}/ci95": [estimate.low, estimate.high], f"{key}/bias": estimate.bias}
    return result


def _abnormal(records: Sequence[Record], bootstrap: Bootstrap) -> int:
    """The images (patients) with a finding."""
    boxed = [[len(record.truth.findings()) > 0] for record in sorted(records, key=lambda of: of.image_id)]
    return int(bootstrap.groups_with(boxed)[0])


def _is_rare(replicated: Replicated, abnormal: int) -> bool:
    """Whether it is of a single class, or a mean, on too few images (patients) for an interval."""
    return bool((replicated.images[0] if len(replicated.images) == 1 else abnormal) < MIN_COUNT)


def paired_comparison(
    a: PredictionSet, b: PredictionSet, records: Sequence[Record], num_replicates: int = 1000, seed: int = 0,
    metrics: Sequence[Metric] = METRICS, patients: Mapping[str, str] | None = None,
) -> dict[str, Difference]:
    """Paired bootstrap of two prediction files: key -> difference, without keys that a has no value of.

    The interval and the wins are NaN where :func:`confidence_intervals` gives none.
    """
    bootstrap = image_bootstrap(records, num_replicates, seed, patients)
    abnormal = _abnormal(records, bootstrap)
    of_a, of_b = (replicate_metrics(MatchedPredictions(file, records), bootstrap, metrics) for file in (a, b))
    return {key: _without_interval(pair) if _is_rare(replicated, abnormal) else pair
            for key, replicated in of_a.items() if not math.isnan(replicated.value)
            for pair in [Difference.of(replicated, of_b[key])]}


def _without_interval(pair: Difference) -> Difference:
    return replace(pair, gain=replace(pair.gain, low=math.nan, high=math.nan), wins=math.nan)


def tie_spread(matched: MatchedPredictions, seed: int = 0) -> dict[str, float]:
    """``ties/share`` of boxes whose score another of their class has, and mAP40 over random orders of these.

    ``ties/mAP40`` is its mean, ``ties/mAP40/sd`` its standard deviation; empty where few boxes are tied.
    """
    share = ties.tied_share(matched.voc)
    if share < ties.MIN_SHARE:
        return {}
    assigned = assign(matched.predictions, truth_of(matched.records), IOU_THRESHOLD,
                      unknown_of(matched.records))
    values = mean_over_classes(ties.average_precisions(ties.random_orders(assigned, seed=seed)))
    return {"ties/share": share, "ties/mAP40": float(values.mean()), "ties/mAP40/sd": float(values.std())}


def tie_note(spread: Mapping[str, float], label_set: LabelSet) -> str:
    """Of :func:`tie_spread`, as text."""
    return (f"note: {spread['ties/share']:.0%} of the boxes have the score of another box of their class; "
            f"the file's order decides between them in every AP. Over {ties.ORDERS} random orders "
            f"{label_set.mean_ap} is {spread['ties/mAP40']:.4f} on average (standard deviation "
            f"{spread['ties/mAP40/sd']:.4f})")


def chance_level(predictions: PredictionSet, records: Sequence[Record], seed: int = 0) -> dict[str, float]:
    """``chance/<key>`` of the two mAPs: a permutation baseline, the same boxes shuffled across images."""
    shuffled = shuffle_across_images(predictions, seed)
    result = voc.vindr_ap_of_records(shuffled, records)
    return {f"chance/{result.label_set.mean_ap}": result.mean_ap,
            "chance/coco/AP": coco_ap(shuffled, records)["coco/AP"]}


def shuffle_across_images(predictions: PredictionSet, seed: int = 0) -> PredictionSet:
    """The detections of every image given to another image.

    What a detector learned about where findings usually are stays, what it saw on each image goes.
    """
    ids = sorted(predictions)
    order = np.random.default_rng(seed).permutation(len(ids))
    shifted = np.roll(order, 1)
    return {ids[to]: predictions[ids[source]] for to, source in zip(order, shifted, strict=True)}


def metrics_table(
    values: Mapping[str, Any], matched: MatchedPredictions, metrics: Sequence[Metric] = METRICS
) -> str:
    """Classes, summary and the metrics' own tables, as text."""
    summary = tabulate(
        [[key, _with_interval(values, key)] for key in summary_keys(values, metrics)],
        ["metric", "value"], disable_numparse=True, colalign=("left", "right"))
    own = (metric.table(values) for metric in metrics)
    return "\n\n".join([_class_table(values, matched, metrics), summary, *filter(None, own)])


def summary_keys(values: Mapping[str, Any], metrics: Sequence[Metric] = METRICS) -> list[str]:
    """The keys of the summary table: without intervals, notes and the metrics' details."""
    return [key for key in values if not key.startswith(_NOTES) and not key.endswith(_INTERVALS)
            and not _is_detail(key, metrics)]


def class_columns(label_set: LabelSet, metrics: Sequence[Metric] = METRICS) -> dict[str, str]:
    """Header of a column in the table of classes -> key, ``{}`` standing for the class name."""
    return {header: key for metric in metrics for header, key in metric.columns_of(label_set).items()}


def _class_table(values: Mapping[str, Any], matched: MatchedPredictions, metrics: Sequence[Metric]) -> str:
    columns = class_columns(matched.label_set, metrics)
    counts, ranked = matched.voc.counts.sum(axis=0), matched.voc.by_class
    table = [[name, int(counts[at]), len(ranked[at]),
              *(_with_interval(values, key.format(name)) for key in columns.values())]
             for at, name in enumerate(matched.label_set.classes)]
    return tabulate(table, ["class", "truths", "detections", *columns], disable_numparse=True,
                    colalign=("left", *["right"] * (2 + len(columns))))


def comparison_table(differences: Mapping[str, Difference]) -> str:
    """Of :func:`paired_comparison`, as text."""
    rows = [[key, f"{of.a:.4f}", f"{of.b:.4f}", f"{of.gain.value:+.4f}",
             *(("-", "-") if math.isnan(of.wins) else
               (f"[{of.gain.low:+.4f}, {of.gain.high:+.4f}]", f"{of.wins:.0%}"))]
            for key, of in differences.items()]
    return tabulate(rows, ["metric", "A", "B", "A - B", "95 %", "A wins"], disable_numparse=True,
                    colalign=("left", *["right"] * 5))


def confusion_table(matrix: NDArray[np.int64], label_set: LabelSet) -> str:
    """Of :func:`vindr_det.metrics.tide.confusion_matrix`, as text."""
    names = [*label_set.findings, "nothing"]
    rows = [[name, *row] for name, row in zip(names, matrix.tolist(), strict=True)]
    return tabulate(rows, ["true \\ detected", *(name[:9] for name in names)])


def as_json(values: Mapping[str, Any]) -> dict[str, Any]:
    """NaN as null: JSON has no NaN."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in values.items()}


def _with_interval(values: Mapping[str, Any], key: str) -> str:
    """A value, with its interval and its bias where they are known."""
    text = format_value(values.get(key, math.nan))
    bounds = values.get(f"{key}/ci95")
    if not bounds:
        return text
    return f"{text} [{bounds[0]:.4f}, {bounds[1]:.4f}] bias {values[f'{key}/bias']:+.4f}"
