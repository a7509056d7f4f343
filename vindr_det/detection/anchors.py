"""Anchors fitted to the boxes of a data set."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from vindr_det.exceptions import InputError
from vindr_det.imaging.resize import Target
from vindr_det.structures.records import Record

Shapes = NDArray[np.float64]

#: Anchors whose overlap with the boxes is so much lower are as good.
_AS_GOOD = 0.01
_FITTED_BOXES = 5000
_SMALLEST = 4
_OWN = "the recipe's"


@dataclass(frozen=True)
class Anchors:
    """Sizes in pixels, one per pyramid level, and aspect ratios (height / width)."""

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
    if not sum(map(len, shapes)):
        raise InputError("the annotations hold no box to fit anchors to")
    return np.concatenate(shapes)


def fit(shapes: Shapes, levels: int = 5, ratios: int = 3, seed: int = 0) -> Anchors:
    """K-means over the logarithms of the boxes' sizes, and over those of their aspect ratios.

    Redmon and Farhadi ("YOLO9000", 2017) cluster both together; a feature pyramid has one size per level.

    Args:
        shapes: (N, 2) height and width in pixels, of :func:`box_shapes`.
        levels: number of sizes.
        ratios: number of aspect ratios.
        seed: of the random initialization.
    """
    from sklearn.cluster import KMeans

    def centers(values: NDArray[np.float64], count: int) -> tuple[float, ...]:
        logs = np.log(values)[:, None]
        count = min(count, len(np.unique(logs)))
        clusters = KMeans(count, n_init=10, random_state=seed).fit(logs)
        return tuple(sorted(np.exp(clusters.cluster_centers_[:, 0]).tolist()))

    return Anchors(centers(np.sqrt(shapes.prod(axis=1)), levels),
                   centers(shapes[:, 0] / shapes[:, 1], ratios))


def from_config(cfg: Any) -> list[Anchors]:
    """The anchors of MODEL.ANCHOR_GENERATOR per pyramid level."""
    node = cfg.MODEL.ANCHOR_GENERATOR
    ratios = list(node.ASPECT_RATIOS) * (len(node.SIZES) if len(node.ASPECT_RATIOS) == 1 else 1)
    return [Anchors(tuple(map(float, sizes)), tuple(map(float, level_ratios)))
            for sizes, level_ratios in zip(node.SIZES, ratios, strict=True)]


def best_overlaps(shapes: Shapes, anchors: Sequence[Anchors]) -> NDArray[np.float64]:
    """(N,) highest IoU of each box with any anchor, both centered at the same point."""
    all_shapes = np.concatenate([anchor.shapes() for anchor in anchors])
    shared = np.minimum(shapes[:, None], all_shapes[None]).prod(axis=2)
    union = shapes.prod(axis=1)[:, None] + all_shapes.prod(axis=1)[None] - shared
    return (shared / union).max(axis=1)


def grid_overlaps(
    shapes: Shapes, anchors: Sequence[Anchors], strides: Sequence[float]
) -> NDArray[np.float64]:
    """(N,) highest IoU of each box with any anchor, a quarter of the level's stride apart on both axes.

    That is how far a box is from the nearest cell on average: unlike :func:`best_overlaps`, this tells that
    small anchors on coarse features miss boxes between two cells.

    Args:
        shapes: (N, 2) height and width of the boxes, in pixels.
        anchors: of each pyramid level.
        strides: of each pyramid level, in pixels.
    """
    best = np.zeros(len(shapes))
    for level, stride in zip(anchors, strides, strict=True):
        for anchor in level.shapes():
            sides = np.minimum(np.minimum(shapes, anchor), ((shapes + anchor) / 2 - stride / 4).clip(0))
            shared = sides.prod(axis=1)
            best = np.maximum(best, shared / (shapes.prod(axis=1) + anchor.prod() - shared))
    return best


def choose(
    shapes: Shapes, own: Sequence[Anchors], strides: Sequence[float]
) -> tuple[Sequence[Anchors], str]:
    """The anchors that overlap the boxes most: a recipe's, these made smaller or larger, or fitted ones.

    Args:
        shapes: (N, 2) height and width of the boxes, in pixels that the network sees.
        own: the recipe's anchors of each pyramid level, which are kept if they are nearly as good.
        strides: of each pyramid level, in pixels.

    Returns:
        The anchors of each pyramid level, and where they come from with their mean best IoU
        (:func:`grid_overlaps`) and that of the others.
    """
    if len(shapes) > _FITTED_BOXES:
        shapes = shapes[np.random.default_rng(0).choice(len(shapes), _FITTED_BOXES, replace=False)]
    candidates = dict(_candidates(shapes, own))
    values = {name: float(grid_overlaps(shapes, levels, strides).mean())
              for name, levels in candidates.items()}
    best = max(values, key=lambda name: values[name] + _AS_GOOD * (name == _OWN))
    fitted = max(value for name, value in values.items() if name != _OWN)
    others = f"the best others' {fitted:.2f}" if best == _OWN else f"the recipe's {values[_OWN]:.2f}"
    return candidates[best], f"{best}: mean best IoU of the boxes with them {values[best]:.2f}; {others}"


def _candidates(shapes: Shapes, own: Sequence[Anchors]) -> Iterator[tuple[str, Sequence[Anchors]]]:
    yield _OWN, own
    count = sum(len(level.sizes) for level in own)
    fitted = fit(shapes, count, len(own[0].ratios))
    for ratios, told in ((own[0].ratios, "its ratios"), (fitted.ratios, "fitted ratios")):
        for step in range(-12, 5):
            sizes = [tuple(round(2 ** (step / 4) * side) for side in level.sizes) for level in own]
            if sizes[0][0] >= _SMALLEST:
                yield f"the recipe's times {2 ** (step / 4):.2f}, {told}", [Anchors(level, ratios)
                                                                            for level in sizes]
    if len(fitted.sizes) == count:
        levels = np.reshape(fitted.sizes, (len(own), -1)).round().tolist()
        yield "fitted to the boxes (k-means)", [Anchors(tuple(level), fitted.ratios) for level in levels]
