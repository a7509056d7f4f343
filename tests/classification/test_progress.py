"""What a person sees of a classifier's training."""

import logging
import re
from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
from conftest import classifier_config
from torch.utils.data import DataLoader

from vindr_det.classification import progress
from vindr_det.classification.data import LabeledDataset, Normalization
from vindr_det.classification.label_table import LabelTable
from vindr_det.classification.lightning_module import _aucs_text
from vindr_det.classification.sampler import EpochSampler
from vindr_det.classification.train import train


def test_misclassified_images_by_hand():
    targets = np.array([[1, 0], [0, np.nan], [1, 1], [0, 0]], float)
    p = np.array([[0.2, 0.9], [0.4, 0.9], [0.1, 0.9], [0.49, 0.5]])
    table = SimpleNamespace(targets=targets)
    assert progress.misclassified(table, p) == [(0, 1), (2, 0)]


@pytest.fixture
def texts(monkeypatch):
    """Every title of a sheet."""
    written, strip = [], progress.title_strip
    monkeypatch.setattr(progress, "title_strip",
                        lambda text, *rest: (written.append(text), strip(text, *rest))[1])
    return written


def test_a_batch_is_shown_with_its_positive_labels(texts):
    images = np.random.default_rng(0).normal(size=(3, 1, 8, 8))
    targets = np.array([[1, np.nan], [0, 0], [0.5, 1]])
    sheet = progress.batch_sheet(images, targets, ("a", "b"), ["x", "y", "z"])
    assert sheet.shape == (300, 3 * 260 + 12, 3)
    assert texts == ["x", "a", "y", "none", "z", "a, b"]
    constant = progress.batch_sheet(np.zeros((1, 1, 8, 8)), np.array([[0.0]]), ("a",), ["x"])
    assert constant[50:].max() == 0


def table_of(ids, targets):
    return LabelTable(np.array(ids), ("a", "b"), targets, ~targets.any(axis=1), np.array(ids),
                      np.zeros(len(ids), int))


@pytest.mark.parametrize("name", ["shuffle", "weighted"])
def test_ids_of_a_batch_are_those_of_its_images(name):
    """Each image has its row's number in every pixel."""
    targets = np.eye(9, 2, dtype=np.float32)
    table = table_of([f"id{row}" for row in range(9)], targets)
    pixels = {f"id{row}": np.full((4, 4), row, np.uint8) for row in range(9)}
    sampler = EpochSampler(targets, 3, name)
    loader = DataLoader(LabeledDataset(table, pixels, Normalization(0, 1 / 255)), 4, sampler=sampler)
    images, _ = next(iter(loader))
    assert progress._first_ids(loader)[:4] == [f"id{int(image.max())}" for image in images]


def test_misclassified_images_have_their_ids(texts):
    table = table_of(["x", "y"], np.array([[1, 0], [0, 0]], np.float32))
    dataset = LabeledDataset(table, {name: np.zeros((4, 4), np.uint8) for name in "xy"})
    progress.misclassified_sheet(dataset, np.array([[0.2, 0.1], [0.1, 0.9]]))
    assert texts == ["y", "b 0.90, is negative", "x", "a 0.20, is positive"]


def test_the_table_of_labels():
    assert _aucs_text({"held_out_auc": 0.5}) == ""
    text = _aucs_text({"held_out_auc/p_no_finding": 0.75, "held_out_auc/p_ild": float("nan"), "lr": 1.0})
    assert [line.split() for line in text.splitlines()[3:]] == [["no_finding", "0.7500"], ["ild", "-"]]


def test_a_fold_leaves_pictures_events_and_a_table(phantoms, tmp_path, caplog):
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    caplog.set_level(logging.INFO)
    train(classifier_config(phantoms, tmp_path, "SOLVER.EPOCHS", "2"), [1])
    assert re.findall(r"epoch ([12]/2).* eta \d+:\d\d:\d\d", caplog.text) == ["1/2", "2/2"]
    assert (tmp_path / "fold1_train_batch0.png").is_file()
    history, results = (pd.read_csv(tmp_path / name) for name in ("fold1_history.csv", "results.csv"))
    assert results["fold"].tolist() == [1, 1] and results.drop(columns="fold").equals(history)
    assert (history["time"] > history["data_time"]).all() and (history["data_time"] > 0).all()
    events = EventAccumulator(str(tmp_path / "events/fold1"))
    events.Reload()
    for key in ("loss", "lr", "held_out_loss"):
        logged = [(event.step, event.value) for event in events.Scalars(key)]
        assert logged == [(epoch, pytest.approx(value)) for epoch, value in enumerate(history[key], start=1)]
    shown = set(events.Tags()["images"])
    assert ("misclassified" in shown) == (tmp_path / "fold1_misclassified.png").is_file()
    assert "train_batch0" in shown

    train(classifier_config(phantoms, tmp_path, "SOLVER.EPOCHS", "2", "LOGGERS", "[]"), [1])  # again
    assert not (tmp_path / "events/fold1").exists()
