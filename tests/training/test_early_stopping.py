import json
import random

import numpy as np
import pytest
import torch
from torch import nn

from vindr_det.exceptions import DivergedError
from vindr_det.training.early_stopping import EarlyStopping
from vindr_det.training.ema import ModelEMA, ema_weights
from vindr_det.training.sampler import seed_step
from vindr_det.training.states import truncate_metrics


def test_best_and_patience():
    best = EarlyStopping("m", patience=2)
    assert [best.update({"m": v}) for v in (0.3, 0.2, float("nan"))] == [True, False, False]
    assert best.exhausted and best.value == 0.3
    again = EarlyStopping("m", patience=2)
    again.load_state_dict(best.state_dict())
    assert again.exhausted and not again.update({"m": 0.3})
    assert again.update({"m": 0.31}) and not again.exhausted
    assert not EarlyStopping("m").update({}) and not EarlyStopping("m").exhausted


def test_the_average_by_hand():
    model = nn.Linear(1, 1, bias=False)
    nn.init.constant_(model.weight, 0.0)
    ema = ModelEMA(model, 0.5)
    nn.init.constant_(model.weight, 1.0)
    expected = 0.0
    for update in range(1, 30):
        ema.update(model)
        decay = min(0.5, (1 + update) / (10 + update))
        expected = decay * expected + (1 - decay)
        assert ema.state["weight"].item() == pytest.approx(expected, abs=1e-6)
    with ema_weights(model, ema):
        assert model.weight.item() == pytest.approx(expected)
    assert model.weight.item() == 1.0
    again = ModelEMA(model, 0.5)
    again.load_state_dict(ema.state_dict())
    assert again.updates == 29 and again.state["weight"].item() == ema.state["weight"].item()


def test_whole_numbers_are_copied_into_the_average():
    model = nn.BatchNorm2d(2)
    ema = ModelEMA(model, 0.9)
    model(torch.randn(4, 2, 3, 3))
    ema.update(model)
    assert ema.state["num_batches_tracked"].item() == 1


def test_each_step_of_each_process_draws_its_own_numbers():
    def draw(*position):
        seed_step(*position)
        return torch.rand(1).item(), np.random.rand(), random.random()

    drawn = {(seed, step, rank): draw(seed, step, rank)
             for seed in (0, 3) for step in (0, 1, 20) for rank in (0, 1)}
    for kind in zip(*drawn.values(), strict=True):
        assert len(set(kind)) == len(drawn)
    torch.rand(5)
    assert all(draw(*position) == numbers for position, numbers in drawn.items())  # whatever was drawn before


@pytest.mark.parametrize("done, left", [(0, 0), (20, 1), (40, 2), (99, 2)])
def test_what_a_resume_writes_again_is_cut_off(tmp_path, done, left):
    path = tmp_path / "metrics.json"
    lines = [json.dumps({"iteration": i, "name": "ü"}) + "\n" for i in (19, 39)]
    path.write_text("".join(lines) + '{"iteration": 59, "na', encoding="utf-8")
    with path.open("a", encoding="utf-8") as already_open:
        truncate_metrics(path, done)
        already_open.write("end\n")
    assert path.read_text(encoding="utf-8") == "".join(lines[:left]) + "end\n"


def test_a_diverged_loss_names_images_and_losses():
    text = str(DivergedError(7, ["a", "b"], {"loss_cls": float("nan")}))
    assert "iteration 7 on images a, b (loss_cls nan)" in text and "\n" not in text


def test_a_metric_that_is_never_measured_is_told_once(caplog):
    best = EarlyStopping("vindr/AP40/Pneumothorax")
    for _ in range(2):
        assert not best.update({"vindr/mAP40": 0.5})
    assert caplog.text.count("VINDR.BEST_METRIC vindr/AP40/Pneumothorax was not measured") == 1
