"""Choose a gate by cross-validation on out-of-fold predictions; save it and read it.

Each form's parameters are chosen on all folds but one and applied to that one, so that forms are compared on
images that their parameters were not chosen on. The parameters that are saved are the best on all images.
"""

import hashlib
import logging
from collections.abc import Container, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import pandas as pd
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
from vindr_det.postprocessing.gate import (
    Gate,
    NoClassifier,
    available_forms,
    gate_all,
    gate_from_json,
    tells_findings,
)
from vindr_det.structures.detections import Predictions, PredictionSet, label_set_of
from vindr_det.structures.label_sets import VINBIGDATA, LabelSet
from vindr_det.structures.records import Record, truth_of, unknown_of
from vindr_det.tables import as_numbers, read_csv, refuse_first

log = logging.getLogger(__name__)


@dataclass(frozen=True)
class FormScore:
    """One form, scored on images that its parameters were not chosen on.

    Attributes:
        gate: its parameters are the best on all images.
        score: vindr/mAP40 of all folds, each gated with the parameters of the others.
        gain: over no classifier, with the paired interval.
        wins: share of bootstrap replicates in which it beats no classifier; ties count half.
    """

    gate: Gate
    score: float
    gain: Estimate
    wins: float


@dataclass(frozen=True)
class Fitted:
    """The result of :func:`fit`.

    Attributes:
        gate: of the form with the best score.
        forms: form -> its score; those that need a probability of each finding only where there is one.
        auc: of P(abnormal) on the images.
        ids: the images that it was fitted on.
        label_set: of the predictions.
    """

    gate: Gate
    forms: Mapping[str, FormScore]
    auc: float
    ids: Sequence[str]
    label_set: LabelSet = VINBIGDATA

    def text(self) -> str:
        """A table for people."""
        rows = [[form, _parameters(fitted.gate), f"{fitted.score:.4f}", f"{fitted.gain.value:+.4f}",
                 f"[{fitted.gain.low:+.4f}, {fitted.gain.high:+.4f}]", f"{fitted.wins:.0%}"]
                for form, fitted in self.forms.items()]
        table = tabulate(rows, ["form", "parameters", "mAP40", "gain over none", "95 %", "wins"],
                         disable_numparse=True)
        head = f"{len(self.ids)} images, AUC of P(abnormal) {self.auc:.4f}; each fold gated by the others"
        return f"{head}\n\n{table}\n\nchosen: {self.gate}"


def _parameters(gate: Gate) -> str:
    return str(gate).removeprefix(gate.form).strip()


def fit(
    predictions: PredictionSet, records: Sequence[Record], outputs: Mapping[str, ClassifierOutput],
    folds: Mapping[str, int], num_replicates: int = 1000, source: str = "the probabilities",
    allow_inverted: bool = False,
) -> Fitted:
    """Choose form and parameters.

    Args:
        predictions: image id -> boxes of detectors that were not trained on the image.
        records: images with their true boxes; those without predictions are left out.
        outputs: image id -> output of classifiers that were not trained on the image.
        folds: image id -> fold of the cross-validation.
        num_replicates: bootstrap replicates of the paired intervals.
        source: names ``outputs`` in errors.
        allow_inverted: take probabilities that rank normal images above abnormal ones.

    Raises:
        InputError: the labels are inverted, an image has no output or fold, or there is but one fold.
    """
    kept = _with_all_inputs(predictions, records, outputs, folds, source)
    ids = [record.image_id for record in kept]
    parts = np.array([folds[image_id] for image_id in ids])
    if len(np.unique(parts)) < 2:
        raise InputError(f"{source}: all images are of fold {parts[0]}, expected at least two folds")
    outputs = {image_id: outputs[image_id] for image_id in ids}
    auc = check_not_inverted({image_id: output.p_abnormal for image_id, output in outputs.items()},
                     {record.image_id: not record.normal for record in kept}, source, allow_inverted)
    boxes = {image_id: predictions[image_id] for image_id in ids}
    forms = available_forms(tells_findings(outputs))
    held_out = {form.form: _held_out(boxes, kept, outputs, parts, form.grid())
                for form in tqdm(forms, desc="gates", disable=None)}
    scores = _compared(held_out, kept, num_replicates)
    best = max(scores, key=lambda form: scores[form].score)
    return Fitted(scores[best].gate, scores, auc, ids, label_set_of(boxes))


def with_predictions(records: Sequence[Record], predictions: PredictionSet) -> list[Record]:
    """The records of images that have predictions, by image id: those that a gate is fitted on.

    A warning counts the others.

    Raises:
        InputError: there are none.
    """
    kept = sorted((record for record in records if record.image_id in predictions),
                  key=lambda record: record.image_id)
    if not kept:
        raise InputError("no image has both predictions and annotations")
    warn_left_out(records, predictions)
    return kept


def warn_left_out(records: Sequence[Record], predicted: Container[str]) -> None:
    """Warn, once, of the images that have annotations but no prediction."""
    absent = [record.image_id for record in records if record.image_id not in predicted]
    if absent:
        log.warning("%d of the %d images of the annotations have no prediction and are left out, the first "
                    "is %s", len(absent), len(records), min(absent))


def _with_all_inputs(
    predictions: PredictionSet, records: Sequence[Record], outputs: Mapping[str, ClassifierOutput],
    folds: Mapping[str, int], source: str,
) -> list[Record]:
    """The records with predictions; each has a classifier output and a fold."""
    kept = with_predictions(records, predictions)
    missing = [record.image_id for record in kept
               if record.image_id not in outputs or record.image_id not in folds]
    if missing:
        raise InputError(f"{source}: no probability for image {missing[0]}")
    return kept


def folds_of(path: str | Path, ids: Sequence[str], count: int) -> dict[str, int]:
    """image id -> fold of the gate's cross-validation.

    The column ``fold`` of the file; or ``count`` folds drawn at random, always the same, where there is no
    such column or all images are of one fold of the classifier, as a detector's validation images are.

    Args:
        path: CSV with a column image_id.
        ids: of the images that the gate is fitted on, which :func:`with_predictions` gives; others are
            left out.
        count: folds to draw.

    Raises:
        InputError: fewer than two folds, or a fold that is not a whole number.
    """
    frame = read_csv(path, ["image_id"])
    if "fold" in frame:
        _check_folds(path, frame)
    frame = frame[frame["image_id"].isin(ids)]
    if ids and frame.empty:
        raise InputError(f"{path}: has none of the {len(ids)} images of the predictions, the first is "
                         f"{ids[0]}")
    if "fold" in frame and frame["fold"].nunique() > 1:
        return dict(zip(frame["image_id"], as_numbers(frame["fold"]).astype(int).tolist(), strict=True))
    return _random_folds(sorted(frame["image_id"]), count)


def _check_folds(path: str | Path, frame: pd.DataFrame) -> None:
    numbers = as_numbers(frame["fold"])
    whole = (numbers % 1 == 0) & (numbers.abs() < 2**31)
    refuse_first(path, ~whole, lambda row: f"fold {frame['fold'].iloc[row]} of image "
                 f"{frame['image_id'].iloc[row]}, expected a whole number")


def _random_folds(ids: Sequence[str], count: int) -> dict[str, int]:
    if not 2 <= count <= len(ids):
        raise InputError(f"--folds {count}: expected 2 to {len(ids)} (the number of images)")
    order = np.random.default_rng(0).permutation(len(ids))
    return {ids[image]: int(place % count) for place, image in enumerate(order.tolist())}


def _held_out(
    boxes: PredictionSet, records: Sequence[Record], outputs: Mapping[str, ClassifierOutput],
    parts: NDArray[np.int64], gates: Sequence[Gate],
) -> tuple[Gate, dict[str, Predictions]]:
    """The best gate on all images, and every fold gated by what is best on the others."""
    folds = np.unique(parts)
    weights = np.array([np.ones(len(parts)), *(parts != fold for fold in folds)], dtype=float)
    scores = []
    for gate in gates:
        matched = match(gate_all(gate, boxes, outputs), truth_of(records), voc.IOU_THRESHOLD,
                        unknown_of(records))
        scores.append(mean_over_classes(voc.average_precisions(matched, weights)))
    best = np.nan_to_num(np.array(scores)).argmax(axis=0)  # (1 + folds)
    gated: dict[str, Predictions] = {}
    for fold, index in zip(folds, best[1:], strict=True):
        of_fold = {record.image_id: boxes[record.image_id]
                   for record, part in zip(records, parts, strict=True) if part == fold}
        gated |= gate_all(gates[index], of_fold, outputs)
    return gates[best[0]], gated


def _compared(
    held_out: Mapping[str, tuple[Gate, PredictionSet]], records: Sequence[Record], num_replicates: int
) -> dict[str, FormScore]:
    bootstrap = image_bootstrap(records, num_replicates)
    scored = {form: mean_ap(gated, records, bootstrap) for form, (_, gated) in held_out.items()}
    result = {}
    for form, (gate, _) in held_out.items():
        difference = Difference.of(scored[form], scored[NoClassifier.form])
        result[form] = FormScore(gate, difference.a, difference.gain, difference.wins)
    return result


def save(
    path: str | Path, fitted: Fitted, sources: Mapping[str, str | Path],
    column: ProbabilityColumn | None = None,
) -> None:
    """Write the gate with its provenance.

    Args:
        path: JSON to write.
        fitted: the result; the images that it was fitted on and the scores of all forms are written too.
        sources: name -> input file; written with its SHA-256.
        column: of the probabilities.
    """
    write_json(path, {
        "gate": fitted.gate.as_json(),
        "fitted_on": {name: {"file": str(file), "sha256": _digest(file)} for name, file in sources.items()},
        **in_sample.as_json(fitted.ids), "auc": fitted.auc, "version": __version__,
        "probabilities": column._asdict() if column else None, "label_set": fitted.label_set.name,
        "forms": {form: _form_json(score) for form, score in fitted.forms.items()},
    })


def _form_json(score: FormScore) -> dict[str, Any]:
    return {"mAP40": score.score, "gain": score.gain.value, "ci95": [score.gain.low, score.gain.high],
            "wins": score.wins, "gate": score.gate.as_json()}


def _digest(path: str | Path) -> str:
    return hashlib.sha256(existing_file(path).read_bytes()).hexdigest()


@dataclass(frozen=True)
class SavedGate:
    """A gate, and the column of probabilities that it was fitted to."""

    gate: Gate
    column: ProbabilityColumn | None = None

    def check_column(self, path: str | Path, given: ProbabilityColumn) -> None:
        """Refuse a column of the same name as at the fit, but of another meaning.

        Args:
            path: of the file that holds ``given``.
            given: the column that the gate is to be applied to.

        Raises:
            InputError: the meanings differ.
        """
        if self.column and given.column == self.column.column and given.meaning != self.column.meaning:
            raise InputError(f"{path}: column {given.column} is taken for {given.meaning}, expected "
                             f"{self.column.meaning} as where the gate was fitted (--meaning, or "
                             "--allow-inverted)")


def read(path: str | Path) -> SavedGate:
    """The gate in a file of :func:`save` or of ``vindr-det tune``.

    Raises:
        InputError: not such a file, or it holds no gate.
    """
    return saved_gate(read_json(path), path)


def require_label_set(data: Mapping[str, Any], path: str | Path, label_set: LabelSet) -> None:
    """Refuse a gate that was fitted to predictions of another label set; files of earlier versions name none.

    Args:
        data: of a file of :func:`save` or of ``vindr-det tune``.
        path: named in errors.
        label_set: of the predictions that it is for.

    Raises:
        InputError: names both sets.
    """
    fitted = data.get("label_set", label_set.name)
    if fitted != label_set.name:
        raise InputError(f"{path}: was fitted to predictions of label set {fitted}, expected "
                         f"{label_set.name}")


def saved_gate(data: Any, path: str | Path) -> SavedGate:
    """The gate that :func:`read` reads, from what the file holds.

    Args:
        data: its JSON.
        path: named in errors.

    Raises:
        InputError: as of :func:`read`.
    """
    if isinstance(data, dict) and data.get("gate", 0) is None:
        raise InputError(f"{path}: holds no gate, expected a search with --probabilities, or a file of "
                         "vindr-det gate fit")
    try:
        column = data.get("probabilities")
        return SavedGate(gate_from_json(data["gate"]),
                         ProbabilityColumn.from_json(column) if column else None)
    except (AttributeError, KeyError, TypeError) as error:
        raise InputError(f"{path}: not a gate, expected a file of vindr-det gate fit") from error
