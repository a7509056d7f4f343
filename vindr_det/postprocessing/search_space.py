"""What tools/tune.py searches over: options of one fusion method, boxes an image, the gate.

Each method has a study of its own, so that none starves another; the defaults are the first trial.
"""

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vindr_det.files import existing_file
from vindr_det.postprocessing import gate as gating
from vindr_det.postprocessing.fusion import CONFIDENCES, METHODS, Fusion
from vindr_det.postprocessing.gate import Gate

#: The method of a single file's boxes as they are.
AS_IS = "none"
#: Option -> whether more could lie beyond its low and its high end; the gate's go as far as they can.
_OPEN_ENDS = {"iou_thr": (True, True), "weight": (True, True), "skip_box_thr": (False, True),
              "max_boxes": (True, False)}
#: So near its end, as a share of its range, an option is at the end.
_NEAR = 0.02


@dataclass(frozen=True)
class Search:
    """What is searched over.

    Attributes:
        predictions: submissions on the validation images, one per model.
        annotations: of these images.
        meta: sizes of the originals, where the annotations are a table.
        oof: a classifier's probabilities out of fold; None leaves class 14 as the files have it, or as
            1 - the highest score where they do not tell it.
        seed: of the halves and of the trials.
        allow_inverted: take probabilities that rank the images the wrong way round.
    """

    predictions: tuple[str, ...]
    annotations: str
    meta: str | None = None
    oof: str | None = None
    seed: int = 0
    allow_inverted: bool = False

    def fingerprint(self) -> str:
        """Tells searches over other files, or other contents, apart; reads them all."""
        digest = hashlib.sha256(str(self.seed).encode())
        for path in (*self.predictions, self.annotations, self.meta, self.oof):
            digest.update(existing_file(path).read_bytes() if path else b"-")
        return digest.hexdigest()[:16]

    @property
    def methods(self) -> tuple[str, ...]:
        """The default's first."""
        return METHODS if len(self.predictions) > 1 else (AS_IS, "nms", "wbf")

    def shares(self, trials: int) -> dict[str, int]:
        """Method -> its part of so many trials: equal parts, but one where there is nothing to choose."""
        single = [AS_IS] if AS_IS in self.methods and not self.oof else []
        others = [method for method in self.methods if method not in single]
        left = max(trials - len(single), 0)
        return {method: min(trials, 1) for method in single} | {
            method: left // len(others) + (at < left % len(others)) for at, method in enumerate(others)}


@dataclass(frozen=True)
class Settings:
    """Post-processing as a whole; ``fusion`` None leaves a single file's boxes as they are."""

    fusion: Fusion | None = None
    gate: Gate | None = None


def defaults(search: Search) -> Settings:
    """What is done without a search: a single file as it is, several by WBF; the soft gate."""
    return Settings(Fusion() if len(search.predictions) > 1 else None, Gate("append") if search.oof else None)


def default_point(search: Search) -> dict[str, Any]:
    """:func:`defaults` as a point of the first method's space."""
    point: dict[str, Any] = {"gate": "append"} if search.oof else {}
    if search.methods[0] == AS_IS:
        return point
    base = Fusion()
    weights = {f"weight{at}": 1.0 for at in range(len(search.predictions))}
    return point | weights | {"iou_thr": base.iou_thr, "skip_box_thr": base.skip_box_thr,
                              "conf_type": base.conf_type, "limited": False}


def suggest(trial: Any, search: Search, method: str, tells_findings: bool) -> Settings:
    """One point of a method's space, from Optuna's trial."""
    gate = _suggest_gate(trial, tells_findings) if search.oof else None
    return Settings(None if method == AS_IS else _suggest_fusion(trial, search, method), gate)


def _suggest_fusion(trial: Any, search: Search, method: str) -> Fusion:
    models = len(search.predictions)
    iou_thr = trial.suggest_float("iou_thr", 0.1, 0.9)
    skip_box_thr = trial.suggest_float("skip_box_thr", 1e-5, 0.3, log=True)
    weights = tuple(trial.suggest_float(f"weight{at}", 0.25, 4, log=True)
                    for at in range(models)) if models > 1 else None
    conf_type = trial.suggest_categorical("conf_type", CONFIDENCES) if method == "wbf" else "avg"
    limited = trial.suggest_categorical("limited", (False, True))
    max_boxes = trial.suggest_int("max_boxes", 5, 300, log=True) if limited else None
    return Fusion(method, iou_thr, skip_box_thr, weights, conf_type, max_boxes)


def _suggest_gate(trial: Any, tells_findings: bool) -> Gate:
    forms = [form for form in gating.FORMS if form != "rescore" or tells_findings]
    form = trial.suggest_categorical("gate", forms)
    if form == "hard":
        low = trial.suggest_float("low", 0, 1)
        return Gate(form, low, max(low, trial.suggest_float("high", 0, 1.01)))
    if form == "scale":
        return Gate(form, trial.suggest_float("low", 0, 1))
    return Gate(form, power=trial.suggest_float("power", 0, 1)) if form == "rescore" else Gate(form)


def at_ends(params: Mapping[str, Any], distributions: Mapping[str, Any]) -> list[str]:
    """Options of a trial at an end of what was searched, beyond which better ones may lie, in words."""
    found = []
    for name, value in params.items():
        low_open, high_open = _OPEN_ENDS.get(name.rstrip("0123456789"), (False, False))
        if low_open or high_open:
            given = distributions[name]
            at, low, high = (math.log(x) if given.log else x for x in (value, given.low, given.high))
            place = (at - low) / (high - low)
            if (low_open and place < _NEAR) or (high_open and place > 1 - _NEAR):
                found.append(f"{name} {value:g} is at the end of what was searched, {given.low:g} to "
                             f"{given.high:g}")
    return found
