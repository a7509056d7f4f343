"""A trained torchvision detector as an ONNX file, a predictor that runs one, and their comparison.

======= ============================ =====================================================
name    shape                        meaning
======= ============================ =====================================================
image   (3, H, W) float32            input, 0..255, three equal channels, at the network's size
boxes   (N, 4) float32               xyxy in the pixels of ``image``
scores  (N,) float32                 0..1
labels  (N,) int64                   class ids
======= ============================ =====================================================

The network's size is that of INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST. The resize stays outside the graph:
inside, its size comes from float32 products and may miss by a pixel. The file's metadata carry the config
under ``config``, and the classes and sizes for those who read it without this package.
"""

import importlib
import json
import warnings
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform
from tqdm import tqdm

from vindr_det.config import config_from_text
from vindr_det.config_schema import label_set_of_config
from vindr_det.detection.checkpoint import Checkpoint, metadata
from vindr_det.detection.samples import SampleReader, to_rgb
from vindr_det.detection.torchvision.config import get_torchvision_cfg
from vindr_det.detection.torchvision.model import build_model, first_label, set_sizes
from vindr_det.detection.torchvision.predictor import TorchvisionPredictor, ratio, to_predictions
from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, existing_file
from vindr_det.imaging.inputs import list_images
from vindr_det.imaging.read import read_image
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions

_OPSET = 17
_OUTPUTS = ["boxes", "scores", "labels"]
#: Detections below this score come and go with the last bit of a float.
_MIN_SCORE = 0.05
#: Two detections are the same from this IoU on, and up to this difference of scores.
_MIN_IOU, _MAX_DIFFERENCE = 0.95, 0.01


def export(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write an ONNX file.

    Args:
        checkpoint: of the torchvision engine.
        path: of the file.

    Raises:
        InputError: a Detectron2 model, or the onnx package is not installed.
    """
    if checkpoint.engine != "torchvision":
        raise InputError(f"a checkpoint of the {checkpoint.engine} engine cannot be exported, expected "
                         "one of torchvision")
    onnx, cfg = _package("onnx"), checkpoint.cfg
    network = build_model(cfg)
    network.load_state_dict(checkpoint.state, strict=True)
    with atomic_path(Path(path)) as temporary:
        _trace(_Exported(network, first_label(cfg)).eval(), cfg.INPUT.MIN_SIZE_TEST, temporary)
        model = onnx.load(str(temporary))
        onnx.helper.set_model_props(model, _properties(checkpoint))
        onnx.checker.check_model(model)
        onnx.save(model, str(temporary))


def _trace(network: nn.Module, size: int, path: Path) -> None:
    sizes: dict[str, dict[int, str]] = {name: {0: "detections"} for name in _OUTPUTS}
    with warnings.catch_warnings(), torch.no_grad():
        warnings.simplefilter("ignore")  # about constants that are constants here too
        # The exporter that needs no static number of boxes.
        torch.onnx.export(network, (torch.zeros(3, size, size),), str(path), opset_version=_OPSET,
                          dynamo=False, input_names=["image"], output_names=_OUTPUTS,
                          dynamic_axes=sizes | {"image": {1: "height", 2: "width"}})


def _properties(checkpoint: Checkpoint) -> dict[str, str]:
    cfg = checkpoint.cfg.clone()
    cfg.MODEL.DEVICE = "cpu"  # on which the predictor runs it
    entry = metadata(cfg, checkpoint.iteration, checkpoint.metrics)
    entry["preprocessing"] |= {"min_size": cfg.INPUT.MIN_SIZE_TEST, "max_size": cfg.INPUT.MAX_SIZE_TEST}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in entry.items()}


class _Exported(nn.Module):
    """An image that has the network's size already to boxes, scores and class ids."""

    def __init__(self, network: nn.Module, first: int) -> None:
        super().__init__()
        transform = network.transform
        network.transform = _Sized(transform.min_size, transform.max_size, transform.image_mean,
                                   transform.image_std)
        self.network, self.first = network, first

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        detections = self.network([image])[0]
        return detections["boxes"], detections["scores"], detections["labels"] - self.first


class _Sized(GeneralizedRCNNTransform):
    """Normalizes and pads, but leaves the size alone."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


class OnnxPredictor:
    """An exported detector as :class:`vindr_det.detection.interface.Predictor`, on the CPU.

    Args:
        path: of a file that :func:`export` wrote.

    Raises:
        InputError: not an ONNX file that :func:`export` wrote, or onnxruntime is not installed.
    """

    def __init__(self, path: str | Path) -> None:
        runtime = _package("onnxruntime")
        try:
            self.session = runtime.InferenceSession(str(existing_file(path)),
                                                    providers=["CPUExecutionProvider"])
        except Exception as error:  # onnxruntime's errors have no base of their own
            raise InputError(f"{path}: not an ONNX file ({' '.join(str(error).split())})") from error
        properties = self.session.get_modelmeta().custom_metadata_map
        if properties.get("engine") != "torchvision":
            raise InputError(f"{path}: carries no vindr_det config, expected a file of vindr-det export")
        self.cfg = config_from_text(properties["config"], get_torchvision_cfg(), str(path))
        self.label_set = label_set_of_config(self.cfg)
        self.reader = SampleReader.from_config(self.cfg, is_train=False)
        self.target = self.reader.target
        # Has no weights; only its resize is used.
        self.transform = GeneralizedRCNNTransform(0, 0, [0.0], [1.0]).eval()

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0
    ) -> list[Predictions]:
        """See :class:`vindr_det.detection.interface.Predictor`; one image after the other."""
        set_sizes(self, self.cfg, training=False, scale=scale)
        return [self._predict(image) for image in images]

    def _predict(self, image: NDArray[np.uint8]) -> Predictions:
        small = torch.from_numpy(to_rgb(self.reader.to_size(image)))
        sized = self.transform.resize(small)[0].numpy()
        outputs = zip(_OUTPUTS, self.session.run(_OUTPUTS, {"image": sized}), strict=True)
        tensors = {name: torch.from_numpy(value) for name, value in outputs}
        return to_predictions(tensors, ratio(image, sized[0]), 0, self.label_set)


def _package(name: str) -> Any:
    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"the package {name} is not installed; pip install onnx onnxruntime") from error


@dataclass(frozen=True)
class Agreement:
    """How well a checkpoint and its ONNX file agree.

    Attributes:
        images: number of images that both were run on.
        detections: number of the checkpoint's detections over the least score.
        score_difference: largest difference of scores between matching detections.
        pixels: largest difference of corners between matching detections, in pixels.
    """

    images: int
    detections: int
    score_difference: float
    pixels: float

    def __str__(self) -> str:
        if not self.detections:
            return ("NOT CHECKED: neither the checkpoint nor onnxruntime finds anything over "
                    f"{_MIN_SCORE} on {self.images} images, so there is nothing to compare; give --images "
                    "with findings")
        return (f"onnxruntime finds the same {self.detections} detections over {_MIN_SCORE} on {self.images} "
                f"images, scores within {self.score_difference:.1e}, corners within {self.pixels:.2f} pixels")


def images_of(folder: str | Path | None, count: int) -> list[NDArray[np.uint8]]:
    """The first ``count`` images of a folder, (H, W) each; without a folder a synthetic radiograph."""
    if folder is None:
        from vindr_det.phantom.radiograph import render

        drawn = render(np.random.default_rng(0), 512, 448, labels=(0, 3, 10), bits=12)
        return [(drawn.pixels >> 4).astype(np.uint8)]
    return [read_image(path).pixels for path in list(list_images(folder).values())[:count]]


def compare(checkpoint: Checkpoint, path: str | Path, images: Sequence[NDArray[np.uint8]]) -> Agreement:
    """Run a checkpoint, on MODEL.DEVICE, and its ONNX file on the same images, both in float32.

    Raises:
        InputError: one of them has a detection that the other does not have.
    """
    cfg = checkpoint.cfg.clone()
    cfg.SOLVER.AMP.ENABLED = False
    original, exported = TorchvisionPredictor(cfg, checkpoint.state), OnnxPredictor(path)
    scores, pixels, count = [0.0], [0.0], 0
    shown = tqdm(images, desc="compare", unit="image", disable=None, leave=False)
    for number, image in enumerate(shown):
        with torch.backends.cudnn.flags(enabled=True, allow_tf32=False):
            ours = original([image])[0]
        theirs = exported([image])[0]
        for detections, others, source in ((ours, theirs, "the checkpoint"), (theirs, ours, "the ONNX file")):
            for difference in _differences(detections, others, f"on image {number} only {source}"):
                scores.append(difference[0])
                pixels.append(difference[1])
        count += int((ours.scores >= _MIN_SCORE).sum())
    return Agreement(len(images), count, max(scores), max(pixels))


def _differences(
    detections: Predictions, others: Predictions, where: str
) -> Iterator[tuple[float, float]]:
    """Differences of score and corners between each sure detection and its match."""
    sure = detections[detections.scores >= _MIN_SCORE]
    for row in range(len(sure)):
        match = _match(sure[row:row + 1], others)
        if match is None:
            raise InputError(f"the ONNX file is not the checkpoint: {where} finds class {sure.labels[row]} "
                             f"with score {sure.scores[row]:.3f} at {sure.boxes[row].tolist()}")
        yield match


def _match(detection: Predictions, others: Predictions) -> tuple[float, float] | None:
    """Differences of score and corners to the other with the largest IoU; None without a match."""
    difference = np.abs(others.scores - detection.scores[0])
    near = others[(others.labels == detection.labels[0]) & (difference < _MAX_DIFFERENCE)]
    if not len(near):
        return None
    ious = box_ops.box_iou_batch(detection.boxes, near.boxes)[0]
    best = int(ious.argmax())
    if ious[best] < _MIN_IOU:
        return None
    return (float(np.abs(near.scores[best] - detection.scores[0])),
            float(np.abs(near.boxes[best] - detection.boxes[0]).max()))
