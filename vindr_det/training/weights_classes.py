"""Class heads of our checkpoints of another label set: the rows of the findings that both sets have.

The names are the common ones, which are Detectron2's (:mod:`vindr_det.training.weights_families`). A head has
one or several groups of classes (one per anchor), with one row, or four, per class; with softmax one of the
classes is the background, which torchvision has first and Detectron2 last.
"""

import logging
import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import yaml

from vindr_det.config_values import value_of
from vindr_det.exceptions import InputError
from vindr_det.structures.label_maps import row_map
from vindr_det.structures.label_sets import LABEL_SETS, VINBIGDATA, LabelSet, first_difference

log = logging.getLogger(__name__)

#: Heads with their own background, by engine.
_WITH_BACKGROUND = {
    "torchvision": r"roi_heads\.(box_predictor|mask_head\.predictor)\b",
    "detectron2": r"roi_heads\.box_predictor\.(\d\.)?cls_score\b",
}


@dataclass(frozen=True)
class ClassMap:
    """Which classes of a checkpoint become which of a model.

    Attributes:
        source: the checkpoint's findings.
        target: the model's.
        rows: for each class of the model the checkpoint's class id; None for one that it does not know.
        engine: of both.
        agnostic: box deltas are the same for every class (CLS_AGNOSTIC_BBOX_REG) there or here.
    """

    source: LabelSet
    target: LabelSet
    rows: Sequence[int | None]
    engine: str
    agnostic: bool = False

    @classmethod
    def between(cls, source: LabelSet, target: LabelSet, engine: str, agnostic: bool = False) -> "ClassMap":
        """The map of :func:`vindr_det.structures.label_maps.row_map`."""
        return cls(source, target, row_map(source, target)[: len(target)], engine, agnostic)

    def apply(self, name: str, value: Any, own: Any) -> Any:
        """A model's head with the checkpoint's rows of the known findings and of the background.

        Args:
            name: the head's common name.
            value: the checkpoint's tensor.
            own: the model's, from which the other rows come.

        Returns:
            The new tensor; ``value`` itself where it does not depend on classes or its layer is another.
        """
        background = bool(re.match(_WITH_BACKGROUND[self.engine], name))
        each = 4 if re.search(r"\bbbox_pred\b", name) else 1
        old, new = ((-1, len(label_set) + background, each) for label_set in (self.source, self.target))
        if (each == 4 and self.agnostic) or len(value) % (old[1] * each) or len(own) % (new[1] * each):
            return value
        old_rows, new_rows = value.unflatten(0, old), own.clone().unflatten(0, new)
        if old_rows.shape[0] != new_rows.shape[0] or value.shape[1:] != own.shape[1:]:
            return value
        first = int(background and self.engine == "torchvision")
        for label, source in enumerate(self.rows):
            if source is not None:
                new_rows[:, first + label] = old_rows[:, first + source]
        if background:
            new_rows[:, first - 1] = old_rows[:, first - 1]
        return new_rows.flatten(0, 2)

    def tell(self, weights: str) -> None:
        """Log which findings have rows of the checkpoint, and which begin anew."""
        taken = [name if name == self.source.findings[row] else f"{name} (from {self.source.findings[row]})"
                 for name, row in zip(self.target.findings, self.rows, strict=True) if row is not None]
        anew = [name for name, row in zip(self.target.findings, self.rows, strict=True) if row is None]
        log.info("%s: was trained on the findings of %s, for %s: class heads of %s; anew: %s",
                 weights, self.source.name, self.target.name, ", ".join(taken) or "none",
                 ", ".join(anew) or "none")


def class_agnostic(cfg: Any) -> bool:
    """Whether a detector's box deltas are the same for every class; of a config, or of its YAML."""
    key = "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"
    return bool(value_of(yaml.safe_load(cfg) if isinstance(cfg, str) else cfg, key))


def label_set_of_checkpoint(meta: Mapping[str, Any]) -> LabelSet:
    """The label set of the entry ``vindr`` of a checkpoint; earlier versions' have the classes alone."""
    findings = tuple(meta.get("classes", VINBIGDATA.findings))
    name = meta.get("label_set", VINBIGDATA.name)
    shipped = LABEL_SETS.get(name)
    return shipped if shipped is not None and shipped.findings == findings else LabelSet(name, findings)


def require_label_set(source: object, meta: Mapping[str, Any], expected: LabelSet) -> None:
    """Refuse a checkpoint of another label set.

    Args:
        source: the file, for the error.
        meta: its entry ``vindr``.
        expected: of the config.

    Raises:
        InputError: it was trained on other findings.
    """
    own = label_set_of_checkpoint(meta)
    if own.findings != expected.findings:
        raise InputError(f"{source}: was trained on the {len(own)} findings of {own.name}, but "
                         f"VINDR.LABEL_SET is {expected.name} with {len(expected)}; expected the same "
                         f"({first_difference(own, expected)})")
