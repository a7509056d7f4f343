"""Weighted boxes fusion and NMS of several lists of boxes, with the input checked first.

The algorithms are ensemble-boxes' (Solovyev, Wang, Gabruseva, "Weighted boxes fusion", 2021). Unchecked, that
library drops pixel boxes with a warning, ends the process with status 0 when list lengths differ, resets a
wrong number of weights, and divides by zero where all boxes of a cluster score 0; here the first three are
errors, and boxes that weigh nothing are left out.
"""

from collections.abc import Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from functools import partial

import numpy as np
from tqdm import tqdm

from vindr_det.exceptions import InputError
from vindr_det.parallel import process_pool
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import (
    Predictions,
    PredictionSet,
    drop_degenerate,
    label_set_of,
    no_finding,
)
from vindr_det.structures.label_sets import LabelSet

METHODS = ("wbf", "nms", "soft-nms", "nmw")
CONFIDENCES = ("avg", "max", "box_and_model_avg", "absent_model_aware_avg")
#: With fewer boxes a single process is done before a second one has started.
_MANY_BOXES = 300_000
_CHUNK = 200
#: The library sums score * coordinate in single precision: below this score the coordinates are lost.
_LEAST_SCORE = 1e-24
#: Likewise the range of weights, which multiply the scores.
_WEIGHTS = (1e-6, 1e6)


@dataclass(frozen=True)
class Fusion:
    """How boxes are fused.

    Attributes:
        method: one of :data:`METHODS`.
        iou_thr: boxes of one class with a higher IoU are fused.
        skip_box_thr: boxes with a lower score are left out; at 0, those of score 0.
        weights: one per model; None gives all models the same weight.
        conf_type: how wbf combines the scores of a cluster; one of :data:`CONFIDENCES`. For wbf alone.
        max_boxes: the number of boxes with the best scores to keep per image; None keeps all.

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
        """One weight per model.

        Raises:
            InputError: there are other than ``models`` weights.
        """
        if self.weights is None:
            return [1.0] * models
        if len(self.weights) != models:
            raise InputError(f"{len(self.weights)} weights for {models} models, expected one each")
        return [float(weight) for weight in self.weights]


DEFAULT_FUSION = Fusion()


def fuse(
    predictions: Sequence[Predictions | None], height: float, width: float,
    options: Fusion = DEFAULT_FUSION,
) -> Predictions:
    """Fuse several detectors' boxes on one image, class by class.

    Args:
        predictions: one entry per model, xyxy pixels. An empty entry is a model that detected nothing, None
            one that was not given the image, which then has no weight.
        height: of the image, in the boxes' pixels.
        width: likewise.
        options: of the fusion.

    Returns:
        The fused boxes, best first, in the same pixels, scores in [0, 1]. Of the models' rows of class 14 wbf
        takes the weighted mean, the other methods the highest.

    Raises:
        InputError: another number of weights than of models.
    """
    weights = options.weights_of(len(predictions))
    given = [detections for detections in predictions if detections is not None]
    if len(given) < len(predictions):
        weights = [weight for weight, detections in zip(weights, predictions, strict=True)
                   if detections is not None]
        options = replace(options, weights=options.weights and tuple(weights))
    fused = _findings([detections.findings() for detections in given], height, width, weights, options)
    kept = fused[: options.max_boxes]
    normal = _no_finding(given, weights, options)
    return kept if normal is None else (kept + normal).by_score()


def fuse_all(
    predictions: Sequence[PredictionSet], sizes: Mapping[str, tuple[int, int]],
    options: Fusion = DEFAULT_FUSION, workers: int | None = None,
    unread: Sequence[Collection[str]] | None = None,
) -> dict[str, Predictions]:
    """Fuse whole prediction files, on several processes where there are many boxes.

    Args:
        predictions: one entry per model: image id -> boxes in original pixels. Where a model lacks an image,
            it detected nothing there.
        sizes: image id -> (height, width) of the originals; the result has these images.
        options: of the fusion.
        workers: processes; None takes one per core.
        unread: per model, images that it was not given; there it has no weight.

    Returns:
        image id -> fused boxes in original pixels, for each image of ``sizes``.

    Raises:
        InputError: another number of weights than of models, an image without a size, or two label sets.
    """
    options.weights_of(len(predictions))
    for model in predictions:
        unknown = model.keys() - sizes.keys()
        if unknown:
            raise InputError(f"image {min(unknown)} has no size, expected one for each image")
    jobs = list(_jobs(predictions, sizes, unread or [()] * len(predictions)))
    boxes = sum(len(detections) for model in predictions for detections in model.values())
    if workers == 1 or boxes < _MANY_BOXES:
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
    every = {f"{at} {image_id}": boxes for at, model in enumerate(predictions)
             for image_id, boxes in model.items()}
    empty = Predictions(label_set=label_set_of(every, "files to fuse"))
    for image_id, (height, width) in sizes.items():
        lists = [None if image_id in missed else model.get(image_id, empty)
                 for model, missed in zip(predictions, unread, strict=True)]
        yield image_id, lists, height, width


def _chunk(options: Fusion, jobs: Sequence[_Job]) -> list[tuple[str, Predictions]]:
    return [(image_id, fuse(lists, height, width, options)) for image_id, lists, height, width in jobs]


def _findings(
    lists: Sequence[Predictions], height: float, width: float, weights: list[float], options: Fusion
) -> Predictions:
    nothing = Predictions(label_set=_label_set(lists))
    if not any(map(len, lists)):
        return nothing
    unit = [box_ops.clip(box_ops.to_unit(detections.boxes, height, width), 1, 1) for detections in lists]
    least = max(options.skip_box_thr, _LEAST_SCORE)
    keep = [(boxes[:, 2:] > boxes[:, :2]).all(axis=1) & (detections.scores >= least)
            for boxes, detections in zip(unit, lists, strict=True)]
    if not any(kept.any() for kept in keep):
        return nothing
    boxes, scores, labels = _by_library(
        [boxes[kept] for boxes, kept in zip(unit, keep, strict=True)],
        [detections.scores[kept].tolist() for detections, kept in zip(lists, keep, strict=True)],
        [detections.labels[kept].tolist() for detections, kept in zip(lists, keep, strict=True)],
        weights, options)
    # Single precision can close a sliver; weighted scores can exceed 1; labels come back as float64.
    return drop_degenerate(box_ops.from_unit(boxes, height, width), scores,
                           np.asarray(labels).astype(np.int64), nothing.label_set).by_score()


def _by_library(boxes: list, scores: list, labels: list, weights: list[float], options: Fusion) -> tuple:
    """Unit xyxy boxes (N, 4), scores (N,) and labels (N,), which the library returns as float64."""
    # Not with the module: numba comes with it.
    from ensemble_boxes import nms, non_maximum_weighted, soft_nms, weighted_boxes_fusion

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
    """The models' class 14 as one row; a model without it counts as 0. None where no model has it."""
    label_set = _label_set(lists)
    scores = [detections.scores[detections.labels == label_set.no_finding_id] for detections in lists]
    if not any(map(len, scores)):
        return None
    highest = np.array([each.max(initial=0.0) for each in scores])
    average = options.method == "wbf"
    return no_finding(float(np.average(highest, weights=weights) if average else highest.max()), label_set)


def _label_set(lists: Sequence[Predictions]) -> LabelSet:
    return label_set_of({str(at): detections for at, detections in enumerate(lists)}, "detections to fuse")
