"""Choose a gate on out-of-fold predictions, and keep what it was chosen on.

Each form's parameters are chosen on all folds but one and applied to that one, so that the score a form is
chosen by is of images that its parameters have not seen. The parameters that are saved are those that are
best on all images.
"""

import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import asdict, dataclass
from itertools import product
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray
from tabulate import tabulate
from tqdm import tqdm

from vindr_det import __version__
from vindr_det.classification.probabilities import ClassifierOutput, ProbabilityColumn, check_not_inverted
from vindr_det.data import in_sample
from vindr_det.exceptions import InputError
from vindr_det.files import existing_file, read_json, write_json
from vindr_det.metrics import voc
from vindr_det.metrics.bootstrap import Estimate, image_bootstrap
from vindr_det.metrics.intervals import Difference
from vindr_det.metrics.matching import match, mean_over_classes
from vindr_det.metrics.voc import mean_ap
from vindr_det.postprocessing.gate import FORMS, Gate
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.records import Record, truth_of
from vindr_det.tables import as_numbers, read_csv, refuse_first

_LOWS = (0.0, 0.02, 0.05, 0.1, 0.2, 0.3, 0.5, 0.7, 0.9, 1.0)
_HIGHS = (0.0, 0.1, 0.3, 0.5, 0.7, 0.8, 0.9, 0.95, 1.01)
#: form -> what is tried; each parameter as far as it goes, so that the best is never at an arbitrary end.
GRID: Mapping[str, Sequence[Gate]] = {
    "none": [Gate("none")],
    "append": [Gate("append")],
    "hard": [Gate("hard", low, high) for low, high in product(_LOWS, _HIGHS) if low <= high],
    "scale": [Gate("scale", low) for low in _LOWS],
    "rescore": [Gate("rescore", power=power / 10) for power in range(11)],
}


@dataclass(frozen=True)
class FormScore:
    """One form on images that its parameters were not chosen on.

    Attributes:
        gate: best on all images.
        score: vindr/mAP40 of all folds, each gated with the parameters of the others.
        gain: over no classifier, with the paired interval.
        wins: share of resamples in which it beats no classifier; equal ones count half.
    """

    gate: Gate
    score: float
    gain: Estimate
    wins: float


@dataclass(frozen=True)
class Fitted:
    """What :func:`fit` found.

    Attributes:
        gate: the form with the best score.
        forms: form -> its score; without rescore where the classifier does not tell findings.
        auc: of P(abnormal) on the images.
        ids: the images that it was fitted on.
    """

    gate: Gate
    forms: Mapping[str, FormScore]
    auc: float
    ids: Sequence[str]

    def text(self) -> str:
        """A table for people."""
        rows = [[form, _parameters(one.gate), f"{one.score:.4f}", f"{one.gain.value:+.4f}",
                 f"[{one.gain.low:+.4f}, {one.gain.high:+.4f}]", f"{one.wins:.0%}"]
                for form, one in self.forms.items()]
        table = tabulate(rows, ["form", "parameters", "mAP40", "gain over none", "95 %", "wins"],
                         disable_numparse=True)
        head = f"{len(self.ids)} images, AUC of P(abnormal) {self.auc:.4f}; each fold gated by the others"
        return f"{head}\n\n{table}\n\nchosen: {self.gate.form} {_parameters(self.gate)}".rstrip()


def fit(
    predictions: PredictionSet, records: Sequence[Record], outputs: Mapping[str, ClassifierOutput],
    folds: Mapping[str, int], num_replicates: int = 1000, source: str = "the probabilities",
    allow_inverted: bool = False,
) -> Fitted:
    """Choose form and parameters.

    Args:
        predictions: image id -> boxes of detectors that have not seen the image.
        records: images with their true boxes; those without predictions are left out.
        words: image id -> what classifiers say that have not seen the image.
        folds: image id -> part of the cross-validation.
        resamples: of the paired intervals.
        source: names ``outputs`` in errors.
        allow_inverted: take probabilities that rank the images the wrong way round.

    Raises:
        InputError: the labels are inverted, an image has no word or fold, or there is but one fold.
    """
    kept = sorted((record for record in records if record.image_id in predictions), key=lambda one: one.image_id)
    ids = [one.image_id for one in kept]
    missing = [i for i in ids if i not in outputs or i not in folds]
    if not ids or missing:
        raise InputError(f"{source}: no probability for image {missing[0]}" if missing else
                         "no image has both predictions and annotations")
    parts = np.array([folds[i] for i in ids])
    if len(np.unique(parts)) < 2:
        raise InputError(f"{source}: all images are of fold {parts[0]}, expected at least two folds")
    found = check_not_inverted({i: outputs[i].p_abnormal for i in ids},
                               {r.image_id: not r.normal for r in kept}, source, allow_inverted)
    boxes = {i: predictions[i] for i in ids}
    tells = all(outputs[i].findings is not None for i in ids)
    held_out = {form: _held_out(boxes, kept, outputs, parts, GRID[form])
                for form in tqdm(FORMS, desc="gates", disable=None) if form != "rescore" or tells}
    forms = _compared(held_out, kept, num_replicates)
    best = max(forms, key=lambda form: forms[form].score)
    return Fitted(forms[best].gate, forms, found, ids)


def folds_of(path: str | Path, ids: Sequence[str], count: int) -> dict[str, int]:
    """image id -> its column ``fold`` in a file, or else ``count`` parts at random, always the same.

    Parts serve to choose parameters on other images than they are scored on; where all images are of one fold
    of the classifier, as a detector's validation set is, they are split at random too.

    Raises:
        InputError: fewer than two parts, or a fold that is not a whole number.
    """
    frame = read_csv(path, ["image_id"])
    if "fold" in frame:
        numbers = as_numbers(frame["fold"])
        whole = (numbers % 1 == 0) & (numbers.abs() < 2**31)
        refuse_first(path, ~whole, lambda i: f"fold {frame['fold'].iloc[i]} of image "
                     f"{frame['image_id'].iloc[i]}, expected a whole number")
    frame = frame[frame["image_id"].isin(ids)]
    if ids and frame.empty:
        raise InputError(f"{path}: has none of the {len(ids)} images of the predictions, the first is "
                         f"{ids[0]}")
    if "fold" in frame and frame["fold"].nunique() > 1:
        return dict(zip(frame["image_id"], as_numbers(frame["fold"]).astype(int).tolist(), strict=True))
    known = sorted(frame["image_id"])
    if not 2 <= count <= len(known):
        raise InputError(f"--folds {count}: expected 2 to {len(known)} (the number of images)")
    order = np.random.default_rng(0).permutation(len(known))
    return {known[image]: int(place % count) for place, image in enumerate(order.tolist())}


def _held_out(
    boxes: PredictionSet, records: Sequence[Record], outputs: Mapping[str, ClassifierOutput], parts: NDArray[np.int64],
    gates: Sequence[Gate],
) -> tuple[Gate, dict[str, Predictions]]:
    """The best gate on all images, and every fold gated by what is best on the others."""
    names = np.unique(parts)
    weights = np.array([np.ones(len(parts)), *(parts != name for name in names)], dtype=float)
    scores = []
    for gate in gates:
        matched = match(gate.apply(boxes, outputs), truth_of(records), voc.IOU_THRESHOLD)
        scores.append(mean_over_classes(voc.average_precisions(matched, weights)))
    best = np.nan_to_num(np.array(scores)).argmax(axis=0)  # (1 + folds)
    gated: dict[str, Predictions] = {}
    for name, at in zip(names, best[1:], strict=True):
        mine = {record.image_id: boxes[record.image_id]
                for record, part in zip(records, parts, strict=True) if part == name}
        gated |= gates[at].apply(mine, outputs)
    return gates[best[0]], gated


def _compared(
    held_out: Mapping[str, tuple[Gate, PredictionSet]], records: Sequence[Record], num_replicates: int
) -> dict[str, FormScore]:
    bootstrap = image_bootstrap(records, num_replicates)
    scored = {form: mean_ap(gated, records, bootstrap) for form, (_, gated) in held_out.items()}
    result = {}
    for form, (gate, _) in held_out.items():
        found = Difference.of(scored[form], scored["none"])
        result[form] = FormScore(gate, found.a, found.gain, found.wins)
    return result


def _parameters(gate: Gate) -> str:
    names = {"hard": ("low", "high"), "scale": ("low",), "rescore": ("power",)}.get(gate.form, ())
    return " ".join(f"{name} {getattr(gate, name):g}" for name in names)


def save(
    path: str | Path, fitted: Fitted, sources: Mapping[str, str | Path],
    column: ProbabilityColumn | None = None,
) -> None:
    """Write the gate with its provenance: files and their SHA-256, images, column, scores of all forms."""
    write_json(path, {
        "gate": asdict(fitted.gate),
        "fitted_on": {name: {"file": str(file), "sha256": _digest(file)} for name, file in sources.items()},
        **in_sample.as_json(fitted.ids), "auc": fitted.auc, "version": __version__,
        "probabilities": column._asdict() if column else None,
        "forms": {form: {"mAP40": one.score, "gain": one.gain.value, "ci95": [one.gain.low, one.gain.high],
                         "wins": one.wins, "gate": asdict(one.gate)} for form, one in fitted.forms.items()},
    })


def _digest(path: str | Path) -> str:
    return hashlib.sha256(existing_file(path).read_bytes()).hexdigest()


@dataclass(frozen=True)
class SavedGate:
    """A gate, and the column of probabilities that it was fitted to."""

    gate: Gate
    column: ProbabilityColumn | None = None

    def check_column(self, path: str | Path, given: ProbabilityColumn) -> None:
        """One name with two meanings is a slip of whoever gave them.

        Args:
            path: of the file in which ``given`` is.
            given: what the gate is to be applied to.

        Raises:
            InputError: the column has the name of the one that the gate was fitted to, and another meaning.
        """
        if self.column and given.column == self.column.column and given.meaning != self.column.meaning:
            raise InputError(f"{path}: column {given.column} is taken for {given.meaning}, expected "
                             f"{self.column.meaning} as where the gate was fitted (--meaning, or --allow-inverted)")


def read(path: str | Path) -> SavedGate:
    """A gate that :func:`save` wrote.

    Raises:
        InputError: not one of ours.
    """
    data: Any = read_json(path)
    if isinstance(data, dict) and data.get("gate", 0) is None:
        raise InputError(f"{path}: holds no gate, expected a search with --oof, or a file of gate.py fit")
    try:
        column = data.get("probabilities")
        return SavedGate(Gate(**data["gate"]), ProbabilityColumn.from_json(column) if column else None)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a gate, expected a file of tools/gate.py fit") from error
