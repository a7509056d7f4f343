"""Does an exported detector find what the checkpoint finds?"""

from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

import numpy as np
from numpy.typing import NDArray

from vindr_det.detection.checkpoint import Checkpoint
from vindr_det.detection.torchvision.onnx import OnnxPredictor
from vindr_det.detection.torchvision.predictor import TorchvisionPredictor
from vindr_det.exceptions import InputError
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.read import read_image
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions

#: Detections below this score come and go with the last bit of a float.
_SCORE = 0.05
#: A detection of one counts as found by the other at this overlap and this difference of scores.
_OVERLAP, _DIFFERENCE = 0.95, 0.01


@dataclass(frozen=True)
class Agreement:
    """How two predictors compare on some images."""

    images: int
    detections: int
    score_difference: float
    pixels: float

    def __str__(self) -> str:
        if not self.detections:
            return (f"NOT CHECKED: neither the checkpoint nor onnxruntime finds anything over {_SCORE} on "
                    f"{self.images} images, so there is nothing to compare; give --images with findings")
        return (f"onnxruntime finds the same {self.detections} detections over {_SCORE} on {self.images} "
                f"images, scores within {self.score_difference:.1e}, corners within {self.pixels:.2f} pixels")


def images_of(folder: str | Path | None, count: int) -> list[NDArray[np.uint8]]:
    """The first images of a folder; without one a synthetic radiograph."""
    if folder is None:
        from vindr_det.phantom.radiograph import render

        drawn = render(np.random.default_rng(0), 512, 448, labels=(0, 3, 10), bits=12)
        return [(drawn.pixels >> 4).astype(np.uint8)]
    return [read_image(path).pixels for path in list(list_images(folder).values())[:count]]


def compare(checkpoint: Checkpoint, path: str | Path, images: Sequence[NDArray[np.uint8]]) -> Agreement:
    """Run both on the images.

    Raises:
        InputError: one finds what the other does not.
    """
    checkpoint.cfg.MODEL.DEVICE = "cpu"
    eager, exported = TorchvisionPredictor(checkpoint.cfg, checkpoint.state), OnnxPredictor(path)
    scores, pixels, count = [0.0], [0.0], 0
    for number, image in enumerate(images):
        mine, theirs = eager([image])[0], exported([image])[0]
        for one, other, who in ((mine, theirs, "the checkpoint"), (theirs, mine, "the ONNX file")):
            sure = one[one.scores >= _SCORE]
            for row in range(len(sure)):
                match = _match(sure[row:row + 1], other)
                if match is None:
                    raise InputError(f"the ONNX file is not the checkpoint: on image {number} only {who} "
                                     f"finds class {sure.labels[row]} with score {sure.scores[row]:.3f} at "
                                     f"{sure.boxes[row].tolist()}")
                scores.append(match[0])
                pixels.append(match[1])
            count += len(sure) if one is mine else 0
    return Agreement(len(images), count, max(scores), max(pixels))


def _match(one: Predictions, others: Predictions) -> tuple[float, float] | None:
    """Differences of score and corners to the likeliest of the others; None if there is none."""
    near = others[(others.labels == one.labels[0]) & (np.abs(others.scores - one.scores[0]) < _DIFFERENCE)]
    if not len(near):
        return None
    overlap = box_ops.box_iou_batch(one.boxes, near.boxes)[0]
    best = int(overlap.argmax())
    if overlap[best] < _OVERLAP:
        return None
    return (float(np.abs(near.scores[best] - one.scores[0])),
            float(np.abs(near.boxes[best] - one.boxes[0]).max()))
