import numpy as np
import pytest
from conftest import DEMO

from vindr_det.detection.anchors import Anchors, best_overlaps, box_shapes, fit, from_config
from vindr_det.detection.loading import load_config
from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions
from vindr_det.structures.records import Record


def test_shapes_by_hand():
    assert Anchors((10.0,), (4.0,)).shapes().tolist() == [[20, 5]]
    assert best_overlaps(np.array([[20.0, 5], [20, 10]]), [Anchors((10.0,), (4.0,))]).tolist() == [1, 0.5]


def test_the_fit_recovers_the_sizes_and_ratios_of_the_boxes():
    rng = np.random.default_rng(0)
    sizes, ratios = rng.choice([16, 64, 256], 900), rng.choice([0.5, 2.0], 900)
    noise = np.exp(rng.normal(0, 0.03, (900, 2)))
    shapes = np.stack([sizes * np.sqrt(ratios), sizes / np.sqrt(ratios)], axis=1) * noise
    fitted = fit(shapes, levels=3, ratios=2)
    assert fitted.sizes == pytest.approx((16, 64, 256), rel=0.02)
    assert fitted.ratios == pytest.approx((0.5, 2.0), rel=0.02)
    assert best_overlaps(shapes, [fitted]).mean() > 0.9


def test_boxes_are_measured_in_the_networks_pixels():
    """2000 x 1000, to 1000 x 500 by IMAGE_SIZE, to 400 x 200 by the test edges."""
    cfg = load_config(DEMO, "torchvision", ["VINDR.IMAGE_SIZE", "1000", "INPUT.MIN_SIZE_TEST", "200",
                                            "INPUT.MAX_SIZE_TEST", "999"])
    truth = Predictions(np.array([[0, 0, 50, 100]]), np.ones(1), np.array([3]))
    assert box_shapes([Record("a", "a.png", 2000, 1000, truth)], cfg).tolist() == [[20, 10]]
    assert len(from_config(cfg)) == 5
    with pytest.raises(InputError, match="no box"):
        box_shapes([], cfg)


def test_the_tool_prints_yaml_that_a_config_takes(tool, phantoms, tmp_path):
    import yaml

    result = tool("fit_anchors.py", "--annotations", phantoms / "data/annotations/instances_all.json",
                  "--config", DEMO)
    assert result.returncode == 0, result.stderr
    text = result.stdout[: result.stdout.index("the config's")]
    (tmp_path / "c.yaml").write_text(f"_BASE_: {DEMO}\n{text}")
    cfg = load_config(tmp_path / "c.yaml", "torchvision")
    assert yaml.safe_load(text)["MODEL"]["ANCHOR_GENERATOR"]["SIZES"] == cfg.MODEL.ANCHOR_GENERATOR.SIZES
    before, after = (float(line.split("IoU ")[1][:5]) for line in result.stdout.splitlines()[-2:])
    assert after > before - 0.05
