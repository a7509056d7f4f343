"""Labeled images as arrays."""

from dataclasses import dataclass, replace
from typing import Any

import numpy as np
from numpy.typing import NDArray


@dataclass(frozen=True)
class LabelTable:
    """N images and their labels.

    Attributes:
        image_ids: (N,) the files' stems.
        names: (K,) labels, columns of ``targets``.
        targets: (N, K) float32, 0..1; NaN where it is not known.
        normal: (N,) whether it is known that nothing is wrong with the image.
        groups: (N,) patients where they are known, else image ids.
        folds: (N,) from 0; -1 where there is none.
        what: ``patient`` or ``image``: what groups hold.
        known: (N,) whether it is known if anything is wrong with the image; None where it always is.
    """

    image_ids: NDArray[np.str_]
    names: tuple[str, ...]
    targets: NDArray[np.float32]
    normal: NDArray[np.bool_]
    groups: NDArray[np.str_]
    folds: NDArray[np.int64]
    what: str = "image"
    known: NDArray[np.bool_] | None = None

    def __len__(self) -> int:
        return len(self.image_ids)

    @property
    def abnormal(self) -> NDArray[np.bool_]:
        """(N,) whether something is known to be wrong; an unknown image is neither normal nor abnormal."""
        return ~self.normal if self.known is None else ~self.normal & self.known

    def one_class(self) -> bool:
        """Whether no label differs between any of the images for which it is known."""
        columns = (column[~np.isnan(column)] for column in self.targets.T)
        return not any(len(column) and column.min() < column.max() for column in columns)

    def __getitem__(self, rows: Any) -> "LabelTable":
        """A part, by mask or indices."""
        return replace(self, image_ids=self.image_ids[rows], targets=self.targets[rows],
                       normal=self.normal[rows], groups=self.groups[rows], folds=self.folds[rows],
                       known=None if self.known is None else self.known[rows])
