"""Free-response ROC: the share of findings that is detected at so many false positives per image.

Chakraborty, "Maximum likelihood analysis of free-response ROC data", Med. Phys. 1989; the seven operating
points are those of LUNA16 (Setio et al., 2017). Per finding only the images count on which it is known. True
positives are those of the competition's metric, so a second box on a finding that is already detected is a
false positive.

Shapes: I images, R bootstrap replicates, D detections, F findings, P operating points.
"""

from collections.abc import Sequence
from functools import partial

import numpy as np

from vindr_det.metrics.bootstrap import Bootstrap, Floats
from vindr_det.metrics.classification import curve
from vindr_det.metrics.intervals import Replicated
from vindr_det.metrics.matching import Ints, Matched, mean_over_classes
from vindr_det.metrics.metric import MatchedPredictions, Metric, by_key, replicate
from vindr_det.structures.label_sets import LabelSet

#: False positives per image -> key of the mean sensitivity.
KEYS = {point: f"froc/sensitivity@{point:g}" for point in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)}
POINTS = tuple(KEYS)


class FrocSensitivity(Metric):
    """``froc/sensitivity@<false positives per image>``, means over findings, and ``froc/<finding>@...``."""

    columns = {"sensitivity@1": "froc/{}@1"}
    details = ("froc/",)
    summary = tuple(KEYS.values())

    def compute(self, matched: MatchedPredictions) -> dict[str, float]:
        return as_metrics(sensitivities(matched.voc)[0], matched.label_set)

    def replicates(self, matched: MatchedPredictions, bootstrap: Bootstrap) -> dict[str, Replicated]:
        return replicate(matched, bootstrap, lambda part: by_key(
            KEYS.values(), sensitivity_replicates(matched.voc, part)))


def sensitivities(
    matched: Matched, weights: Floats | None = None, points: Sequence[float] = POINTS
) -> Floats:
    """(R, F, P) share of each finding's boxes that are detected; NaN for findings without any.

    At each point the lowest score threshold counts at which the finding has at most so many false positives
    per image on which it is known. Boxes of equal score are taken together or not at all.

    Args:
        matched: the detections.
        weights: (R, I) how often each image counts; None counts each once.
        points: false positives per image.
    """
    weights = np.ones((1, len(matched.ids))) if weights is None else weights
    totals, images = weights @ matched.counts, weights @ matched.known
    result = np.empty((len(weights), len(matched.label_set), len(points)))
    for label in range(len(matched.label_set)):
        true_positives, false_positives = _counts(matched, matched.rows[label], weights)
        for at, point in enumerate(points):
            allowed = (false_positives <= point * images[:, [label]] + 1e-9).sum(axis=1)
            result[:, label, at] = true_positives[np.arange(len(weights)), allowed - 1]
    with np.errstate(invalid="ignore"):
        return result / totals[:, : len(matched.label_set), None]


def _counts(matched: Matched, rows: Ints, weights: Floats) -> tuple[Floats, Floats]:
    """True and false positives with no detection at all, then down to each distinct score."""
    counts = curve(matched.correct[rows], matched.detections.score[rows],
                   weights[:, matched.detections.image[rows]])
    nothing = np.zeros((len(weights), 1))
    return (np.concatenate([nothing, counts.true_positives], axis=1),
            np.concatenate([nothing, counts.false_positives], axis=1))


def sensitivity_replicates(matched: Matched, bootstrap: Bootstrap) -> Floats:
    """(R, F, P) :func:`sensitivities` of every replicate."""
    return bootstrap.apply(partial(sensitivities, matched), matched.widest)


def as_metrics(values: Floats, label_set: LabelSet) -> dict[str, float]:
    """``froc/sensitivity@1`` and so on of (F, P) sensitivities, and ``froc/<finding>@1`` of each finding."""
    flat = dict(zip(KEYS.values(), mean_over_classes(values[None])[0].tolist(), strict=True))
    for name, row in zip(label_set.findings, values.tolist(), strict=True):
        flat |= {f"froc/{name}@{point:g}": value for point, value in zip(POINTS, row, strict=True)}
    return flat
