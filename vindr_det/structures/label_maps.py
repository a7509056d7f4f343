"""Which findings of two label sets are the same, and which is a part of the other.

Names count, not sets: spelling aside, the same name is the same finding, and two tables here have the rest.
So sets of one's own are mapped too. "No finding" is never mapped between different sets: an image without any
finding of one set may show one of the other. "Other lesion" is taken for the same, though what is "other"
depends on the set.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions, PredictionSet
from vindr_det.structures.label_sets import LabelSet
from vindr_det.structures.records import Record, label_set_of_records

#: Other names of the same finding: letters and digits of a name -> those of the name it goes by here.
_SAME: Mapping[str, str] = {
    "effusion": "pleuraleffusion",
    "fibrosis": "pulmonaryfibrosis",
    "infiltrate": "infiltration",
    "interstitiallungdisease": "ild",
    "interstitiallungdiseaseild": "ild",
    "massnodule": "nodulemass",
    "othernodulemass": "nodulemass",
    "opacity": "lungopacity",
    "enlargedaorta": "aorticenlargement",
    "pulmonaryedema": "edema",
}
#: A finding -> the next wider one that includes it.
_WITHIN: Mapping[str, str] = {
    "nodule": "nodulemass",
    "mass": "nodulemass",
    "diffusenodule": "nodule",
    "ribfracture": "fracture",
    "claviclefracture": "fracture",
}


@dataclass(frozen=True)
class CommonFindings:
    """What several label sets have in common.

    Attributes:
        label_set: the findings that all sets have, each as wide as in the set in which it is widest, in the
            last set's order; without "no finding".
        left_out: name of a set -> its classes that have no counterpart.
        joined: a finding of ``label_set`` -> the findings of one set that it joins, where these are several.
    """

    label_set: LabelSet
    left_out: Mapping[str, tuple[str, ...]]
    joined: Mapping[str, tuple[str, ...]]


def row_map(source: LabelSet, target: LabelSet) -> list[int | None]:
    """The class id of ``source`` for each class id of ``target``; None for a class without counterpart.

    The same finding comes first, then one that includes it, then the first that it includes: a head's row for
    Mass starts as that of Nodule/Mass, and the row for Nodule/Mass as that of Mass. "No finding" has that of
    the other set.
    """
    chains = [_chain(name) for name in source.findings]
    rows = [_counterpart(chains, _chain(name)) for name in target.findings]
    return rows if target.no_finding is None else [*rows, source.no_finding_id]


def _counterpart(chains: Sequence[Sequence[str]], wanted: Sequence[str]) -> int | None:
    """The class id with the first of a finding's ever wider names; else the first that lies within it."""
    own = [chain[0] for chain in chains]
    same_or_wider = (own.index(name) for name in wanted if name in own)
    within = (at for at, chain in enumerate(chains) if wanted[0] in chain)
    return next(same_or_wider, next(within, None))


def common_findings(*label_sets: LabelSet) -> CommonFindings:
    """The findings that all of these sets have.

    Raises:
        InputError: there are none.
    """
    chains = {label_set: [_chain(name) for name in label_set.findings] for label_set in label_sets}
    reached = [{name for chain in of_set for name in chain} for of_set in chains.values()]
    own = {chain[0] for of_set in chains.values() for chain in of_set}
    shared = set.intersection(*reached) & own
    widest = {name for name in shared if not shared.intersection(_chain(name)[1:])}
    last = label_sets[-1]
    order = dict.fromkeys(name for chain in chains[last] for name in chain if name in widest)
    if not order:
        raise InputError(f"label sets {', '.join(dict.fromkeys(of.name for of in label_sets))}: no finding "
                         "in common, expected one or more")
    names = {_chain(name)[0]: name for of in label_sets for name in of.findings}
    label_set = LabelSet(" and ".join(dict.fromkeys(of.name for of in label_sets)),
                         tuple(names[name] for name in order))
    return CommonFindings(label_set, {of.name: _left_out(of, label_set) for of in chains},
                          _joined(label_sets, label_set))


def _left_out(source: LabelSet, target: LabelSet) -> tuple[str, ...]:
    return tuple(name for name, to in zip(source.classes, _targets(source, target), strict=True) if to < 0)


def _joined(label_sets: Sequence[LabelSet], target: LabelSet) -> dict[str, tuple[str, ...]]:
    joined = {}
    for source in label_sets:
        to = _targets(source, target)
        for at in np.flatnonzero(np.bincount(to[to >= 0], minlength=len(target)) > 1).tolist():
            joined[target.findings[at]] = tuple(source.classes[i] for i in np.flatnonzero(to == at))
    return joined


def map_predictions(predictions: PredictionSet, label_set: LabelSet) -> dict[str, Predictions]:
    """Detections in the classes of another label set.

    A box goes to the same finding of that set or to the one that includes its own; several findings may go to
    one. A box without such a counterpart is left out.
    """
    return {image_id: _mapped(boxes, label_set)[0] for image_id, boxes in predictions.items()}


def map_records(records: Sequence[Record], label_set: LabelSet) -> list[Record]:
    """Annotated images in the classes of another label set, their boxes as of :func:`map_predictions`.

    On an image, a finding of that set is unknown if it is one that the annotations never name, if a finding
    that goes to it is unknown there, or if it is a part of one that is there; boxes of an unknown finding are
    left out with it.

    Raises:
        InputError: records of two sets.
    """
    same = label_set_of_records(records) == label_set
    return list(records) if same else [_mapped_record(record, label_set) for record in records]


def _mapped(boxes: Predictions, label_set: LabelSet) -> tuple[Predictions, NDArray[np.bool_]]:
    """The boxes that have a counterpart, and (N,) which these are."""
    if boxes.label_set == label_set:
        return boxes, np.ones(len(boxes), bool)
    labels = _targets(boxes.label_set, label_set)[boxes.labels]
    kept = labels >= 0
    return Predictions(boxes.boxes[kept], boxes.scores[kept], labels[kept], label_set), kept


def _mapped_record(record: Record, label_set: LabelSet) -> Record:
    truth, kept = _mapped(record.truth, label_set)
    unknown = _unknown(record, label_set)
    known = ~np.isin(truth.labels, unknown)
    rows = np.flatnonzero(kept)[known]
    readers = tuple(record.readers[row] for row in rows) if record.readers else ()
    return replace(record, truth=truth[known], readers=readers, unknown=unknown)


def _unknown(record: Record, target: LabelSet) -> tuple[int, ...]:
    source = record.label_set
    to, chains = _targets(source, target), [_chain(name) for name in source.findings]
    unknown = {int(to[label]) for label in record.unknown if to[label] >= 0}
    unsure = {chains[label][0] for label in {*record.unknown, *record.truth.findings().labels.tolist()}}
    own = {chain[0] for chain in chains}
    for at in set(range(len(target))).difference(to.tolist()):
        wider = own.intersection(_chain(target.findings[at])[1:])
        if not wider or wider & unsure:  # never named, or it may be what the wider finding is there
            unknown.add(at)
    return tuple(sorted(unknown))


def _targets(source: LabelSet, target: LabelSet) -> NDArray[np.int64]:
    """(K,) the class id of ``target`` that each class of ``source`` goes to; -1 for none."""
    own = {_chain(name)[0]: at for at, name in enumerate(target.findings)}
    to = [next((own[name] for name in _chain(finding) if name in own), -1) for finding in source.findings]
    return np.array([*to, -1] if source.no_finding is not None else to, np.int64)


def _chain(name: str) -> tuple[str, ...]:
    """A finding by the name it goes by here, and the ever wider ones that include it."""
    letters = re.sub(r"[\W_]", "", name).casefold()
    letters = _SAME.get(letters, letters)
    return (letters, *(_chain(_WITHIN[letters]) if letters in _WITHIN else ()))
