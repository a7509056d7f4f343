"""Free-response ROC: how many findings are found at a price of so many false boxes an image.

Chakraborty, "Maximum likelihood analysis of free-response ROC data", Med. Phys. 1989; the seven operating
points are those of LUNA16 (Setio et al., 2017). Boxes are right or wrong as in the competition's metric, so
a second box on a finding that is found already is false.

Shapes: R bootstrap replicates, D detections, F operating points.
"""

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from vindr_det.metrics.bootstrap import Bootstrap, Floats
from vindr_det.metrics.matching import Matched, mean_over_classes
from vindr_det.structures.label_sets import FINDINGS

#: False boxes an image.
POINTS = (0.125, 0.25, 0.5, 1.0, 2.0, 4.0, 8.0)


def sensitivities(
    matched: Matched, weights: Floats | None = None, points: Sequence[float] = POINTS
) -> Floats:
    """(R, 14, F) share of each finding's boxes that are found; NaN for findings without any.

    At each point the lowest score threshold counts at which the finding has at most so many false boxes an
    image. Boxes of equal score are taken together or not at all.

    Args:
        matched: the detections.
        weights: (R, I) how often each image counts; None counts each once.
        points: false boxes an image.
    """
    weights = np.ones((1, len(matched.ids))) if weights is None else weights
    totals, images = weights @ matched.counts, weights.sum(axis=1)
    result = np.full((len(weights), len(FINDINGS), len(points)), np.nan)
    for label in range(len(FINDINGS)):
        rows = matched.rows[label]
        true_positives, false = _counts(matched, rows, weights)
        with np.errstate(invalid="ignore", divide="ignore"):
            for at, point in enumerate(points):
                allowed = (false <= point * images[:, None] + 1e-9).sum(axis=1)
                result[:, label, at] = true_positives[np.arange(len(true_positives)), allowed - 1] / totals[:, label]
    return result


def _counts(matched: Matched, rows: NDArray[np.int64], weights: Floats) -> tuple[Floats, Floats]:
    """Hits and false boxes at no detection at all, then at each distinct score."""
    scores, correct = matched.detections.score[rows], matched.correct[rows]
    drawn = weights[:, matched.detections.image[rows]]
    ends = np.flatnonzero(np.diff(scores, append=-1.0))
    nothing = np.zeros((len(weights), 1))
    true_positives, false = (np.cumsum(drawn * which, axis=1)[:, ends] for which in (correct, ~correct))
    return np.concatenate([nothing, true_positives], axis=1), np.concatenate([nothing, false], axis=1)


def replicates(matched: Matched, bootstrap: Bootstrap) -> Floats:
    """(R, 14, F) :func:`sensitivities` of every replicate."""
    return np.concatenate([sensitivities(matched, part) for part in bootstrap.parts(matched.widest)])


def as_metrics(values: Floats) -> dict[str, float]:
    """``froc/sensitivity@1`` and so on of (14, F), and each finding's beside it."""
    means = mean_over_classes(values[None])[0]
    flat = {f"froc/sensitivity@{point:g}": float(mean) for point, mean in zip(POINTS, means, strict=True)}
    for name, row in zip(FINDINGS, values, strict=True):
        flat |= {f"froc/{name}@{point:g}": float(one) for point, one in zip(POINTS, row, strict=True)}
    return flat
