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

from vindr_det.metrics.bootstrap import Bootstrap, Floats, counts_down_to
from vindr_det.metrics.intervals import Replicated
from vindr_det.metrics.matching import Ints, Matched, Ranked, mean_over_classes
from vindr_det.metrics.metric import MatchedPredictions, Metric, by_key, replicate
from vindr_det.structures.label_sets import LabelSet

#: False positives per image -> key of the mean sensitivity.
KEYS = {point: f"froc/sensitivity@{point:g}" for point in (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)}
POINTS = tuple(KEYS)
#: Detections that are counted at a time.
_BLOCK = 64


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
    for label, ranked in enumerate(matched.by_class[: len(matched.label_set)]):
        allowed = np.multiply.outer(images[:, label], points) + 1e-9
        result[:, label] = _detected(ranked, weights, allowed)
    with np.errstate(invalid="ignore"):
        return result / totals[:, : len(matched.label_set), None]


def _detected(ranked: Ranked, weights: Floats, allowed: Floats) -> Floats:
    """(R, P) true positives among the most boxes of one finding that have the allowed false positives.

    Args:
        ranked: the finding's detections.
        weights: (R, I) how often each image counts.
        allowed: (R, P) false positives.
    """
    first_refused = np.append(ranked.false, len(ranked))[_passed(weights, ranked.false_image, allowed)]
    starts = ranked.tie_starts  # ties count together
    ends = starts[np.searchsorted(starts, first_refused, "right") - 1]
    gained = np.cumsum(weights.take(ranked.image[ranked.true], axis=1), axis=1)
    gained = np.concatenate([np.zeros((len(weights), 1)), gained], axis=1)
    return np.take_along_axis(gained, np.searchsorted(ranked.true, ends), axis=1)


def _passed(weights: Floats, image: Ints, allowed: Floats) -> Ints:
    """(R, P) how many detections, best first, weigh no more than is allowed.

    Whole blocks of detections first, then those of the block in which the limit lies.

    Args:
        weights: (R, I) how often each image counts.
        image: (D,) the image of each detection.
        allowed: (R, P).
    """
    ends = np.arange(_BLOCK - 1, len(image), _BLOCK)
    seen = np.pad(counts_down_to(weights, image, ends), ((0, 0), (1, 0)))
    blocks = (seen[:, 1:, None] <= allowed[:, None]).sum(axis=1)
    within = blocks[..., None] * _BLOCK + np.arange(_BLOCK)
    replicate_at = np.arange(len(weights))[:, None, None]
    weight = weights[replicate_at, np.append(image, np.zeros(_BLOCK, np.int64))[within]]
    down_to = np.take_along_axis(seen, blocks, axis=1)[..., None] + np.cumsum(weight, axis=2)
    fits = (down_to <= allowed[..., None]) & (within < len(image))
    return blocks * _BLOCK + fits.sum(axis=2)


def sensitivity_replicates(matched: Matched, bootstrap: Bootstrap) -> Floats:
    """(R, F, P) :func:`sensitivities` of every replicate."""
    return bootstrap.apply(partial(sensitivities, matched))


def as_metrics(values: Floats, label_set: LabelSet) -> dict[str, float]:
    """``froc/sensitivity@1`` and so on of (F, P) sensitivities, and ``froc/<finding>@1`` of each finding."""
    flat = dict(zip(KEYS.values(), mean_over_classes(values[None])[0].tolist(), strict=True))
    for name, row in zip(label_set.findings, values.tolist(), strict=True):
        flat |= {f"froc/{name}@{point:g}": value for point, value in zip(POINTS, row, strict=True)}
    return flat
