"""Sections of predictions against truth: scores, classes, curves, TIDE errors, confusion, readers.

Every number is of :mod:`vindr_det.evaluation` and :mod:`vindr_det.metrics`; nothing is measured here.
"""

import math
from collections import Counter
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

import numpy as np

from vindr_det.evaluation import readers, score
from vindr_det.exceptions import InputError
from vindr_det.files import read_json
from vindr_det.imaging.palette import code_of
from vindr_det.metrics.froc import POINTS, sensitivities
from vindr_det.metrics.matching import IOU_THRESHOLD, Matched, mean_over_classes
from vindr_det.metrics.plots import mean_curve, pr_curve, with_ends
from vindr_det.metrics.tide import ERRORS, confusion_matrix
from vindr_det.metrics.voc import VindrResult
from vindr_det.report.blocks import (
    BarChart,
    Block,
    Cell,
    Facts,
    LineChart,
    MatrixChart,
    Section,
    Series,
    Table,
    interval_text,
    score_cell,
)
from vindr_det.report.sources import NO_BOX, NO_PREDICTION, NOT_READ, Sources
from vindr_det.structures.label_sets import LabelSet

#: Figures at the top of the page, of those that there are: key -> name.
_HEADLINES = {"vindr/mAP40": "mAP at IoU > .4, 15 classes", "voc/mAP40": "mAP at IoU > .4",
              "coco/AP": "COCO AP, IoU .50:.95", "coco/AP50": "COCO AP50",
              "froc/sensitivity@0.5": "sensitivity at ½ false positive per image",
              "froc/sensitivity@1": "sensitivity at 1 false positive per image"}
_FROC_GRID = tuple(float(point) for point in np.geomspace(POINTS[0], POINTS[-1], 49))
_INTERVALS = ("Intervals are 95 %, from random halves of the images or patients; the bias is how much too "
              "high a value probably is because the images are few.")
_WHITE = "#ffffff"
_ERROR_TEXTS = {
    "localization": "right finding, overlaps its box too little",
    "classification": "right place, other finding",
    "duplicate": "a second box on a detected finding",
    "background": "nothing is there",
    "both": "other finding, overlaps too little",
    "missed": "a true box that nothing explains",
}


def measured(sources: Sources) -> dict[str, Any]:
    """Metrics by key with ``/ci95`` and ``/bias``: of predictions and truth, or of ``--metrics``.

    Raises:
        InputError: predictions and truth do not fit, or ``--metrics`` is no object of metrics.
    """
    request, matched = sources.request, sources.matched
    if matched is None:
        values = read_json(request.metrics) if request.metrics else {}
        return _require_metrics(request.metrics, values)
    values = dict(score.compute_metrics(matched))
    values |= score.tie_spread(matched, request.seed)
    if request.bootstrap:
        values |= score.confidence_intervals(matched, request.bootstrap, request.seed,
                                             patients=sources.patients())
    return values


def _require_metrics(path: str | None, values: Any) -> dict[str, Any]:
    if not isinstance(values, dict) or (path and not any(key.endswith("/mAP40") for key in values)):
        raise InputError(f"{path}: has no mAP40, expected the metrics.json of vindr-det evaluate --out")
    return {key: math.nan if value is None else value for key, value in values.items()}


def summary_section(sources: Sources, values: Mapping[str, Any]) -> Section | None:
    """The figures that a reader looks for first; None where nothing was measured."""
    if not values:
        return None
    items = [(name, Cell.of(float(values[key])).text, interval_text(values, key))
             for key, name in _HEADLINES.items() if _is_number(values.get(key))]
    keys = [key for key in score.summary_keys(values) if _is_number(values[key])]
    rows = [[Cell(key), score_cell(values, key), _bias(values, key)] for key in keys]
    note = _INTERVALS if any(f"{key}/ci95" in values for key in keys) else ""
    blocks: list[Block] = [Facts(items, large=True),
                           Table("All metrics", ["metric", "value [95 %]", "bias"], rows, note)]
    return Section("scores", "Scores", blocks, _notes(sources, values))


def _is_number(value: object) -> bool:
    return isinstance(value, (int, float)) and not math.isnan(value)


def _bias(values: Mapping[str, Any], key: str) -> Cell:
    bias = values.get(f"{key}/bias")
    return Cell.of(None) if bias is None else Cell(f"{bias:+.4f}", bias)


def _notes(sources: Sources, values: Mapping[str, Any]) -> list[str]:
    matched, notes = sources.matched, []
    if matched is None:
        return [f"As {Path(str(sources.request.metrics)).name} has them."]
    normal = sum(record.normal for record in matched.records)
    states = Counter(sources.state(record.image_id) for record in matched.records)
    absent = states[NOT_READ] + states[NO_PREDICTION]
    notes.append(f"{len(matched.records):,} annotated images, {normal:,} of them normal; "
                 f"{len(matched.records) - absent:,} predicted.")
    if absent:
        notes.append(f"{absent:,} annotated images have no prediction and count as empty; "
                     f"{states[NOT_READ]:,} of these were not read.")
    if states[NO_BOX]:
        notes.append(f"{states[NO_BOX]:,} of the images that count as predicted have no box in the "
                     "predictions' file, which does not tell whether they were read.")
    unknown = [record for record in matched.records if record.unknown]
    if unknown:
        notes.append(f"Findings are unknown on {len(unknown):,} of {len(matched.records):,} images, which "
                     "are left out for them.")
    if "ties/share" in values:
        notes.append(score.tie_note(values, matched.label_set).removeprefix("note: "))
    return notes


def classes_section(sources: Sources, values: Mapping[str, Any]) -> Section | None:
    """A row per class: ground truth, detections, and the metrics that have a value per class."""
    matched = sources.matched
    if matched is None:
        return None
    columns = score.class_columns(matched.label_set)
    counts, detections = matched.voc.counts.sum(axis=0), matched.voc.by_class
    rows = [[Cell(name), Cell.of(int(counts[at])), Cell.of(len(detections[at])),
             *(score_cell(values, key.format(name)) for key in columns.values())]
            for at, name in enumerate(matched.label_set.classes)]
    class_ap, names = matched.label_set.class_ap, matched.label_set.classes
    aps = {name: float(values[class_ap.format(name)]) for name in names
           if _is_number(values.get(class_ap.format(name)))}
    chart = BarChart(
        "AP at IoU > .4 per class",
        "A bar per class, with its 95 % interval where the images are "
        "enough for one; the table below has the same values.",
        "AP",
        aps,
        _colors(matched.label_set),
        {name: bounds for name in aps if (bounds := values.get(f"{class_ap.format(name)}/ci95"))},
    )
    return Section(
        "classes",
        "Classes",
        [chart, Table("Per class", ["class", "true boxes", "detections", *columns], rows)],
    )


def _colors(label_set: LabelSet) -> dict[str, str]:
    return {name: code_of(at) for at, name in enumerate(label_set.classes)}


def curves_section(sources: Sources) -> Section | None:
    """Precision-recall and FROC curves of the classes."""
    if sources.matched is None:
        return None
    matched = sources.matched.voc
    charts = [_precision_recall(matched), _froc(matched)]
    return Section("curves", "Curves", [chart for chart in charts if chart.series])


def _precision_recall(matched: Matched) -> LineChart:
    result, names = VindrResult.of_matched(matched), matched.label_set.classes
    curves = {label: pr_curve(matched, label) for label, name in enumerate(names) if result.truths[name]}
    series = [
        Series(f"{names[label]}  {result.ap[names[label]]:.3f}", _steps(*with_ends(*points)), code_of(label))
        for label, points in curves.items()
    ]
    if curves:
        series.append(
            Series(
                f"mean  {result.mean_ap:.3f}", np.column_stack(mean_curve(list(curves.values()))), _WHITE, 2.6
            )
        )
    return LineChart(
        f"Precision-recall at IoU > {IOU_THRESHOLD:g}",
        "Precision over recall of each class with ground truth; the legend has the AP, which is the area.",
        "recall",
        "precision",
        series,
        (0, 1),
        (0, 1),
        film=True,
    )


def _steps(x: Any, y: Any) -> Any:
    """(N, 2) corners of a curve that holds each value up to its point, without corners in a straight line."""
    corners = np.column_stack([np.repeat(x, 2)[:-1], np.repeat(y, 2)[1:]])
    level = np.flatnonzero(np.diff(corners[:, 1]) != 0)
    return corners[np.unique(np.concatenate([[0], level, level + 1, [len(corners) - 1]]))]


def _froc(matched: Matched) -> LineChart:
    values = sensitivities(matched, points=_FROC_GRID)
    mean = mean_over_classes(values)[0]
    known = [label for label in range(len(matched.label_set)) if not np.isnan(values[0, label]).all()]
    at_one = int(np.argmin(np.abs(np.array(_FROC_GRID) - 1)))
    names = matched.label_set.findings
    series = [Series(f"{names[label]}  {values[0, label, at_one]:.3f}",
                     np.column_stack([_FROC_GRID, values[0, label]]), code_of(label)) for label in known]
    if known:
        series.append(Series(f"mean  {mean[at_one]:.3f}", np.column_stack([_FROC_GRID, mean]), _WHITE, 2.6))
    return LineChart("Free-response ROC", "Share of each finding's boxes that are detected, over its false "
                     "positives per image; the legend has the value at one false positive per image.",
                     "false positives per image", "sensitivity", series, (POINTS[0], POINTS[-1]), (0, 1),
                     film=True, log_x=True)


def errors_section(values: Mapping[str, Any]) -> Section | None:
    """TIDE errors: how many boxes each is, and what the mAP gains without it."""
    if not _is_number(values.get(f"tide/{ERRORS[0]}")):
        return None
    rows = [[Cell(name), Cell(_ERROR_TEXTS[name]), Cell.of(int(values[f"tide/{name}"])),
             score_cell(values, f"tide/{name}/dAP")] for name in ERRORS]
    costs = {name: float(values[f"tide/{name}/dAP"]) for name in ERRORS}
    return Section(
        "errors",
        "Errors and what they cost",
        [
            BarChart(
                "Gain of mAP where one error alone is fixed",
                "A bar per TIDE error; the table below has the same values.",
                "gain of mAP",
                costs,
            ),
            Table("TIDE errors", ["error", "meaning", "boxes", "gain of mAP"], rows),
        ],
    )


def confusion_section(sources: Sources) -> Section | None:
    """True findings by detected findings, each with background."""
    if sources.matched is None:
        return None
    matched, lowest = sources.matched, sources.request.score
    counts = confusion_matrix(matched.voc, lowest)
    if not counts.any():
        return None
    names = [*matched.label_set.findings, "background"]
    chart = MatrixChart(
        f"True by detected findings at IoU > {IOU_THRESHOLD:g}, scores from {lowest:g} on",
        "Boxes, best first, take the true box that they overlap most, whatever its finding. Colors are "
        "shares of a row.",
        "true",
        "detected",
        names,
        names,
        counts,
        counts / np.maximum(counts.sum(axis=1), 1)[:, None],
    )
    return Section("confusion", "Confusion", [chart])


def readers_section(sources: Sources) -> Section | None:
    """Readers against readers and against the consensus, and the predictions against each of them."""
    if len(sources.readers) < 2 or sources.records is None:
        return None
    options = {"num_replicates": 0, "seed": sources.request.seed}
    pairs: Sequence[readers.ReaderPair] = readers.reader_pairs(sources.readers, sources.records, **options)
    if sources.predictions is not None:
        pairs = [
            *readers.predictions_by_reader(sources.predictions, sources.readers, sources.records, **options),
            *pairs,
        ]
    if not pairs:
        return None
    rows = [[Cell(pair.rater), Cell(pair.reference), Cell.of(pair.images), Cell.of(pair.abnormal),
             Cell.of(pair.result.mean_ap), Cell.of(pair.spread)] for pair in pairs]
    note = (
        f"Of readers who both read {readers.MIN_ABNORMAL} images or more on which either marked a finding. "
        "Readers give no scores: their AP is the mean over random orders, and understates a human."
    )
    return Section("readers", "Readers", [Table("Boxes of one against boxes of another", [
        "boxes of", "truth of", "images", "abnormal", "mAP at IoU > .4", "sd over orders"], rows, note)])
