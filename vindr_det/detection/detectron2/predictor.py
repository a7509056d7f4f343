"""A trained Detectron2 model as :class:`vindr_det.detection.interface.Predictor`."""

from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances
from numpy.typing import NDArray

from vindr_det.config_schema import label_set_of_config
from vindr_det.detection.detectron2.architectures import build_model
from vindr_det.detection.precision import autocast, half_precision
from vindr_det.detection.samples import SampleReader, to_tensor
from vindr_det.structures.detections import Predictions, drop_degenerate
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet


class Detectron2Predictor:
    """Detections on gray images of any size, in pixels of each image.

    Args:
        cfg: the config that the weights were trained with.
        state: state dict of the model; every weight must fit.
    """

    def __init__(self, cfg: Any, state: Mapping[str, Any]) -> None:
        self.network = build_model(cfg)
        self.network.load_state_dict(state, strict=True)
        self.network.eval()
        self.reader = SampleReader.from_config(cfg, is_train=False)
        self.target = self.reader.target
        self.edges = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)
        self.label_set = label_set_of_config(cfg)
        self.half = half_precision(cfg)

    @torch.inference_mode()
    def __call__(
        self, images: Sequence[NDArray[np.uint8]], scale: float = 1.0
    ) -> list[Predictions]:
        """See :class:`vindr_det.detection.interface.Predictor`."""
        with autocast(self.network.device, self.half):
            outputs = self.network([self._input(image, scale) for image in images])
        return [to_predictions(output["instances"], self.label_set) for output in outputs]

    def _input(self, image: NDArray[np.uint8], scale: float) -> dict[str, Any]:
        aug_input = T.AugInput(self.reader.to_size(image))
        T.ResizeShortestEdge(*(round(edge * scale) for edge in self.edges))(aug_input)
        return {"image": to_tensor(aug_input.image), "height": image.shape[0], "width": image.shape[1]}


def to_predictions(instances: Instances, label_set: LabelSet = VINBIGDATA) -> Predictions:
    """Detectron2's output on an image as Predictions, without boxes of no area."""
    instances = instances.to("cpu")
    return drop_degenerate(
        instances.pred_boxes.tensor.double().numpy(), instances.scores.double().numpy(),
        instances.pred_classes.numpy(), label_set,
    )
