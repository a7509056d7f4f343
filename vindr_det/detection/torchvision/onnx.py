"""A trained torchvision detector as an ONNX file, and a predictor that runs one with onnxruntime.

======= ============================ =====================================================
name    shape                        what
======= ============================ =====================================================
image   (3, H, W) float32            input, 0..255, three equal channels, at the network's size
boxes   (N, 4) float32               xyxy in the pixels of ``image``
scores  (N,) float32
labels  (N,) int64                   class ids 0..13
======= ============================ =====================================================

The network's size is that of INPUT.MIN_SIZE_TEST and MAX_SIZE_TEST. The resize stays outside the graph:
inside, its size comes from float32 products and may miss by a pixel. The file's metadata carry the config
under ``config``, and the classes and sizes for those who read it without this package.
"""

import json
import warnings
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor, nn
from torchvision.models.detection.transform import GeneralizedRCNNTransform

from vindr_det.config import config_from_text
from vindr_det.detection.checkpoint import Checkpoint, metadata
from vindr_det.detection.samples import SampleReader, to_rgb
from vindr_det.detection.torchvision.config import get_torchvision_cfg
from vindr_det.detection.torchvision.model import build_model, first_label, set_sizes
from vindr_det.detection.torchvision.predictor import ratio, to_predictions
from vindr_det.exceptions import InputError
from vindr_det.files import atomic_path, existing_file
from vindr_det.structures.detections import Predictions

_OPSET = 17
_OUTPUTS = ["boxes", "scores", "labels"]


def export(checkpoint: Checkpoint, path: str | Path) -> None:
    """Write an ONNX file.

    Raises:
        InputError: a Detectron2 model, or the onnx package is not installed.
    """
    if checkpoint.engine != "torchvision":
        raise InputError(f"a checkpoint of the {checkpoint.engine} engine cannot be exported, expected "
                         "one of torchvision")
    onnx = _package("onnx")
    cfg = checkpoint.cfg
    cfg.MODEL.DEVICE = "cpu"
    network = build_model(cfg)
    network.load_state_dict(checkpoint.state, strict=True)
    wrapped = _Exported(network, first_label(cfg)).eval()
    example = torch.zeros(3, cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MIN_SIZE_TEST)
    sizes: dict[str, dict[int, str]] = {name: {0: "detections"} for name in _OUTPUTS}
    with atomic_path(Path(path)) as temporary:
        with warnings.catch_warnings(), torch.no_grad():
            warnings.simplefilter("ignore")  # about constants that are constants here too
            # The exporter that needs no static number of boxes.
            torch.onnx.export(wrapped, (example,), str(temporary), opset_version=_OPSET, dynamo=False,
                              input_names=["image"], output_names=_OUTPUTS,
                              dynamic_axes=sizes | {"image": {1: "height", 2: "width"}})
        model = onnx.load(str(temporary))
        onnx.helper.set_model_props(model, _properties(checkpoint))
        onnx.checker.check_model(model)
        onnx.save(model, str(temporary))


def _properties(checkpoint: Checkpoint) -> dict[str, str]:
    entry = metadata(checkpoint.cfg, checkpoint.iteration, checkpoint.metrics)
    test = checkpoint.cfg.INPUT
    entry["preprocessing"] |= {"min_size": test.MIN_SIZE_TEST, "max_size": test.MAX_SIZE_TEST}
    return {key: value if isinstance(value, str) else json.dumps(value) for key, value in entry.items()}


class _Exported(nn.Module):
    """One image that has the network's size already to boxes, scores and our labels."""

    def __init__(self, network: nn.Module, first: int) -> None:
        super().__init__()
        transform = network.transform
        network.transform = _Sized(transform.min_size, transform.max_size, transform.image_mean,
                                   transform.image_std)
        self.network, self.first = network, first

    def forward(self, image: Tensor) -> tuple[Tensor, Tensor, Tensor]:
        found = self.network([image])[0]
        return found["boxes"], found["scores"], found["labels"] - self.first


class _Sized(GeneralizedRCNNTransform):
    """Normalizes and pads, but leaves the size alone."""

    def resize(self, image: Tensor, target: Any = None) -> tuple[Tensor, Any]:
        return image, target


class OnnxPredictor:
    """An exported detector as :class:`vindr_det.detection.interface.Predictor`, on the CPU.

    Args:
        path: of a file that :func:`export` wrote.

    Raises:
        InputError: no ONNX file of ours, or onnxruntime is not installed.
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
            raise InputError(f"{path}: carries no vindr_det config, expected a file of tools/export.py")
        self.cfg = config_from_text(properties["config"], get_torchvision_cfg(), str(path))
        self.reader = SampleReader.from_config(self.cfg, is_train=False)
        self.target = self.reader.target
        # Has no weights; only its resize is used.
        self.transform = GeneralizedRCNNTransform(0, 0, [0.0], [1.0]).eval()

    def __call__(
        self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0
    ) -> list[Predictions]:
        """See :class:`vindr_det.detection.interface.Predictor`; one image after the other."""
        set_sizes(self, self.cfg, training=False, scale=scale)
        return [self._one(image) for image in images]

    def _one(self, image: NDArray[np.uint8]) -> Predictions:
        small = torch.from_numpy(to_rgb(self.reader.to_size(image)))
        sized = self.transform.resize(small)[0].numpy()
        found = dict(zip(_OUTPUTS, self.session.run(_OUTPUTS, {"image": sized}), strict=True))
        tensors = {key: torch.from_numpy(value) for key, value in found.items()}
        return to_predictions(tensors, ratio(image, sized[0]), first_label=0)


def _package(name: str) -> Any:
    import importlib

    try:
        return importlib.import_module(name)
    except ImportError as error:
        raise InputError(f"the package {name} is not installed; pip install 'vindr_det[export]'") from error
