"""Detectron2's losses without negative signal for the findings that are unknown on an image.

The key ``not_exhaustive_category_ids`` of a dataset dict names their class ids; images without it have none.
"""

from collections.abc import Sequence
from typing import Any

import torch
import torch.nn.functional as F
from detectron2.modeling import FCOS, GeneralizedRCNN, RetinaNet
from detectron2.modeling.proposal_generator import RPN
from detectron2.modeling.roi_heads.fast_rcnn import FastRCNNOutputLayers
from torch import Tensor, nn

from vindr_det.detection.incomplete import NOT_EXHAUSTIVE, join_background, mask_of, mix_in, without
from vindr_det.exceptions import InputError


class Known:
    """A part with a loss: ``unknown`` (B, C) of the batch, None before the first."""

    unknown: Tensor | None = None


class KnownModel(Known):
    """A model that tells its parts, before it computes losses, what is unknown in the batch."""

    def forward(self, batched_inputs: Sequence[dict[str, Any]]) -> Any:
        """Detectron2's.

        Raises:
            InputError: findings are unknown, which the model's losses cannot honor.
        """
        if self.training:  # type: ignore[attr-defined]
            _tell(self, batched_inputs)  # type: ignore[arg-type]
        return super().forward(batched_inputs)  # type: ignore[misc]


def _tell(model: nn.Module, batch: Sequence[dict[str, Any]]) -> None:
    refuse_unknown(model, batch)
    parts = _parts(model)
    if not parts:
        return
    classes = getattr(model, "num_classes", None) or model.roi_heads.num_classes
    unknown = torch.stack([_mask(image, classes) for image in batch])
    for part in parts:
        part.unknown = unknown.to(model.device)


def _mask(image: dict[str, Any], classes: int) -> Tensor:
    boxed, name = image["instances"].gt_classes.tolist(), image.get("image_id", image.get("file_name"))
    return mask_of(image.get(NOT_EXHAUSTIVE) or (), classes, boxed, str(name))


def _parts(model: nn.Module) -> list[Any]:
    return [part for part in model.modules() if isinstance(part, (KnownDense, KnownProposals, KnownOutputs))]


def refuse_unknown(model: nn.Module, dicts: Sequence[dict[str, Any]]) -> None:
    """Refuse images with unknown findings where a model's losses cannot leave them out.

    Raises:
        InputError: names an image and the model.
    """
    if isinstance(model, KnownModel) and not _parts(model):
        image = next((image for image in dicts if image.get(NOT_EXHAUSTIVE)), None)
        if image is not None:
            name = type(model).__name__
            raise InputError(f"{image['image_id']}: has unknown findings, which {name} cannot leave"
                             " out of its losses, expected RetinaNet, or GeneralizedRCNN with RPN and "
                             "Detectron2's box predictors; or VINDR.UNKNOWN negative")


class KnownDense(KnownModel):
    """A dense detector whose focal loss leaves out the unknown classes of each image."""

    def losses(self, anchors: Any, pred_logits: list[Tensor], *others: Any) -> dict[str, Tensor]:
        """Detectron2's, of the other logits."""
        if self.unknown is not None:
            pred_logits = [without(level, self.unknown[:, None]) for level in pred_logits]
        return super().losses(anchors, pred_logits, *others)  # type: ignore[misc]


class KnownProposals(Known):
    """An RPN to which an image with unknown findings has no negative anchors: one may lie on a finding."""

    @torch.no_grad()
    def label_and_sample_anchors(self, anchors: Any, gt_instances: Any) -> tuple[list[Tensor], Any]:
        """Detectron2's."""
        labels, boxes = super().label_and_sample_anchors(anchors, gt_instances)  # type: ignore[misc]
        if self.unknown is not None:
            labels = [label.masked_fill((label == 0) & row.any(), -1)
                      for label, row in zip(labels, self.unknown, strict=True)]
        return labels, boxes


class KnownOutputs(Known):
    """A box predictor whose softmax, or sigmoids, leave out the unknown classes of each proposal's image."""

    def losses(self, predictions: tuple[Tensor, Tensor], proposals: list[Any]) -> dict[str, Tensor]:
        """Detectron2's, or those with the weights of :mod:`.roi_heads`."""
        logits, deltas = predictions
        if self.unknown is not None:
            counts = torch.tensor([len(part) for part in proposals], device=logits.device)
            unknown = F.pad(self.unknown, (0, 1)).repeat_interleave(counts, dim=0)
            background = torch.cat([part.gt_classes for part in proposals]) == unknown.shape[1] - 1
            logits = join_background(logits, unknown, background, unknown.shape[1] - 1)
        return super().losses((logits, deltas), proposals)  # type: ignore[misc]


def leave_out_unknown(model: nn.Module) -> None:
    """Make the losses of a model those of the known findings; one that cannot have them refuses others."""
    if isinstance(model, (RetinaNet, FCOS)):
        mix_in(model, KnownDense)
        return
    mix_in(model, KnownModel)
    if not isinstance(model, GeneralizedRCNN) or not isinstance(model.proposal_generator, RPN):
        return
    predictors = [part for part in model.roi_heads.modules() if isinstance(part, FastRCNNOutputLayers)]
    for part in predictors:
        mix_in(part, KnownOutputs)
    if predictors:
        mix_in(model.proposal_generator, KnownProposals)
