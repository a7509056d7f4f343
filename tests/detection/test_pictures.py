"""Pictures and the table of a detector's training."""

from types import SimpleNamespace

import numpy as np
import pytest
import torch
from metric_cases import BOX, FAR, P, T

from vindr_det.detection import pictures
from vindr_det.detection.validation import validation_text
from vindr_det.files import write_png
from vindr_det.imaging import drawing
from vindr_det.structures.label_sets import NIH, VINBIGDATA
from vindr_det.structures.outcomes import Outcome
from vindr_det.structures.records import Record


@pytest.fixture
def items(tmp_path):
    """Six abnormal and three normal images of 100 x 80, prepared at half that size."""
    rng = np.random.default_rng(0)
    records = [Record(f"i{number}", f"i{number}.png", 100, 80, T((3, *BOX), (4, *FAR)) if number < 6 else T())
               for number in range(9)]
    for record in records:
        write_png(tmp_path / record.file_name, rng.integers(0, 255, (50, 40), np.uint8))
    return [(record, tmp_path) for record in records]


def test_the_sheet_has_abnormal_and_normal_images(items):
    sheet = pictures.validation_sheet({}, items, pairs=4)
    assert sheet.dtype == np.uint8 and sheet.shape[2] == 3
    assert [record.image_id for record, _ in pictures._spread(items, 4)] == ["i0", "i2", "i5", "i6"]
    assert [record.image_id for record, _ in pictures._spread(items[6:], 4)] == ["i6", "i7", "i8"]
    assert [record.image_id for record, _ in pictures._spread(items[:2], 8)] == ["i0", "i1"]
    assert pictures._spread([], 4) == []


def test_few_boxes_of_high_scores_are_drawn(items):
    right = P((3, 0.9, *BOX), (5, 0.5, 20, 20, 70, 60))
    low = P((6, 0.05, 30, 30, 60, 60))
    plain = pictures.validation_sheet({"i0": right}, items[:1])
    assert (pictures.validation_sheet({"i0": right + low}, items[:1]) == plain).all()
    assert not np.array_equal(pictures.validation_sheet({"i0": right[:1]}, items[:1]), plain)


def test_a_true_box_of_a_weak_detection_is_not_missed(items, monkeypatch):
    """Twelve detections of ILD, the best ten drawn, and below them one of a true box, at .15: only the other
    true box is missed."""
    drawn, draw = [], pictures.draw
    monkeypatch.setattr(pictures, "draw", lambda *given, **options: (drawn.append((*given, options)),
                                                                     draw(*given, **options))[1])
    many = P(*[(6, 0.8, 20, 20, 70, 60 + place) for place in range(12)], (3, 0.15, *BOX), (5, 0.05, *FAR))
    pictures.validation_sheet({"i0": many}, items[:1])
    _, boxes, outcomes, options = drawn[1]
    assert boxes.labels.tolist() == [6] * 10 + [4]
    assert outcomes == [Outcome.FALSE_POSITIVE] * 10 + [Outcome.MISSED]
    assert options["title"] == "detected from 0.1 on, best 10 of 13"
    drawn.clear()
    pictures.validation_sheet({"i0": many[10:]}, items[:1])
    assert drawn[1][2] == [Outcome.FALSE_POSITIVE] * 2 + [Outcome.TRUE_POSITIVE, Outcome.MISSED]
    assert drawn[1][3]["title"] == "detected from 0.1 on"


def test_crowded_validation_images_have_numbers_and_a_key(items, monkeypatch):
    texts, strip = [], drawing.text_strip
    monkeypatch.setattr(drawing, "text_strip",
                        lambda text, *rest: (texts.append(text), strip(text, *rest))[1])
    many = P(*[(place % 14, 0.8, 20 + place, 20, 70, 60 + place) for place in range(12)])
    pictures.validation_sheet({"i0": many}, items[:1])
    numbers = [text for text in texts if text.isdecimal()]
    assert numbers[-12:] == [str(number) for number in range(1, 13)]
    assert texts[-2:] == ["false positive (FP)", "true box, missed (FN)"]


def test_training_images_fill_a_sheet(tmp_path):
    images = pictures.TrainingImages(VINBIGDATA, count=3)
    assert images.write(tmp_path) is None and not list(tmp_path.iterdir())
    for number in range(5):
        assert images.full == (number >= 3)
        images.add(np.full((60, 60), 128.4), np.array([[5.0, 5, 30, 30]]), np.array([number]), f"i{number}")
    sheet = images.write(tmp_path)
    assert (tmp_path / "train_batch0.png").is_file() and sheet.shape[1] == 3 * 420 + 2 * 6


def test_a_picture_that_cannot_be_drawn_costs_no_training(tmp_path, caplog):
    cfg = SimpleNamespace(OUTPUT_DIR=str(tmp_path), VINDR=SimpleNamespace(VALIDATION=["no such set"]))
    assert pictures.draw_validation(cfg, {}) is None
    assert "val_predictions.png was not drawn" in caplog.text


def test_pictures_of_an_earlier_training_do_not_stay(tmp_path):
    for name in ("val_predictions.png", "pr_curve.png", "confusion_matrix.png", "mine.png"):
        (tmp_path / name).write_bytes(b"earlier")
    pictures.draw_after_training(SimpleNamespace(OUTPUT_DIR=str(tmp_path)))  # without a best model
    assert [path.name for path in tmp_path.iterdir()] == ["mine.png"]


def test_the_table_of_a_validation_by_hand(items):
    records = [record for record, _ in items]
    values = {"validation_loss": 0.5, "vindr/mAP40": 0.25, "coco/AP": 0.125, "vindr/AP40/Cardiomegaly": 0.75,
              "vindr/AP40/No finding": 1.0, "validation_normal/loss": 0.3}
    head, _, _, *rows = validation_text(2000, values, records).splitlines()
    assert head == ("validation after 2000 iterations: loss 0.5000  of normal images 0.3000  "
                    "vindr/mAP40 0.2500  coco/AP 0.1250")
    table = {row[:20].strip(): row[20:].split() for row in rows}
    assert list(table) == list(VINBIGDATA.classes)
    assert table["Cardiomegaly"] == ["6", "6", "0.7500"] and table["No finding"] == ["3", "3", "1.0000"]
    assert table["ILD"] == ["0", "0", "-"]


def test_the_table_of_another_label_set():
    records = [Record("a", "a.png", 9, 9, T().__class__(label_set=NIH))]
    text = validation_text(1, {NIH.mean_ap: 0.5}, records)
    assert f"{NIH.mean_ap} 0.5000" in text and all(name in text for name in NIH.findings)
    assert "No finding" not in text


@pytest.mark.detectron2
def test_loggers_get_detectron2s_numbers_and_pictures(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from detectron2.utils.events import EventStorage

    from vindr_det.detection.detectron2.writers import LoggersWriter
    from vindr_det.training.loggers import Loggers

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    writer = LoggersWriter(Loggers(["mlflow"], tmp_path))
    with EventStorage(0) as storage:
        for iteration in range(40):
            storage.iter = iteration
            storage.put_scalars(total_loss=float(iteration))
            if iteration == 25:
                storage.put_scalars(smoothing_hint=False, **{"coco/AP": 0.5})
                storage.put_image("val_predictions", np.zeros((3, 8, 9), np.uint8))
            if iteration % 20 == 19:
                writer.write()
    writer.close()
    run, = (path.parent for path in tmp_path.glob("mlruns/*/*/meta.yaml"))
    metrics = {str(path.relative_to(run / "metrics")):
               [line.split()[1:] for line in path.read_text().splitlines()]
               for path in (run / "metrics").rglob("*") if path.is_file()}
    assert metrics == {"total_loss": [["9.5", "20"], ["29.5", "40"]], "coco/AP": [["0.5", "26"]]}
    assert [path.name for path in run.glob("artifacts/pictures/*")] == ["val_predictions_0000026.png"]


@pytest.mark.detectron2
def test_tensorboard_of_detectron2_has_the_pictures_beside_another_logger(tmp_path, monkeypatch):
    pytest.importorskip("mlflow")
    from detectron2.utils.events import EventStorage
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    from vindr_det.detection.detectron2.config import get_vindr_cfg
    from vindr_det.detection.detectron2.writers import build_writers

    monkeypatch.delenv("MLFLOW_TRACKING_URI", raising=False)
    cfg = get_vindr_cfg()
    cfg.OUTPUT_DIR, cfg.VINDR.LOGGERS = str(tmp_path), ["tensorboard", "mlflow"]
    writers = build_writers(cfg, 20)
    with EventStorage(0) as storage:
        for iteration in range(20):
            storage.iter = iteration
            storage.put_scalars(total_loss=float(iteration), lr=0.1)
            if iteration == 0:
                storage.put_image("train_batch0", np.zeros((3, 8, 9), np.uint8))
                storage.put_histogram("scores", torch.arange(4.0), bins=2)
        for writer in writers:
            writer.write()
    for writer in writers:
        writer.close()
    events = EventAccumulator(str(tmp_path))
    events.Reload()
    assert [(event.step, event.value) for event in events.Scalars("total_loss")] == [(20, 9.5)]
    assert [(event.step, event.width, event.height) for event in events.Images("train_batch0")] == [(1, 9, 8)]
    histogram, = events.Histograms("scores")
    assert (histogram.step, histogram.histogram_value.bucket) == (1, [2, 2])
    assert len(list(tmp_path.glob("mlruns/*/*/artifacts/pictures/train_batch0_0000001.png"))) == 1
