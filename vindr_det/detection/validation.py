"""What both engines measure on the validation images: the metrics, and the training's own losses."""

import contextlib
import logging
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from tabulate import tabulate
from torch import nn

from vindr_det.data.coco import image_names
from vindr_det.data.splits import resolve
from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.metrics import coco, voc
from vindr_det.metrics.metric import format_value
from vindr_det.structures.detections import PredictionSet, no_finding, with_no_finding
from vindr_det.structures.records import Record, label_set_of_records
from vindr_det.submission.coco_results import coco_results_text
from vindr_det.training.module_state import put_back
from vindr_det.training.states import BEST_PREDICTIONS

log = logging.getLogger(__name__)

#: normal images? -> (sum of each loss over images, number of images)
Parts = dict[bool, tuple[dict[str, float], int]]

#: Prefix of a loss's name -> whether its images are abnormal (False), normal (True) or both.
_PREFIXES = {"validation_": (False, True), "validation_normal/": (True,), "validation_abnormal/": (False,)}


def validation_metrics(predictions: PredictionSet, records: Sequence[Record]) -> dict[str, float]:
    """``vindr/...`` (``voc/...`` of another label set) and ``coco/...`` of a detector without classifier.

    A detector has no class for "no finding"; 1 - the highest box score stands in for it, so that the
    fifteenth class counts as it does in the competition. An image is left out for the findings that are
    unknown on it.
    """
    gated = with_no_finding(predictions)
    scores = voc.vindr_ap_of_records(gated, records).as_metrics()
    return scores | coco.coco_ap(predictions, records)


def validation_text(done: int, values: Mapping[str, float], records: Sequence[Record]) -> str:
    """What a validation measured, for people: a line of means, and a table of the classes.

    Args:
        done: iterations that are finished.
        values: of :func:`validation_metrics`, and the losses.
        records: the images.
    """
    label_set = label_set_of_records(records)
    shown = {"validation_loss": "loss", "validation_normal/loss": "of normal images",
             "validation_abnormal/loss": "of abnormal images", label_set.mean_ap: label_set.mean_ap,
             "coco/AP": "coco/AP", "coco/AP50": "coco/AP50"}
    means = "  ".join(f"{name} {values[key]:.4f}" for key, name in shown.items() if key in values)
    # A normal image's truth is a box of "no finding", as in the metric.
    truth = [record.truth if len(record.truth) else no_finding(label_set=label_set) for record in records]
    labels = [np.bincount(boxes.labels, minlength=len(label_set.classes)) for boxes in truth]
    counts = np.array(labels).reshape(-1, len(label_set.classes))
    rows = [[name, (counts[:, label] > 0).sum(), counts[:, label].sum(),
             format_value(values.get(label_set.class_ap.format(name), math.nan))]
            for label, name in enumerate(label_set.classes)]
    table = tabulate(rows, ["class", "images", "boxes", "AP at IoU > .4"], disable_numparse=True,
                     colalign=("left", "right", "right", "right"))
    return f"validation after {done} iterations: {means}\n{table}"


def keep_predictions(cfg: Any, predictions: PredictionSet) -> None:
    """Write :data:`.states.BEST_PREDICTIONS` beside model_best.pth: detections with class 14, as scored.

    Ids are the numbers of VINDR.VALIDATION's annotations where that is a single file, else text ids. A
    failure is a warning: it must not cost the training.
    """
    path = Path(cfg.OUTPUT_DIR) / BEST_PREDICTIONS
    try:
        write_text(path, coco_results_text(with_no_finding(predictions), annotation_numbers(cfg)))
    except (InputError, OSError, KeyError) as error:
        log.warning("%s: not written (%s); the training goes on", path, error)


def annotation_numbers(cfg: Any) -> dict[str, int] | None:
    """Image id -> its number in VINDR.VALIDATION's annotations, where that is a single file."""
    if len(cfg.VINDR.VALIDATION) != 1:
        return None
    annotations = resolve(cfg.VINDR.VALIDATION[0], cfg.VINDR.DATA_ROOT).annotations
    assert annotations is not None  # or nothing could be scored
    return {name: number for number, name in image_names(annotations).items()}


@contextlib.contextmanager
def training_mode_aside(model: nn.Module) -> Iterator[None]:
    """Training mode, in which models compute losses, without any effect on the training.

    Batch norm stays frozen; random state, modes and whatever else a forward pass changes in the model are
    restored. Proposals are sampled with a fixed seed, so that two measurements of the same weights agree.
    """
    devices = list(range(torch.cuda.device_count())) if torch.cuda.is_available() else []
    with torch.random.fork_rng(devices=devices), put_back(model):
        torch.manual_seed(0)
        model.train()
        for module in model.modules():
            if isinstance(module, nn.modules.batchnorm._BatchNorm):
                module.eval()
        yield


class LossMeans:
    """Collects the losses of batches whose images are either all normal or all abnormal."""

    def __init__(self) -> None:
        self._sums: dict[bool, dict[str, float]] = {False: defaultdict(float), True: defaultdict(float)}
        self._images = {False: 0, True: 0}

    def add(self, losses: Mapping[str, Any], images: int, normal: bool) -> None:
        """Take in a batch: each loss is its mean over the batch's ``images``."""
        for key, value in losses.items():
            self._sums[normal][key] += float(value) * images
        self._images[normal] += images

    def parts(self) -> Parts:
        """What other ranks need of this one."""
        return {normal: (dict(self._sums[normal]), self._images[normal]) for normal in self._sums}

    @classmethod
    def merged(cls, parts: Iterable[Parts]) -> "LossMeans":
        """The sums of all ranks."""
        result = cls()
        for part in parts:
            for normal, (sums, images) in part.items():
                for key, value in sums.items():
                    result._sums[normal][key] += value
                result._images[normal] += images
        return result

    def means(self) -> dict[str, float]:
        """``validation_loss``, ``validation_<component>``, and both under ``validation_normal/`` and
        ``validation_abnormal/``; nothing under a prefix without images."""
        result: dict[str, float] = {}
        for prefix, members in _PREFIXES.items():
            images = sum(self._images[normal] for normal in members)
            keys = sorted({key for normal in members for key in self._sums[normal]})
            if not images:
                continue
            parts = {f"{prefix}{key}": sum(self._sums[normal].get(key, 0.0) for normal in members) / images
                     for key in keys}
            result |= {f"{prefix}loss": sum(parts.values()), **parts}
        return result
