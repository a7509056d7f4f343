"""A request to vindr-det evaluate, and its answer in text and numbers."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from vindr_det.classification.label_table import read_identities
from vindr_det.data.truth import read_truth
from vindr_det.data.vinbigdata import read_annotations
from vindr_det.evaluation import readers, score
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json
from vindr_det.imaging.sizes import read_sizes
from vindr_det.imaging.status import read_failed, status_path_of
from vindr_det.limits import LARGEST_SIDE, require_replicates
from vindr_det.metrics.coco import coco_ap_by_size
from vindr_det.metrics.coco_sizes import coco_in_frame
from vindr_det.metrics.metric import MatchedPredictions, Metric
from vindr_det.metrics.plots import CONFUSION_SCORE, write_pictures
from vindr_det.metrics.registry import METRICS
from vindr_det.metrics.tide import confusion_matrix
from vindr_det.structures.detections import PredictionSet, label_set_of
from vindr_det.structures.label_maps import common_findings, map_predictions, map_records
from vindr_det.structures.label_sets import LABEL_SETS, shipped_label_set
from vindr_det.structures.records import Record, label_set_of_records
from vindr_det.submission import read_submission, read_submission_of_any_set, refuse_other_frame

#: Key -> value, and the same as text for people.
Answer = tuple[dict[str, Any], str]


@dataclass(frozen=True)
class EvaluationRequest:
    """The options of the tool; see there.

    Raises:
        InputError: options that do not go together.
    """

    annotations: str
    predictions: str | None = None
    meta: str | None = None
    out: str | None = None
    bootstrap: int = 0
    compare: str | None = None
    by: str | None = None
    confusion: float | None = None
    chance: bool = False
    frame: int | None = None
    seed: int = 0
    patients: str | None = None
    map_labels: str | None = None

    def __post_init__(self) -> None:
        if self.predictions is None and self.by != "reader":
            raise InputError("--predictions: missing; only --by reader goes without")
        beside = {"--compare": self.compare, "--confusion": self.confusion is not None,
                  "--chance": self.chance, "--frame": self.frame, "--patients": self.patients,
                  "--map-labels": self.map_labels is not None}
        if self.by == "reader" and any(beside.values()):
            raise InputError(f"--by reader with {_first(beside)}: expected one of the two")
        apart = {"--by": self.by, "--confusion": self.confusion is not None, "--chance": self.chance,
                 "--frame": self.frame}
        if self.compare and any(apart.values()):
            raise InputError(f"--compare with {_first(apart)}: expected one of the two")
        require_replicates(self.bootstrap, none=True)
        if self.patients and not self.bootstrap and not self.compare:
            raise InputError("--patients: expected --bootstrap or --compare, whose intervals it changes")
        if self.map_labels and shipped_label_set(self.map_labels) is None:
            raise InputError(f"--map-labels {self.map_labels!r}: expected one of {', '.join(LABEL_SETS)}")
        if self.by == "reader" and holds_json(self.annotations):
            raise InputError(f"{self.annotations}: --by reader expects a VinBigData .csv with rad_id")
        if self.frame is not None and not 1 <= self.frame <= LARGEST_SIDE:
            raise InputError(f"--frame {self.frame}: expected a side in pixels, 1 to {LARGEST_SIDE}")
        sizes = {"--by size": self.by == "size", "--frame": self.frame}
        if any(sizes.values()) and not self.meta and not holds_json(self.annotations):
            raise InputError(f"{self.annotations}: {_first(sizes)} expects --meta, or a COCO .json, which "
                             "hold the images' sizes")


def _first(options: Mapping[str, object]) -> str:
    return next(name for name, given in options.items() if given)


def run_evaluation(request: EvaluationRequest, metrics: Sequence[Metric] = METRICS) -> Answer:
    """Metrics by key, NaN where there is nothing to measure, and what to print.

    Args:
        request: the files and what to compute.
        metrics: what to compute from each prediction file.

    Raises:
        InputError: a faulty file.
    """
    paths = [path for path in (request.predictions, request.compare) if path]
    files = [_read(path, request) for path in paths]
    records = read_truth(request.annotations, request.meta)
    if not records:
        raise InputError(f"{request.annotations}: holds no image")
    if request.by == "reader":
        return _by_reader(request, files[0] if files else None, records)
    files, records, notes = _mapped(request, files, records)
    values, text = (_compared(request, files[0], files[1], records, metrics) if request.compare else
                    _scored(request, MatchedPredictions(files[0], records), metrics))
    return values, "\n\n".join([*notes, text])


def _read(path: str, request: EvaluationRequest) -> PredictionSet:
    if request.meta:
        refuse_other_frame(path, read_sizes(request.meta))
    if request.map_labels is None:
        return read_submission(path, annotations=request.annotations)
    asked = shipped_label_set(request.map_labels) if request.map_labels else None
    return read_submission_of_any_set(path, request.annotations, asked)


def _mapped(
    request: EvaluationRequest, files: list[PredictionSet], records: list[Record]
) -> tuple[list[PredictionSet], list[Record], list[str]]:
    """With --map-labels files and truth in the classes that they have in common, and notes of these."""
    sets = [*map(label_set_of, files), label_set_of_records(records)]
    if request.map_labels is None or all(of.classes == sets[-1].classes for of in sets):
        return files, records, []
    common = common_findings(*sets)
    notes = [f"note: scored over the {len(common.label_set)} findings that the label sets have in common: "
             + ", ".join(common.label_set.findings)]
    notes += [f"note: {name} joins {' and '.join(parts)}" for name, parts in common.joined.items()]
    notes += [f"note: left out of {name}, since another set has no such class: {', '.join(names)}"
              for name, names in common.left_out.items() if names]
    label_set = common.label_set
    return [map_predictions(file, label_set) for file in files], map_records(records, label_set), notes


def _patients(request: EvaluationRequest, records: Sequence[Record]) -> dict[str, str] | None:
    """Image id -> patient, of --patients, which must name that of each record."""
    if request.patients is None:
        return None
    table = read_identities(request.patients)
    if table.group_kind != "patient":
        raise InputError(f"{request.patients}: has no column of patients, expected image_id and patient")
    patients = dict(zip(table.image_ids.tolist(), table.groups.tolist(), strict=True))
    missing = [record.image_id for record in records if record.image_id not in patients]
    if missing:
        raise InputError(f"{request.patients}: {len(missing)} images have no patient, the first is "
                         f"{missing[0]}")
    return patients


def _scored(request: EvaluationRequest, matched: MatchedPredictions, metrics: Sequence[Metric]) -> Answer:
    predictions, records, texts = matched.predictions, matched.records, []
    unknown = [len(record.unknown) for record in records if record.unknown]
    if unknown:
        texts.append(f"note: findings are unknown on {len(unknown)} of {len(records)} images, "
                     f"{sum(unknown)} in all; these images are left out for them")
    absent = [record.image_id for record in records if record.image_id not in predictions]
    if absent:
        texts.append(f"note: {len(absent)} of {len(records)} images have no prediction and count as empty"
                     + _unread(str(request.predictions), absent))
    values: dict[str, Any] = dict(score.compute_metrics(matched, metrics))
    tied = score.tie_spread(matched, request.seed)
    if tied:
        texts.append(score.tie_note(tied, matched.label_set))
        values |= tied
    if request.by == "size":
        values |= coco_ap_by_size(predictions, records)
    if request.frame:
        values |= coco_in_frame(predictions, records, request.frame)
    if request.bootstrap:
        intervals = score.confidence_intervals(matched, request.bootstrap, request.seed, metrics,
                                               _patients(request, records))
        values |= intervals
        if not intervals:
            texts.append(f"note: no interval, since findings are on fewer than {score.MIN_COUNT} "
                         f"{'patients' if request.patients else 'images'}")
    if request.chance:
        values |= score.chance_level(predictions, records, request.seed)
    texts.append(score.metrics_table(values, matched, metrics))
    if request.confusion is not None:
        matrix = confusion_matrix(matched.voc, request.confusion)
        values["confusion"] = matrix.tolist()
        texts.append(score.confusion_table(matrix, matched.label_set))
    if request.out:
        write_pictures(request.out, matched.voc,
                       CONFUSION_SCORE if request.confusion is None else request.confusion)
    return values, "\n\n".join(texts)


def _unread(path: str, absent: Sequence[str]) -> str:
    """Which of the images without a prediction were not read, by the status table; empty for none."""
    unread = sorted(read_failed(path).keys() & set(absent))
    return (f"; of these {len(unread)} were NOT READ, the first is {unread[0]} ({status_path_of(path)})"
            if unread else "")


def _by_reader(
    request: EvaluationRequest, predictions: PredictionSet | None, records: list[Record]
) -> Answer:
    sizes = read_sizes(request.meta) if request.meta else None
    by_reader = readers.split_readers(read_annotations(request.annotations, sizes))
    options = {"num_replicates": request.bootstrap, "seed": request.seed}
    pairs = (readers.reader_pairs(by_reader, records, **options) if predictions is None
             else readers.predictions_by_reader(predictions, by_reader, records, **options))
    if not pairs:
        raise InputError(f"{request.annotations}: no reader shares {readers.MIN_ABNORMAL} abnormal images "
                         "with another one or with the predictions")
    return readers.as_metrics(pairs), readers.reader_table(pairs)


def _compared(
    request: EvaluationRequest, a: PredictionSet, b: PredictionSet, records: list[Record],
    metrics: Sequence[Metric],
) -> Answer:
    differences = score.paired_comparison(a, b, records, request.bootstrap or 1000, request.seed, metrics,
                                          _patients(request, records))
    values = {key: {"a": of.a, "b": of.b, "difference": of.gain.value} | (
        {} if math.isnan(of.wins) else {"ci95": [of.gain.low, of.gain.high], "a_wins": of.wins})
        for key, of in differences.items()}
    return values, f"A {request.predictions}\nB {request.compare}\n\n{score.comparison_table(differences)}"
