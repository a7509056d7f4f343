import numpy as np
import pytest

from vindr_det.data.consensus import fuse_readers
from vindr_det.data.vinbigdata import EDGES, read_annotations, to_records
from vindr_det.imaging.sizes import read_sizes
from vindr_det.postprocessing.fusion import Fusion, fuse
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NO_FINDING_ID


def fused(*rows, of=3, **options):
    """Rows are (reader, box) or (reader, box, label)."""
    boxes = np.array([row[1] for row in rows], float).reshape(-1, 4)
    labels = np.array([row[2] if len(row) > 2 else 3 for row in rows], np.int64)
    return fuse_readers(boxes, labels, [row[0] for row in rows], of, **options)


def test_no_boxes():
    assert len(fused().boxes) == 0 and fused().readers == ()


def test_three_readers_of_one_box_agree_fully():
    result = fused(("R8", [10, 10, 30, 30]), ("R9", [12, 10, 32, 30]), ("R10", [11, 10, 31, 30]))
    assert result.boxes.boxes == pytest.approx(np.array([[11, 10, 31, 30]]))
    assert result.boxes.scores == pytest.approx([1.0])
    assert result.readers == (("R10", "R8", "R9"),)


def test_agreement_is_the_share_of_readers_also_when_one_draws_twice():
    result = fused(("R8", [10, 10, 30, 30]), ("R8", [11, 10, 31, 30]))
    assert result.boxes.scores == pytest.approx([1 / 3]) and result.readers == (("R8",),)


@pytest.mark.parametrize("fusion, min_readers, shares", [
    ("wbf", 1, [2 / 3, 1 / 3]), ("wbf", 2, [2 / 3]), ("wbf", 3, []), ("nms", 1, [2 / 3, 1 / 3]),
    ("nms", 2, [2 / 3]), ("none", 1, [1 / 3] * 3),
])
def test_fusions(fusion, min_readers, shares):
    result = fused(("R8", [10, 10, 30, 30]), ("R9", [11, 10, 31, 30]), ("R10", [60, 60, 90, 90]),
                   fusion=fusion, min_readers=min_readers)
    assert result.boxes.scores.tolist() == pytest.approx(shares)
    assert [len(names) / 3 for names in result.readers] == pytest.approx(shares)


def test_nms_keeps_a_box_as_it_was_drawn():
    drawn = [[10, 10, 30, 30], [14, 10, 34, 30]]
    result = fused(("R8", drawn[0]), ("R9", drawn[1]), fusion="nms")
    assert result.boxes.boxes.tolist()[0] in drawn


def test_other_classes_are_not_fused():
    assert len(fused(("R8", [10, 10, 30, 30], 3), ("R9", [10, 10, 30, 30], 5)).boxes) == 2


@pytest.mark.parametrize("overlap, boxes", [(0.4, 2), (0.401, 1)])
def test_the_overlap_must_be_greater(overlap, boxes):
    """Two boxes of area 100 that share s overlap by s / (200 - s)."""
    shared = 200 * overlap / (1 + overlap)
    shift = 10 - shared / 10
    assert len(fused(("R8", [0, 0, 10, 10]), ("R9", [shift, 0, 10 + shift, 10])).boxes) == boxes


def as_sorted(predictions):
    order = np.lexsort((*predictions.boxes.round(1).T, predictions.labels))
    return predictions[order]


def compare(boxes, labels, readers, height, width):
    """With ensemble-boxes' whole fusion, one list per reader."""
    mine = as_sorted(fuse_readers(boxes, labels, readers, len(set(readers))).boxes)
    lists = [Predictions(boxes[chosen], np.ones(chosen.sum()), labels[chosen])
             for reader in dict.fromkeys(readers)
             for chosen in [np.array([name == reader for name in readers])]]
    theirs = as_sorted(fuse(lists, height, width, Fusion(
        iou_thr=0.4, skip_box_thr=0.0, conf_type="box_and_model_avg")))
    assert mine.labels.tolist() == theirs.labels.tolist()
    assert np.allclose(mine.boxes, theirs.boxes, atol=0.01)
    assert np.allclose(mine.scores, theirs.scores, atol=1e-6)


def test_equal_to_ensemble_boxes_on_random_boxes():
    rng = np.random.default_rng(0)
    for _ in range(100):
        count = int(rng.integers(1, 13))
        low = rng.uniform(0, 60, (count, 2))
        boxes = np.concatenate([low, low + rng.uniform(20, 40, (count, 2))], axis=1)
        readers = sorted(rng.choice(["R10", "R8", "R9"], count).tolist())
        compare(boxes, rng.integers(0, 2, count), readers, 100, 100)


@pytest.mark.slow
def test_equal_to_ensemble_boxes_on_the_real_table(data):
    sizes = read_sizes(data / "vinbig/train_meta.csv")
    frame = read_annotations(data / "vinbig/train.csv.gz", sizes)
    drawn = frame[frame["class_id"] != NO_FINDING_ID]
    drawn = drawn.sort_values(["image_id", "rad_id"], kind="stable")
    for image_id, rows in drawn.groupby("image_id"):
        compare(rows[list(EDGES)].to_numpy(), rows["class_id"].to_numpy(), rows["rad_id"].tolist(),
                *sizes.loc[image_id, ["height", "width"]])
    assert drawn["image_id"].nunique() == 4394
    assert sum(len(record.truth) for record in to_records(frame, sizes)) == 22719
