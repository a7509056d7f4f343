"""Readers held against readers: what a human scores by the same metric, and a detector by each reader alone.

Readers give no scores, so all boxes of a reader rank alike; AP is the mean over random orders of equal
scores, which says nothing of the order of the file. This yardstick is a low one for a human, and the same for
all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import pandas as pd
from tabulate import tabulate

from vindr_det.data.vinbigdata import EDGES
from vindr_det.metrics import ties, voc
from vindr_det.metrics.bootstrap import Bootstrap, Estimate
from vindr_det.metrics.matching import aim, mean_over_classes
from vindr_det.structures.detections import Predictions, PredictionSet, no_finding
from vindr_det.structures.label_sets import CLASS_NAMES, NO_FINDING_ID
from vindr_det.structures.records import Record, truth_of

#: Two readers are compared if both read so many images on which one of them found something.
MIN_ABNORMAL = 50
CONSENSUS = "consensus"


@dataclass(frozen=True)
class Pair:
    """Boxes of ``who`` held against those of ``truth``.

    Attributes:
        who: whose boxes count as detections: a reader, or "predictions".
        truth: whose count as true: a reader, or the consensus.
        images: that both saw.
        abnormal: of them, those with a box of either.
        result: the competition's metric on them, AP as the mean over random orders of equal scores.
        spread: standard deviation of mAP40 over these orders.
        mean_ap: mAP40 with its interval; None where none was asked for.
    """

    who: str
    truth: str
    images: int
    abnormal: int
    result: voc.VindrResult
    spread: float = 0.0
    mean_ap: Estimate | None = None


def split_readers(frame: pd.DataFrame) -> Mapping[str, PredictionSet]:
    """Reader -> image id -> boxes; empty where the reader found nothing.

    Args:
        frame: as of :func:`vindr_det.data.vinbigdata.read_annotations`.
    """
    ordered = frame.sort_values(["rad_id", "image_id"], kind="stable")
    boxes, labels = ordered[list(EDGES)].to_numpy(float), ordered["class_id"].to_numpy()
    result: dict[str, dict[str, Predictions]] = {}
    for (reader, image_id), rows in ordered.groupby(["rad_id", "image_id"], sort=False).indices.items():
        drawn = rows[labels[rows] != NO_FINDING_ID]
        found = Predictions(boxes[drawn], np.ones(len(drawn)), labels[drawn])
        result.setdefault(str(reader), {})[str(image_id)] = found
    return result


def against(
    who: str, found: PredictionSet, truth_name: str, truth: PredictionSet, replicates: int = 0, seed: int = 0
) -> Pair:
    """Score one on the images that both saw; no box says "no finding", surely.

    Args:
        who: whose boxes.
        found: image id -> these.
        truth_name: of whose truth.
        truth: image id -> that.
        replicates: of mAP40's interval; 0 for none.
        seed: of the orders and of the replicates.
    """
    common = sorted(found.keys() & truth.keys())
    said = {i: found[i] if len(found[i]) else no_finding() for i in common}
    shuffled = ties.orders(aim(said, {i: truth[i] for i in common}, voc.IOU_THRESHOLD), seed=seed)
    ap = ties.average_precisions(shuffled)
    interval = None
    if replicates:
        bootstrap = Bootstrap.of(np.arange(len(common)), replicates, seed)
        interval = ties.replicated(shuffled, bootstrap).estimate()
    return Pair(who, truth_name, len(common), _abnormal(found, truth),
                voc.result_of(ap.mean(axis=0), shuffled[0]), float(mean_over_classes(ap).std()), interval)


def _abnormal(found: PredictionSet, truth: PredictionSet) -> int:
    """Images that both saw with a box of either."""
    return sum(bool(len(found[i].findings()) or len(truth[i])) for i in found.keys() & truth.keys())


def reader_pairs(
    readers: Mapping[str, PredictionSet], records: Sequence[Record], min_count: int = MIN_ABNORMAL,
    **options: int,
) -> list[Pair]:
    """Every reader against every other, and against the consensus, of which the reader is a part.

    Args:
        readers: reader -> image id -> boxes.
        records: with the consensus.
        fewest: abnormal images that both must have seen.
        options: as of :func:`against`.
    """
    names = _in_order(readers)
    truths = {name: readers[name] for name in names} | {CONSENSUS: truth_of(records)}
    return [against(who, readers[who], name, truth, **options)
            for who in names for name, truth in truths.items()
            if name != who and _abnormal(readers[who], truth) >= min_count]


def predictions_by_reader(
    predictions: PredictionSet, readers: Mapping[str, PredictionSet], records: Sequence[Record],
    min_count: int = MIN_ABNORMAL, **options: int,
) -> list[Pair]:
    """A detector against each reader alone, and against the consensus; scores rank its boxes."""
    truths = {name: readers[name] for name in _in_order(readers)} | {CONSENSUS: truth_of(records)}
    return [against("predictions", predictions, name, truth, **options)
            for name, truth in truths.items() if _abnormal(predictions, truth) >= min_count]


def _in_order(readers: Mapping[str, PredictionSet]) -> list[str]:
    """R2 before R10."""
    return sorted(readers, key=lambda name: (len(name), name))


def table(pairs: Sequence[Pair]) -> str:
    """A column a pair: images, mAP40 and AP40 of each class."""
    rows = [["boxes of", *(one.who for one in pairs)], ["truth of", *(one.truth for one in pairs)],
            ["images", *(one.images for one in pairs)], ["abnormal", *(one.abnormal for one in pairs)],
            ["mAP40", *(_number(one.result.mean_ap) for one in pairs)],
            ["sd over ties", *(_number(one.spread) for one in pairs)]]
    if any(pair.mean_ap for pair in pairs):
        rows.append(["95 %", *(f"[{one.mean_ap.low:.3f}, {one.mean_ap.high:.3f}]" if one.mean_ap else ""
                               for one in pairs)])
    rows += [[name, *(_number(one.result.ap[name]) for one in pairs)] for name in CLASS_NAMES]
    return tabulate(rows, disable_numparse=True, tablefmt="simple")


def as_metrics(pairs: Sequence[Pair]) -> dict[str, Any]:
    """``readers/<who>/<truth>/mAP40`` and ``.../AP40/<class>``.

    Beside mAP40 its ``/sd_over_ties`` and, where an interval was asked for, ``/ci95`` and ``/bias``.
    """
    flat: dict[str, Any] = {}
    for pair in pairs:
        start = f"readers/{pair.who}/{pair.truth}/"
        flat |= {start + name.removeprefix("vindr/"): value
                 for name, value in pair.result.as_metrics().items()}
        flat[f"{start}mAP40/sd_over_ties"] = pair.spread
        if pair.mean_ap:
            flat |= {f"{start}mAP40/ci95": [pair.mean_ap.low, pair.mean_ap.high],
                     f"{start}mAP40/bias": pair.mean_ap.bias}
    return flat


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
