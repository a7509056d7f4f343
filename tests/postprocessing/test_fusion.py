import json
import warnings

import ensemble_boxes
import numpy as np
import pandas as pd
import pytest

from vindr_det.exceptions import InputError
from vindr_det.imaging.sizes import read_sizes, shapes_of
from vindr_det.postprocessing.fusion import CONFIDENCES, METHODS, Fusion, fuse, fuse_all
from vindr_det.structures.boxes import to_unit
from vindr_det.structures.detections import Predictions, no_finding


def detection(box, score=0.9, label=3):
    return Predictions(np.array([box], float), np.array([score]), np.array([label]))


def test_nothing_in_nothing_out():
    assert len(fuse([Predictions(), Predictions()], 100, 100)) == 0


def test_pixel_boxes_come_back_in_pixels_with_integral_labels():
    fused = fuse([detection([100, 200, 300, 400]), detection([110, 200, 310, 400], 0.6)], 1000, 500)
    assert fused.labels.dtype == np.int64 and fused.labels.tolist() == [3]
    # Weighted by score: x_min = (.9 * 100 + .6 * 110) / 1.5.
    assert fused.boxes[0] == pytest.approx([104, 200, 304, 400], abs=1e-3)
    assert fused.scores == pytest.approx([0.75])


def test_a_model_without_detections_still_counts():
    assert fuse([detection([0, 0, 10, 10], 0.9), Predictions(), Predictions()], 50, 50).scores == (
        pytest.approx([0.3]))


@pytest.mark.parametrize("method", METHODS)
def test_all_methods_keep_separate_boxes(method):
    fused = fuse([detection([0, 0, 10, 10]), detection([30, 30, 40, 40])], 50, 50, Fusion(method))
    assert len(fused) == 2 and (fused.scores <= 1).all()


@pytest.mark.parametrize("options, message", [
    ({"method": "mean"}, "expected one of wbf"), ({"conf_type": "most"}, "expected one of avg"),
    ({"weights": (1,)}, "1 weights for 2 models"), ({"weights": (1, -1)}, "positive"),
    ({"iou_thr": 40}, "iou_thr 40"), ({"skip_box_thr": -1}, "skip_box_thr -1"),
    ({"max_boxes": 0}, "max_boxes 0"), ({"weights": (1, 1e30)}, "1e-06 to 1e.06"),
    ({"method": "nms", "conf_type": "max"}, "conf_type 'max' with method nms, expected method wbf"),
])
def test_bad_options(options, message):
    with pytest.raises(InputError, match=message):
        fuse([detection([0, 0, 1, 1]), detection([0, 0, 1, 1])], 10, 10, Fusion(**options))


@pytest.mark.parametrize("method", METHODS)
@pytest.mark.parametrize("score", [0.0, 1e-300, 1e-45, 1e-25])
def test_boxes_that_weigh_nothing_are_left_out(method, score):
    """Their weighted mean is 0 / 0, also where the score is lost in single precision."""
    options = Fusion(method, 0.4, 0.0)
    nothing = detection([0, 0, 10, 10], score)
    with warnings.catch_warnings():
        warnings.simplefilter("error")
        assert not len(fuse([nothing, nothing], 50, 50, options))
        beside = fuse([nothing + detection([1, 0, 10, 10]), nothing], 50, 50, options)
    assert beside.boxes == pytest.approx(np.array([[1, 0, 10, 10]]))
    assert beside.scores == fuse([detection([1, 0, 10, 10]), Predictions()], 50, 50, options).scores


@pytest.mark.parametrize("conf_type", CONFIDENCES)
def test_boxes_of_the_least_score_keep_their_place(conf_type):
    low = [detection([3, 5, 10, 20], 1.1e-24), detection([3, 5, 10, 20], 1.1e-24)]
    fused = fuse(low, 50, 50, Fusion("wbf", 0.4, 0.0, (1e-6, 1e-6), conf_type))
    assert fused.boxes == pytest.approx(np.array([[3, 5, 10, 20]]), rel=1e-6)


@pytest.mark.parametrize("method", METHODS)
def test_slivers_that_single_precision_closes_are_no_error(method):
    """1e-6 px wide in an image 1000 px wide: two of them would fuse to a box without width."""
    sliver = detection([500, 100, 500 + 1e-6, 900])
    fused = fuse([sliver + detection([1, 1, 9, 9]), sliver], 1000, 1000, Fusion(method))
    assert [1, 1, 9, 9] in fused.boxes.round(3).tolist()


def test_the_four_confidences_by_hand():
    """Boxes of score .9 (weight 3) and .6 (weight 1), and a third model without detections (weight 2)."""
    lists = [detection([0, 0, 10, 10], 0.9), detection([0, 0, 10, 10], 0.6), Predictions()]
    expected = {"avg": (0.9 * 3 + 0.6) / 2 * 2 / 6, "max": 0.9 * 3 / 3,
                "box_and_model_avg": (0.9 * 3 + 0.6) / 4 * 4 / 6,
                "absent_model_aware_avg": (0.9 * 3 + 0.6) / (4 + 2)}
    for conf_type, score in expected.items():
        fused = fuse(lists, 50, 50, Fusion("wbf", weights=(3, 1, 2), conf_type=conf_type))
        assert fused.scores == pytest.approx([score]), conf_type


def test_weighted_scores_stay_in_range():
    both = [detection([0, 0, 9, 9], 1.0), detection([0, 0, 9, 9], 1.0)]
    assert fuse(both, 9, 9, Fusion(weights=(5, 1))).scores <= 1


def test_class_14_is_averaged_or_the_highest():
    lists = [detection([0, 0, 9, 9]) + no_finding(0.6), detection([0, 0, 9, 9]), no_finding(0.3)]
    fused = fuse(lists, 9, 9)
    assert fused.scores[fused.labels == 14] == pytest.approx([0.3])
    weighted = fuse(lists, 9, 9, Fusion(weights=(2, 1, 1)))
    assert weighted.scores[weighted.labels == 14] == pytest.approx([(2 * 0.6 + 0.3) / 4])
    highest = fuse(lists, 9, 9, Fusion("nms", max_boxes=1))
    assert highest.scores[highest.labels == 14] == pytest.approx([0.6])
    assert 14 not in fuse([detection([0, 0, 9, 9])], 9, 9).labels


def scattered(rng, count):
    """Overlapping boxes of three classes in a 200 x 160 image, no two scores alike."""
    low = rng.uniform(0, 100, (count, 2))
    boxes = np.concatenate([low, low + rng.uniform(5, 60, (count, 2))], axis=1)
    return Predictions(boxes, rng.permutation(1000)[:count] / 1000, rng.integers(0, 3, count))


@pytest.mark.parametrize("method, conf_type", [
    *(("wbf", conf) for conf in CONFIDENCES), ("nms", "avg"), ("soft-nms", "avg"), ("nmw", "avg")])
def test_equals_ensemble_boxes(method, conf_type):
    """On 60 random images each: the same boxes in the same order, to the last bit of single precision."""
    rng = np.random.default_rng(1)
    for number in range(60):
        lists = [scattered(rng, int(rng.integers(0, 25))) for _ in range(3)]
        weights = None if number % 2 else (1.0, 2.5, 0.5)
        options = Fusion(method, 0.35, 0.05, weights, conf_type)
        fused = fuse(lists, 160, 200, options)
        kept = [p[p.scores >= 0.05] for p in lists]
        if not any(map(len, kept)):
            assert not len(fused)
            continue
        given = ([to_unit(p.boxes, 160, 200).clip(0, 1) for p in kept],
                 [p.scores.tolist() for p in kept], [p.labels.tolist() for p in kept])
        function = {"wbf": ensemble_boxes.weighted_boxes_fusion, "nms": ensemble_boxes.nms,
                    "soft-nms": ensemble_boxes.soft_nms, "nmw": ensemble_boxes.non_maximum_weighted}[method]
        options = {"wbf": {"conf_type": conf_type, "skip_box_thr": 0.05}, "nmw": {"skip_box_thr": 0.05},
                   "soft-nms": {"sigma": 0.5, "thresh": 0.05}, "nms": {}}[method]
        with warnings.catch_warnings():
            warnings.simplefilter("error")
            boxes, scores, labels = function(*given, weights=weights, iou_thr=0.35, **options)
        order = np.argsort(-np.clip(scores, 0, 1), kind="stable")
        assert fused.scores == pytest.approx(np.clip(scores, 0, 1)[order], abs=1e-12)
        mine, theirs = (np.lexsort((b[:, 0], labels_, s)) for b, labels_, s in (
            (fused.boxes, fused.labels, fused.scores), (boxes, labels, np.clip(scores, 0, 1))))
        assert np.array_equal(fused.labels[mine], labels[theirs].astype(int))
        assert np.allclose(to_unit(fused.boxes, 160, 200)[mine], boxes[theirs], atol=1e-12)


def test_whole_files_on_several_processes(monkeypatch):
    rng = np.random.default_rng(2)
    files = [{f"i{k:03d}": scattered(rng, 12) + no_finding(0.2) for k in range(30)} for _ in range(3)]
    del files[1]["i004"]
    sizes = {f"i{k:03d}": (160, 200) for k in range(31)}
    sequential = fuse_all(files, sizes, workers=1)
    assert list(sequential) == list(sizes) and not len(sequential["i030"])
    monkeypatch.setattr("vindr_det.postprocessing.fusion._MANY_BOXES", 1)
    monkeypatch.setattr("vindr_det.postprocessing.fusion._CHUNK", 7)
    parallel = fuse_all(files, sizes, workers=2)
    assert list(parallel) == list(sizes)
    for image_id, fused in sequential.items():
        assert np.array_equal(fused.boxes, parallel[image_id].boxes)
    with pytest.raises(InputError, match="image i000 has no size"):
        fuse_all(files, {})


def test_golden_fusion_of_a_peers_two_models(data):
    """All 3,000 images of a peer's file: counts, labels, order and scores exactly, boxes to one pixel."""
    folder = data / "vinbig/submissions"
    sizes = read_sizes(data / "vinbig/test_meta.csv")
    models = [{k.rstrip(","): peers(v) for entry in json.loads((folder / name).read_text())
               for k, v in entry.items()}
              for name in ("windeaves_result250.json", "windeaves_result300.json")]
    expected = pd.read_csv(folder / "windeaves_result250_result300_0.25_0.0001.csv",
                           keep_default_na=False).set_index("image_id")["PredictionString"]
    assert len(expected) == 3000
    fused = fuse_all(models, shapes_of(sizes), Fusion(iou_thr=0.25, skip_box_thr=0.0001))
    boxes = 0
    for image_id, text in expected.items():
        result, golden = fused[image_id], np.array(text.split(), float).reshape(-1, 6)
        assert len(result) == len(golden), image_id
        assert np.array_equal(result.labels, golden[:, 0]), image_id
        assert np.array_equal(result.scores, golden[:, 1]), image_id
        assert np.abs(np.trunc(result.boxes + 1e-9) - golden[:, 2:]).max(initial=0) <= 1, image_id
        boxes += len(result)
    assert boxes == 14_231


def peers(rows):
    """A peer's detections on one image; its class ids start at 1."""
    table = np.array([(d["cls"] - 1, d["conf"], *d["bbox"]) for d in rows], float).reshape(-1, 6)
    return Predictions(table[:, 2:], table[:, 1], table[:, 0])
