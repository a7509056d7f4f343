"""The outcomes of a prediction run to its files, while they come."""

from collections.abc import Callable, Collection, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, field
from itertools import islice
from pathlib import Path

from vindr_det.imaging.status import FAILED, Status
from vindr_det.prediction import Outcome
from vindr_det.structures.label_sets import LabelSet
from vindr_det.submission.outputs import ResultsWriter, write_results

#: Images whose rows are made at once.
_AT_ONCE = 64


@dataclass
class Written:
    """What is left of a run when its outcomes are written.

    Attributes:
        label_set: of the detections.
        statuses: a row per input, in order.
        boxes: number of boxes of all images.
        in_file_pixels: number of images with boxes in the pixels of files whose originals' sizes are unknown.
        first: some outcomes with predictions, the first ones.
    """

    label_set: LabelSet
    statuses: list[Status] = field(default_factory=list)
    boxes: int = 0
    in_file_pixels: int = 0
    first: list[Outcome] = field(default_factory=list)

    @property
    def failed(self) -> int:
        """Number of inputs without a prediction."""
        return sum(status.status == FAILED for status in self.statuses)


def write(
    out: str | Path, outcomes: Iterable[Outcome], label_set: LabelSet, strict: bool = False,
    unknown_size: Collection[str] = (), keep_first: int = 0,
) -> Written:
    """Write the submission and the tables beside it, all or none; only statuses are kept of the outcomes.

    A submission of an earlier run does not stay beside tables of this one.

    Args:
        out: of the submission.
        outcomes: of :func:`vindr_det.prediction.predict_each`.
        label_set: of the detections.
        strict: write no submission if an input failed.
        unknown_size: ids of images whose boxes are in the file's pixels.
        keep_first: number of outcomes to return.

    Raises:
        InputError: the submission would have an error, or a file cannot be written.
    """
    written, unknown, outcomes = Written(label_set), set(unknown_size), iter(outcomes)
    with ExitStack() as stack:
        writer: ResultsWriter | None = None
        while group := list(islice(outcomes, _AT_ONCE)):
            writer = writer or stack.enter_context(ResultsWriter(out, label_set))
            _add(writer, written, group)
            _count(written, group, unknown, keep_first)
        if writer is None or written.failed == len(written.statuses):
            write_results(out, {}, written.statuses, None)
        else:
            writer.finish(withhold=strict and written.failed > 0)
    return written


def _add(writer: ResultsWriter, written: Written, group: list[Outcome]) -> None:
    read = [(status.image_id, prediction) for status, prediction in group if prediction]
    written.statuses += [outcome.status for outcome in group]
    writer.add([outcome.status for outcome in group],
               {image_id: prediction.gated for image_id, prediction in read},
               {image_id: prediction.output.named for image_id, prediction in read if prediction.output})


def _count(written: Written, group: list[Outcome], unknown: Collection[str], keep_first: int) -> None:
    for outcome in group:
        if outcome.prediction is not None:
            boxes = len(outcome.prediction.gated.findings())
            written.boxes += boxes
            written.in_file_pixels += bool(boxes) and outcome.status.image_id in unknown
            written.first += [outcome] * (len(written.first) < keep_first)


def kept(outcomes: Iterable[Outcome], keep: Callable[[Outcome], None]) -> Iterator[Outcome]:
    """The outcomes, each of which is given to ``keep`` too."""
    for outcome in outcomes:
        keep(outcome)
        yield outcome
