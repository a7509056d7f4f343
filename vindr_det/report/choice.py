"""Which images the case browser shows where it cannot show all of them."""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from itertools import chain, zip_longest

import numpy as np

from vindr_det.metrics.metric import MatchedPredictions
from vindr_det.report.sources import Sources

#: What an image is an example of, the rarest first; an image is of the first that fits.
KINDS = (
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
    """

    ids: Sequence[str]
    among: int
    kinds: Mapping[str, int]

    @property
    def note(self) -> str:
        """How the images were chosen, in a sentence."""
        if len(self.ids) == self.among:
            return f"All {self.among:,} images."
        turns = ": in turn one " + ", one ".join(self.kinds) + ", each drawn at random" if self.kinds else \
            ", drawn at random"
        return f"{len(self.ids):,} of {self.among:,} images (--cases){turns}."


def choose(sources: Sources, present: Collection[str]) -> Choice:
    """Images of every kind, drawn at random, up to the number that was asked for.

    Args:
        sources: predictions and truth.
        present: ids of the images that there are files of.
    """
    known = set(sources.records_by_id) if sources.records is not None else {
        *(sources.predictions or ()), *sources.statuses}
    ids = sorted(known.intersection(present))
    count, rng = sources.request.cases, np.random.default_rng(sources.request.seed)
    shuffled = [ids[at] for at in rng.permutation(len(ids))]
    if sources.matched is None:
        return Choice(shuffled[:count], len(ids), {})
    kind_of = image_kinds(sources.matched, sources.request.score)
    groups = {kind: [name for name in shuffled if kind_of[name] == kind] for kind in KINDS}
    groups = {kind: names for kind, names in groups.items() if names}
    in_turn = [name for name in chain(*zip_longest(*groups.values())) if name is not None]
    return Choice(in_turn[:count], len(ids), {kind: len(names) for kind, names in groups.items()})


def image_kinds(matched: MatchedPredictions, score: float) -> dict[str, str]:
    """Image id -> its kind, by the boxes of at least this score."""
    voc = matched.voc
    shown = (voc.detections.score >= score) & voc.detections.is_finding
    count = len(voc.ids)
    false_positives = np.bincount(voc.detections.image[shown & ~voc.correct], minlength=count)
    detected = np.bincount(voc.detections.image[shown & voc.correct], minlength=count)
    findings = voc.counts[:, : len(matched.label_set)].sum(axis=1)
    normal = np.array([record.normal for record in matched.records_by_id])
    numbers = np.select(
        [detected < findings, normal & (false_positives > 0), false_positives > 0], [0, 1, 2], 3
    )
    return dict(zip(voc.ids, [KINDS[number] for number in numbers.tolist()], strict=True))
