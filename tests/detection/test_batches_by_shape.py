"""The validation's batches of the Detectron2 engine."""

import pytest
import torch

pytestmark = pytest.mark.detectron2


@pytest.mark.parametrize(("widths", "expected"), [
    ([], []),
    ([5], [[0]]),
    ([5, 5, 5, 5, 5], [[0, 1], [2, 3], [4]]),
    ([5, 6, 5, 6, 7], [[0, 2], [1, 3], [4]]),
    ([1, 2, 3, 4, 5, 5, 6], [[0], [4, 5], [1], [2], [3], [6]]),  # four may wait
])
def test_images_of_one_shape_share_a_batch_and_few_wait(widths, expected):
    from vindr_det.detection.detectron2.evaluator import BatchesByShape

    images = [{"id": number, "image": torch.zeros(1, 4, width)} for number, width in enumerate(widths)]
    loader = [images[start : start + 3] for start in range(0, len(images), 3)]
    batches = list(BatchesByShape(loader, 2, waiting=2))
    assert [[image["id"] for image in batch] for batch in batches] == expected
    assert len(BatchesByShape(loader, 2)) == len(loader)
