import numpy as np
import pytest

from vindr_det.imaging.resize import Target, resize


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
