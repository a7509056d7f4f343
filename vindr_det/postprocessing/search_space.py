"""What vindr-det tune searches over: the options of each fusion method, boxes per image, the gate.

Each method has a study of its own, so that none starves another; the defaults are the first trial.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vindr_det.files import existing_file
from vindr_det.postprocessing.fusion import CONFIDENCES, METHODS, Fusion
from vindr_det.postprocessing.gate import DEFAULT_GATE, FORMS, Gate, available_forms

#: The method that leaves a single file's boxes unchanged.
AS_IS = "none"
#: Fusion option -> whether better values could lie beyond its low and its high end. A gate's parameters cover
#: their whole range.
_OPEN_ENDS = {"iou_thr": (True, True), "weight": (True, True), "skip_box_thr": (False, True),
              "max_boxes": (True, False)}
#: A value within this share of its range from an end counts as at the end.
_NEAR = 0.02


@dataclass(frozen=True)
class Search:
    """The files of a search, and its seed.

    Attributes:
        predictions: submissions on the validation images, one per model.
        annotations: of these images.
        meta: sizes of the originals, where the annotations are a table.
        probabilities: a classifier's out-of-fold probabilities; None leaves class 14 as the files have it, or
            takes 1 - the highest score where they have none.
        seed: of the split into search and holdout images, and of the trials.
        allow_inverted: take probabilities that rank normal images above abnormal ones.
    """

    predictions: tuple[str, ...]
    annotations: str
    meta: str | None = None
    probabilities: str | None = None
    seed: int = 0
    allow_inverted: bool = False

    def fingerprint(self) -> str:
        """A digest of the seed and of all files' contents, the name of the search in its log."""
        digest = hashlib.sha256(str(self.seed).encode())
        for path in (*self.predictions, self.annotations, self.meta, self.probabilities):
            digest.update(existing_file(path).read_bytes() if path else b"-")
        return digest.hexdigest()[:16]

    @property
    def methods(self) -> tuple[str, ...]:
        """Fusion methods to search over; that of the defaults comes first."""
        return METHODS if len(self.predictions) > 1 else (AS_IS, "nms", "wbf")

    def shares(self, trials: int) -> dict[str, int]:
        """Method -> its number of trials: equal shares, but one trial where there is nothing to choose."""
        single = [AS_IS] if AS_IS in self.methods and not self.probabilities else []
        others = [method for method in self.methods if method not in single]
        left = max(trials - len(single), 0)
        return {method: min(trials, 1) for method in single} | {
            method: left // len(others) + (at < left % len(others)) for at, method in enumerate(others)}


@dataclass(frozen=True)
class Settings:
    """Fusion and gate together.

    Attributes:
        fusion: None leaves a single file's boxes unchanged.
        gate: None leaves class 14 as it is, or takes 1 - the highest score where there is none.
    """

    fusion: Fusion | None = None
    gate: Gate | None = None

    def __str__(self) -> str:
        parts = [*([str(self.fusion)] if self.fusion else []), *([f"gate {self.gate}"] if self.gate else [])]
        return "\n".join(parts) or "the boxes unchanged"


def defaults(search: Search) -> Settings:
    """What is done without a search: a single file unchanged, several by WBF; the soft gate."""
    return Settings(Fusion() if len(search.predictions) > 1 else None,
                    DEFAULT_GATE if search.probabilities else None)


def default_point(search: Search) -> dict[str, Any]:
    """:func:`defaults` as a point of the first method's space."""
    point: dict[str, Any] = {}
    if search.probabilities:
        point = {"gate": DEFAULT_GATE.form} | DEFAULT_GATE.parameters
    if search.methods[0] == AS_IS:
        return point
    base = Fusion()
    weights = {f"weight{model}": 1.0 for model in range(len(search.predictions))}
    return point | weights | {"iou_thr": base.iou_thr, "skip_box_thr": base.skip_box_thr,
                              "conf_type": base.conf_type, "limited": False}


def suggest(trial: Any, search: Search, method: str, with_findings: bool) -> Settings:
    """One point of a method's space.

    Args:
        trial: of Optuna.
        search: the files.
        method: of fusion, or :data:`AS_IS`.
        with_findings: the classifier has a probability of each finding.
    """
    gate = _suggest_gate(trial, with_findings) if search.probabilities else None
    return Settings(None if method == AS_IS else _suggest_fusion(trial, search, method), gate)


def _suggest_fusion(trial: Any, search: Search, method: str) -> Fusion:
    models = len(search.predictions)
    iou_thr = trial.suggest_float("iou_thr", 0.1, 0.9)
    skip_box_thr = trial.suggest_float("skip_box_thr", 1e-5, 0.3, log=True)
    weights = tuple(trial.suggest_float(f"weight{model}", 0.25, 4, log=True)
                    for model in range(models)) if models > 1 else None
    conf_type = trial.suggest_categorical("conf_type", CONFIDENCES) if method == "wbf" else "avg"
    limited = trial.suggest_categorical("limited", (False, True))
    max_boxes = trial.suggest_int("max_boxes", 5, 300, log=True) if limited else None
    return Fusion(method, iou_thr, skip_box_thr, weights, conf_type, max_boxes)


def _suggest_gate(trial: Any, with_findings: bool) -> Gate:
    forms = [form.form for form in available_forms(with_findings)]
    return FORMS[trial.suggest_categorical("gate", forms)].suggest(trial)


def at_ends(params: Mapping[str, Any], distributions: Mapping[str, Any]) -> list[str]:
    """Notes on the options of a trial that are at an end of what was searched: better ones may lie beyond.

    Args:
        params: of an Optuna trial.
        distributions: of the same trial.
    """
    notes = []
    for name, value in params.items():
        low_open, high_open = _OPEN_ENDS.get(name.rstrip("0123456789"), (False, False))
        if not (low_open or high_open):
            continue
        range_ = distributions[name]
        at, low, high = (math.log(x) if range_.log else x for x in (value, range_.low, range_.high))
        place = (at - low) / (high - low)
        if (low_open and place < _NEAR) or (high_open and place > 1 - _NEAR):
            notes.append(f"{name} {value:g} is at the end of what was searched, {range_.low:g} to "
                         f"{range_.high:g}")
    return notes
