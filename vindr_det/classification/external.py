"""Probabilities from any file, or two, against a table of labels."""

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import numpy as np
from tabulate import tabulate

from vindr_det.classification import operating_points as points
from vindr_det.classification.label_columns import image_id
from vindr_det.classification.labels import ABNORMAL, TARGETS, LabelTable, read_table
from vindr_det.classification.operating_points import POINTS_FILE, Chosen, Label, Targets, parts_of_groups
from vindr_det.classification.probabilities import SIGNS, check_sign, read_probabilities
from vindr_det.exceptions import InputError
from vindr_det.metrics.bootstrap import Bootstrap, Estimate
from vindr_det.metrics.calibration import Calibration
from vindr_det.metrics.classification import MIN_COUNT, measurable, measure
from vindr_det.metrics.comparison import DeLong, delong, paired
from vindr_det.structures.label_sets import column_of
from vindr_det.tables import read_csv, to_numbers

log = logging.getLogger(__name__)

_FILE, _MEAN = "the file", "their mean"
_TARGETS = Targets()


@dataclass(frozen=True)
class Difference:
    """What the second file has more than the first, on the images of both.

    Attributes:
        by_patient: ``auc`` and ``ap``, intervals by bootstrap of whole patients.
        by_image: of the AUC, by DeLong; patients' images count as independent.
        images: that both know.
    """

    by_patient: Mapping[str, Estimate]
    by_image: DeLong
    images: int


@dataclass(frozen=True)
class Scored:
    """What each column is worth, and the mean of several.

    Attributes:
        images: with a label.
        abnormal: of them.
        found: column -> ``auc`` and ``ap``; empty where there is too little of one side.
        calibration: column -> errors as it is and calibrated by other parts of the images.
        rates: ``<column>/<point>`` -> counts and rates.
        source: of the operating points.
        compared: column -> how the second file differs.
        calibrated_on: what must be said of the images that the calibration was fitted on; empty if nothing.
    """

    images: int
    abnormal: int
    found: Mapping[str, Mapping[str, Estimate]]
    calibration: Mapping[str, Mapping[str, Any]]
    rates: Mapping[str, Mapping[str, Any]]
    source: str
    compared: Mapping[str, Difference]
    calibrated_on: str = ""

    def text(self) -> str:
        """Tables for people."""
        rows = [[name, *(str(values.get(kind, "not measurable")) for kind in ("auc", "ap")),
                 *(f"{self.calibration[name][key]:.4f}" if name in self.calibration else ""
                   for key in ("ece", "ece_calibrated"))] for name, values in self.found.items()]
        parts = [f"{self.images} images, {self.abnormal} abnormal", _table(
            rows, ["probability", "AUC [95 %]", "AP [95 %]", "ECE", "ECE, calibrated"])]
        if self.calibrated_on:
            parts.append(f"ECE is {self.calibrated_on}")
        if self.rates:
            rows = [[*name.rsplit("/", 1), f"{values['threshold']:.4f}",
                     *(_rate(values, rate) for rate in ("sensitivity", "specificity", "ppv", "npv"))]
                    for name, values in self.rates.items()]
            parts += [f"operating points: {self.source}", _table(
                rows, ["probability", "point", "threshold", "sensitivity", "specificity", "PPV", "NPV"])]
        if self.compared:
            rows = [[name, str(one.images), *map(str, one.by_patient.values()), str(one.by_image.difference),
                     f"{one.by_image.p:.3g}"] for name, one in self.compared.items()]
            head = ["probability", "images", "AUC by patient", "AP by patient", "AUC by image (DeLong)", "p"]
            parts += ["the second file less the first", _table(rows, head)]
        return "\n\n".join(parts)

    def as_json(self) -> dict[str, Any]:
        """``auc/<column>`` and ``auc/<column>/ci95``; calibration, points and differences in nodes."""
        flat: dict[str, Any] = {}
        for name, values in self.found.items():
            for kind, one in values.items():
                flat |= {f"{kind}/{name}": one.value, f"{kind}/{name}/ci95": [one.low, one.high]}
        flat |= {"calibration": self.calibration, "operating_points": self.rates,
                 "points_source": self.source, "calibration_note": self.calibrated_on}
        for name, other in self.compared.items():
            for kind, one in other.by_patient.items():
                flat |= {f"difference/{kind}/{name}": one.value,
                         f"difference/{kind}/{name}/ci95": [one.low, one.high]}
            exact = other.by_image
            flat |= {f"difference/auc/{name}/delong": {
                "ci95": [exact.difference.low, exact.difference.high], "p": exact.p}}
        return flat


def _table(rows: Sequence[Sequence[Any]], head: Sequence[str]) -> str:
    return tabulate(rows, head, disable_numparse=True)


def _rate(values: Mapping[str, Any], rate: str) -> str:
    if rate not in values:
        return ""
    low, high = values[f"{rate}/ci95"]
    return f"{values[rate]:.3f} [{low:.3f}, {high:.3f}]"


@dataclass(frozen=True)
class Request:
    """What to score.

    Attributes:
        columns: each P(abnormal) or, as ``meaning`` has it, P(no finding); None takes all that the file names.
        says: what ``columns`` hold.
        other_columns: of a second file; None takes ``columns``.
        other_says: what they hold; None takes ``meaning``.
        allow_inverted: score also what ranks images the wrong way round.
        resampled: replicates of the intervals.
        targets: operating points beside Youden's and .5.
        points: folder of a training whose points and calibration are held against the labels; None lets the
            images choose their own, crossed.
    """

    columns: Sequence[str] | None = None
    meaning: str = SIGNS[0]
    replicates: int = 1000
    targets: Targets = _TARGETS
    points: str | Path | None = None
    other_columns: Sequence[str] | None = None
    other_meaning: str | None = None
    allow_inverted: bool = False

    def second(self) -> "Request":
        """Of the second file."""
        return replace(self, columns=self.other_columns or self.columns, meaning=self.other_meaning or self.meaning)

    def names_of_abnormal(self) -> set[str]:
        """Columns of a result that mean P(abnormal)."""
        return {_FILE, _MEAN, *(self.columns or ())}


def score(
    predictions: str | Path, labels: str | Path, request: Request, other: str | Path | None = None
) -> Scored:
    """Score a file, and hold a second one against it.

    Args:
        predictions: CSV with image_id and probabilities.
        labels: a table of labels.
        request: what to score.
        other: a second file.

    Raises:
        InputError: a faulty file, inverted probabilities (see :func:`.probabilities.check_sign`), or two files
            that have nothing in common.
    """
    found, table = _labels(predictions, labels, request)
    enough = [one for one in found if measurable(one.truth)]
    if request.points is None:
        source = "chosen by other parts of these images than they are counted on"
        chosen = points.choose(enough, request.targets, source)
        rates = points.crossed_rates(enough, chosen, request.targets)
    else:
        source = f"of {request.points}"
        chosen = _stored(predictions, request, found)
        source += _after("; ", points.seen_by(request.points, table.image_ids.tolist()))
        rates = points.applied(enough, chosen)
    compared = {} if other is None else _compared(predictions, labels, request, found, other)
    return Scored(
        len(table), int((table.targets[:, 0] >= 0.5).sum()),
        {one.column: measure(one.truth, one.p, one.bootstrap) for one in found},
        points.calibrations(enough, chosen, request.points is None), rates, source,
        compared, _calibrated_on(predictions, request, table.image_ids.tolist()))


def _stored(predictions: str | Path, request: Request, found: Sequence[Label]) -> dict[str, Chosen]:
    """A training's points; its calibrations only where the file was not calibrated by them already.

    Raises:
        InputError: it has none of any column that is scored.
    """
    assert request.points is not None
    stored = points.read_points(request.points)
    if _is_calibrated(predictions):
        stored = {name: replace(one, calibration=Calibration()) for name, one in stored.items()}
    names = [one.column for one in found]
    abnormal = [name for name in names if name in request.names_of_abnormal()]
    if SIGNS[0] in stored and len(abnormal) == 1:
        stored[abnormal[0]] = stored[SIGNS[0]]
    if not stored.keys() & set(names):
        raise InputError(f"{request.points}: has points of {', '.join(stored)}, expected one of "
                         f"{', '.join(names)}")
    return stored


def _is_calibrated(predictions: str | Path) -> bool:
    frame = read_csv(predictions)
    return "calibrated" in frame and bool((to_numbers(frame["calibrated"]) == 1).all())


def _calibrated_on(predictions: str | Path, request: Request, ids: Sequence[str]) -> str:
    """What must be said of the calibration: of --points, or of the training beside a calibrated file."""
    folder = Path(request.points or Path(predictions).parent)
    if request.points is None and not (_is_calibrated(predictions) and (folder / POINTS_FILE).is_file()):
        return ""
    return points.seen_by(folder, ids)


def _after(mark: str, text: str) -> str:
    return mark + text if text else ""


def _labels(
    predictions: str | Path, labels: str | Path, request: Request
) -> tuple[list[Label], LabelTable]:
    """Every column with its truth, and the images that file and table know, in the file's order."""
    names = [] if request.columns else _named(predictions, labels)
    table = read_table(labels, [ABNORMAL, *names])
    known = dict(zip(table.image_ids.tolist(), range(len(table)), strict=True))
    columns = _columns(predictions, request, names)
    first = next(iter(columns.values()))[1]
    ids = [name for name in first if name in known]
    if not ids:
        raise InputError(f"{predictions}: none of its {len(first)} images is in {labels}")
    part = table[[known[name] for name in ids]]
    parts, bootstrap = parts_of_groups(part.groups), Bootstrap.of(part.groups, request.replicates)
    result = []
    for column, (place, values) in columns.items():
        target = part.targets[:, place]
        told = ~np.isnan(target)
        if place == 0 and column != _MEAN:
            abnormal = dict(zip(np.array(ids)[told].tolist(), (target[told] >= 0.5).tolist(), strict=True))
            check_sign(values, abnormal, f"{predictions}, {column}", request.allow_inverted)
        p = np.array([values[name] for name in ids])
        result.append(Label(column, np.array(ids)[told], target[told] >= 0.5, p[told], parts[told],
                            replace(bootstrap, group_of=bootstrap.group_of[told])))
    return result, part


def _columns(
    predictions: str | Path, request: Request, names: Sequence[str]
) -> dict[str, tuple[int, dict[str, float]]]:
    """Name of a result -> column of the table's targets, and the file's probabilities."""
    if request.columns:
        result = {name: (0, _probabilities(predictions, name, request.meaning)) for name in request.columns}
        if len(result) > 1:
            parts = [values for _, values in result.values()]
            result[_MEAN] = (0, {i: float(np.mean([part[i] for part in parts])) for i in parts[0]})
        return result
    result = {}
    if not names or set(SIGNS).intersection(read_csv(predictions)):
        result[_FILE] = (0, _probabilities(predictions, None, request.meaning))
    for place, name in enumerate(names, start=1):
        result[column_of(name)] = (place, _probabilities(predictions, column_of(name)))
    return result


def _probabilities(
    path: str | Path, column: str | None, meaning: str | None = None
) -> dict[str, float]:
    """:func:`read_probabilities` by the ids that a table of labels has: without an image's suffix."""
    found = read_probabilities(path, column, meaning)
    result = {image_id(name): value for name, value in found.items()}
    if len(result) < len(found):
        raise InputError(f"{path}: {len(found) - len(result)} of its images differ from another in their "
                         "suffix alone, expected each once")
    return result


def _named(predictions: str | Path, labels: str | Path) -> list[str]:
    """Findings that the file has a column of and the table a label."""
    given, known = read_csv(predictions, ["image_id"]).columns, read_csv(labels).columns
    every = dict.fromkeys(name for target in TARGETS.values() for name in target)
    return [name for name in every if name in known and column_of(name) in given
            and column_of(name) not in SIGNS]


def _compared(
    path: str | Path, labels: str | Path, request: Request, found: Sequence[Label], other: str | Path
) -> dict[str, Difference]:
    """Column by column, of those that both files have.

    Raises:
        InputError: nothing can be compared.
    """
    second = request.second()
    others = {label.column: label for label in _labels(other, labels, second)[0]}
    pairs = _pairs(found, others, request.names_of_abnormal(), second.names_of_abnormal())
    result = {first.column: _difference(first, others[name]) for first, name in pairs}
    estimate = {name: one for name, one in result.items() if one is not None}
    here = [one.column for one in found]
    if not estimate:
        raise InputError(f"{other}: nothing in it can be compared with {path}: it has {', '.join(others)}, "
                         f"expected one of {', '.join(here)}, with {MIN_COUNT} or more common images of either "
                         "kind")
    left = dict.fromkeys([*(name for name in here if name not in result),
                          *(name for name in others if name not in {name for _, name in pairs})])
    if left:
        log.warning("not compared: %s (in one of the files alone)", ", ".join(left))
    return estimate


def _pairs(
    found: Sequence[Label], others: Mapping[str, Label], here: set[str], there: set[str]
) -> list[tuple[Label, str]]:
    """By name; a file's only P(abnormal) is the other's, whatever they are called."""
    pairs = [(one, one.column) for one in found if one.column in others]
    own = [one for one in found if one.column in here]
    theirs = [name for name in others if name in there]
    if len(own) == len(theirs) == 1 and own[0].column != theirs[0]:
        pairs.append((own[0], theirs[0]))
    return pairs


def _difference(first: Label, second: Label) -> Difference | None:
    _, here, there = np.intersect1d(first.ids, second.ids, return_indices=True)
    truth = first.truth[here]
    if not measurable(truth):
        return None
    bootstrap = replace(first.bootstrap, group_of=first.bootstrap.group_of[here])
    more, less = second.p[there], first.p[here]
    return Difference(paired(truth, more, less, bootstrap), delong(truth, more, less), len(truth))
