from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import classifier_config
from dicom_samples import write
from pydicom.uid import JPEG2000Lossless

from vindr_det.classification import gradcam
from vindr_det.classification.data import Normalization
from vindr_det.classification.gradcam_sheet import FRAMES
from vindr_det.classification.predict import Classifier
from vindr_det.classification.train import train
from vindr_det.exceptions import InputError
from vindr_det.files import make_folder
from vindr_det.imaging.image_run import find
from vindr_det.imaging.read import read_image
from vindr_det.imaging.resize import Target


class Bright(torch.nn.Module):
    """Answers to brightness alone; its features are a grid of means."""

    feature_info = ({"module": "features"},)

    def __init__(self):
        super().__init__()
        self.features = torch.nn.AvgPool2d(8)
        self.scale = torch.nn.Parameter(torch.ones(1))

    def forward(self, images):
        return self.features((images + 2) * self.scale).mean(dim=(1, 2, 3))[:, None]


def two_bright():
    """What an Explainer needs of a classifier, with two folds."""
    return SimpleNamespace(models=[Bright().eval(), Bright().eval()], columns=["p_abnormal"],
                           normalizations=[Normalization()] * 2, device="cpu",
                           cfg=SimpleNamespace(INPUT=SimpleNamespace(SIZE=64)))


def spot(x, y, height=160, width=120, radius=10):
    image = np.zeros((height, width), np.uint8)
    cv2.circle(image, (x, y), radius, 255, -1)
    return image


@pytest.mark.parametrize("x, y", [(30, 40), (100, 120), (60, 20)])
def test_the_map_is_highest_where_the_network_looks(x, y):
    classifier = two_bright()
    explainer = gradcam.Explainer(classifier)
    heat = explainer.heat_map(spot(x, y), 0)
    assert heat.shape == (160, 120) and heat.min() >= 0 and heat.max() <= 1
    peak = explainer.peak(spot(x, y), 0)
    assert abs(peak[0] - x) < 15 and abs(peak[1] - y) < 20


def test_the_pointing_game_by_hand():
    explainer = gradcam.Explainer(two_bright())
    first, second = np.array([[10.0, 20, 50, 60]]), np.array([[70.0, 100, 119, 159]])
    cases = [(first, True), (second, False), (np.concatenate([second, first]), True),
             (np.zeros((0, 4)), False)]
    for boxes, expected in cases:
        assert explainer.points_at(spot(30, 40), boxes, 0) is expected


@pytest.mark.parametrize("layer, expected", [
    (torch.nn.Conv2d(1, 1, 3, 2, 1, bias=False), -0.5), (torch.nn.Conv2d(1, 1, 2, 2, bias=False), 0.0)],
    ids=["padded", "patches"])
def test_where_features_look_by_hand(layer, expected):
    """Three strides of two, each half a pixel of its own input off: -0.5 (1 + 2 + 4) of the image's."""
    class Net(Bright):
        def __init__(self):
            super().__init__()
            torch.nn.init.ones_(layer.weight)
            self.features = torch.nn.Sequential(layer, layer, layer)

    x, y = gradcam.off_center(Net().eval(), 64)
    assert x == pytest.approx(7 * expected, abs=0.3) and y == pytest.approx(7 * expected, abs=0.3)


@pytest.mark.parametrize("name", ["resnet18", "tf_efficientnet_b0", "densenet121", "convnext_atto",
                                  "swin_tiny_patch4_window7_224", "vit_tiny_patch16_224", "resnet56v2"])
def test_every_kind_of_network_has_a_map(phantoms, name):
    """The map is the image's size, and follows the image rather than a fixed place."""
    from vindr_det.classification.model import build_model

    torch.manual_seed(1)
    cfg = classifier_config(phantoms, "unused", "MODEL.NAME", name, "DATA.TARGET", "vindr15",
                            "MODEL.PRETRAINED", "False")
    classifier = SimpleNamespace(models=[build_model(cfg).eval()], normalizations=[Normalization()],
                                 device="cpu", cfg=cfg)
    explainer = gradcam.Explainer(classifier)
    maps = [np.max([explainer.heat_map(spot(x, 80), label) for label in range(4)], axis=0)
            for x in (20, 100)]
    assert maps[0].shape == (160, 120) and np.isfinite(maps[0]).all() and maps[0].max() > 0
    assert not np.array_equal(*maps)


def test_boxes_are_drawn_over_the_maps_and_not_under_them():
    classifier = two_bright()
    classifier.probabilities = lambda images: np.full((1, 1), 0.5)
    explainer = gradcam.Explainer(classifier)
    plain, boxed = (explainer.sheet(spot(30, 40), [0], side=160, boxes=boxes)
                    for boxes in (None, lambda column: np.array([[70.0, 100, 110, 150]])))
    assert plain.shape == boxed.shape
    changed = np.argwhere((plain != boxed).any(axis=2))
    rows, columns = changed[:, 0] - 24, changed[:, 1] % (120 + 4)
    edges = (np.isin(rows, (100, 150)) | np.isin(columns, (70, 110)))
    assert edges.all() and len(changed) > 300


def test_the_models_see_what_classify_shows_them(tmp_path):
    """Not the picture that the map is drawn over."""
    noise = np.random.default_rng(0).integers(0, 255, (1400, 1200)).astype(np.uint8)
    write(tmp_path / "a.dcm", noise, bits=8, syntax=JPEG2000Lossless)
    classifier, seen = two_bright(), []
    classifier.target = Target(64, False)
    classifier.normalizations = [lambda image: seen.append(image) or Normalization()(image)] * 2
    classifier.probabilities = lambda images: seen.extend(images) or np.array([[0.5]])
    statuses = gradcam.draw_all(gradcam.Explainer(classifier), find(tmp_path), tmp_path, [0], 1, 1, workers=1,
                                maps=make_folder(tmp_path / "maps"))
    assert [status.status for status in statuses] == ["ok"] and (tmp_path / "a.png").is_file()
    (heat,) = (tmp_path / "maps").iterdir()
    assert heat.name == f"a.{classifier.columns[0]}.png" and np.ptp(read_image(heat).pixels) > 200
    expected = read_image(tmp_path / "a.dcm", classifier.target).pixels
    assert len(seen) == 2 and all(np.array_equal(image, expected) for image in seen)


def framed_by(sheet):
    """The colors of the frames in the first row of three."""
    return [sheet[41, 1 + (sheet.shape[1] + 6) // 3 * column].tolist() for column in range(3)]


def test_pictures_of_an_ensemble(phantoms, tmp_path, tool, main_of):
    train(classifier_config(phantoms, tmp_path / "out", "DATA.TARGET", "vindr15"), [0, 1])
    test = phantoms / "raw/test"
    explained = ["explain.py", "--classifier", tmp_path / "out", "--images", test, "--out", tmp_path / "maps"]
    assert main_of(*explained, "--count", 2, "--top", 2) == 0
    pictures = sorted((tmp_path / "maps").glob("*.png"))
    assert len(pictures) == 2 and (tmp_path / "maps/status.csv").exists()
    assert cv2.imread(str(pictures[0])).shape[1] > 900
    sheet = ["--sheet", 3, "--labels", "p_cardiomegaly", "p_no_finding"]
    assert main_of(*explained, *sheet, "--workers", 1) == 0
    unknown = framed_by(cv2.imread(str(tmp_path / "maps/sheet.png")))
    assert unknown == [list(FRAMES[None])] * 3
    labels = phantoms / "data/annotations/labels.csv"
    train_images = phantoms / "data/train"
    assert main_of("explain.py", "--classifier", tmp_path / "out", "--images", train_images, "--out",
                   tmp_path / "maps", *sheet, "--predictions", tmp_path / "out/oof_predictions.csv",
                   "--annotations", labels, "--workers", 1) == 0
    predicted = pd.read_csv(tmp_path / "out/oof_predictions.csv").sort_values(
        ["p_cardiomegaly", "image_id"], ascending=[False, True])
    truth = pd.read_csv(labels).set_index("image_id")["Cardiomegaly"] >= 0.5
    expected = [list(FRAMES[bool(truth[image_id])]) for image_id in predicted["image_id"][:3]]
    assert framed_by(cv2.imread(str(tmp_path / "maps/sheet.png"))) == expected
    mixed = tmp_path / "mixed"
    mixed.mkdir()
    (mixed / "a.png").write_bytes(b"broken")  # first, and not the last
    (mixed / "b.dicom").write_bytes(next(test.iterdir()).read_bytes())
    (tmp_path / "two").mkdir()
    (tmp_path / "two/a.png").write_bytes(b"of an earlier run")
    run = tool("explain.py", "--classifier", tmp_path / "out", "--images", mixed, "--out", tmp_path / "two",
               "--count", 1)
    assert run.returncode == 0, run.stderr
    assert sorted(path.name for path in (tmp_path / "two").iterdir()) == ["b.png", "status.csv"]
    assert "failed: a.png: " in run.stdout and "1 of 2 images were NOT READ" in run.stderr
    assert len(Classifier(tmp_path / "out").models) == 2
    with pytest.raises(InputError, match="--labels p_mass: expected some of p_aortic_enlargement"):
        main_of(*explained, "--labels", "p_mass")
