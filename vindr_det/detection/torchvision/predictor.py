"""A trained torchvision detector as :class:`vindr_det.detection.interface.Predictor`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from numpy.typing import NDArray
from torch import Tensor

from vindr_det.config_schema import label_set_of_config
from vindr_det.detection.precision import autocast, half_precision
from vindr_det.detection.samples import SampleReader, to_tensor
from vindr_det.detection.torchvision.model import build_model, first_label, set_sizes
from vindr_det.structures.detections import Predictions, drop_degenerate
from vindr_det.structures.label_sets import LabelSet


class TorchvisionPredictor:
    """Detections on gray images of any size, in each image's pixels.

    Args:
        cfg: config that the weights were trained with.
        state: state dict.
    """

    def __init__(self, cfg: Any, state: Mapping[str, Any]) -> None:
        self.device = torch.device(cfg.MODEL.DEVICE)
        self.network = build_model(cfg)
        self.network.load_state_dict(state, strict=True)
        self.network.eval().to(self.device)
        self.cfg = cfg
        self.reader = SampleReader.from_config(cfg, is_train=False)
        self.target = self.reader.target
        self.first_label = first_label(cfg)
        self.label_set = label_set_of_config(cfg)
        self.half = half_precision(cfg)

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0
    ) -> list[Predictions]:
        """See :class:`vindr_det.detection.interface.Predictor`."""
        set_sizes(self.network, self.cfg, training=False, scale=scale)
        small = [self.reader.to_size(image) for image in images]
        with autocast(self.device, self.half):
            outputs = self.network([to_tensor(resized).to(self.device) for resized in small])
        return [to_predictions(output, ratio(image, resized), self.first_label, self.label_set)
                for output, image, resized in zip(outputs, images, small, strict=True)]


def ratio(image: NDArray, small: NDArray) -> NDArray[np.float64]:
    """(4,) factors from xyxy boxes on ``small`` to boxes on ``image``, both (H, W)."""
    x, y = image.shape[1] / small.shape[1], image.shape[0] / small.shape[0]
    return np.array([x, y, x, y])


def to_predictions(
    output: dict[str, Tensor], scale: Any, first_label: int, label_set: LabelSet
) -> Predictions:
    """torchvision's output on an image as Predictions.

    Args:
        output: ``boxes`` (N, 4) xyxy, ``scores`` (N,) and ``labels`` (N,).
        scale: (4,) factors of the boxes, or a single one.
        first_label: what ``labels`` calls class 0.
        label_set: what the class ids mean.
    """
    return drop_degenerate(
        output["boxes"].double().cpu().numpy() * scale,
        output["scores"].double().cpu().numpy(),
        output["labels"].cpu().numpy() - first_label, label_set,
    )
