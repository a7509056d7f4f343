"""A prediction file against annotations: what tools/evaluate.py prints and writes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate

from vindr_det.metrics import (
    coco,
    coco_bootstrap,
    froc,
    localization,
    tide,
    ties,
    voc,
)
from vindr_det.metrics.bootstrap import Bootstrap, Floats, image_bootstrap
from vindr_det.metrics.intervals import MIN_COUNT, Difference, Replicated
from vindr_det.metrics.matching import Matched, aim, match, mean_over_classes
from vindr_det.structures.detections import PredictionSet
from vindr_det.structures.label_sets import CLASS_NAMES, FINDINGS
from vindr_det.structures.records import Record, truth_of

MEAN_AP = "vindr/mAP40"
CLASS_AP = "vindr/AP40/"


def score(predictions: PredictionSet, records: Sequence[Record]) -> dict[str, float]:
    """Everything that has a number: ``vindr/``, ``coco/``, ``froc/``, ``localization/``, ``errors/``.

    NaN where nothing can be measured. ``vindr/`` is over 15 classes, all others over the 14 findings.
    """
    matched = match(predictions, truth_of(records), voc.IOU_THRESHOLD)
    return (voc.score(matched).as_metrics() | coco.evaluate(predictions, records)
            | froc.as_metrics(froc.sensitivities(matched)[0])
            | localization.as_metrics(localization.accuracies(matched))
            | tide.as_metrics(tide.kinds(matched)))


def replicated(
    predictions: PredictionSet, records: Sequence[Record], bootstrap: Bootstrap
) -> dict[str, Replicated]:
    """Metric -> its values: mAP40, AP40 of each class, COCO APs, FROC, localization.

    Args:
        predictions: image id -> detections.
        records: images with their true boxes.
        bootstrap: of the images, sorted by id; the same one makes two files' values pairs.
    """
    ordered = sorted(records, key=lambda record: record.image_id)
    matched = match(predictions, truth_of(ordered), voc.IOU_THRESHOLD)
    boxes = coco_bootstrap.match(predictions, ordered)
    images = bootstrap.groups_with(matched.counts > 0)
    whole, drawn = (_per_class(matched, boxes, one) for one in (bootstrap.whole(), bootstrap))
    found = {name: Replicated(whole[name][0], values, images[: values.shape[1]])
             for name, values in drawn.items()}
    return found | {f"{CLASS_AP}{name}": found[MEAN_AP].of_class(at) for at, name in enumerate(CLASS_NAMES)}


def _per_class(
    matched: Matched, boxes: coco_bootstrap.CocoMatched, bootstrap: Bootstrap
) -> dict[str, Floats]:
    """Metric -> (R, K) of the classes that it is a mean of."""
    found = {MEAN_AP: voc.replicates(matched, bootstrap)} | coco_bootstrap.replicates(boxes, bootstrap)
    sensitivity, accuracy = froc.replicates(matched, bootstrap), localization.replicates(matched, bootstrap)
    found |= {f"froc/sensitivity@{point:g}": sensitivity[..., at] for at, point in enumerate(froc.POINTS)}
    return found | {f"localization/accuracy@{iou:g}": accuracy[..., at]
                    for at, iou in enumerate(localization.IOUS)}


def intervals(
    predictions: PredictionSet, records: Sequence[Record], count: int, seed: int = 0
) -> dict[str, Any]:
    """``<metric>/ci95``, [low, high], and ``<metric>/bias``; see :class:`Replicated`.

    A class has none whose ground truth is on fewer than :data:`MIN_COUNT` images.
    """
    found: dict[str, Any] = {}
    for name, metric in replicated(predictions, records, image_bootstrap(records, count, seed)).items():
        one = metric.estimate()
        few = name.startswith(CLASS_AP) and metric.images[0] < MIN_COUNT
        if not few and not math.isnan(one.value):
            found |= {f"{name}/ci95": [one.low, one.high], f"{name}/bias": one.bias}
    return found


def compare(
    a: PredictionSet, b: PredictionSet, records: Sequence[Record], count: int = 1000, seed: int = 0
) -> dict[str, Difference]:
    """Paired bootstrap of two prediction files; metrics that neither has are left out."""
    bootstrap = image_bootstrap(records, count, seed)
    found_a, found_b = (replicated(one, records, bootstrap) for one in (a, b))
    return {name: Difference.of(one, found_b[name]) for name, one in found_a.items()
            if not math.isnan(one.value)}


def tied(predictions: PredictionSet, records: Sequence[Record], seed: int = 0) -> dict[str, float]:
    """``ties/share`` of boxes whose score another of their class has, and mAP40 over random orders of these.

    ``ties/mAP40`` is its mean, ``ties/mAP40/sd`` its standard deviation; empty where few boxes are tied.
    """
    aimed = aim(predictions, truth_of(records), voc.IOU_THRESHOLD)
    share = ties.share(aimed.matched())
    if share < ties.MANY:
        return {}
    values = mean_over_classes(ties.average_precisions(ties.orders(aimed, seed=seed)))
    return {"ties/share": share, "ties/mAP40": float(values.mean()), "ties/mAP40/sd": float(values.std())}


def tied_text(found: Mapping[str, float]) -> str:
    """Of :func:`tied`, for people."""
    return (f"note: {found['ties/share']:.0%} of the boxes have a score that another box of their class has; "
            f"the file's order decides between them. Over {ties.ORDERS} random orders {MEAN_AP} is "
            f"{found['ties/mAP40']:.4f} on average (standard deviation {found['ties/mAP40/sd']:.4f})")


def shuffle_across_images(predictions: PredictionSet, seed: int = 0) -> PredictionSet:
    """The same rows given to other images: what a detector scores that never looks.

    Every image gets another image's detections, so all that is learned about where findings
    usually lie stays and all that was seen goes.
    """
    ids = sorted(predictions)
    order = np.random.default_rng(seed).permutation(len(ids))
    shifted = np.roll(order, 1)
    return {ids[to]: predictions[ids[source]] for to, source in zip(order, shifted, strict=True)}


def table(metrics: Mapping[str, Any], predictions: PredictionSet, records: Sequence[Record]) -> str:
    """Classes, summary and errors, as text."""
    matched = match(predictions, truth_of(records), voc.IOU_THRESHOLD)
    rows = [[name, int(matched.counts[:, at].sum()), len(matched.rows[at]),
             _text(metrics, f"vindr/AP40/{name}"), _text(metrics, f"froc/{name}@1")]
            for at, name in enumerate(CLASS_NAMES)]
    classes = tabulate(rows, ["class", "truths", "detections", "AP40", "sensitivity@1"],
                       disable_numparse=True, colalign=("left", "right", "right", "right", "right"))
    detailed = ("vindr/AP40/", "errors/", "ties/", *(f"froc/{name}@" for name in FINDINGS))
    summary = tabulate(
        [[key, _text(metrics, key)] for key in metrics
         if not key.startswith(detailed) and not key.endswith(("/ci95", "/bias"))],
        ["metric", "value"], disable_numparse=True, colalign=("left", "right"))
    kinds = tabulate(
        [[kind, int(metrics[f"errors/{kind}"]), _number(metrics[f"errors/{kind}/gain"])]
         for kind in tide.ERROR_TYPES], ["error", "boxes", "mAP40 if mended"], disable_numparse=True,
        colalign=("left", "right", "right"))
    return f"{classes}\n\n{summary}\n\n{kinds}"


def comparison_table(found: Mapping[str, Difference]) -> str:
    """Of :func:`compare`, as text."""
    rows = [[name, f"{one.a:.4f}", f"{one.b:.4f}", f"{one.gain.value:+.4f}",
             f"[{one.gain.low:+.4f}, {one.gain.high:+.4f}]", f"{one.wins:.0%}"]
            for name, one in found.items()]
    return tabulate(rows, ["metric", "A", "B", "A - B", "95 %", "A wins"], disable_numparse=True,
                    colalign=("left", *["right"] * 5))


def confusion_table(matrix: NDArray[np.int64]) -> str:
    """Of :func:`vindr_det.metrics.tide.confusion`, as text."""
    names = [*FINDINGS, "nothing"]
    rows = [[name, *row] for name, row in zip(names, matrix.tolist(), strict=True)]
    return tabulate(rows, ["true \\ found", *(name[:9] for name in names)])


def as_json(metrics: Mapping[str, Any]) -> dict[str, Any]:
    """NaN as null: JSON has no word for it."""
    return {key: None if isinstance(value, float) and math.isnan(value) else value
            for key, value in metrics.items()}


def _text(metrics: Mapping[str, Any], key: str) -> str:
    """A value, with its interval and its bias where they are known."""
    value = _number(metrics.get(key, math.nan))
    bounds = metrics.get(f"{key}/ci95")
    if not bounds:
        return value
    return f"{value} [{bounds[0]:.4f}, {bounds[1]:.4f}] bias {metrics[f'{key}/bias']:+.4f}"


def _number(value: float) -> str:
    return "-" if math.isnan(value) else f"{value:.4f}"
