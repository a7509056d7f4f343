"""What both engines measure on the validation images: the metrics, and the training's own losses."""

import contextlib
import logging
from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import torch
from torch import nn

from vindr_det.data.coco import image_names
from vindr_det.data.splits import resolve
from vindr_det.exceptions import InputError
from vindr_det.files import write_text
from vindr_det.metrics import coco, voc
from vindr_det.structures.detections import PredictionSet, with_no_finding
from vindr_det.structures.records import Record
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


def keep_predictions(cfg: Any, predictions: PredictionSet) -> None:
    """Write :data:`.states.BEST_PREDICTIONS` beside model_best.pth: detections with class 14, as scored.

    Ids are the numbers of VINDR.VALIDATION's annotations where that is a single file, else text ids. A
    failure is a warning: it must not cost the training.
    """
    path = Path(cfg.OUTPUT_DIR) / BEST_PREDICTIONS
    try:
        numbers = _numbers(cfg) if len(cfg.VINDR.VALIDATION) == 1 else None
        write_text(path, coco_results_text(with_no_finding(predictions), numbers))
    except (InputError, OSError, KeyError) as error:
        log.warning("%s: not written (%s); the training goes on", path, error)


def _numbers(cfg: Any) -> dict[str, int]:
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
