"""Incomplete truth: a finding that may be on an image without a box gives no negative signal there.

An image's annotations may leave out findings (:attr:`vindr_det.structures.records.Record.unknown`). The
losses of both engines then see the logits of these classes as :data:`NEVER`: a probability of 0, which costs
nothing where the class is not the truth, and which has no gradient. A softmax also has the background, which
would grow at the expense of the finding: there, "background or any unknown finding" is the truth of a
proposal without a box, so that the odds between these stay as they are.
"""

from collections.abc import Iterable

import torch
from torch import Tensor, nn

from vindr_det.exceptions import InputError

#: The key of a dataset dict, as LVIS has it: class ids of the findings that are unknown on the image.
NOT_EXHAUSTIVE = "not_exhaustive_category_ids"
#: A logit whose softmax and sigmoid are 0 in float32; float16 has it too, and it has no infinite loss.
NEVER = -1e4


def masks_unknown(cfg: object) -> bool:
    """Whether a config leaves unknown findings out of the losses."""
    return cfg.VINDR.UNKNOWN == "ignore"  # type: ignore[attr-defined]


def mask_of(ids: Iterable[int], classes: int, boxed: Iterable[int] = (), image: str = "") -> Tensor:
    """(C,) whether each of so many classes is among the ids, which :func:`check_unknown` has checked."""
    mask = torch.zeros(classes, dtype=torch.bool)
    mask[check_unknown(ids, classes, boxed, image)] = True
    return mask


def check_unknown(ids: Iterable[int], classes: int, boxed: Iterable[int], image: str) -> list[int]:
    """Refuse unknown findings that contradict an image's boxes.

    Args:
        ids: class ids of the findings that are unknown on the image.
        classes: number of findings.
        boxed: class ids of its boxes.
        image: its id, for the error.

    Returns:
        The ids, as whole numbers.

    Raises:
        InputError: names the image and a class that is no finding's, or that has a box.
    """
    ids, boxed = list(ids), set(map(int, boxed))
    for label in ids:
        if label not in range(classes):
            raise InputError(f"{image}: {NOT_EXHAUSTIVE} has {label!r}, expected class ids of 0 to "
                             f"{classes - 1}")
        if label in boxed:
            raise InputError(f"{image}: has boxes of class {label}, which its {NOT_EXHAUSTIVE} lists; "
                             "expected one of the two")
    return list(map(int, ids))


def without(logits: Tensor, unknown: Tensor) -> Tensor:
    """The logits, with :data:`NEVER` where the mask is true.

    Args:
        logits: of any shape.
        unknown: bool, of a shape that broadcasts to that of the logits.
    """
    return logits.masked_fill(unknown, NEVER)


def join_background(logits: Tensor, unknown: Tensor, is_background: Tensor, column: int) -> Tensor:
    """Logits of a softmax over findings and background, for its cross entropy.

    Args:
        logits: (N, C + 1).
        unknown: (N, C + 1) bool, False for the background.
        is_background: (N,) bool, the proposals without a box.
        column: of the background.

    Returns:
        (N, C + 1): unknown findings are left out; in rows of the background, which then stands for itself or
        any of them, its logit is the logarithm of the sum of their exponentials.
    """
    own = torch.zeros_like(unknown)
    own[:, column] = True
    joint = logits.masked_fill(~(unknown | own), NEVER).logsumexp(dim=1, keepdim=True).to(logits.dtype)
    joined = own & (is_background & unknown.any(dim=1))[:, None]
    return torch.where(joined, joint, without(logits, unknown))


def mix_in(module: nn.Module, mixin: type) -> None:
    """Put the methods of a mixin before those of a module's class; weights and settings stay."""
    own = type(module)
    module.__class__ = type(own.__name__, (mixin, own), {})
