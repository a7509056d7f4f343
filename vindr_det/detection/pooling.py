"""RoIAlign on the CPU as a weighted sum of a few rows of a table: the same numbers, sooner.

RoIAlign (He et al., "Mask R-CNN", 2017) averages bilinear samples, so that each cell of its output is a sum
of feature cells, whose weights are products of one along y and one along x. With features channels-last, as
rows of a table, such sums are torch's ``embedding_bag``, which takes all channels of a cell at once;
torchvision's operator reads a channel at a time.
"""

from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import torch
from torch import Tensor
from torch.nn import functional as F


@dataclass(frozen=True)
class Pooling:
    """RoIAlign of boxes on the levels of a pyramid.

    Attributes:
        scales: (L,) of the levels, of the image's pixels to feature cells.
        size: height and width of the output.
        sampling: samples of an output cell along each axis; 0 or less for one per feature cell.
        aligned: whether pixel centers lie at .5, and boxes may be smaller than a feature cell.
    """

    scales: Sequence[float]
    size: tuple[int, int]
    sampling: int
    aligned: bool

    def __call__(self, features: Sequence[Tensor], boxes: Sequence[Tensor], levels: Tensor) -> Tensor:
        """Pooled features.

        Args:
            features: (B, C, H, W) per level.
            boxes: (N, 4) xyxy in pixels per image.
            levels: (sum of N,) of each box, an index of ``features``.

        Returns:
            (sum of N, C, *size).
        """
        channels = features[0].shape[1]
        table = torch.cat([level.permute(0, 2, 3, 1).reshape(-1, channels) for level in features])
        cells = torch.tensor([level.shape[-2:] for level in features])
        counts = torch.tensor([len(level) for level in features]) * cells.prod(1)
        image = torch.arange(len(boxes)).repeat_interleave(torch.tensor([len(part) for part in boxes]))
        first = (counts.cumsum(0) - counts)[levels] + image * cells.prod(1)[levels]
        corners = torch.cat(list(boxes)) * torch.tensor(self.scales)[levels, None]
        x, y = (self._axis(corners[:, k::2], cells[levels, 1 - k], self.size[1 - k]) for k in (0, 1))
        output = table.new_zeros(len(levels), channels, *self.size)
        for members in _alike(torch.stack([y.samples, y.cells, x.samples, x.cells], 1)):
            bags, weights = _bags(first[members], x.limit[members], y.of(members), x.of(members))
            sums = F.embedding_bag(bags, table, mode="sum", per_sample_weights=weights)
            output[members] = sums.view(len(members), *self.size, channels).permute(0, 3, 1, 2)
        return output

    def _axis(self, ends: Tensor, limit: Tensor, size: int) -> "_Axis":
        """What ``size`` output cells sample between ``ends`` (N, 2) on levels of ``limit`` (N,) cells."""
        ends = ends - 0.5 if self.aligned else ends
        side = ends[:, 1] - ends[:, 0]
        bins = (side if self.aligned else side.clamp(min=1)) / size
        samples = torch.full_like(bins, self.sampling) if self.sampling > 0 else bins.ceil().clamp(min=0)
        span = bins * (samples - 1) / samples.clamp(min=1)  # from an output cell's first sample to its last
        return _Axis(ends[:, 0], bins, limit, size, samples.long(), span.ceil().clamp(min=0).long() + 2)


@dataclass(frozen=True)
class _Axis:
    """What boxes' output cells sample along an axis; (N,) each."""

    start: Tensor
    bin: Tensor
    limit: Tensor
    size: int
    samples: Tensor
    cells: Tensor

    def of(self, members: Tensor) -> tuple[Tensor, Tensor]:
        """Feature cells and weights, (M, size, cells) each, of boxes with one number of samples and cells."""
        samples, cells = int(self.samples[members[0]]), int(self.cells[members[0]])
        start, length, limit = (value[members, None, None] for value in (self.start, self.bin, self.limit))
        at = start + torch.arange(self.size)[:, None] * length + (
            torch.arange(samples) + 0.5) * length / max(samples, 1)
        inside = (at >= -1) & (at <= limit)
        at = torch.minimum(at.clamp(min=0), limit - 1)
        near = at.floor().long().amin(2, keepdim=True) if samples else at.new_zeros(*at.shape[:2], 1).long()
        near = near + torch.arange(cells)
        shares = (1 - (at[..., None] - near[:, :, None]).abs()).clamp(min=0) * inside[..., None]
        return torch.minimum(near, limit - 1), shares.sum(2) / max(samples, 1)


def _bags(
    first: Tensor, width: Tensor, y: tuple[Tensor, Tensor], x: tuple[Tensor, Tensor]
) -> tuple[Tensor, Tensor]:
    """Rows of the table and their weights, (M * output cells, feature cells) each.

    Args:
        first: (M,) row of the first cell of each box's level and image.
        width: (M,) cells of a row of the level.
        y: of :meth:`_Axis.of`, like ``x``.
        x: likewise.
    """
    rows = first[:, None, None] + y[0] * width[:, None, None]
    places = rows[:, :, None, :, None] + x[0][:, None, :, None, :]
    weights = y[1][:, :, None, :, None] * x[1][:, None, :, None, :]
    return places.flatten(3).flatten(0, 2), weights.flatten(3).flatten(0, 2)


def _alike(keys: Tensor) -> Iterable[Tensor]:
    """Places of equal rows."""
    if not len(keys):
        return []
    _, group, counts = keys.unique(dim=0, return_inverse=True, return_counts=True)
    return group.argsort(stable=True).split(counts.tolist())


def pooling_of(pooler: Any) -> Callable[..., Tensor]:
    """What computes the same as an engine's pooler, with the same arguments.

    Args:
        pooler: Detectron2's ``ROIPooler`` with ROIAlign, or torchvision's ``MultiScaleRoIAlign``.
    """
    return _of_detectron2(pooler) if hasattr(pooler, "level_poolers") else _of_torchvision(pooler)


def _of_detectron2(pooler: Any) -> Callable[..., Tensor]:
    levels = list(pooler.level_poolers)
    pooling = Pooling([level.spatial_scale for level in levels], tuple(pooler.output_size),
                      levels[0].sampling_ratio, levels[0].aligned)

    def pool(features: Sequence[Tensor], boxes: Sequence[Any]) -> Tensor:
        size = torch.cat([part.area() for part in boxes]).sqrt()
        level = (pooler.canonical_level + (size / pooler.canonical_box_size + 1e-8).log2()).floor()
        level = level.clamp(pooler.min_level, pooler.max_level).long() - pooler.min_level
        return pooling(features, [part.tensor for part in boxes], level)

    return pool


def _of_torchvision(pooler: Any) -> Callable[..., Tensor]:
    pooling = Pooling(pooler.scales, tuple(pooler.output_size), pooler.sampling_ratio, False)

    def pool(features: Mapping[str, Tensor], boxes: Sequence[Tensor], _: Any) -> Tensor:
        chosen = [features[name] for name in pooler.featmap_names]
        return pooling(chosen, boxes, pooler.map_levels(list(boxes)))

    return pool
