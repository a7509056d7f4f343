"""A trained Detectron2 model as our predictor."""

from collections.abc import Mapping
from typing import Any

import numpy as np
import torch
from detectron2.data import transforms as T
from detectron2.structures import Instances
from numpy.typing import NDArray

from vindr_det.detection.detectron2.model import build_model
from vindr_det.detection.samples import SampleReader, to_rgb
from vindr_det.predictions import Predictions, drop_degenerate


class Detectron2Predictor:
    """Detections on gray images of any size, in their own pixels.

    Args:
        cfg: the config the weights were trained with.
        state: their state dict.
    """

    def __init__(self, cfg: Any, state: Mapping[str, Any]) -> None:
        self.model = build_model(cfg)
        self.model.load_state_dict(state, strict=True)
        self.model.eval()
        self.reader = SampleReader.from_config(cfg, is_train=False)
        self.edges = (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TEST)

    @torch.inference_mode()
    def __call__(self, image: NDArray[np.uint8], scale: float = 1.0) -> Predictions:
        """See :class:`vindr_det.detection.engine.Predictor`."""
        height, width = image.shape
        aug_input = T.AugInput(self.reader.to_size(image))
        T.ResizeShortestEdge(*(round(edge * scale) for edge in self.edges))(aug_input)
        tensor = torch.from_numpy(to_rgb(aug_input.image))
        output = self.model([{"image": tensor, "height": height, "width": width}])
        return to_predictions(output[0]["instances"])


def to_predictions(instances: Instances) -> Predictions:
    """Detectron2's output on one image as Predictions."""
    found = instances.to("cpu")
    return drop_degenerate(
        found.pred_boxes.tensor.double().numpy(), found.scores.double().numpy(),
        found.pred_classes.numpy(),
    )
