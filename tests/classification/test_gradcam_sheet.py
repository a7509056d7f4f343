"""The sheet of Grad-CAM maps: which images, in which order, in which frames."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch

from vindr_det.classification.data import Normalization
from vindr_det.classification.gradcam import Explainer
from vindr_det.classification.gradcam_sheet import (
    FRAMES,
    SIDE,
    Cell,
    best_labels,
    draw_sheet,
    most_confident,
    read_predictions,
    read_right,
)
from vindr_det.exceptions import InputError
from vindr_det.files import write_json, write_png
from vindr_det.imaging.image_run import find
from vindr_det.imaging.montage import GAP
from vindr_det.imaging.resize import Target

COLUMNS = ["p_mass", "p_edema"]
PREDICTIONS = pd.DataFrame({
    "image_id": ["a", "b", "c"], "p_mass": [0.2, 0.9, 0.9], "p_edema": [0.5, 0.1, 0.4]})


class TwoMeans(torch.nn.Module):
    """Two labels by brightness."""

    feature_info = ({"module": "features"},)

    def __init__(self):
        super().__init__()
        self.features = torch.nn.AvgPool2d(8)
        self.scale = torch.nn.Parameter(torch.ones(2))

    def forward(self, images):
        return self.features((images + 2) * self.scale.sum()).mean(dim=(1, 2, 3))[:, None] * self.scale


def test_the_most_confident_by_hand():
    """Equal probabilities by their ids; labels that are not known are neither right nor wrong."""
    rows = most_confident(PREDICTIONS, COLUMNS, 2, {("p_mass", "b"): True, ("p_edema", "c"): False})
    assert rows == [[Cell("p_mass", "b", 0.9, True), Cell("p_mass", "c", 0.9)],
                    [Cell("p_edema", "a", 0.5), Cell("p_edema", "c", 0.4, False)]]
    assert [len(row) for row in most_confident(PREDICTIONS, COLUMNS, 9, {})] == [3, 3]
    assert most_confident(PREDICTIONS[:0], COLUMNS, 2, {}) == [[], []]


def test_frames_and_places(tmp_path):
    """An image that cannot be read keeps its place."""
    for name in "abd":
        write_png(tmp_path / f"{name}.png", np.random.default_rng(0).integers(0, 255, (300, 280), np.uint8))
    (tmp_path / "c.png").write_bytes(b"broken")
    classifier = SimpleNamespace(models=[TwoMeans().eval()], columns=COLUMNS, normalize=Normalization(),
                                 cfg=SimpleNamespace(INPUT=SimpleNamespace(SIZE=64)),
                                 target=Target(64, False))
    rows = most_confident(PREDICTIONS, COLUMNS, 2, {("p_mass", "b"): True, ("p_edema", "a"): False})
    sheet, statuses = draw_sheet(Explainer(classifier), find(tmp_path), rows, workers=1)
    assert [(row.image_id, row.status) for row in statuses] == [("a", "ok"), ("b", "ok"), ("c", "failed")]
    width, height = SIDE + 8, SIDE + 8 + 40
    assert sheet.shape == (2 * height + GAP, 2 * width + GAP, 3)
    corners = [[tuple(sheet[(height + GAP) * row + 41, (width + GAP) * column + 1].tolist())
                for column in (0, 1)] for row in (0, 1)]
    assert corners == [[FRAMES[True], FRAMES[None]], [FRAMES[False], FRAMES[None]]]
    assert sheet[60:-9, 10 : width - 10].std() > 5 and not sheet[44:height - 4, width + GAP + 4 : -4].any()
    with pytest.raises(InputError, match="--sheet: none of the predicted images"):
        draw_sheet(Explainer(classifier), find(tmp_path), [[], []])


def test_labels_of_highest_auc(tmp_path):
    columns = ["p_a", "p_b", "p_c", "p_d"]
    write_json(tmp_path / "metrics.json", {"auc/p_a": 0.6, "auc/p_b": None, "auc/p_c": 1.0, "auc/p_d": 0.7})
    assert best_labels(tmp_path, columns, 2) == ["p_c", "p_d"]
    for count in (0, 4):
        with pytest.raises(InputError, match=f"--best {count}: expected 1 to 3, the labels with an AUC in"):
            best_labels(tmp_path, columns, count)
    with pytest.raises(InputError, match="metrics.json: no such file"):
        best_labels(tmp_path / "none", columns, 1)


@pytest.mark.parametrize("text, message", [
    ("image_id,p_mass\na,.1\n", "p_edema is missing"), ("image_id,p_mass,p_edema\n", "no row"),
    ("image_id,p_mass,p_edema\na,.1,2\n", r"row 2: image a has probabilities \[0.1, 2.0\], expected 0 to 1"),
    ("image_id,p_mass,p_edema\na,.1,.2\na,.1,.2\n", "row 3: image a is repeated"),
])
def test_faulty_predictions(tmp_path, text, message):
    (tmp_path / "p.csv").write_text(text)
    with pytest.raises(InputError, match=message):
        read_predictions(tmp_path / "p.csv", COLUMNS)


def test_what_is_known_of_labels(tmp_path):
    (tmp_path / "l.csv").write_text("image,Mass,Edema\na.png,1,0\nb.png,0,\n")
    classifier = SimpleNamespace(cfg=SimpleNamespace(DATA=SimpleNamespace(TARGET=("Mass", "Edema"))))
    assert read_right(tmp_path / "l.csv", classifier) == {
        ("p_mass", "a"): True, ("p_edema", "a"): False, ("p_mass", "b"): False}


@pytest.mark.parametrize("options, message", [
    (["--annotations", "l.csv"], "--annotations: expected --sheet"),
    (["--sheet", "0"], "--sheet 0: expected 1"),
    (["--labels", "p_mass", "--best", "2"], "--labels with --best"),
])
def test_options_that_contradict(main_of, options, message):
    with pytest.raises(InputError, match=message):
        main_of("explain.py", "--classifier", "no", "--images", "no", "--out", "o", *options)
