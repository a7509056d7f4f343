"""Prediction reads an image as preparation did for training."""

import cv2
import numpy as np
import pytest
from pydicom.uid import JPEG2000Lossless

from vindr_det.classification.probabilities import ClassifierOutput
from vindr_det.imaging.image_run import find
from vindr_det.imaging.prepare import prepare_folder
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target
from vindr_det.phantom.dicom_file import Header, write_dicom
from vindr_det.phantom.radiograph import render
from vindr_det.prediction import FolderPredictions, Models, by_shape, predict_each
from vindr_det.structures.detections import Predictions

SHAPE = (1300, 1100)


class Corner:
    """Detects the upper left quarter of each image; keeps the images."""

    def __init__(self, target):
        self.target, self.images = target, []

    def __call__(self, images, scale=1.0):
        self.images += images
        return [Predictions(np.array([[0.0, 0.0, image.shape[1] / 2, image.shape[0] / 2]]), np.array([0.9]),
                            np.array([3])) for image in images]


class Classifier:
    def __init__(self, target):
        self.target, self.images = target, []

    def __call__(self, image):
        self.images.append(image)
        return ClassifierOutput(0.9, None)


@pytest.fixture(scope="module")
def film(tmp_path_factory):
    """One JPEG 2000 phantom that is decoded at half its resolution for 512 pixels."""
    folder = tmp_path_factory.mktemp("film")
    header = Header(JPEG2000Lossless, 12, False, True, 0.14, "050Y", True)
    write_dicom(folder / "a.dicom", "a", render(np.random.default_rng(0), *SHAPE, [3]), header)
    return folder


@pytest.mark.parametrize("target", [Target(512, True), Target(512, False)])
def test_a_dicom_is_shown_to_the_detector_as_it_was_prepared_for_training(film, tmp_path, target):
    table = prepare_folder(film, tmp_path / "png", target, 1)
    assert table["reduced"].tolist() == [1]
    detector = Corner(target)
    result = FolderPredictions.of(predict_each(find(film), Models([detector]), workers=1), find(film))
    assert np.array_equal(detector.images[0], cv2.imread(str(tmp_path / "png/a.png"), cv2.IMREAD_UNCHANGED))
    half = [[0, 0, SHAPE[1] / 2, SHAPE[0] / 2]]
    assert np.allclose(result.predictions["a"].findings().boxes, half, atol=1e-6)
    assert result.sizes.loc["a"].tolist() == list(SHAPE)


@pytest.mark.parametrize("prepared, targets, classifier", [
    (False, [Target(512, True), Target(256, True)], None),
    (False, [Target(512, True)], Target(256, False)),
    (False, [Target(640, True)], Target(512, False)),
    (False, [Target(512, True), Target(512, True)], Target(0, True)),
    (True, [Target(640, True)], Target(512, False)),
])
def test_every_model_is_shown_what_it_is_shown_alone(film, tmp_path, prepared, targets, classifier):
    """To the gray value: an image that was resized twice would be less sharp."""
    folder = film
    if prepared:
        folder = tmp_path / "png"
        prepare_folder(film, folder, Target(2000, True), 1)
    path = next(path for path in folder.iterdir() if path.stem == "a")
    detectors = [Corner(target) for target in targets]
    classifier = None if classifier is None else Classifier(classifier)
    run = find(folder)
    result = FolderPredictions.of(predict_each(run, Models(detectors, classifier), workers=1), run)
    for model in [*detectors, *([classifier] if classifier else [])]:
        assert len(model.images) == 1
        assert np.array_equal(model.images[0], read_image(path, model.target).pixels)
    boxes = result.predictions["a"].findings().boxes
    assert np.allclose(boxes, [[0, 0, SHAPE[1] / 2, SHAPE[0] / 2]], atol=1)


def test_an_images_boxes_do_not_depend_on_the_others_of_its_batch():
    from vindr_det.bundle.read import open_bundle
    from vindr_det.shipped import BUNDLES

    detector, = open_bundle(BUNDLES / "phantom").load("cpu").models.predictors
    shapes = [(300, 200), (200, 300), (300, 200), (256, 256)]
    images = [render(np.random.default_rng(row), *shape, [3]).pixels >> 4 for row, shape in enumerate(shapes)]
    images = [np.ascontiguousarray(image, np.uint8) for image in images]
    together = by_shape(detector, images)
    for image, detections in zip(images, together, strict=True):
        alone, = detector([image])
        assert len(alone) == len(detections) > 0
        assert np.allclose(alone.scores, detections.scores, atol=1e-5)
        assert np.allclose(alone.boxes, detections.boxes, atol=1e-2)
