"""Readers held against readers: what a human scores by the same metric, and a detector by each reader alone.

Readers give no scores, so all boxes of a reader rank alike and stand in the order of their images: this
yardstick is a low one for a human, and the same for all.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np
import pandas as pd
from tabulate import tabulate

from vindr_det.annotations import EDGES
from vindr_det.categories import CLASS_NAMES, NO_FINDING_ID
from vindr_det.metrics import vindr
from vindr_det.predictions import Predictions, PredictionSet, no_finding
from vindr_det.records import Record, truth_of

#: Two readers are compared if both read so many images on which one of them found something.
FEWEST_ABNORMAL = 50
CONSENSUS = "consensus"


@dataclass(frozen=True)
class Pair:
    """Boxes of ``who`` held against those of ``truth``.

    Attributes:
        who: whose boxes count as detections: a reader, or "predictions".
        truth: whose count as true: a reader, or the consensus.
        images: that both saw.
        abnormal: of them, those with a box of either.
        result: the competition's metric on them.
    """

    who: str
    truth: str
    images: int
    abnormal: int
    result: vindr.VindrResult


def split_readers(frame: pd.DataFrame) -> Mapping[str, PredictionSet]:
    """Reader -> image id -> boxes; empty where the reader found nothing.

    Args:
        frame: as of :func:`vindr_det.annotations.read_annotations`.
    """
    ordered = frame.sort_values(["rad_id", "image_id"], kind="stable")
    boxes, labels = ordered[list(EDGES)].to_numpy(float), ordered["class_id"].to_numpy()
    result: dict[str, dict[str, Predictions]] = {}
    for (reader, image_id), rows in ordered.groupby(["rad_id", "image_id"], sort=False).indices.items():
        drawn = rows[labels[rows] != NO_FINDING_ID]
        found = Predictions(boxes[drawn], np.ones(len(drawn)), labels[drawn])
        result.setdefault(str(reader), {})[str(image_id)] = found
    return result


def against(who: str, found: PredictionSet, truth_name: str, truth: PredictionSet) -> Pair:
    """Score one on the images that both saw; no box says "no finding", surely."""
    common = sorted(found.keys() & truth.keys())
    abnormal = sum(bool(len(found[i].findings()) or len(truth[i])) for i in common)
    said = {i: found[i] if len(found[i]) else no_finding() for i in common}
    return Pair(who, truth_name, len(common), abnormal,
                vindr.evaluate(said, {i: truth[i] for i in common}))


def reader_pairs(
    readers: Mapping[str, PredictionSet], records: Sequence[Record], fewest: int = FEWEST_ABNORMAL
) -> list[Pair]:
    """Every reader against every other, and against the consensus, of which the reader is a part."""
    names = _in_order(readers)
    truths = {name: readers[name] for name in names} | {CONSENSUS: truth_of(records)}
    found = (against(who, readers[who], name, truth)
             for who in names for name, truth in truths.items() if name != who)
    return [one for one in found if one.abnormal >= fewest]


def predictions_by_reader(
    predictions: PredictionSet, readers: Mapping[str, PredictionSet], records: Sequence[Record],
    fewest: int = FEWEST_ABNORMAL,
) -> list[Pair]:
    """A detector against each reader alone, and against the consensus; scores rank its boxes."""
    truths = {name: readers[name] for name in _in_order(readers)} | {CONSENSUS: truth_of(records)}
    found = (against("predictions", predictions, name, truth) for name, truth in truths.items())
    return [one for one in found if one.abnormal >= fewest]


def _in_order(readers: Mapping[str, PredictionSet]) -> list[str]:
    """R2 before R10."""
    return sorted(readers, key=lambda name: (len(name), name))


def table(pairs: Sequence[Pair]) -> str:
    """A column a pair: images, mAP40 and AP40 of each class."""
    rows = [["boxes of", *(one.who for one in pairs)], ["truth of", *(one.truth for one in pairs)],
            ["images", *(one.images for one in pairs)], ["abnormal", *(one.abnormal for one in pairs)],
            ["mAP40", *(_number(one.result.mean_ap) for one in pairs)]]
    rows += [[name, *(_number(one.result.ap[name]) for one in pairs)] for name in CLASS_NAMES]
    return tabulate(rows, disable_numparse=True, tablefmt="simple")


def as_metrics(pairs: Sequence[Pair]) -> dict[str, float]:
    """``readers/<who>/<truth>/mAP40`` and ``.../AP40/<class name>``."""
    return {f"readers/{one.who}/{one.truth}/{name.removeprefix('vindr/')}": value
            for one in pairs for name, value in one.result.as_metrics().items()}


def _number(value: float) -> str:
    return "-" if np.isnan(value) else f"{value:.3f}"
