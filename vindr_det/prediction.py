"""Images to gated predictions.

:class:`Models` is what is applied to an image, :func:`predict_images` applies it; the rest of this module
runs it over a folder.
"""

import logging
from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import islice
from pathlib import Path
from typing import NamedTuple

import numpy as np
import pandas as pd
from numpy.typing import NDArray
from tqdm import tqdm

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.detection.interface import Predictor
from vindr_det.detection.predictors import load_predictors as load_predictors
from vindr_det.exceptions import InputError
from vindr_det.imaging import image_run
from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.image_run import ImageResult, ImageRun
from vindr_det.imaging.resize import Target
from vindr_det.imaging.status import FAILED, Status
from vindr_det.parallel import reason_of
from vindr_det.postprocessing.agreement import AgreementCheck
from vindr_det.postprocessing.fusion import DEFAULT_FUSION, Fusion, fuse
from vindr_det.postprocessing.gate import DEFAULT_GATE, Gate, NoClassifier
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, drop_degenerate
from vindr_det.structures.label_sets import LabelSet

log = logging.getLogger(__name__)

#: (H, W) gray.
Image = NDArray[np.uint8]
ImageClassifier = Callable[[Image], ClassifierOutput]

#: Of a model without a ``target``: images at their full size.
_FULL_SIZE = Target(0, True)


@dataclass(frozen=True)
class Models:
    """All that is applied to an image.

    Attributes:
        predictors: one or several detectors; with TTA each is a
            :class:`vindr_det.postprocessing.tta.TTAPredictor`.
        classifier: of the whole image, or None.
        fusion: of several detectors' boxes.
        gate: None takes the default: appends class 14 by the classifier, or without one by the best box.
        notice: flags every image that is predicted with a caution about the models; empty for none.
    """

    predictors: Sequence[Predictor]
    classifier: ImageClassifier | None = None
    fusion: Fusion = DEFAULT_FUSION
    gate: Gate | None = None
    notice: str = ""

    @property
    def chosen_gate(self) -> Gate:
        """The gate, or the default where none is given."""
        return self.gate or (DEFAULT_GATE if self.classifier else NoClassifier())

    @property
    def label_set(self) -> LabelSet:
        """Of all detections."""
        return self.predictors[0].label_set

    @property
    def targets(self) -> list[Target]:
        """The distinct sizes to read images at, the first detector's first."""
        models = [*self.predictors, *([self.classifier] if self.classifier else [])]
        return list(dict.fromkeys(map(_target, models))) or [_FULL_SIZE]


class ImagePrediction(NamedTuple):
    """The predictions for one image.

    Attributes:
        boxes: after the fusion, original pixels.
        output: of the classifier, if there is one.
        gated: boxes and class 14 after the gate.
    """

    boxes: Predictions
    output: ClassifierOutput | None
    gated: Predictions


def predict_images(images: Sequence[DecodedImage], models: Models) -> list[ImagePrediction]:
    """What is done to each image once :mod:`vindr_det.imaging` has read it: detect, fuse, classify, gate.

    Args:
        images: read at all of ``models.targets``; the detectors take them as one batch.
        models: detectors (with or without TTA), classifier, fusion and gate.

    Returns:
        One entry per image.
    """
    detected = [_detect(predictor, images) for predictor in models.predictors]
    results = []
    for image, output, *lists in zip(images, _classify(models.classifier, images), *detected, strict=True):
        boxes = (lists[0].by_score() if len(lists) == 1 else
                 fuse(lists, image.height, image.width, models.fusion))
        gated = models.chosen_gate.apply(boxes.findings(), output)
        results.append(ImagePrediction(boxes, output, gated))
    return results


def _classify(
    classifier: ImageClassifier | None, images: Sequence[DecodedImage]
) -> Sequence[ClassifierOutput | None]:
    """The classifier on a batch, in one call where it takes several images."""
    if classifier is None:
        return [None] * len(images)
    pixels = [image.at(_target(classifier)) for image in images]
    together = getattr(classifier, "outputs", None)
    return together(pixels) if together else [classifier(image) for image in pixels]


def _detect(predictor: Predictor, images: Sequence[DecodedImage]) -> list[Predictions]:
    """One detector on a batch: each image at the size of the detector, boxes in the original's pixels."""
    pixels = [image.at(_target(predictor)) for image in images]
    return [_to_original(detections, shown, image)
            for detections, shown, image in zip(by_shape(predictor, pixels), pixels, images, strict=True)]


def by_shape(predictor: Predictor, images: Sequence[Image]) -> list[Predictions]:
    """A batch of images, those of each shape in a call: padding would move the boxes of other shapes' images.

    Args:
        predictor: of the detector.
        images: (H, W) each, of any shapes.

    Returns:
        Detections per image, in order.
    """
    rows: dict[tuple[int, ...], list[int]] = {}
    for row, image in enumerate(images):
        rows.setdefault(image.shape, []).append(row)
    detected = {row: detections for group in rows.values()
                for row, detections in zip(group, predictor([images[row] for row in group]), strict=True)}
    return [detected[row] for row in range(len(images))]


def _to_original(detections: Predictions, shown: Image, image: DecodedImage) -> Predictions:
    height, width = image.height, image.width
    boxes = box_ops.scale(detections.boxes, width / shown.shape[1], height / shown.shape[0])
    return drop_degenerate(box_ops.clip(boxes, height, width), detections.scores, detections.labels,
                           detections.label_set)


def _target(model: object) -> Target:
    """The size that a model sees images at, as in its training; a model without one sees them whole."""
    return getattr(model, "target", _FULL_SIZE)


@dataclass
class FolderPredictions:
    """The result of a run over a folder.

    Attributes:
        predictions: image id -> gated detections, original pixels; without images that were not read.
        sizes: index image_id, columns height and width of the originals, of the images that were read.
        statuses: one per input, in order.
        unknown_size: ids of images whose boxes are in the file's pixels, since no table has the original's.
        probabilities: image id -> those of the classifier by name; empty without one.
    """

    predictions: dict[str, Predictions] = field(default_factory=dict)
    sizes: pd.DataFrame = field(default_factory=pd.DataFrame)
    statuses: list[Status] = field(default_factory=list)
    unknown_size: list[str] = field(default_factory=list)
    probabilities: dict[str, Mapping[str, float]] = field(default_factory=dict)

    @classmethod
    def of(cls, outcomes: Iterable["Outcome"], run: ImageRun) -> "FolderPredictions":
        """All outcomes of a run, in memory."""
        outcomes = list(outcomes)
        read = {status.image_id: (status, prediction) for status, prediction in outcomes if prediction}
        shapes = {image_id: (status.height, status.width) for image_id, (status, _) in read.items()}
        return cls(
            {image_id: prediction.gated for image_id, (_, prediction) in read.items()},
            pd.DataFrame.from_dict(shapes, orient="index", columns=["height", "width"]),
            [status for status, _ in outcomes], run.of_unknown_size,
            {image_id: prediction.output.named for image_id, (_, prediction) in read.items()
             if prediction.output})

    @property
    def failed(self) -> dict[str, str]:
        """Image id -> why there is no prediction for it."""
        return {status.image_id: status.reason for status in self.statuses if status.status == FAILED}


def predict_folder(
    images: str | Path, predictors: Sequence[Predictor], *, meta: str | Path | None = None,
    classifier: ImageClassifier | None = None, gate: Gate | None = None, fusion: Fusion = DEFAULT_FUSION,
    batch: int = 1, recursive: bool = False, workers: int | None = None,
    check_ids: Callable[[Sequence[str]], None] | None = None, allow_inverted: bool = False,
) -> FolderPredictions:
    """:func:`predict_each` on the images of a folder that :func:`vindr_det.imaging.image_run.find` finds.

    Images are read in processes of their own, so that a script that calls this needs the usual
    ``if __name__ == "__main__":``.

    Args:
        images: a folder or a file.
        predictors: detectors.
        meta: sizes of the originals.
        classifier: as of :class:`Models`, like ``gate`` and ``fusion``.
        gate: likewise.
        fusion: likewise.
        batch: as of :func:`predict_each`, like ``workers`` and ``allow_inverted``.
        recursive: include subfolders.
        workers: likewise.
        check_ids: is called with the image ids before any image is read, and may raise.
        allow_inverted: likewise.

    Raises:
        InputError: as of both, or of ``check_ids``.
    """
    run = image_run.find(images, recursive, meta=meta)
    if check_ids is not None:
        check_ids(run.readable)
    models = Models(predictors, classifier, fusion, gate)
    return FolderPredictions.of(shown(predict_each(run, models, batch, workers, allow_inverted), run), run)


def shown(outcomes: Iterable["Outcome"], run: ImageRun) -> Iterator["Outcome"]:
    """The outcomes of a run with a bar of progress, after a warning of boxes in the files' own pixels."""
    if unknown := run.of_unknown_size:
        log.warning("%d of %d images are PNG or JPEG files whose originals' sizes are not known: their boxes "
                    "are in the files' own pixels. If the files were made smaller, give --meta "
                    "(image_id,dim0,dim1)", len(unknown), len(run.inputs))
    yield from tqdm(outcomes, desc="predict", unit="image", total=len(run.inputs), disable=None)


class Outcome(NamedTuple):
    """What became of an input.

    Attributes:
        status: its row in the status table.
        prediction: None where the input failed.
    """

    status: Status
    prediction: ImagePrediction | None = None


def predict_each(
    run: ImageRun, models: Models, batch: int = 1, workers: int | None = None, allow_inverted: bool = False
) -> Iterator[Outcome]:
    """:func:`predict_images` on every image that can be read, a batch at a time; keeps no image.

    Args:
        run: of :func:`vindr_det.imaging.image_run.find`.
        models: detectors, classifier, fusion and gate.
        batch: images per call of a detector.
        workers: processes that read; None takes one per core, 0 reads in this one.
        allow_inverted: take a classifier that contradicts the boxes.

    Yields:
        An outcome per input, in order.

    Raises:
        InputError: the classifier does not predict what the gate needs, or its labels are inverted, as far as
            the boxes show.
        Exception: the first that a model raised, where the models failed on every image.
    """
    checked = models.chosen_gate.needs_classifier and not allow_inverted
    check = AgreementCheck("the classifier") if checked else None
    errors: list[Exception] = []
    predicted = 0
    images = image_run.read_all(run, models.targets[0], workers, batch, also=models.targets[1:])
    for group in _batches(images, batch):
        outcomes = _outcomes(group, models, errors)
        predicted += sum(outcome.prediction is not None for outcome in outcomes)
        if check:
            check.add((prediction.output, prediction.boxes)
                      for _, prediction in outcomes if prediction is not None)
        yield from outcomes
    if errors and not predicted:
        raise errors[0]
    if check:
        check.finish()


def _outcomes(group: Sequence[ImageResult], models: Models, errors: list[Exception]) -> list[Outcome]:
    """Predict a batch of inputs; what the models raise is added to ``errors``."""
    images = [source.image for source in group if source.image is not None]
    try:
        predictions = iter(predict_images(images, models) if images else [])
    except InputError:
        raise
    except Exception as error:  # one image on which a model fails must not take the others with it
        if len(images) > 1:
            return [outcome for source in group for outcome in _outcomes([source], models, errors)]
        errors.append(error)
        return [_failed(source, error) for source in group]
    return [Outcome(source.status.with_notice(models.notice),
                    None if source.image is None else next(predictions)) for source in group]


def _failed(source: ImageResult, error: Exception) -> Outcome:
    """An image on which a model failed, or one that was not read before."""
    log.debug("a model failed", exc_info=error)
    reason = f"was read, but a model failed on it: {reason_of(error)}"
    return Outcome(source.status if source.image is None else
                   replace(source.status, status=FAILED, reason=reason))


def _batches(items: Iterable[ImageResult], size: int) -> Iterator[list[ImageResult]]:
    items = iter(items)
    while group := list(islice(items, size)):
        yield group
