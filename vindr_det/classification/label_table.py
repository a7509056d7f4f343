"""Labelled images as arrays."""

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
        normal: (N,) whether nothing is known to be wrong with the image.
        groups: (N,) patients where they are known, else image ids.
        folds: (N,) from 0; -1 where there is none.
        what: ``patient`` or ``image``: what groups hold.
    """

    image_ids: NDArray[np.str_]
    names: tuple[str, ...]
    targets: NDArray[np.float32]
    normal: NDArray[np.bool_]
    groups: NDArray[np.str_]
    folds: NDArray[np.int64]
    what: str = "image"

    def __len__(self) -> int:
        return len(self.image_ids)

    def __getitem__(self, rows: Any) -> "LabelTable":
        """A part, by mask or indices."""
        return replace(self, image_ids=self.image_ids[rows], targets=self.targets[rows],
                       normal=self.normal[rows], groups=self.groups[rows], folds=self.folds[rows])
