"""COCO results as columns: what reading entry by entry gives, in a tenth of the time.

That takes files whose every value is as it should be; of any other :mod:`vindr_det.submission.coco_results`
goes through the entries, and says which is wrong, or what it stands for.
"""

from collections.abc import Callable, Mapping
from itertools import chain
from pathlib import Path
from typing import Annotated, Any

import msgspec
import numpy as np
import pandas as pd
from numpy.typing import NDArray

from vindr_det.files import read_bytes
from vindr_det.json_text import loads_as
from vindr_det.structures import boxes as box_ops
from vindr_det.structures.detections import Predictions, by_image
from vindr_det.structures.label_sets import LabelSet

#: The box of "no finding".
NO_FINDING_XYWH = [0.0, 0.0, 1.0, 1.0]
# Empty where the entry lacks the key, and only there.
_Text = Annotated[str, msgspec.Meta(min_length=1)]


class _Entry(msgspec.Struct, gc=False):
    """A detection."""

    image_id: int | str
    category_id: int
    bbox: tuple[float, float, float, float]
    score: float
    text_id: _Text = ""
    label_set: _Text = ""


class ResultColumns:
    """The entries of a COCO results file whose every value is of its type.

    Args:
        entries: N of them.
    """

    def __init__(self, entries: list[_Entry]) -> None:
        self.label_sets = {entry.label_set for entry in entries}
        self._ids = [entry.image_id for entry in entries]
        self._texts = [entry.text_id for entry in entries]
        self._categories = np.array([entry.category_id for entry in entries])
        self._scores = np.array([entry.score for entry in entries], np.float64)
        boxes = chain.from_iterable([entry.bbox for entry in entries])
        self._boxes = np.fromiter(boxes, np.float64, 4 * len(entries)).reshape(-1, 4)

    def __len__(self) -> int:
        return len(self._ids)

    def detections(
        self, name_of: Callable[[int | str], str], labels: Mapping[Any, int] | None, label_set: LabelSet
    ) -> dict[str, Predictions] | None:
        """Image id -> detections, or None where an entry is not as it should be, or tells its image in a way
        of its own.

        Args:
            name_of: an image's ``image_id`` -> its id; a ValueError where it has none.
            labels: category id -> class id, -1 for "no finding" where that is no class; None for the class
                ids themselves.
            label_set: of the class ids.
        """
        if not len(self):
            return {}
        no_box = (self._boxes == NO_FINDING_XYWH).all(axis=1)
        marks = self._categories == label_set.no_finding_id
        if any(self._texts) or self.label_sets != {""} or (marks & no_box).any():
            labels = None  # only this project writes such entries
        of_class = self._labels(labels, label_set)
        if of_class is None or (labels is None and (marks & ~no_box).any()) or not self._is_fine():
            return None
        try:
            codes, names = self._images(name_of)
            kept = of_class >= 0
            codes, seen = pd.factorize(codes[kept])
            boxes = np.where((of_class == label_set.no_finding_id)[:, None], NO_FINDING_XYWH, self._boxes)
            whole = Predictions(box_ops.xywh_to_xyxy(boxes[kept]), self._scores[kept], of_class[kept],
                                label_set)
        except ValueError:
            return None
        return by_image(codes, [names[code] for code in seen], whole)

    def _labels(self, labels: Mapping[Any, int] | None, label_set: LabelSet) -> NDArray[np.int64] | None:
        """(N,) class ids, or None where a category has none."""
        known = {label: label for label in range(len(label_set.classes))} if labels is None else labels
        codes, kinds = pd.factorize(self._categories)
        if not known.keys() >= set(kinds.tolist()):
            return None
        return np.array([known[kind] for kind in kinds.tolist()], np.int64)[codes]

    def _is_fine(self) -> bool:
        """Whether all boxes and scores are finite and in their ranges."""
        return bool(np.isfinite(self._boxes).all() and (self._boxes[:, 2:] > 0).all()
                    and (self._scores >= 0).all() and (self._scores <= 1).all())

    def _images(self, name_of: Callable[[int | str], str]) -> tuple[NDArray[np.int64], list[str]]:
        """(N,) numbers of the images, and their ids.

        Raises:
            ValueError: some entries name their image by another key than the others, or an image has no id.
        """
        texts = any(self._texts)
        if texts and not all(text.strip() for text in self._texts):
            raise ValueError("some entries have no text_id")
        codes, given = pd.factorize(np.array(self._texts if texts else self._ids, dtype=object))
        same, names = pd.factorize(np.array(given if texts else list(map(name_of, given)), dtype=object))
        return same[codes], list(names)


def read_columns(path: str | Path) -> ResultColumns | None:
    """The columns of a COCO results file; None for a file that is not plainly one.

    Raises:
        InputError: the file is missing, or is a damaged archive.
    """
    try:
        return ResultColumns(loads_as(read_bytes(path), list[_Entry]))
    except ValueError:
        return None
