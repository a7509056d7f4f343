"""What tools/evaluate.py is asked for, and its answers in text and numbers."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from vindr_det.data.truth import read_truth
from vindr_det.data.vinbigdata import read_annotations
from vindr_det.evaluation import readers as reader_scores
from vindr_det.evaluation import score as scoring
from vindr_det.exceptions import InputError
from vindr_det.files import holds_json
from vindr_det.imaging.sizes import read_sizes
from vindr_det.limits import require_replicates
from vindr_det.metrics import coco, tide, voc
from vindr_det.metrics.matching import match
from vindr_det.structures.detections import PredictionSet
from vindr_det.structures.records import Record, truth_of
from vindr_det.submission import read_submission


@dataclass(frozen=True)
class Request:
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
    seed: int = 0

    def __post_init__(self) -> None:
        if self.predictions is None and self.by != "reader":
            raise InputError("--predictions: missing; only --by reader goes without")
        beside = {"--compare": self.compare, "--confusion": self.confusion is not None,
                  "--chance": self.chance}
        if self.by == "reader" and any(beside.values()):
            raise InputError(f"--by reader with {_first(beside)}: expected one of the two")
        apart = {"--by": self.by, "--confusion": self.confusion is not None, "--chance": self.chance}
        if self.compare and any(apart.values()):
            raise InputError(f"--compare with {_first(apart)}: expected one of the two")
        require_replicates(self.bootstrap, none=True)
        if self.by == "reader" and holds_json(self.annotations):
            raise InputError(f"{self.annotations}: --by reader expects a VinBigData .csv with rad_id")
        if self.by == "size" and not self.meta and not holds_json(self.annotations):
            raise InputError(f"{self.annotations}: --by size expects --meta, or a COCO .json, which hold "
                             "the images' sizes")


def _first(options: Mapping[str, object]) -> str:
    return next(name for name, given in options.items() if given)


def evaluate(request: Request) -> tuple[dict[str, Any], str]:
    """Metrics by name, NaN where there is nothing to measure, and what to print.

    Raises:
        InputError: a faulty file.
    """
    predictions = read_submission(request.predictions) if request.predictions else None
    records = read_truth(request.annotations, request.meta)
    if not records:
        raise InputError(f"{request.annotations}: holds no image")
    if request.by == "reader":
        return _by_reader(request, predictions, records)
    assert predictions is not None
    if request.compare:
        return _compared(request, predictions, records)
    texts = []
    absent = sum(record.image_id not in predictions for record in records)
    if absent:
        texts.append(f"note: {absent} of {len(records)} images have no prediction and count as empty")
    metrics: dict[str, Any] = dict(scoring.score(predictions, records))
    tied = scoring.tied(predictions, records, request.seed)
    if tied:
        texts.append(scoring.tied_text(tied))
        metrics |= tied
    if request.by == "size":
        metrics |= coco.by_size(predictions, records)
    if request.bootstrap:
        metrics |= scoring.intervals(predictions, records, request.bootstrap, request.seed)
    if request.chance:
        shuffled = scoring.shuffle_across_images(predictions, request.seed)
        metrics |= {f"chance/{scoring.MEAN_AP}": voc.evaluate(shuffled, truth_of(records)).mean_ap,
                    "chance/coco/AP": coco.evaluate(shuffled, records)["coco/AP"]}
    texts.append(scoring.table(metrics, predictions, records))
    if request.confusion is not None:
        matrix = tide.confusion(match(predictions, truth_of(records), voc.IOU_THRESHOLD),
                                  request.confusion)
        metrics["confusion"] = matrix.tolist()
        texts.append(scoring.confusion_table(matrix))
    return metrics, "\n\n".join(texts)


def _by_reader(
    request: Request, predictions: PredictionSet | None, records: list[Record]
) -> tuple[dict[str, Any], str]:
    sizes = read_sizes(request.meta) if request.meta else None
    readers = reader_scores.split_readers(read_annotations(request.annotations, sizes))
    options = {"replicates": request.bootstrap, "seed": request.seed}
    pairs = (reader_scores.reader_pairs(readers, records, **options) if predictions is None
             else reader_scores.predictions_by_reader(predictions, readers, records, **options))
    if not pairs:
        raise InputError(f"{request.annotations}: no reader shares "
                         f"{reader_scores.MIN_ABNORMAL} abnormal images with another one or with the "
                         "predictions")
    return reader_scores.as_metrics(pairs), reader_scores.table(pairs)


def _compared(
    request: Request, predictions: PredictionSet, records: list[Record]
) -> tuple[dict[str, Any], str]:
    assert request.compare is not None
    found = scoring.compare(predictions, read_submission(request.compare), records,
                            request.bootstrap or 1000, request.seed)
    metrics = {name: {"a": one.a, "b": one.b, "difference": one.gain.value,
                      "ci95": [one.gain.low, one.gain.high], "a_wins": one.wins}
               for name, one in found.items()}
    return metrics, f"A {request.predictions}\nB {request.compare}\n\n{scoring.comparison_table(found)}"
