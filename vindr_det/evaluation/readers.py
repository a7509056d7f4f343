"""Agreement of readers by the competition's metric, and a detector against each reader alone.

Readers give no scores, so all boxes of a reader rank alike; AP is the mean over random orders of equal
scores, so that the order of the file does not matter. AP without scores understates a human, but it does so
for all of them alike.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate
from tqdm import tqdm

from vindr_det.data.vinbigdata import EDGES
from vindr_det.metrics import ties
from vindr_det.metrics.bootstrap import Bootstrap, Estimate
from vindr_det.metrics.matching import IOU_THRESHOLD, assign, mean_over_classes
from vindr_det.metrics.metric import format_value
from vindr_det.metrics.voc import VindrResult
from vindr_det.structures.detections import Predictions, PredictionSet, no_finding
from vindr_det.structures.label_sets import NO_FINDING_ID
from vindr_det.structures.records import Record, truth_of

#: Two readers are compared if both read so many images on which either of them marked a finding.
MIN_ABNORMAL = 50
CONSENSUS = "consensus"


@dataclass(frozen=True)
class ReaderPair:
    """Boxes of a rater scored against those of a reference.

    Attributes:
        rater: whose boxes count as detections: a reader, or "predictions".
        reference: whose boxes count as true: a reader, or the consensus.
        images: that both saw.
        abnormal: of them, those with a box of either.
        result: the competition's metric on them, AP as the mean over random orders of equal scores.
        spread: standard deviation of mAP40 over these orders.
        mean_ap: mAP40 with its interval; None where none was asked for.
    """

    rater: str
    reference: str
    images: int
    abnormal: int
    result: VindrResult
    spread: float = 0.0
    mean_ap: Estimate | None = None


def split_readers(frame: pd.DataFrame) -> Mapping[str, PredictionSet]:
    """Reader -> image id -> boxes; empty where the reader marked no finding.

    Args:
        frame: as of :func:`vindr_det.data.vinbigdata.read_annotations`.
    """
    ordered = frame.sort_values(["rad_id", "image_id"], kind="stable")
    boxes, labels = ordered[list(EDGES)].to_numpy(float), ordered["class_id"].to_numpy()
    result: dict[str, dict[str, Predictions]] = {}
    for (reader, image_id), rows in ordered.groupby(["rad_id", "image_id"], sort=False).indices.items():
        drawn = rows[labels[rows] != NO_FINDING_ID]
        marked = Predictions(boxes[drawn], np.ones(len(drawn)), labels[drawn])
        result.setdefault(str(reader), {})[str(image_id)] = marked
    return result


def score_pair(
    rater: str, boxes: PredictionSet, reference: str, truth: PredictionSet, num_replicates: int = 0,
    seed: int = 0,
) -> ReaderPair:
    """Score a rater on the images that both saw; an image without boxes is "no finding" with score 1.

    Args:
        rater: the name.
        boxes: image id -> the rater's boxes.
        reference: the name.
        truth: image id -> the reference's boxes.
        num_replicates: of mAP40's interval; 0 for none.
        seed: of the orders and of the replicates.
    """
    common = sorted(boxes.keys() & truth.keys())
    detections = {i: boxes[i] if len(boxes[i]) else no_finding() for i in common}
    assigned = assign(detections, {i: truth[i] for i in common}, IOU_THRESHOLD)
    orders = ties.random_orders(assigned, seed=seed)
    shuffled = list(orders) if num_replicates else orders  # in memory only where they are needed twice
    ap = ties.average_precisions(shuffled)
    interval = None
    if num_replicates:
        bootstrap = Bootstrap.of(np.arange(len(common)), num_replicates, seed)
        interval = ties.tie_replicates(list(shuffled), bootstrap).estimate()
    return ReaderPair(rater, reference, len(common), _abnormal(boxes, truth),
                      VindrResult.of_ap(ap.mean(axis=0), assigned.matched()),
                      float(mean_over_classes(ap).std()),
                      interval)


def _abnormal(boxes: PredictionSet, truth: PredictionSet) -> int:
    """Images that both saw with a box of either."""
    return sum(bool(len(boxes[i].findings()) or len(truth[i])) for i in boxes.keys() & truth.keys())


def reader_pairs(
    readers: Mapping[str, PredictionSet], records: Sequence[Record], min_count: int = MIN_ABNORMAL,
    **options: int,
) -> list[ReaderPair]:
    """Every reader against every other, and against the consensus, of which the reader is a part.

    Args:
        readers: reader -> image id -> boxes.
        records: with the consensus.
        min_count: abnormal images that both must have seen.
        options: as of :func:`score_pair`.
    """
    references = _references(readers, records)
    return [score_pair(rater, readers[rater], name, truth, **options)
            for rater in tqdm(references, desc="readers", unit="reader", disable=None, leave=False)
            if rater != CONSENSUS for name, truth in references.items()
            if name != rater and _abnormal(readers[rater], truth) >= min_count]


def predictions_by_reader(
    predictions: PredictionSet, readers: Mapping[str, PredictionSet], records: Sequence[Record],
    min_count: int = MIN_ABNORMAL, **options: int,
) -> list[ReaderPair]:
    """A detector against each reader alone, and against the consensus; scores rank its boxes."""
    return [score_pair("predictions", predictions, name, truth, **options)
            for name, truth in _references(readers, records).items()
            if _abnormal(predictions, truth) >= min_count]


def _references(
    readers: Mapping[str, PredictionSet], records: Sequence[Record]
) -> dict[str, PredictionSet]:
    """Readers, R2 before R10, and the consensus."""
    names = sorted(readers, key=lambda name: (len(name), name))
    return {name: readers[name] for name in names} | {CONSENSUS: truth_of(records)}


def reader_table(pairs: Sequence[ReaderPair]) -> str:
    """One column per pair: images, mAP40 and AP40 of each class."""
    rows = [["boxes of", *(pair.rater for pair in pairs)], ["truth of", *(pair.reference for pair in pairs)],
            ["images", *(pair.images for pair in pairs)], ["abnormal", *(pair.abnormal for pair in pairs)],
            ["mAP40", *(format_value(pair.result.mean_ap, 3) for pair in pairs)],
            ["sd over ties", *(format_value(pair.spread, 3) for pair in pairs)]]
    if any(pair.mean_ap for pair in pairs):
        rows.append(["95 %", *(f"[{pair.mean_ap.low:.3f}, {pair.mean_ap.high:.3f}]" if pair.mean_ap else ""
                               for pair in pairs)])
    rows += [[name, *(format_value(pair.result.ap[name], 3) for pair in pairs)]
             for name in pairs[0].result.ap]
    return tabulate(rows, disable_numparse=True, tablefmt="simple")


def as_metrics(pairs: Sequence[ReaderPair]) -> dict[str, Any]:
    """``readers/<rater>/<reference>/mAP40`` and ``.../AP40/<class>``.

    Beside mAP40 its ``/sd_over_ties`` and, where an interval was asked for, ``/ci95`` and ``/bias``.
    """
    flat: dict[str, Any] = {}
    for pair in pairs:
        start = f"readers/{pair.rater}/{pair.reference}/"
        flat |= {start + name.removeprefix("vindr/"): value
                 for name, value in pair.result.as_metrics().items()}
        flat[f"{start}mAP40/sd_over_ties"] = pair.spread
        if pair.mean_ap:
            flat |= {f"{start}mAP40/ci95": [pair.mean_ap.low, pair.mean_ap.high],
                     f"{start}mAP40/bias": pair.mean_ap.bias}
    return flat
