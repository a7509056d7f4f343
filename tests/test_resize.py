import numpy as np
import pytest

from vindr_det.resize import Target, covering, resize


@pytest.mark.parametrize("shape, size, keep, expected", [
    ((300, 200), 150, True, (150, 100)),
    ((300, 200), 150, False, (150, 150)),
    ((300, 200), 600, True, (300, 200)),
    ((300, 200), 0, False, (300, 200)),
])
def test_resize(shape, size, keep, expected):
    assert resize(np.zeros(shape, np.uint8), Target(size, keep)).shape == expected


def test_shrinking_averages_areas():
    checks = (np.indices((64, 64)).sum(0) % 2 * 255).astype(np.uint8)
    assert np.ptp(resize(checks, Target(32, True))) <= 1


@pytest.mark.parametrize("targets, expected", [
    ([], Target(0, True)),
    ([Target(1024, True)], Target(1024, True)),
    ([Target(384, False)], Target(384, False)),
    ([Target(0, True), Target(384, False)], Target(0, True)),
    ([Target(512, True), Target(1024, True)], Target(1024, True)),
    ([Target(512, False), Target(256, False)], Target(512, False)),
    ([Target(1024, True), Target(384, False)], Target(1024, True)),
    ([Target(512, True), Target(512, False)], Target(1024, True)),
])
def test_an_image_is_read_at_a_size_that_all_models_can_use(targets, expected):
    found = covering(targets)
    assert found == expected
    for target in targets:  # each model's own size is reached by shrinking
        for original in ((3000, 2500), (2000, 3400)):
            assert all(side >= wanted for side, wanted in zip(
                found.shape(*original), target.shape(*original), strict=True))
