import math

import pytest
import torch

from vindr_det.training.schedule import SCHEDULES, ScheduleOptions, build_lr_scheduler, factor_of_step, is_due


def factors(name, **options):
    factor = factor_of_step(name, ScheduleOptions(**options))
    return [factor(step) for step in range(options["total"] + 1)]


@pytest.mark.parametrize("name, options, expected", [
    ("WarmupMultiStepLR", {"total": 6, "milestones": (2, 4)}, [1, 1, 0.1, 0.1, 0.01, 0.01, 0.01]),
    ("WarmupMultiStepLR", {"total": 4, "warmup": 2, "warmup_factor": 0.5, "milestones": (3, 9)},
     [0.5, 0.75, 1, 0.1, 0.1]),
    ("WarmupMultiStepLR", {"total": 4, "warmup": 2, "warmup_factor": 1.0}, [1] * 5),
    ("WarmupMultiStepLR", {"total": 4, "warmup": 9, "warmup_factor": 0.0}, [0, 0.25, 0.5, 0.75, 1]),
    ("WarmupCosineLR", {"total": 4}, [1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]),
    # Rises to what the cosine has at step 2, and follows it from there.
    ("WarmupCosineLR", {"total": 4, "warmup": 2, "warmup_factor": 0.0, "end": 0.2},
     [0, 0.3, 0.6, 0.6 - 0.4 * math.sqrt(0.5), 0.2]),
    ("cosine", {"total": 5, "warmup": 1, "warmup_factor": 0.05},
     [0.05, 1, (1 + math.sqrt(0.5)) / 2, 0.5, (1 - math.sqrt(0.5)) / 2, 0]),
    ("cosine", {"total": 2, "warmup": 4, "warmup_factor": 0.0}, [0, 0.5, 1]),
    ("hold", {"total": 6, "warmup": 2, "warmup_factor": 0.5, "hold": 1, "gamma": 0.8},
     [0.5, 0.75, 1, 1, 0.8, 0.64, 0.512]),
    ("hold", {"total": 2, "hold": 5}, [1, 1, 1]),
    ("hold", {"total": 4, "hold": 1, "gamma": 0.5, "end": 0.2}, [1, 1, 0.6, 0.4, 0.3]),
    ("constant", {"total": 3}, [1, 1, 1, 1]),
    ("constant", {"total": 4, "warmup": 2, "warmup_factor": 0.5}, [0.5, 0.75, 1, 1, 1]),
])
def test_factors_by_hand(name, options, expected):
    assert factors(name, **options) == pytest.approx(expected, abs=1e-6)


def test_every_name_has_factors_of_0_to_1():
    for name in SCHEDULES:
        values = factors(name, total=1000, warmup=100, milestones=(500, 900), gamma=0.5, hold=50)
        assert all(-1e-12 < value < 1 + 1e-12 for value in values), name


def test_a_scheduler_steps_all_groups():
    groups = [{"params": [torch.nn.Parameter(torch.zeros(1))], "lr": lr} for lr in (1.0, 10.0)]
    optimizer = torch.optim.SGD(groups, lr=1.0)
    scheduler = build_lr_scheduler(optimizer, "WarmupMultiStepLR", ScheduleOptions(3, milestones=(1,)))
    assert [group["lr"] for group in optimizer.param_groups] == [1.0, 10.0]
    optimizer.step()
    scheduler.step()
    assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([0.1, 1.0])


@pytest.mark.detectron2
@pytest.mark.parametrize("name", ["WarmupMultiStepLR", "WarmupCosineLR"])
@pytest.mark.parametrize("warmup", [0, 7, 60, 90])
def test_detectron2_builds_the_same(name, warmup):
    from detectron2.config import get_cfg
    from detectron2.solver import build_lr_scheduler as build_detectron2s

    cfg = get_cfg()
    cfg.merge_from_list(["SOLVER.LR_SCHEDULER_NAME", name, "SOLVER.MAX_ITER", 60, "SOLVER.STEPS", (20, 40),
                         "SOLVER.WARMUP_ITERS", warmup])
    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=1.0)
    theirs, seen = build_detectron2s(cfg, optimizer), []
    for _ in range(60):
        seen.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        theirs.step()
    ours = factors(name, total=60, warmup=warmup, milestones=(20, 40))
    assert ours[:60] == pytest.approx(seen, abs=1e-8)


@pytest.mark.parametrize("done, period, total, due", [
    (0, 5, 12, True), (4, 5, 12, False), (5, 5, 12, True), (12, 5, 12, True), (12, 5, None, False),
    (12, 0, 12, True), (11, 0, 12, False), (3, -1, 12, False), (10, 5, None, True)])
def test_due_every_period_and_at_the_end(done, period, total, due):
    assert is_due(done, period, total) is due


def test_a_new_schedule_and_optimizer_are_known_to_every_config(monkeypatch, tmp_path):
    """One entry of a list is all that a detector of either engine and the classifier need."""
    import importlib

    from conftest import CLASSIFIER_DEMO, DEMO

    from vindr_det.classification import config as classifier
    from vindr_det.detection import loading
    from vindr_det.exceptions import InputError
    from vindr_det.training import optimizer

    overrides = ["SOLVER.LR_SCHEDULER_NAME", "flat", "VINDR.OPTIMIZER", "Rprop"]
    with pytest.raises(InputError, match="VINDR.OPTIMIZER is 'Rprop', expected SGD"):
        loading.load_config(DEMO, "torchvision", overrides)
    monkeypatch.setitem(SCHEDULES, "flat", SCHEDULES["hold"])
    monkeypatch.setitem(optimizer.OPTIMIZERS, "Rprop", optimizer.OPTIMIZERS["SGD"])
    try:
        for module in (loading, classifier):
            importlib.reload(module)
        assert loading.load_config(DEMO, "torchvision", overrides).VINDR.OPTIMIZER == "Rprop"
        overrides = ["SOLVER.SCHEDULE", "flat", "SOLVER.OPTIMIZER", "Rprop"]
        assert classifier.load_config(CLASSIFIER_DEMO, overrides).SOLVER.SCHEDULE == "flat"
    finally:
        monkeypatch.undo()
        for module in (loading, classifier):
            importlib.reload(module)
