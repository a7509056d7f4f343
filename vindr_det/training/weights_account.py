"""What became of each tensor of a weights file, told in the log."""

import logging
import re
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vindr_det.exceptions import InputError

log = logging.getLogger(__name__)

#: Tensors that no network needs: the config, or the training, has their values.
_NOT_WEIGHTS = r"num_batches_tracked$|anchor_generator\.cell_anchors\b|^pixel_(mean|std)$"
#: Statistics of norms, which files of folded norms lack.
_STATISTICS = r"running_(mean|var)$|" + _NOT_WEIGHTS


@dataclass(frozen=True)
class Account:
    """Names of all tensors of a file, each in one list, and the model's own that got nothing.

    Attributes:
        used: the file's name -> the model's.
        class_heads: of other classes, left out.
        other_shape: with a place in the model, but for another size.
        in_part: weights without their layer's bias, or the reverse.
        no_place: of layers that the model does not have.
        not_weights: counters and anchors.
        lacking: the model's names of what starts anew.
        lacking_heads: those of them that the file has for other classes.
    """

    used: Mapping[str, str]
    class_heads: Sequence[str]
    other_shape: Sequence[str]
    in_part: Sequence[str]
    no_place: Sequence[str]
    not_weights: Sequence[str]
    lacking: Sequence[str]
    lacking_heads: Sequence[str] = ()


def account(
    state: Mapping[str, Any], names: Mapping[str, str], own: Mapping[str, Any], heads: Collection[str] = (),
    other_classes: bool = False,
) -> Account:
    """Find each tensor's place in a model by name and shape; a layer is used whole or not at all.

    Args:
        state: the file's tensors.
        names: the file's names -> the model's.
        own: the model's tensors.
        heads: the file's names of what depends on the classes.
        other_classes: leave out the heads even where they fit, such as those of another order of classes.
    """
    barred = set(heads) if other_classes else set()
    fitting = {key: name for key, name in names.items()
               if name in own and own[name].shape == state[key].shape and key not in barred}
    in_part = _in_part(fitting, own)
    kinds: dict[str, list[str]] = {"heads": [], "counters": [], "shape": [], "place": []}
    for key, name in names.items():
        if key not in fitting:
            kind = ("heads" if key in heads else "counters" if re.search(_NOT_WEIGHTS, name)
                    else "shape" if name in own else "place")
            kinds[kind].append(key)
    used = {key: name for key, name in fitting.items() if key not in in_part}
    taken, own_heads = set(used.values()), {names[key] for key in heads}
    lacking = [name for name in own if name not in taken and not re.search(_NOT_WEIGHTS, name)]
    return Account(used, kinds["heads"], kinds["shape"], in_part, kinds["place"], kinds["counters"], lacking,
                   [name for name in lacking if name in own_heads])


def _in_part(fitting: Mapping[str, str], own: Mapping[str, Any]) -> list[str]:
    """A convolution without its bias or with a norm's in its place is another layer."""
    partners, names = {"weight": "bias", "bias": "weight"}, set(fitting.values())
    parts = []
    for key, name in fitting.items():
        layer, _, parameter = name.rpartition(".")
        partner = f"{layer}.{partners.get(parameter)}"
        if layer and partner in own and partner not in names:
            parts.append(key)
    return parts


def tell(weights: str, family: str, told: Account, state: Mapping[str, Any]) -> None:
    """Log which tensors of a file are used and which are not.

    Args:
        weights: name of the file.
        family: whose network it is of.
        told: the account.
        state: the file's tensors.

    Raises:
        InputError: most of what is no class head has no place in the model, or gives it less than half of
            its tensors.
    """
    _require_most(weights, family, told)
    log.info("%s (%s): %d of its %d tensors loaded, %d of the model's %d", weights, family, len(told.used),
             len(state), len(told.used), len(told.used) + len(told.lacking))
    if told.not_weights:
        log.info("%s: %d counters, anchors and pixel values not needed, such as %s", weights,
                 len(told.not_weights), told.not_weights[0])
    for names, difference, shown in (
        (told.class_heads, "class heads, left out", 12),
        (told.other_shape, "of another shape, left out", 3),
        (told.in_part, "without the rest of their layer, left out", 3),
        (told.no_place, "that have no place here", 3),
    ):
        described = [f"{name} {tuple(state[name].shape)}" for name in names]
        _warn(weights, difference, described, shown)
    _warn(weights, "that it lacks, which start anew", told.lacking, 3)


def _warn(weights: str, difference: str, names: Sequence[str], shown: int) -> None:
    if names:
        more = f" and {len(names) - shown} more" if len(names) > shown else ""
        listed = ", ".join(names[:shown])
        log.warning("%s: %d weights %s: %s%s", weights, len(names), difference, listed, more)


def _require_most(weights: str, family: str, told: Account) -> None:
    strangers = [*told.no_place, *told.other_shape, *told.in_part]
    if len(told.used) <= len(strangers):
        example = f", {strangers[0]} does not" if strangers else ""
        used, total = len(told.used) or "none", len(told.used) + len(strangers)
        raise InputError(f"MODEL.WEIGHTS {weights} (read as {family}): {used} of its {total} weights fit "
                         f"this model, class heads aside{example}; expected most of them")
    given = sum(not re.search(_STATISTICS, name) for name in told.used.values())
    anew = [name for name in told.lacking
            if name not in told.lacking_heads and not re.search(_STATISTICS, name)]
    if given < len(anew):
        raise InputError(f"MODEL.WEIGHTS {weights} (read as {family}): gives this model {given} of its "
                         f"{given + len(anew)} weights, class heads aside, none to {anew[0]}; expected at "
                         "least half")
