"""Images to gated predictions: what tools/predict.py does, for any number of models."""

import logging
from collections.abc import Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import TYPE_CHECKING

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.config import requested_engine
from vindr_det.data.splits import resolve
from vindr_det.detection import engine as engines
from vindr_det.detection.interface import Predictor
from vindr_det.detection.loading import load_checkpoint, load_config
from vindr_det.exceptions import InputError
from vindr_det.imaging import image_run
from vindr_det.imaging.image_run import ImageRun, Looked
from vindr_det.imaging.resize import Target
from vindr_det.imaging.status import FAILED, Status
from vindr_det.limits import MAX_PIXELS
from vindr_det.parallel import reason_of
from vindr_det.postprocessing.fusion import AS_DEFAULT, Fusion, fuse
from vindr_det.postprocessing.gate import AgreementCheck, Gate
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, drop_degenerate
from vindr_det.training.device import best_device

if TYPE_CHECKING:
    from vindr_det.detection.torchvision.onnx import OnnxPredictor

log = logging.getLogger(__name__)

Image = NDArray[np.uint8]

_WHOLE = Target(0, True)


@dataclass
class FolderPredictions:
    """What came of a folder.

    Attributes:
        predictions: image id -> gated detections, original pixels; images that were not read are not in it.
        sizes: index image_id, columns height and width of the originals, of the images that were read.
        statuses: one for each input, in order.
    """

    predictions: dict[str, Predictions] = field(default_factory=dict)
    sizes: pd.DataFrame = field(default_factory=pd.DataFrame)
    statuses: list[Status] = field(default_factory=list)

    @property
    def failed(self) -> dict[str, str]:
        """Image id -> why nothing is known about it."""
        return {status.image_id: status.reason for status in self.statuses if status.status == FAILED}


def load_predictors(
    weights: Sequence[str | Path], engine: str | None = None, half: bool = False
) -> list[Predictor]:
    """A predictor a checkpoint, each with the engine that trained it, on a GPU where there is one.

    Args:
        weights: checkpoints of train_net.py, or files of export.py.
        engine: refuse checkpoints of another engine; None takes any.
        half: compute in half precision, of the type VINDR.AMP_DTYPE.

    Raises:
        InputError: not our checkpoint, the other engine's, or its engine is not here.
    """
    predictors: list[Predictor] = []
    for path in weights:
        if _is_onnx(path):
            if engine not in (None, "torchvision"):
                raise InputError(f"{path}: was exported from the torchvision engine, expected {engine}")
            predictors.append(_onnx(path))
            continue
        checkpoint = load_checkpoint(path, engine)
        if checkpoint.engine == "detectron2" and not engines.detectron2_is_here():
            raise InputError(f"{path}: was trained with Detectron2, which does not import here; see "
                             "INSTALL.md")
        checkpoint.cfg.MODEL.DEVICE = best_device()
        checkpoint.cfg.SOLVER.AMP.ENABLED = half
        module = engines.load(checkpoint.engine)
        predictors.append(module.build_predictor(checkpoint.cfg, checkpoint.state))
        log.info("%s: %s engine, iteration %d", path, checkpoint.engine, checkpoint.iteration)
    return predictors


def _is_onnx(path: str | Path) -> bool:
    return Path(path).suffix == ".onnx"


def _onnx(path: str | Path) -> "OnnxPredictor":
    from vindr_det.detection.torchvision.onnx import OnnxPredictor

    return OnnxPredictor(path)


def predict_folder(
    images: str | Path, predictors: Sequence[Predictor], *, meta: str | Path | None = None,
    classifier: Callable[[Image], ClassifierOutput] | None = None, gate: Gate | None = None,
    fusion: Fusion = AS_DEFAULT, batch: int = 1, recursive: bool = False, workers: int | None = None,
    check_ids: Callable[[Sequence[str]], None] | None = None, allow_inverted: bool = False,
) -> FolderPredictions:
    """Detect, fuse and gate every image of a folder: :func:`find_images` and :func:`predict`.

    Images are read in processes of their own, so that a script that calls this needs the usual
    ``if __name__ == "__main__":``.

    Raises:
        InputError: as there.
    """
    run = find_images(images, meta, recursive)
    if check_ids is not None:  # gets the image ids before the work and may refuse them
        check_ids(run.readable)
    return predict(run, predictors, classifier=classifier, gate=gate,
                   fusion=fusion, batch=batch, workers=workers, allow_inverted=allow_inverted)


def find_images(
    images: str | Path, meta: str | Path | None = None, recursive: bool = False,
    max_pixels: int = MAX_PIXELS,
) -> ImageRun:
    """:func:`vindr_det.imaging.image_run.find`, as this module's callers name its arguments."""
    return image_run.find(images, recursive, max_pixels, meta)


def predict(
    run: ImageRun, predictors: Sequence[Predictor], *, classifier: Callable[[Image], ClassifierOutput] | None = None,
    gate: Gate | None = None, fusion: Fusion = AS_DEFAULT, batch: int = 1, workers: int | None = None,
    allow_inverted: bool = False,
) -> FolderPredictions:
    """Detect, fuse and gate every image that can be read.

    Args:
        run: of :func:`find_images`.
        predictors: detectors; several are fused by WBF.
        classifier: its word on an image; None lets 1 - the highest box score say "no finding".
        gate: what to do with that word; None appends it.
        fusion: how several detectors' boxes become one.
        batch: images that a detector sees at once.
        workers: processes that read; None takes one per core.
        allow_inverted: take a classifier that contradicts the boxes.

    Raises:
        InputError: the classifier does not predict what a gate needs, or says P(no finding) for P(abnormal),
            as far as the boxes tell.
        Exception: what the models raised, where they did so at every image.
    """
    work = _Models(predictors, classifier, fusion)
    gate = gate or Gate("append" if classifier else "none")
    agreement = None if allow_inverted or gate.form == "none" else AgreementCheck("the classifier")
    statuses: list[Status] = []
    with tqdm(total=len(run.inputs), desc="predict", unit="image", disable=None) as bar:
        for group in _batches(_read(run, work.targets, workers, batch), batch):
            statuses += work.look(group)
            if agreement:
                agreement(work.outputs, work.boxes)
            bar.update(len(group))
    if not work.boxes and work.error is not None:
        raise work.error
    if agreement:
        agreement(work.outputs, work.boxes, finished=True)
    gated = gate.apply(work.boxes, work.outputs)
    sizes = {status.image_id: (status.height, status.width) for status in statuses if status.image_id in gated}
    table = pd.DataFrame.from_dict(sizes, orient="index", columns=["height", "width"])
    return FolderPredictions(gated, table, statuses)


@dataclass
class _Models:
    """All that looks at an image, what it saw, and the first error that it raised."""

    predictors: Sequence[Predictor]
    classifier: Callable[[Image], ClassifierOutput] | None
    fusion: Fusion
    boxes: dict[str, Predictions] = field(default_factory=dict)
    outputs: dict[str, ClassifierOutput] = field(default_factory=dict)
    error: Exception | None = None

    @property
    def targets(self) -> list[Target]:
        """The sizes to read images at, the first detector's first."""
        models = [*self.predictors, *([] if self.classifier is None else [self.classifier])]
        return list(dict.fromkeys(map(_target, models))) or [_WHOLE]

    def look(self, group: Sequence[Looked]) -> list[Status]:
        """Look at a batch of images; returns their statuses."""
        seen = [one for one in group if one.image is not None]
        try:
            self._look(seen)
        except InputError:
            raise
        except Exception as error:  # one odd image must not take the others with it
            if len(seen) > 1:
                return [status for one in group for status in self.look([one])]
            self.error = self.error or error
            log.debug("%s", seen[0].status.file, exc_info=error)
            reason = f"was read, but not looked at: {reason_of(error)}"
            return [replace(one.status, status=FAILED, reason=reason) if one.image is not None else one.status
                    for one in group]
        return [one.status for one in group]

    def _look(self, seen: Sequence[Looked]) -> None:
        if not seen:
            return
        ids = [one.status.image_id for one in seen]
        boxes = dict(zip(ids, _detect(seen, self.predictors, self.fusion), strict=True))
        if self.classifier is not None:
            self.outputs |= {one.status.image_id: self.classifier(_pixels(one, self.classifier))
                           for one in seen}
        self.boxes |= boxes


def _read(run: ImageRun, targets: Sequence[Target], workers: int | None, ahead: int) -> Iterator[Looked]:
    return image_run.read_all(run, targets[0], workers, ahead, also=targets[1:])


def _target(model: object) -> Target:
    """A model that names no size sees images whole."""
    return getattr(model, "target", _WHOLE)


def _pixels(one: Looked, model: object) -> Image:
    """What a model sees: the image as it is read for that model alone, in training too."""
    assert one.image is not None
    return one.image.at(_target(model))


def _batches(items: Iterable[Looked], size: int) -> Iterator[list[Looked]]:
    items = iter(items)
    while group := list(islice(items, size)):
        yield group


def _detect(
    seen: Sequence[Looked], predictors: Sequence[Predictor], fusion: Fusion
) -> list[Predictions]:
    """Detections of all models on a batch of images, in the originals' pixels."""
    result = []
    images = [[_pixels(one, predictor) for one in seen] for predictor in predictors]
    found = [predictor(shown) for predictor, shown in zip(predictors, images, strict=True)]
    for place, one in enumerate(seen):
        assert one.image is not None
        height, width = one.image.height, one.image.width
        lists = [_to_original(boxes[place], shown[place], height, width)
                 for boxes, shown in zip(found, images, strict=True)]
        result.append(lists[0].by_score() if len(lists) == 1 else fuse(lists, height, width, fusion))
    return result


def _to_original(found: Predictions, image: Image, height: int, width: int) -> Predictions:
    boxes = box_ops.scale(found.boxes, width / image.shape[1], height / image.shape[0])
    return drop_degenerate(box_ops.clip(boxes, height, width), found.scores, found.labels)


def best_weights(config: str | Path) -> Path:
    """model_best.pth, or else model_final.pth, in a config's OUTPUT_DIR.

    Raises:
        InputError: neither is there.
    """
    name = engines.choose(requested_engine(config))
    folder = Path(load_config(config, name).OUTPUT_DIR)
    for candidate in (folder / "model_best.pth", folder / "model_final.pth"):
        if candidate.is_file():
            return candidate
    raise InputError(f"{folder}: holds no model_best.pth or model_final.pth; train first (python "
                     f"tools/train_net.py --config {config}) or give --weights")


def test_images(weights: str | Path) -> Path:
    """The folder of images of DATASETS.TEST, as the config of a checkpoint or exported file names it.

    Raises:
        InputError: it names none or several.
    """
    cfg = _onnx(weights).cfg if _is_onnx(weights) else load_checkpoint(weights).cfg
    if len(cfg.DATASETS.TEST) != 1:
        raise InputError(f"{weights}: DATASETS.TEST is {tuple(cfg.DATASETS.TEST)}, expected one data "
                         "set; give --images")
    return resolve(cfg.DATASETS.TEST[0], cfg.VINDR.DATA_ROOT).images
