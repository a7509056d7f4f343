"""Score other people's files of probabilities, or two of them, against a table of labels."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from pathlib import Path

import numpy as np

from vindr_det.classification import operating_points as points
from vindr_det.classification.external_compare import ClassifierFile, compare
from vindr_det.classification.external_scores import ExternalScores, threshold_table
from vindr_det.classification.label_table import LabelTable, read_table
from vindr_det.classification.operating_points import (
    POINTS_FILE,
    LabelPredictions,
    OperatingPoints,
    TargetRates,
    random_parts,
)
from vindr_det.classification.probabilities import (
    MEANINGS,
    P_ABNORMAL,
    check_not_inverted,
    read_probabilities,
)
from vindr_det.classification.targets import ABNORMAL, TARGETS
from vindr_det.exceptions import InputError
from vindr_det.files import image_id_in_table
from vindr_det.metrics.bootstrap import Bootstrap
from vindr_det.metrics.calibration import Calibration
from vindr_det.metrics.classification import measurable, measure
from vindr_det.structures.label_sets import column_of
from vindr_det.tables import read_csv, to_numbers

#: Names of results that are no columns: a file's P(abnormal), and the mean of several columns.
_FILE, _MEAN = "the file", "their mean"
_TARGETS = TargetRates()


@dataclass(frozen=True)
class ScoringOptions:
    """What to score, and with which operating points.

    Attributes:
        columns: of P(abnormal) or, by ``meaning``, P(no finding); None takes all columns of known labels.
        meaning: of ``columns``, p_abnormal or p_no_finding.
        replicates: of the bootstrap.
        targets: operating points beside Youden's and .5.
        points: folder of a training whose operating points and calibration are applied; None cross-fits them
            on the images.
        other_columns: of a second file; None takes ``columns``.
        other_meaning: of these; None takes ``meaning``.
        allow_inverted: also score probabilities with an AUC below 0.5.
        thresholds: also count at each of these.
    """

    columns: Sequence[str] | None = None
    meaning: str = P_ABNORMAL
    replicates: int = 1000
    targets: TargetRates = _TARGETS
    points: str | Path | None = None
    other_columns: Sequence[str] | None = None
    other_meaning: str | None = None
    allow_inverted: bool = False
    thresholds: Sequence[float] = ()

    def of_second_file(self) -> "ScoringOptions":
        """The same, with the second file's columns."""
        return replace(self, columns=self.other_columns or self.columns,
                       meaning=self.other_meaning or self.meaning)

    def abnormal_columns(self) -> set[str]:
        """Results that are P(abnormal)."""
        return {_FILE, _MEAN, *(self.columns or ())}


def thresholds_between(low: float, high: float, step: float) -> list[float]:
    """From ``low`` in steps up to ``high``, which is included.

    Raises:
        InputError: not of 0 to 1, no step, or over 1,000 thresholds.
    """
    if not (0 <= low <= high <= 1 and step > 0 and (high - low) / step < 1000):
        raise InputError(f"--sweep {low:g} {high:g} {step:g}: expected LOW, HIGH and STEP, 0 to 1 with LOW "
                         "at most HIGH, and no more than 1,000 thresholds")
    return [round(low + place * step, 9) for place in range(int((high - low) / step + 1e-6) + 1)]


def score(
    predictions: str | Path, labels: str | Path, options: ScoringOptions, other: str | Path | None = None
) -> ExternalScores:
    """Score a file of probabilities, and compare a second one with it.

    Args:
        predictions: CSV with image_id and probabilities.
        labels: a table of labels.
        options: what to score.
        other: a second file.

    Raises:
        InputError: a faulty file, inverted probabilities (:func:`.probabilities.check_not_inverted`), or two
            files that have nothing in common.
    """
    file, table = _read(predictions, labels, options)
    ids = table.image_ids.tolist()
    enough = [label for label in file.labels if measurable(label.truth)]
    if options.points is None:
        source = "cross-fitted: chosen on other parts of the images than they are counted on"
        fitted = points.fit_points(enough, options.targets, source)
        rates = points.cross_fitted_rates(enough, fitted, options.targets)
    else:
        fitted = _stored_points(options.points, file)
        note = points.in_sample_note(options.points, ids)
        source = "; ".join([f"of {options.points}", *([note] if note else [])])
        rates = points.rates_at([label for label in enough if label.column in fitted], fitted)
    differences = {} if other is None else compare(file, _read(other, labels, options.of_second_file())[0])
    return ExternalScores(
        len(table), int((table.targets[:, 0] >= 0.5).sum()),
        {label.column: measure(label.truth, label.p, label.bootstrap) for label in file.labels},
        points.calibration_summary(enough, fitted, options.points is None), rates, source, differences,
        _calibration_note(predictions, options.points, ids), file.labels,
        threshold_table(file.labels, options.thresholds))


def _stored_points(folder: str | Path, file: ClassifierFile) -> dict[str, OperatingPoints]:
    """A training's points; its calibrations only where the file was not calibrated by them already.

    Raises:
        InputError: it has none of any column that is scored.
    """
    stored = points.read_points(folder)
    if _is_calibrated(file.path):
        stored = {name: replace(label, calibration=Calibration()) for name, label in stored.items()}
    abnormal = [column for column in file.columns if column in file.abnormal]
    if P_ABNORMAL in stored and len(abnormal) == 1:
        stored[abnormal[0]] = stored[P_ABNORMAL]
    if not stored.keys() & set(file.columns):
        raise InputError(f"{folder}: has points of {', '.join(stored)}, expected one of "
                         f"{', '.join(file.columns)}")
    return stored


def _is_calibrated(predictions: str | Path) -> bool:
    frame = read_csv(predictions)
    return "calibrated" in frame and bool((to_numbers(frame["calibrated"]) == 1).all())


def _calibration_note(predictions: str | Path, folder: str | Path | None, ids: Sequence[str]) -> str:
    """In-sample note of ``folder``, else of the training beside a calibrated file."""
    beside = Path(predictions).parent
    if folder is None and not (_is_calibrated(predictions) and (beside / POINTS_FILE).is_file()):
        return ""
    return points.in_sample_note(folder or beside, ids)


def _read(
    predictions: str | Path, labels: str | Path, options: ScoringOptions
) -> tuple[ClassifierFile, LabelTable]:
    """Every column with its truth, and the images that file and table share, in the file's order."""
    names = [] if options.columns else _shared_labels(predictions, labels)
    table = read_table(labels, [ABNORMAL, *names])
    row_of = dict(zip(table.image_ids.tolist(), range(len(table)), strict=True))
    columns = _columns(predictions, options, names)
    first = next(iter(columns.values()))[1]
    ids = [image for image in first if image in row_of]
    if not ids:
        raise InputError(f"{predictions}: none of its {len(first)} images is in {labels}")
    part = table[[row_of[image] for image in ids]]
    parts, bootstrap = random_parts(part.groups), Bootstrap.of(part.groups, options.replicates)
    result = []
    for column, (place, values) in columns.items():
        target, known = part.targets[:, place], ~np.isnan(part.targets[:, place])
        truth, known_ids = target[known] >= 0.5, part.image_ids[known]
        if place == 0 and column != _MEAN:
            abnormal = dict(zip(known_ids.tolist(), truth.tolist(), strict=True))
            check_not_inverted(values, abnormal, f"{predictions}, {column}", options.allow_inverted)
        p = np.array([values[image] for image in ids])
        result.append(LabelPredictions(column, known_ids, truth, p[known], parts[known],
                                       replace(bootstrap, group_of=bootstrap.group_of[known])))
    return ClassifierFile(str(predictions), result, options.abnormal_columns()), part


def _columns(
    predictions: str | Path, options: ScoringOptions, names: Sequence[str]
) -> dict[str, tuple[int, dict[str, float]]]:
    """Name of a result -> column of the table's targets, and the file's probabilities."""
    if options.columns:
        result = {name: (0, _probabilities(predictions, name, options.meaning)) for name in options.columns}
        if len(result) > 1:
            parts = [values for _, values in result.values()]
            result[_MEAN] = (0, {i: float(np.mean([part[i] for part in parts])) for i in parts[0]})
        return result
    result = {}
    if not names or set(MEANINGS).intersection(read_csv(predictions)):
        result[_FILE] = (0, _probabilities(predictions, None, options.meaning))
    given = read_csv(predictions).columns
    for place, name in enumerate(names, start=1):
        column = column_of(name) if column_of(name) in given else name
        result[column_of(name)] = (place, _probabilities(predictions, column))
    return result


def _probabilities(
    path: str | Path, column: str | None, meaning: str | None = None
) -> dict[str, float]:
    """:func:`read_probabilities` by the ids of a table of labels, which have no suffix of an image."""
    given = read_probabilities(path, column, meaning)
    result = {image_id_in_table(name): value for name, value in given.items()}
    if len(result) < len(given):
        raise InputError(f"{path}: {len(given) - len(result)} of its images differ from another in their "
                         "suffix alone, expected each once")
    return result


def _shared_labels(predictions: str | Path, labels: str | Path) -> list[str]:
    """Labels that the file has a column of and the table a label."""
    predicted, labeled = read_csv(predictions, ["image_id"]).columns, read_csv(labels).columns
    names = dict.fromkeys([*(name for target in TARGETS.values() for name in target), *labeled])
    shared = [name for name in names if name in labeled and column_of(name) in predicted
              and column_of(name) not in MEANINGS]
    return shared or _plain_labels(predictions, set(labeled))


def _plain_labels(predictions: str | Path, labeled: set[str]) -> list[str]:
    """Known labels whose plain names are columns of probabilities, in a file without any of ours.

    Raises:
        InputError: they hold 0 and 1 alone.
    """
    frame = read_csv(predictions)
    if any(name.startswith("p_") for name in frame):
        return []
    known = {name for target in TARGETS.values() for name in target}
    names = [name for name in frame if name in known & labeled]
    if names and np.isin(np.column_stack([to_numbers(frame[name]) for name in names]), (0, 1)).all():
        raise InputError(f"{predictions}: columns {', '.join(names)} hold 0 and 1 alone, which are labels; "
                         "expected probabilities")
    return names
