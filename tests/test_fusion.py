import numpy as np
import pytest

from vindr_det.fusion import fuse
from vindr_det.predictions import Predictions


def one(box, score=0.9, label=3):
    return Predictions(np.array([box], float), np.array([score]), np.array([label]))


def test_nothing_in_nothing_out():
    assert len(fuse([Predictions(), Predictions()], 100, 100)) == 0


def test_pixel_boxes_come_back_in_pixels_with_integral_labels():
    fused = fuse([one([100, 200, 300, 400]), one([110, 200, 310, 400], 0.6)], 1000, 500)
    assert fused.labels.dtype == np.int64 and fused.labels.tolist() == [3]
    # Weighted by score: x_min = (.9 * 100 + .6 * 110) / 1.5.
    assert fused.boxes[0] == pytest.approx([104, 200, 304, 400], abs=1e-3)
    assert fused.scores == pytest.approx([0.75])


def test_a_model_that_saw_nothing_still_counts():
    assert fuse([one([0, 0, 10, 10], 0.9), Predictions(), Predictions()], 50, 50).scores == (
        pytest.approx([0.3]))


@pytest.mark.parametrize("method", ["wbf", "nms", "soft-nms", "nmw"])
def test_all_methods_keep_separate_boxes(method):
    fused = fuse([one([0, 0, 10, 10]), one([30, 30, 40, 40])], 50, 50, method=method)
    assert len(fused) == 2 and (fused.scores <= 1).all()


@pytest.mark.parametrize("options, message", [
    ({"method": "mean"}, "expected one of wbf"),
    ({"weights": [1]}, "1 weights for 2 models"),
    ({"weights": [1, -1]}, "positive"),
])
def test_bad_options(options, message):
    with pytest.raises(ValueError, match=message):
        fuse([one([0, 0, 1, 1]), one([0, 0, 1, 1])], 10, 10, **options)


def test_weighted_scores_stay_in_range():
    assert fuse([one([0, 0, 9, 9], 1.0), one([0, 0, 9, 9], 1.0)], 9, 9, weights=[5, 1]).scores <= 1


def test_golden_fusion_of_a_peers_two_models(data):
    """Counts, labels, order and scores of a peer's committed file; boxes to one pixel."""
    import json

    import pandas as pd

    from vindr_det.annotations import read_sizes

    folder = data / "vinbig/submissions"
    sizes = read_sizes(data / "vinbig/test_meta.csv")
    models = [{k.rstrip(","): v for entry in json.loads((folder / name).read_text())
               for k, v in entry.items()}
              for name in ("windeaves_result250.json", "windeaves_result300.json")]
    expected = pd.read_csv(folder / "windeaves_result250_result300_0.25_0.0001.csv",
                           keep_default_na=False).set_index("image_id")["PredictionString"]
    checked = 0
    for image_id in list(expected.index)[:300]:
        height, width = sizes.loc[image_id]
        lists = []
        for model in models:
            # The peer's class ids start at 1.
            rows = [(d["cls"] - 1, d["conf"], *d["bbox"]) for d in model[image_id]]
            table = np.array(rows, float).reshape(-1, 6)
            lists.append(Predictions(table[:, 2:], table[:, 1], table[:, 0]))
        fused = fuse(lists, height, width, iou_thr=0.25, skip_box_thr=0.0001)
        golden = np.array(expected[image_id].split(), float).reshape(-1, 6)
        assert len(fused) == len(golden), image_id
        assert np.allclose(np.sort(fused.scores), np.sort(golden[:, 1]), atol=1e-6)
        checked += len(golden)
    assert checked > 1000
