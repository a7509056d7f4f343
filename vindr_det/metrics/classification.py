"""Binary classification per label: AUC, AP, operating points, rates, each with intervals.

Shapes: N images, R bootstrap replicates, G distinct scores. A replicate is a row of weights (R, N): how often
each image counts. All curves come from the same two sums, of positives and of negatives down to each
score, so a thousand replicates are one pass.
"""

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import ArrayLike, NDArray

from vindr_det.metrics.bootstrap import Bootstrap, Estimate, Floats
from vindr_det.metrics.intervals import Replicated

#: A label with fewer positives or fewer negatives is not measured.
MIN_COUNT = 5


@dataclass(frozen=True)
class Curve:
    """Counts of positives and negatives at or above each distinct score, from the highest down.

    Attributes:
        thresholds: (G,) the scores.
        true_positives: (R, G) positives at or above them.
        false_positives: (R, G) negatives at or above them.
    """

    thresholds: Floats
    true_positives: Floats
    false_positives: Floats


def curve(truth: ArrayLike, scores: ArrayLike, weights: Floats | None = None) -> Curve:
    """Counts for one label.

    Args:
        truth: (N,) 0 or 1.
        scores: (N,).
        weights: (R, N); None counts each image once.
    """
    truth, scores = np.asarray(truth, dtype=bool), np.asarray(scores, dtype=float)
    weights = np.ones((1, len(truth))) if weights is None else weights
    order = np.argsort(-scores, kind="stable")
    ordered, drawn = scores[order], weights[:, order]
    last = np.flatnonzero(np.diff(ordered, append=np.nan) != 0)  # ties count together
    true_positives = np.cumsum(drawn * truth[order], axis=1)[:, last]
    false_positives = np.cumsum(drawn * ~truth[order], axis=1)[:, last]
    return Curve(ordered[last], true_positives, false_positives)


def auc(counts: Curve) -> Floats:
    """(R,) area under the ROC curve; NaN where there are no positives or no negatives."""
    true_positives, false_positives = counts.true_positives, counts.false_positives
    rise = np.concatenate([np.zeros((len(true_positives), 1)), true_positives], axis=1)
    run = np.diff(false_positives, axis=1, prepend=0)
    pairs = true_positives[:, -1] * false_positives[:, -1]
    with np.errstate(invalid="ignore"):
        return (run * (rise[:, 1:] + rise[:, :-1])).sum(axis=1) / 2 / pairs


def average_precision(counts: Curve) -> Floats:
    """(R,) area under the precision-recall steps, as sklearn's; NaN without positives."""
    true_positives = counts.true_positives
    gained = np.diff(true_positives, axis=1, prepend=0)
    with np.errstate(invalid="ignore", divide="ignore"):
        precision = np.nan_to_num(true_positives / (true_positives + counts.false_positives))
        return (gained * precision).sum(axis=1) / true_positives[:, -1]


_AREAS: dict[str, Callable[[Curve], Floats]] = {"auc": auc, "ap": average_precision}


def measurable(truth: ArrayLike) -> bool:
    """Whether there are at least :data:`MIN_COUNT` positives and as many negatives."""
    positives = int(np.sum(truth))
    return min(positives, len(np.asarray(truth)) - positives) >= MIN_COUNT


def measure(truth: ArrayLike, scores: ArrayLike, bootstrap: Bootstrap) -> dict[str, Estimate]:
    """``auc`` and ``ap`` of one label with intervals; empty where it is not :func:`measurable`."""
    if not measurable(truth):
        return {}
    labels = np.asarray(truth, dtype=bool)
    positive, negative = bootstrap.groups_with(np.column_stack([labels, ~labels]))
    whole, drawn = (areas(labels, scores, part) for part in (bootstrap.whole(), bootstrap))
    # An AUC's variance is that of the ranks of the smaller class among the other.
    images = {"auc": min(positive, negative), "ap": positive}
    return {name: Replicated(whole[name], drawn[name][:, None], np.array([images[name]])).estimate()
            for name in whole}


def areas(truth: ArrayLike, scores: ArrayLike, bootstrap: Bootstrap) -> dict[str, Floats]:
    """``auc`` and ``ap`` -> (R,) of one label on every replicate."""
    parts = [curve(truth, scores, weights) for weights in bootstrap.parts()]
    return {name: np.concatenate([area(part) for part in parts]) for name, area in _AREAS.items()}


@dataclass(frozen=True)
class Confusion:
    """Counts at one threshold, and the rates that follow; NaN where a denominator is 0."""

    tp: float
    fp: float
    fn: float
    tn: float

    @classmethod
    def at(cls, truth: ArrayLike, scores: ArrayLike, threshold: float) -> "Confusion":
        """Images are called positive at or above the threshold."""
        cells = _cells(np.asarray(truth, dtype=bool), np.asarray(scores) >= threshold)
        return cls(*cells.sum(axis=0).tolist())

    def rates(self) -> dict[str, float]:
        """Accuracy, sensitivity, specificity, PPV, NPV and F1."""
        return {
            "accuracy": _share(self.tp + self.tn, self.tp + self.fp + self.fn + self.tn),
            "sensitivity": _share(self.tp, self.tp + self.fn),
            "specificity": _share(self.tn, self.tn + self.fp),
            "ppv": _share(self.tp, self.tp + self.fp),
            "npv": _share(self.tn, self.tn + self.fn),
            "f1": _share(2 * self.tp, 2 * self.tp + self.fp + self.fn),
        }


def sweep(truth: ArrayLike, scores: ArrayLike, thresholds: Sequence[float]) -> list[dict[str, float]]:
    """Counts and :meth:`Confusion.rates` at each threshold; the best of them is optimistic on these images.

    Args:
        truth: (N,) 0 or 1.
        scores: (N,).
        thresholds: (T,).

    Returns:
        (T,) rows of threshold, tp, fp, fn, tn and the rates.
    """
    rows = []
    for threshold in thresholds:
        counts = Confusion.at(truth, scores, threshold)
        rows.append({"threshold": threshold, **vars(counts), **counts.rates()})
    return rows


def rates(
    truth: ArrayLike, scores: ArrayLike, threshold: float, bootstrap: Bootstrap
) -> dict[str, Estimate]:
    """:meth:`Confusion.rates` at a threshold, with intervals; without those that are NaN."""
    labels, called = np.asarray(truth, dtype=bool), np.asarray(scores) >= threshold
    cells = _cells(labels, called)
    drawn = [Confusion(*row).rates() for weights in bootstrap.parts() for row in weights @ cells]
    whole = Confusion.at(truth, scores, threshold).rates()
    shares = {"accuracy": labels | ~labels, "sensitivity": labels, "specificity": ~labels, "ppv": called,
              "npv": ~called, "f1": labels | called}
    images = bootstrap.groups_with(np.column_stack(list(shares.values())))
    return {name: Replicated(np.array([whole[name]]), np.array([[row[name]] for row in drawn]),
                             images[[at]]).estimate()
            for at, name in enumerate(shares) if not np.isnan(whole[name])}


def _cells(labels: NDArray[np.bool_], called: NDArray[np.bool_]) -> Floats:
    """(N, 4) whether an image is a true positive, false positive, false negative, true negative."""
    cells = [called & labels, called & ~labels, ~called & labels, ~called & ~labels]
    return np.column_stack(cells).astype(float)


def _share(part: float, whole: float) -> float:
    return part / whole if whole else float("nan")


def youden(truth: ArrayLike, scores: ArrayLike) -> float:
    """The score with the highest sensitivity + specificity (Youden, 1950); the highest of equals."""
    counts = curve(truth, scores)
    sensitivity = counts.true_positives[0] / counts.true_positives[0, -1]
    false_positive_rate = counts.false_positives[0] / counts.false_positives[0, -1]
    return float(counts.thresholds[np.argmax(sensitivity - false_positive_rate)])


def at_sensitivity(truth: ArrayLike, scores: ArrayLike, wanted: float) -> float:
    """The highest score with at least this sensitivity."""
    counts = curve(truth, scores)
    enough = counts.true_positives[0] >= wanted * counts.true_positives[0, -1] - 1e-9
    return float(counts.thresholds[np.argmax(enough)])


def at_specificity(truth: ArrayLike, scores: ArrayLike, wanted: float) -> float:
    """The lowest score with at least this specificity; above all scores if even the highest has less."""
    counts = curve(truth, scores)
    enough = np.flatnonzero(counts.false_positives[0] <= (1 - wanted) * counts.false_positives[0, -1] + 1e-9)
    if not len(enough):
        return float(np.nextafter(counts.thresholds[0], np.inf))
    return float(counts.thresholds[enough[-1]])


def best_f1(truth: ArrayLike, scores: ArrayLike) -> float:
    """The score with the highest F1; the highest of equals."""
    counts = curve(truth, scores)
    called = counts.true_positives[0] + counts.false_positives[0]
    f1 = 2 * counts.true_positives[0] / (called + counts.true_positives[0, -1])
    return float(counts.thresholds[np.argmax(f1)])


def operating_points(
    truth: ArrayLike, scores: ArrayLike, sensitivity: float | Sequence[float] = 0.95,
    specificity: float | Sequence[float] = 0.95,
) -> dict[str, float]:
    """Thresholds by name, chosen on these images: apply them to others.

    Args:
        truth: (N,) 0 or 1.
        scores: (N,).
        sensitivity: target or targets.
        specificity: target or targets.
    """
    return {"youden": youden(truth, scores), "f1": best_f1(truth, scores),
            **{f"sensitivity_{wanted}": at_sensitivity(truth, scores, wanted)
               for wanted in np.atleast_1d(sensitivity).tolist()},
            **{f"specificity_{wanted}": at_specificity(truth, scores, wanted)
               for wanted in np.atleast_1d(specificity).tolist()}}


def mean_of_measurable(values: Sequence[Estimate]) -> float:
    """Mean over labels; NaN without any."""
    return float(np.mean([value.value for value in values])) if values else float("nan")


def summary_of_labels(values: Sequence[float]) -> dict[str, float]:
    """``min``, ``max``, ``mean`` and ``median`` over labels; empty without any."""
    reductions: dict[str, Callable[[Sequence[float]], Any]] = {
        "min": np.min, "max": np.max, "mean": np.mean, "median": np.median}
    return {name: float(reduce(values)) for name, reduce in reductions.items()} if len(values) else {}
