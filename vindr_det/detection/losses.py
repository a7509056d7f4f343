"""Means of a model's losses over validation images, normal and abnormal ones apart."""

from collections import defaultdict
from collections.abc import Iterable, Mapping
from typing import Any

#: normal? -> (sum of each loss over images, number of images)
Parts = dict[bool, tuple[dict[str, float], int]]


class LossMeans:
    """Collects the losses of batches that hold either normal or abnormal images."""

    def __init__(self) -> None:
        self._sums: dict[bool, dict[str, float]] = {False: defaultdict(float), True: defaultdict(float)}
        self._images = {False: 0, True: 0}

    def add(self, losses: Mapping[str, Any], images: int, normal: bool) -> None:
        """Take in one batch: each loss is its mean over the batch's ``images``."""
        for key, value in losses.items():
            self._sums[normal][key] += float(value) * images
        self._images[normal] += images

    def parts(self) -> Parts:
        """What other ranks need of this one."""
        return {normal: (dict(self._sums[normal]), self._images[normal]) for normal in self._sums}

    @classmethod
    def merged(cls, parts: Iterable[Parts]) -> "LossMeans":
        """All ranks' together."""
        result = cls()
        for part in parts:
            for normal, (sums, images) in part.items():
                for key, value in sums.items():
                    result._sums[normal][key] += value
                result._images[normal] += images
        return result

    def means(self) -> dict[str, float]:
        """``validation_loss``, ``validation_<component>``, and both under ``validation_normal/`` and
        ``validation_abnormal/``; nothing for images that there are none of."""
        result: dict[str, float] = {}
        kinds = {"validation_": (False, True), "validation_normal/": (True,),
                 "validation_abnormal/": (False,)}
        for prefix, members in kinds.items():
            images = sum(self._images[normal] for normal in members)
            keys = sorted({key for normal in members for key in self._sums[normal]})
            if not images:
                continue
            parts = {f"{prefix}{key}": sum(self._sums[normal].get(key, 0.0) for normal in members) / images
                     for key in keys}
            result |= {f"{prefix}loss": sum(parts.values()), **parts}
        return result
