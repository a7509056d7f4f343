import numpy as np
import pytest

from vindr_det.detection.predictors import load_predictors
from vindr_det.exceptions import InputError
from vindr_det.postprocessing.tta import TTAPredictor
from vindr_det.structures.detections import Predictions


class Bright:
    """Detects the box around the bright pixels; keeps (scale, left half is bright) of each call."""

    def __init__(self, score=0.8):
        self.score, self.calls = score, []

    def __call__(self, images, scale=1.0):
        return [self.detect(image, scale) for image in images]

    def detect(self, image, scale):
        self.calls.append((scale, bool(image[:, : image.shape[1] // 2].any())))
        rows, columns = np.nonzero(image)
        box = [columns.min(), rows.min(), columns.max() + 1, rows.max() + 1]
        return Predictions(np.array([box], float), np.array([self.score]), np.array([3]))


IMAGE = np.zeros((60, 100), np.uint8)
IMAGE[10:30, 5:25] = 255


@pytest.mark.parametrize("scales, flip, views", [
    ((1.0,), False, 1), ((1.0,), True, 2), ((0.8, 1.0, 1.2), True, 6)])
def test_all_views_detect_the_same_place(scales, flip, views):
    predictor = Bright()
    first, second = TTAPredictor(predictor, scales, flip)([IMAGE, IMAGE])
    assert np.array_equal(first.boxes, second.boxes)
    assert first.boxes == pytest.approx(np.array([[5, 10, 25, 30]]), abs=1e-3)
    assert first.scores == pytest.approx([0.8]) and first.labels.tolist() == [3]
    assert len(predictor.calls) == 2 * views and {scale for scale, _ in predictor.calls} == set(scales)
    assert {left for _, left in predictor.calls} == ({True, False} if flip else {True})


@pytest.mark.parametrize("scales", [(), (0.0, 1.0), (-1.0,)])
def test_bad_scales(scales):
    with pytest.raises(InputError, match="--tta-scales"):
        TTAPredictor(Bright(), scales)


def test_a_trained_detector_at_another_size(engine, trained, phantoms):
    """The size is that of the call alone, and boxes stay in the image's pixels."""
    from vindr_det.imaging.read import read_image

    predictor = load_predictors([trained(engine) / "model_final.pth"])[0]
    image = read_image(next((phantoms / "raw/test").iterdir())).pixels
    once, larger, again = (predictor([image], scale)[0] for scale in (1.0, 1.5, 1.0))
    assert np.array_equal(once.boxes, again.boxes)
    assert larger.boxes.max() <= max(image.shape) and not np.array_equal(once.scores, larger.scores)
