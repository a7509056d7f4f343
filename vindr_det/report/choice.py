"""Which images the case browser shows where it cannot show all of them."""

from collections import Counter
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain, zip_longest

import numpy as np

from vindr_det.report.sources import NO_PREDICTION, NOT_READ, Sources

#: What an image is an example of, the rarest first; an image is of the first that fits.
KINDS = (
    "that was not read",
    "without a prediction",
    "with a missed finding",
    "normal, with a false positive",
    "abnormal, with a false positive",
    "without errors",
)


@dataclass(frozen=True)
class Choice:
    """The images of the case browser.

    Attributes:
        ids: in the order in which they are shown.
        among: number of images that they were chosen from.
        kinds: of :data:`KINDS` -> number among these images; empty where truth or predictions are missing.
        states: of :meth:`vindr_det.report.sources.Sources.state` -> number among these images.
        absent: ids that are annotated or predicted, without a file.
        unknown: number of files that are neither, where there is no truth.
    """

    ids: Sequence[str]
    among: int
    kinds: Mapping[str, int]
    states: Mapping[str, int] = field(default_factory=dict)
    absent: Sequence[str] = ()
    unknown: int = 0

    @property
    def notes(self) -> list[str]:
        """How the images were chosen, and of how many there is no file or nothing is known."""
        files = " that have a file" if self.absent else ""
        if len(self.ids) == self.among:
            chosen = f"All {self.among:,} images{files}."
        else:
            turns = ": in turn one " + ", one ".join(self.kinds) + ", each drawn at random" if self.kinds \
                else ", drawn at random"
            chosen = f"{len(self.ids):,} of {self.among:,} images{files} (--cases){turns}."
        first = f"; the first is {min(self.absent)}" if self.absent else ""
        counts = [("Without a file, and so not here", len(self.absent), first),
                  ("Not read, so that nothing is known of them", self.states.get(NOT_READ, 0), ""),
                  ("Not predicted, so that nothing is known of them", self.states.get(NO_PREDICTION, 0), ""),
                  ("Files of images that were not predicted, and so not here", self.unknown, "")]
        return [chosen, *(f"{what}: {count:,}{more}." for what, count, more in counts if count)]


def choose(sources: Sources, present: Collection[str]) -> Choice:
    """Images of every kind, drawn at random, up to the number that was asked for.

    Args:
        sources: predictions and truth.
        present: ids of the images that there are files of.
    """
    known = set(sources.records_by_id) if sources.records is not None else {
        *(sources.predictions or ()), *sources.statuses}
    ids = sorted(known.intersection(present))
    among = Choice(
        ids,
        len(ids),
        {},
        Counter(map(sources.state, ids)),
        sorted(known.difference(present)),
        len(set(present) - known) if sources.records is None else 0,
    )
    count, rng = sources.request.cases, np.random.default_rng(sources.request.seed)
    shuffled = [ids[at] for at in rng.permutation(len(ids))]
    if sources.matched is None:
        return replace(among, ids=shuffled[:count])
    kind_of = image_kinds(sources)
    groups = {kind: [name for name in shuffled if kind_of[name] == kind] for kind in KINDS}
    groups = {kind: names for kind, names in groups.items() if names}
    in_turn = [name for name in chain(*zip_longest(*groups.values())) if name is not None]
    kinds = {kind: len(names) for kind, names in groups.items()}
    return replace(among, ids=in_turn[:count], kinds=kinds)


def image_kinds(sources: Sources) -> dict[str, str]:
    """Image id -> its kind, by the boxes from the request's score on; empty without predictions or truth."""
    matched = sources.matched
    if matched is None:
        return {}
    voc = matched.voc
    shown = (voc.detections.score >= sources.request.score) & voc.detections.is_finding
    count = len(voc.ids)
    false_positives = np.bincount(voc.detections.image[shown & ~voc.correct], minlength=count)
    detected = np.bincount(voc.detections.image[shown & voc.correct], minlength=count)
    findings = voc.counts[:, : len(matched.label_set)].sum(axis=1)
    normal = np.array([record.normal for record in matched.records_by_id])
    states = np.array([sources.state(name) for name in voc.ids])
    numbers = np.select([states == NOT_READ, states == NO_PREDICTION, detected < findings,
                         normal & (false_positives > 0), false_positives > 0], list(range(5)), 5)
    return dict(zip(voc.ids, [KINDS[number] for number in numbers.tolist()], strict=True))
