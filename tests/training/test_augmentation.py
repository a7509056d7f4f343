from collections import Counter

import numpy as np
import pytest

from vindr_det.exceptions import InputError
from vindr_det.training.augmentation import Augment

IMAGE = np.tile(np.arange(100, dtype=np.uint8), (80, 1))
BOXES, LABELS = np.array([[10.0, 20, 30, 40], [60, 10, 90, 70]]), np.array([3, 5])


def test_no_transforms_change_nothing():
    image, boxes, labels, index = Augment([])(IMAGE, BOXES, LABELS)
    assert np.array_equal(image, IMAGE) and np.allclose(boxes, BOXES)
    assert labels.tolist() == [3, 5] and index.tolist() == [0, 1]


def test_boxes_follow_the_flip():
    image, boxes, _, _ = Augment([{"name": "HorizontalFlip", "p": 1.0}])(IMAGE, BOXES, LABELS)
    assert np.array_equal(image, IMAGE[:, ::-1])
    assert np.allclose(boxes, [[70, 20, 90, 40], [10, 10, 40, 70]])


def test_boxes_that_leave_are_dropped_and_their_labels_too():
    crop = [{"name": "Crop", "x_min": 0, "y_min": 0, "x_max": 50, "y_max": 80}]
    _, boxes, labels, index = Augment(crop)(IMAGE, BOXES, LABELS)
    assert np.allclose(boxes, [[10, 20, 30, 40]])
    assert labels.tolist() == [3] and index.tolist() == [0]


def test_images_without_boxes():
    image, boxes, labels, _ = Augment([{"name": "HorizontalFlip"}])(IMAGE, np.zeros((0, 4)),
                                                                    np.zeros(0, np.int64))
    assert image.shape == IMAGE.shape and boxes.shape == (0, 4) and len(labels) == 0


def test_seeded():
    spec = [{"name": "RandomBrightnessContrast", "p": 1.0}]
    first, second = (Augment(spec, seed=4)(IMAGE, BOXES, LABELS)[0] for _ in range(2))
    assert np.array_equal(first, second)


@pytest.mark.parametrize("seeded", ["each image", "once"])
def test_transforms_are_applied_independently(seeded):
    """Two coins per image: each of the four outcomes comes in a quarter of them."""
    brighter = {"brightness_limit": [0.5, 0.5], "contrast_limit": [0, 0]}
    spec = [{"name": "RandomBrightnessContrast", "p": 0.5, **brighter}, {"name": "HorizontalFlip", "p": 0.5}]
    augment, outcomes = Augment(spec, seed=0), Counter()
    for seed in range(400):
        if seeded == "each image":
            augment.reseed(seed)
        image = augment(IMAGE, np.zeros((0, 4)), np.zeros(0, np.int64))[0]
        outcomes[bool(image.max() > 99), bool(image[0, 0] > image[0, -1])] += 1
    assert len(outcomes) == 4 and min(outcomes.values()) > 70


@pytest.mark.parametrize("spec, message", [
    ({"name": "HorizontalFlp"}, "did you mean HorizontalFlip"),
    ({"name": "HorizontalFlip", "prob": 1}, "no argument 'prob'"),
    ({"p": 1}, "expected a mapping with a name"),
    ({"name": "RandomGamma", "gamma_limit": "x"}, "RandomGamma"),
])
def test_bad_specs(spec, message):
    for key in ("VINDR.AUGMENT", "INPUT.AUGMENT"):
        with pytest.raises(InputError, match=f"^{key}: .*{message}"):
            Augment([spec], key=key)
