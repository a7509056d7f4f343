"""Anchors fitted to the boxes of a data set."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.imaging.resize import Target
from vindr_det.structures.records import Record

Shapes = NDArray[np.float64]


@dataclass(frozen=True)
class Anchors:
    """Sizes (a level each) and aspect ratios (height / width) for MODEL.ANCHOR_GENERATOR."""

    sizes: tuple[float, ...]
    ratios: tuple[float, ...]

    def shapes(self) -> Shapes:
        """(N, 2) height and width of every anchor."""
        sizes, ratios = np.meshgrid(self.sizes, self.ratios)
        return np.stack([sizes * np.sqrt(ratios), sizes / np.sqrt(ratios)], axis=-1).reshape(-1, 2)


def box_shapes(records: Sequence[Record], cfg: Any) -> Shapes:
    """(N, 2) height and width of all boxes, in the pixels that the network sees at test time.

    Raises:
        InputError: there is no box.
    """
    target = Target(cfg.VINDR.IMAGE_SIZE, cfg.VINDR.KEEP_ASPECT)
    shapes = []
    for record in records:
        height, width = target.shape(record.height, record.width)
        shortest, longest = sorted((height, width))
        edge = min(cfg.INPUT.MIN_SIZE_TEST / shortest, cfg.INPUT.MAX_SIZE_TEST / longest)
        boxes = record.truth.boxes
        sides = np.stack([boxes[:, 3] - boxes[:, 1], boxes[:, 2] - boxes[:, 0]], axis=1)
        shapes.append(sides * [edge * height / record.height, edge * width / record.width])
    found = np.concatenate([np.zeros((0, 2)), *shapes])
    if not len(found):
        raise InputError("the annotations hold no box to fit anchors to")
    return found


def fit(shapes: Shapes, levels: int = 5, ratios: int = 3, seed: int = 0) -> Anchors:
    """K-means over the logarithms of the boxes' sizes and of their ratios (Redmon and Farhadi,
    "YOLO9000", 2017, cluster both at once; a feature pyramid wants one size a level)."""
    from sklearn.cluster import KMeans

    def centers(values: NDArray[np.float64], count: int) -> tuple[float, ...]:
        logs = np.log(values)[:, None]
        count = min(count, len(np.unique(logs)))
        found = KMeans(count, n_init=10, random_state=seed).fit(logs).cluster_centers_
        return tuple(sorted(np.exp(found[:, 0]).tolist()))

    return Anchors(centers(np.sqrt(shapes.prod(axis=1)), levels),
                   centers(shapes[:, 0] / shapes[:, 1], ratios))


def present(cfg: Any) -> list[Anchors]:
    """The anchors that a config has, a list of sizes a level."""
    node = cfg.MODEL.ANCHOR_GENERATOR
    ratios = list(node.ASPECT_RATIOS) * (len(node.SIZES) if len(node.ASPECT_RATIOS) == 1 else 1)
    return [Anchors(tuple(map(float, sizes)), tuple(map(float, own)))
            for sizes, own in zip(node.SIZES, ratios, strict=True)]


def best_overlaps(shapes: Shapes, anchors: Sequence[Anchors]) -> NDArray[np.float64]:
    """(N,) overlap of each box with the anchor that fits it best, both around one middle."""
    all_shapes = np.concatenate([anchor.shapes() for anchor in anchors])
    shared = np.minimum(shapes[:, None], all_shapes[None]).prod(axis=2)
    union = shapes.prod(axis=1)[:, None] + all_shapes.prod(axis=1)[None] - shared
    return (shared / union).max(axis=1)
