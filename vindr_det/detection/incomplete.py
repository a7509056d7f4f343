"""Incomplete truth: a finding that may be on an image without a box gives no negative signal there.

An image's annotations may leave out findings (:attr:`vindr_det.structures.records.Record.unknown`). The
losses of both engines then see the logits of these classes as :data:`NEVER`: a probability of 0, which costs
nothing where the class is not the truth, and which has no gradient.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

#: The key of a dataset dict, as LVIS has it: class ids of the findings that are unknown on the image.
NOT_EXHAUSTIVE = "not_exhaustive_category_ids"
#: A logit whose softmax and sigmoid are 0 in float32; float16 has it too, and it has no infinite loss.
NEVER = -1e4


def masks_unknown(cfg: object) -> bool:
    """Whether a config leaves unknown findings out of the losses."""
    return cfg.VINDR.UNKNOWN == "ignore"  # type: ignore[attr-defined]


def mask_of(ids: Iterable[int], classes: int) -> Tensor:
    """(C,) whether each of so many classes is among the ids."""
    mask = torch.zeros(classes, dtype=torch.bool)
    mask[list(ids)] = True
    return mask


def without(logits: Tensor, unknown: Tensor) -> Tensor:
    """The logits, with :data:`NEVER` where the mask is true.

    Args:
        logits: of any shape.
        unknown: bool, of a shape that broadcasts to that of the logits.
    """
    return logits.masked_fill(unknown, NEVER)


def mix_in(module: nn.Module, mixin: type) -> None:
    """Put the methods of a mixin before those of a module's class; weights and settings stay."""
    own = type(module)
    module.__class__ = type(own.__name__, (mixin, own), {})
