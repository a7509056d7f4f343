"""results.csv has the numbers of the files that trainings append to."""

import json

import pandas as pd
import pytest

from vindr_det.training import results
from vindr_det.training.progress import DataTimer, duration, progress_line


def test_a_detectors_rows_are_joined_by_iteration(tmp_path):
    lines = [{"iteration": 19, "lr": 0.1, "time": 2.0, "data_time": 0.5, "total_loss": 1.5, "loss_cls": 1.0,
              "bbox_regression": 0.5, "rpn/anchors": 3.0},
             {"iteration": 39, "lr": 0.2, "time": 2.0, "data_time": 0.5, "total_loss": 1.0, "loss_cls": 0.8},
             {"iteration": 39, "validation_loss": 2.0, "vindr/AP40/ILD": 0.2, "vindr/mAP40": 0.25,
              "coco/AP": 0.1}]
    (tmp_path / "metrics.json").write_text("".join(json.dumps(line) + "\n" for line in lines) + '{"iter')
    results.write_results(tmp_path)
    frame = pd.read_csv(tmp_path / "results.csv")
    assert list(frame) == ["iterations", "time", "data_time", "lr", "total_loss", "bbox_regression",
                           "loss_cls", "validation_loss", "vindr/mAP40", "coco/AP",
                           "vindr/AP40/ILD", "rpn/anchors"]
    assert frame["iterations"].tolist() == [20, 40] and frame["vindr/mAP40"].isna().tolist() == [True, False]
    for row, line in zip(frame.to_dict("records"), (lines[0], lines[1] | lines[2]), strict=True):
        assert all(row[key] == value for key, value in line.items() if key != "iteration")


def test_a_classifiers_folds_are_below_each_other(tmp_path):
    for fold in (10, 2):
        pd.DataFrame({"epoch": [1, 2], "loss": [0.5, fold / 100]}).to_csv(
            tmp_path / f"fold{fold}_history.csv", index=False)
    results.write_results(tmp_path)
    frame = pd.read_csv(tmp_path / "results.csv")
    assert frame.to_dict("list") == {"fold": [2, 2, 10, 10], "epoch": [1, 2, 1, 2],
                                     "loss": [0.5, 0.02, 0.5, 0.1]}


def test_a_failure_costs_no_training(tmp_path, caplog):
    results.write_results(tmp_path)
    assert "results.csv: not written" in caplog.text and not list(tmp_path.iterdir())


@pytest.mark.parametrize("seconds, text", [(0, "0:00:00"), (-3, "0:00:00"), (59.6, "0:01:00"),
                                           (3661, "1:01:01"), (90000, "1 day, 1:00:00")])
def test_durations(seconds, text):
    assert duration(seconds) == text


def test_the_line_of_progress_has_the_components_and_the_time_left():
    line = progress_line(20, 120, {"total_loss": 1.5, "loss_cls": 1.0, "loss_box_reg": 0.5}, 0.01, 3.0, 0.25)
    assert line == ("iteration 20/120  loss 1.5000 (box_reg 0.5000  cls 1.0000)  lr 0.01000  "
                    "3.000 s/iteration, data 0.250  eta 0:05:00")


def test_the_timer_measures_loading_alone(monkeypatch):
    clock = iter([10.0, 12.5, 20.0, 21.0])
    monkeypatch.setattr("vindr_det.training.progress.time.perf_counter", lambda: next(clock))
    timer = DataTimer()
    for _ in range(2):
        timer.start("[_TrainingEpochLoop].train_dataloader_next")
        timer.start("optimizer_step")
        timer.stop("optimizer_step")
        timer.stop("[_TrainingEpochLoop].train_dataloader_next")
    assert timer.taken() == 3.5 and timer.taken() == 0.0
