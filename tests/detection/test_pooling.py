"""RoIAlign as weighted sums against torchvision's operator."""

import pytest
import torch
from torchvision.ops import MultiScaleRoIAlign, roi_align

from vindr_det.detection.pooling import Pooling, pooling_of

SCALES = (1 / 4, 1 / 8)


def pyramid(images: int = 2) -> list[torch.Tensor]:
    torch.manual_seed(0)
    return [torch.randn(images, 3, 40, 30), torch.randn(images, 3, 20, 15)]


def boxes_of(count: int) -> torch.Tensor:
    """Of all sizes, some of which reach over the image's edges."""
    corners = torch.rand(count, 2) * torch.tensor([140.0, 180.0]) - 20
    return torch.cat([corners, corners + torch.rand(count, 2) ** 2 * 160], 1)


@pytest.mark.parametrize("aligned", [True, False])
@pytest.mark.parametrize("sampling", [0, 2])
@pytest.mark.parametrize("counts", [(0, 0), (1, 0), (60, 80)])
def test_equals_the_operator(counts, sampling, aligned):
    features, boxes = pyramid(), [boxes_of(count) for count in counts]
    levels = torch.arange(sum(counts)) % 2
    ours = Pooling(SCALES, (7, 5), sampling, aligned)(features, boxes, levels)
    assert ours.shape == (sum(counts), 3, 7, 5)
    for level, scale in enumerate(SCALES):
        expected = roi_align(features[level], boxes, (7, 5), scale, sampling, aligned)
        torch.testing.assert_close(ours[levels == level], expected[levels == level], rtol=1e-5, atol=1e-5)


def test_boxes_without_area_and_far_outside():
    boxes = [torch.tensor([[9.0, 9, 9, 9], [20, 20, 10, 10], [300, 300, 340, 340], [-90, -90, -50, -50],
                           [0, 0, 120, 160], [-2, -2, 118, 158], [10, 10, 12, 150]])]
    for aligned in (True, False):
        ours = Pooling([0.25], (7, 7), 0, aligned)(pyramid(1)[:1], boxes, torch.zeros(7, dtype=torch.long))
        expected = roi_align(pyramid(1)[0], boxes, 7, 0.25, 0, aligned)
        torch.testing.assert_close(ours, expected, rtol=1e-5, atol=1e-5)


def test_in_place_of_torchvisions_pooler():
    pooler = MultiScaleRoIAlign(["a", "b"], 7, 2)
    features = dict(zip("ab", pyramid(), strict=True))
    boxes, shapes = [boxes_of(30).clamp(0, 119), boxes_of(20).clamp(0, 119)], [(160, 120)] * 2
    expected = pooler(features, boxes, shapes)
    torch.testing.assert_close(pooling_of(pooler)(features, boxes, shapes), expected, rtol=1e-5, atol=1e-5)


def test_in_place_of_detectron2s_pooler():
    poolers = pytest.importorskip("detectron2.modeling.poolers")
    structures = pytest.importorskip("detectron2.structures")
    for kind in ("ROIAlignV2", "ROIAlign"):
        pooler = poolers.ROIPooler(7, SCALES, 0, kind, canonical_box_size=60, canonical_level=2)
        boxes = [structures.Boxes(boxes_of(30)), structures.Boxes(boxes_of(20))]
        torch.testing.assert_close(pooling_of(pooler)(pyramid(), boxes), pooler(pyramid(), boxes), rtol=1e-5,
                                   atol=1e-5)
