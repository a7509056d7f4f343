"""An uploaded image to its answer: the values of a prediction, and on demand its picture and maps."""

import base64
import logging
import threading
from collections.abc import Mapping
from dataclasses import dataclass, replace
from functools import cached_property
from io import BytesIO
from pathlib import Path
from typing import Any, BinaryIO

import cv2
import numpy as np
from numpy.typing import NDArray

from vindr_det.classification.map_agreement import agreement, boxes_of
from vindr_det.files import is_dicom
from vindr_det.imaging import image_run
from vindr_det.imaging.decoded import DecodedImage
from vindr_det.imaging.dicom.identity import UIDS
from vindr_det.imaging.image_run import ImageResult, ImageRun
from vindr_det.imaging.inputs import Input
from vindr_det.imaging.resize import Target
from vindr_det.imaging.status import FAILED
from vindr_det.limits import MAX_PIXELS
from vindr_det.parallel import SECONDS_PER_ITEM
from vindr_det.prediction import ImagePrediction, Models, predict_images
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions
from vindr_det.submission.image_report import image_report

log = logging.getLogger(__name__)

#: What an upload is called, whatever its file's name was.
NAME = "upload"
_SHOWN = Target(1024, keep_aspect=True)
_MAP_SIDE = 384
_SUFFIXES = {b"\xff\xd8\xff": ".jpg", b"\x89PN": ".png"}


@dataclass(frozen=True)
class Question:
    """What is asked of an image.

    Attributes:
        score: boxes with a lower score are left out.
        uids: whether the answer has the DICOM UIDs.
        picture: whether it has the picture.
        maps: number of Grad-CAM maps, of the most probable labels.
        compared_score: boxes with a lower score are not compared with maps.
    """

    score: float = 0.3
    uids: bool = False
    picture: bool = False
    maps: int = 0
    compared_score: float = 0.3


class Answerer:
    """Answers about images, one at a time.

    Args:
        models: detectors, classifier, fusion and gate.
        max_pixels: larger images are refused.
        read_seconds: for reading an image; one that takes longer is refused.
    """

    def __init__(
        self, models: Models, max_pixels: int = MAX_PIXELS, read_seconds: float = SECONDS_PER_ITEM
    ) -> None:
        self.models, self.max_pixels, self.read_seconds = models, max_pixels, read_seconds
        self._lock = threading.Lock()

    @cached_property
    def explainer(self) -> Any:
        """Draws maps; None without a classifier."""
        if self.models.classifier is None:
            return None
        from vindr_det.classification.gradcam import Explainer

        return Explainer(self.models.classifier)  # type: ignore[arg-type] # what a bundle has

    def answer(self, file: BinaryIO, question: Question) -> dict[str, Any]:
        """The report of an image as in ``S.predictions.json``, with ``picture`` and ``maps`` if asked for.

        Of an image that was not read ``status`` is ``failed``, and boxes and probabilities are None.

        Args:
            file: the upload, at its beginning.
            question: what is asked.
        """
        run = ImageRun([_input(file.read())], {}, {}, self.max_pixels)
        # A process of its own reads, so that a decoder that crashes does not end the service.
        (read,) = image_run.read_all(run, self.models.targets[0], 1, also=[*self.models.targets[1:], _SHOWN],
                                     seconds=self.read_seconds)
        with self._lock:
            return self._answer(read, question)

    def warm_up(self) -> None:
        """Load what the first answer needs, with a picture of no one."""
        ramp = np.add.outer(np.arange(256), np.arange(256)) // 2
        self.answer(BytesIO(cv2.imencode(".png", ramp.astype(np.uint8))[1].tobytes()), Question(maps=1))

    def _answer(self, read: ImageResult, question: Question) -> dict[str, Any]:
        if read.image is None:
            return _without_uids(image_report(read.status, None, None), question)
        try:
            prediction = predict_images([read.image], self.models)[0]
            extra = self._extra(read.image, prediction, question)
        except Exception as error:  # whatever a network raises; its text may quote the image
            log.error("a model failed on an upload: %s", type(error).__name__)
            failed = replace(read.status, status=FAILED, reason="was read, but a model failed on it")
            return _without_uids(image_report(failed, None, None), question)
        report = image_report(read.status.with_notice(self.models.notice),
                              _from_score(prediction.gated, question.score),
                              prediction.output.named if prediction.output else None, short=True)
        return _without_uids(report, question) | extra

    def _extra(self, image: DecodedImage, prediction: ImagePrediction, question: Question) -> dict[str, Any]:
        extra: dict[str, Any] = {}
        if question.picture:
            extra["picture"] = _encoded(image.at(_SHOWN), ".jpg")
        if question.maps and self.explainer is not None and prediction.output is not None:
            extra["maps"] = self._maps(image, prediction, question)
        return extra

    def _maps(self, image: DecodedImage, prediction: ImagePrediction, question: Question) -> list[Any]:
        assert prediction.output is not None
        named = prediction.output.named
        chosen = sorted(named, key=lambda column: -named[column])[:question.maps]
        shown = _from_score(prediction.gated.findings(), question.compared_score)
        return [self._map(image, column, named[column], shown) for column in chosen]

    def _map(
        self, image: DecodedImage, column: str, probability: float, shown: Predictions
    ) -> dict[str, Any]:
        """A label's map, and how it agrees with the boxes of that finding; of all findings for p_abnormal."""
        classifier = self.explainer.classifier
        heat = self.explainer.heat_map(image.at(classifier.target), classifier.columns.index(column))
        boxes = boxes_of(shown, column)
        boxes = box_ops.scale(boxes, heat.shape[1] / image.width, heat.shape[0] / image.height)
        agreed = agreement(heat, boxes) if len(boxes) else None
        return {"column": column, "probability": float(f"{probability:.6g}"),
                "energy_in_boxes": agreed and round(agreed.energy, 4),
                "area_of_boxes": agreed and round(agreed.area, 4),
                "maximum_in_box": agreed and agreed.points, "picture": _encoded(_overlay(heat), ".png")}


def _input(content: bytes) -> Input:
    """An upload, which stays in memory, by a name whose suffix is by its content."""
    suffix = _SUFFIXES.get(content[:3]) or (".dcm" if is_dicom(Path(NAME), content) else "")
    return Input(NAME, NAME + suffix, Path(NAME + suffix), content=content)


def _without_uids(report: Mapping[str, Any], question: Question) -> dict[str, Any]:
    return {key: value for key, value in report.items() if question.uids or key not in UIDS}


def _from_score(detections: Predictions, score: float) -> Predictions:
    kept = (detections.scores >= score) | (detections.labels == detections.label_set.no_finding_id)
    return detections[kept].by_score()


def _overlay(heat: NDArray[np.float32]) -> NDArray[np.uint8]:
    """(S, S, 4) BGRA of a map, the more opaque the higher."""
    factor = min(1.0, _MAP_SIDE / max(heat.shape))
    heat = cv2.resize(heat, None, fx=factor, fy=factor, interpolation=cv2.INTER_AREA)
    gray = (np.clip(heat, 0, 1) * 255).astype(np.uint8)
    return np.dstack([cv2.applyColorMap(gray, cv2.COLORMAP_INFERNO), (gray * 0.75).astype(np.uint8)])


def _encoded(pixels: NDArray[np.uint8], suffix: str) -> str:
    """A picture as the URL that holds it."""
    kind = {".jpg": "image/jpeg", ".png": "image/png"}[suffix]
    data = cv2.imencode(suffix, pixels)[1].tobytes()
    return f"data:{kind};base64,{base64.b64encode(data).decode('ascii')}"
