"""Weighted boxes fusion and NMS of several lists of boxes, with the input checked first.

The algorithms are ensemble-boxes' (Solovyev, Wang, Gabruseva, "Weighted boxes fusion", 2021). Left to itself
that library drops pixel boxes with a warning, ends the process with status 0 when list lengths differ, resets
a wrong number of weights, and divides by zero where all boxes that it joins score 0; here the first three are
errors, and boxes that weigh nothing are left out.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from ensemble_boxes import nms, non_maximum_weighted, soft_nms, weighted_boxes_fusion
from tqdm import tqdm

from vindr_det.exceptions import InputError
from vindr_det.parallel import process_pool
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, PredictionSet, drop_degenerate, no_finding
from vindr_det.structures.label_sets import NO_FINDING_ID

METHODS = ("wbf", "nms", "soft-nms", "nmw")
CONFIDENCES = ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")
#: Fewer boxes are fused before a second process has started.
_MANY_BOXES = 300_000
_CHUNK = 200
#: The library sums score * coordinate in single precision: below, nothing is left of the coordinates.
_LEAST_SCORE = 1e-24
#: Likewise for weights, which multiply the scores.
_WEIGHTS = (1e-6, 1e6)


@dataclass(frozen=True)
class Fusion:
    """How boxes are fused.

    Attributes:
        method: one of :data:`METHODS`.
        iou_thr: boxes of one class that overlap more are fused.
        skip_box_thr: boxes with a lower score are left out; so are, at 0, those of score 0.
        weights: one per model; None weighs all the same.
        conf_type: how wbf makes one score of several; one of :data:`CONFIDENCES`. Other methods have none.
        max_boxes: the best so many of an image are kept; None keeps all.

    Raises:
        InputError: an option is out of range.
    """

    method: str = "wbf"
    iou_thr: float = 0.4
    skip_box_thr: float = 0.0001
    weights: tuple[float, ...] | None = None
    conf_type: str = "avg"
    max_boxes: int | None = None

    def __post_init__(self) -> None:
        if self.method not in METHODS:
            raise InputError(f"fusion method {self.method!r}, expected one of {', '.join(METHODS)}")
        if self.conf_type not in CONFIDENCES:
            raise InputError(f"conf_type {self.conf_type!r}, expected one of {', '.join(CONFIDENCES)}")
        if self.conf_type != "avg" and self.method != "wbf":
            raise InputError(f"conf_type {self.conf_type!r} with method {self.method}, expected method wbf")
        if not 0 < self.iou_thr < 1 or not 0 <= self.skip_box_thr <= 1:
            raise InputError(f"iou_thr {self.iou_thr} and skip_box_thr {self.skip_box_thr}, expected numbers "
                             "between 0 and 1")
        low, high = _WEIGHTS
        if self.weights is not None and not all(low <= weight <= high for weight in self.weights):
            raise InputError(f"weights {list(self.weights)}, expected positive numbers, {low:g} to {high:g}")
        if self.max_boxes is not None and self.max_boxes < 1:
            raise InputError(f"max_boxes {self.max_boxes}, expected 1 or more")

    def weights_of(self, models: int) -> list[float]:
        """One a model.

        Raises:
            InputError: there are not as many.
        """
        if self.weights is None:
            return [1.0] * models
        if len(self.weights) != models:
            raise InputError(f"{len(self.weights)} weights for {models} models, expected one each")
        return [float(weight) for weight in self.weights]


AS_DEFAULT = Fusion()


def fuse(
    predictions: Sequence[Predictions | None], height: float, width: float, options: Fusion = AS_DEFAULT
) -> Predictions:
    """Fuse several detectors' boxes on one image, class by class.

    Args:
        predictions: one entry a model; an empty entry still counts as a model that saw nothing, None as one
            that did not look. What models say about class 14 is averaged by wbf; the other methods take the
            highest.
        height: of the image the boxes' pixels belong to.
        width: likewise.
        options: of the fusion.

    Returns:
        The fused boxes, best first, in the same pixels, scores in [0, 1].

    Raises:
        InputError: weights that do not fit the models.
    """
    weights = options.weights_of(len(predictions))
    looked = [prediction for prediction in predictions if prediction is not None]
    if len(looked) < len(predictions):
        weights = [weight for weight, one in zip(weights, predictions, strict=True) if one is not None]
        options = replace(options, weights=options.weights and tuple(weights))
    fused = _findings([one.findings() for one in looked], height, width, weights, options)
    kept = fused[: options.max_boxes]
    said = _no_finding(looked, weights, options)
    return (kept + said).by_score() if said is not None else kept


def fuse_all(
    predictions: Sequence[PredictionSet], sizes: Mapping[str, tuple[int, int]], options: Fusion = AS_DEFAULT,
    workers: int | None = None, unread: Sequence[Collection[str]] | None = None,
) -> dict[str, Predictions]:
    """Fuse whole prediction files, on several processes where there is much to do.

    Args:
        predictions: one entry a model: image id -> boxes in original pixels; a model may lack images.
        sizes: image id -> (height, width) of the originals; the result has these images.
        options: of the fusion.
        workers: processes; None takes one a core.
        unread: per model, images that it was not shown; of these its empty entry says nothing.

    Raises:
        InputError: weights that do not fit, or an image without a size.
    """
    options.weights_of(len(predictions))
    for one in predictions:
        unknown = one.keys() - sizes.keys()
        if unknown:
            raise InputError(f"image {min(unknown)} has no size, expected one for each image")
    jobs = list(_jobs(predictions, sizes, unread or [()] * len(predictions)))
    if workers == 1 or sum(len(p) for prediction in predictions for p in prediction.values()) < _MANY_BOXES:
        return dict(_chunk(options, jobs))
    chunks = [jobs[start:start + _CHUNK] for start in range(0, len(jobs), _CHUNK)]
    result: dict[str, Predictions] = {}
    with process_pool(workers, len(chunks)) as pool, tqdm(total=len(jobs), desc="fuse", unit="image",
                                                          disable=None) as bar:
        for part in pool.map(partial(_chunk, options), chunks):
            result.update(part)
            bar.update(len(part))
    return result


_Job = tuple[str, list[Predictions | None], int, int]


def _jobs(
    predictions: Sequence[PredictionSet], sizes: Mapping[str, tuple[int, int]],
    unread: Sequence[Collection[str]],
) -> Iterator[_Job]:
    empty = Predictions()
    for image_id, (height, width) in sizes.items():
        lists = [None if image_id in missed else prediction.get(image_id, empty)
                 for prediction, missed in zip(predictions, unread, strict=True)]
        yield image_id, lists, height, width


def _chunk(options: Fusion, jobs: Sequence[_Job]) -> list[tuple[str, Predictions]]:
    return [(image_id, fuse(lists, height, width, options)) for image_id, lists, height, width in jobs]


def _findings(
    lists: Sequence[Predictions], height: float, width: float, weights: list[float], options: Fusion
) -> Predictions:
    if not any(map(len, lists)):
        return Predictions()
    unit = [box_ops.clip(box_ops.to_unit(items.boxes, height, width), 1, 1) for items in lists]
    least = max(options.skip_box_thr, _LEAST_SCORE)
    keep = [(box[:, 2:] > box[:, :2]).all(axis=1) & (one.scores >= least)
            for box, one in zip(unit, lists, strict=True)]
    if not any(kept.any() for kept in keep):
        return Predictions()
    boxes, scores, labels = _by_library(
        [box[kept] for box, kept in zip(unit, keep, strict=True)],
        [one.scores[kept].tolist() for one, kept in zip(lists, keep, strict=True)],
        [one.labels[kept].tolist() for one, kept in zip(lists, keep, strict=True)], weights, options)
    # Single precision can close a sliver; weighted scores can exceed 1; labels come back as float64.
    return drop_degenerate(box_ops.from_unit(boxes, height, width), scores,
                           np.asarray(labels).astype(np.int64)).by_score()


def _by_library(boxes: list, scores: list, labels: list, weights: list[float], options: Fusion) -> tuple:
    """Boxes (N, 4) in unit xyxy, scores and labels, which it keeps as float64."""
    given, arguments = (boxes, scores, labels), {"iou_thr": options.iou_thr}
    if options.method == "wbf":
        return weighted_boxes_fusion(*given, weights=weights, conf_type=options.conf_type, **arguments)
    if options.method == "nmw":
        return non_maximum_weighted(*given, weights=weights, **arguments)
    # These two divide scores by the sum of the weights, also of weights that are all 1.
    if options.method == "soft-nms":
        return soft_nms(*given, weights=options.weights, sigma=0.5, thresh=options.skip_box_thr, **arguments)
    return nms(*given, weights=options.weights, **arguments)


def _no_finding(
    lists: Sequence[Predictions], weights: list[float], options: Fusion
) -> Predictions | None:
    """What the models say about class 14; one that says nothing says 0. None if all say nothing."""
    said = [items.scores[items.labels == NO_FINDING_ID] for items in lists]
    if not any(map(len, said)):
        return None
    highest = np.array([scores.max(initial=0.0) for scores in said])
    return no_finding(float(np.average(highest, weights=weights) if options.method == "wbf" else highest.max()))
