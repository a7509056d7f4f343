"""Folds, resume, the test list, operating points and packed images, on phantoms."""

import json
import shutil
from importlib.util import find_spec

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSIFIER_DEMO, ROOT, one_line
from conftest import classifier_config as config

from vindr_det.classification import train as training
from vindr_det.classification.config import load_config
from vindr_det.classification.model import build_model
from vindr_det.classification.train import train
from vindr_det.exceptions import InputError
from vindr_det.tables import write_csv
from vindr_det.training.checkpoint_io import read_file


def test_a_table_of_fifteen_labels_and_a_test_list(phantoms, tmp_path):
    """Soft targets, every loss's machinery, mean and spread of the folds' models."""
    table = pd.read_csv(phantoms / "data/annotations/labels.csv")
    held = table[table["fold"] == 2].assign(fold=-1)
    write_csv(tmp_path / "test.csv", held)
    write_csv(tmp_path / "learn.csv", table[table["fold"] != 2])
    out = tmp_path / "out"
    cfg = config(phantoms, out, "DATA.TARGET", "vindr15", "DATA.LABELS", str(tmp_path / "learn.csv"),
                 "DATA.TEST", str(tmp_path / "test.csv"), "SOLVER.LOSS", "asymmetric",
                 "SOLVER.SAMPLER", "weighted", "SOLVER.EMA_DECAY", "0.9", "TEST_FLIP", "True")
    metrics = train(cfg)
    oof, test = (pd.read_csv(out / f"{name}_predictions.csv") for name in ("oof", "test"))
    assert len(oof) == 16 and len(test) == 8 and "p_pleural_effusion" in oof
    parts = [pd.read_csv(out / f"fold{fold}_test.csv")["p_no_finding"] for fold in (0, 1)]
    assert test["p_no_finding"].to_numpy() == pytest.approx(np.mean(parts, axis=0), abs=1e-6)
    assert test["p_no_finding_sd"].to_numpy() == pytest.approx(np.std(parts, axis=0), abs=1e-6)
    rare = [name for name in ("Pneumothorax", "Atelectasis") if (table[name] >= 0.5).sum() < 5]
    for name in rare:  # too few to measure: null, not 0 or 1
        assert metrics[f"auc/p_{name.lower()}"] is None and f"auc/p_{name.lower()}/ci95" not in metrics
    json.loads((out / "metrics.json").read_text())


def test_test_labels_choose_nothing(phantoms, tmp_path):
    """With the test table's labels inverted, everything but the test's own measures stays."""
    table = pd.read_csv(phantoms / "data/annotations/labels.csv")
    results = {}
    for name, inverted in (("as", False), ("inverted", True)):
        held = table[table["fold"] == 2].assign(fold=-1)[["image_id", "fold", "No finding"]]
        held["No finding"] = 1 - held["No finding"] if inverted else held["No finding"]
        write_csv(tmp_path / f"{name}.csv", held)
        write_csv(tmp_path / "learn.csv", table[table["fold"] != 2])
        cfg = config(phantoms, tmp_path / name, "DATA.LABELS", str(tmp_path / "learn.csv"),
                     "DATA.TEST", str(tmp_path / f"{name}.csv"))
        results[name] = train(cfg)
    first, second = ((tmp_path / name / "operating_points.json").read_text() for name in results)
    assert first == second and len(first) > 100
    rates = [results[name]["test"]["operating_points"] for name in results]
    for point, values in rates[0].items():
        assert values["threshold"] == rates[1][point]["threshold"]
        assert (values["tp"], values["fn"]) == (rates[1][point]["fp"], rates[1][point]["tn"])
    assert results["as"]["auc"] == results["inverted"]["auc"]


def test_an_interrupted_training_resumes_to_the_same_models(phantoms, tmp_path, monkeypatch):
    """Stopped within fold 1's second epoch; finished folds are not touched again; one run of MLflow each."""
    from vindr_det.classification import lightning_module as module

    more = ["SOLVER.EPOCHS", "3", "SOLVER.EMA_DECAY", "0.9", "SOLVER.SAMPLER", "weighted",
            "LOGGERS", "['mlflow']" if find_spec("mlflow") else "[]"]
    train(config(phantoms, tmp_path / "whole", *more))
    real, steps = module.ClassifierModule.training_step, []

    def stumble(self, batch, number):
        steps.append(number)
        if len(steps) == 3 + 1 + 1:  # three epochs of fold 0, one of fold 1, one batch per epoch
            raise KeyboardInterrupt
        return real(self, batch, number)

    monkeypatch.setattr(module.ClassifierModule, "training_step", stumble)
    cfg = config(phantoms, tmp_path / "part", *more)
    with pytest.raises((KeyboardInterrupt, SystemExit, RuntimeError)):
        train(cfg)
    monkeypatch.setattr(module.ClassifierModule, "training_step", real)
    first = (tmp_path / "part/fold0.pth").stat().st_mtime_ns
    assert (tmp_path / "part/fold1.ckpt").is_file() and not (tmp_path / "part/fold1.pth").exists()
    cfg = config(phantoms, tmp_path / "part", *more)
    metrics = train(cfg, resume=True)
    assert (tmp_path / "part/fold0.pth").stat().st_mtime_ns == first
    assert not list((tmp_path / "part").glob("*.ckpt"))
    whole = json.loads((tmp_path / "whole/metrics.json").read_text())
    assert metrics["auc/fold1"] == whole["auc/fold1"]
    for fold in range(3):  # a row per epoch, also of those before the interruption
        first, second = (pd.read_csv(tmp_path / name / f"fold{fold}_history.csv")
                         .drop(columns=["time", "data_time"]) for name in ("whole", "part"))
        assert first["epoch"].tolist() == [1, 2, 3] and first.equals(second)
    for fold in range(3):
        first, second = (read_file(tmp_path / name / f"fold{fold}.pth")["model"]
                         for name in ("whole", "part"))
        assert all(torch.equal(first[key], second[key]) for key in first), fold
    if find_spec("mlflow"):
        assert len(list((tmp_path / "part").glob("mlruns/*/*/meta.yaml"))) == 3


def test_folds_one_by_one_are_all_folds(phantoms, tmp_path):
    whole = train(config(phantoms, tmp_path / "whole"))
    for fold in (0, 1, 2):
        metrics = train(config(phantoms, tmp_path / "single"), [fold])
    assert metrics == whole
    other = config(phantoms, tmp_path / "single", "SOLVER.LR", "0.1")
    with pytest.raises(InputError, match=r"config.yaml: fold\d.pth was trained with this config"):
        train(other, [0])
    with pytest.raises(InputError, match=r"config.yaml: fold\d.pth was trained with this config"):
        train(other, [1], resume=True)


def test_other_points_can_be_chosen_for_models_that_are_there(phantoms, tmp_path):
    small = ["MODEL.NAME", "test_resnet"]
    train(config(phantoms, tmp_path, *small), [0, 1])
    before = (tmp_path / "fold0.pth").stat().st_mtime_ns
    more = [*small, "POINTS.SENSITIVITY", "[0.8, 0.9]", "POINTS.SPECIFICITY", "[]", "NUM_WORKERS", "1"]
    rates = train(config(phantoms, tmp_path, *more), [0, 1], resume=True)["operating_points"]
    stored = json.loads((tmp_path / "operating_points.json").read_text())["points"]["p_abnormal"]
    assert set(stored) == {"threshold_0.5", "youden", "f1", "sensitivity_0.8", "sensitivity_0.9"}
    assert {name.removeprefix("p_abnormal/") for name in rates} <= set(stored)
    assert (tmp_path / "fold0.pth").stat().st_mtime_ns == before


@pytest.mark.parametrize("select", ["last", "inner"])
def test_labels_of_the_held_out_fold_change_nothing_in_its_model(phantoms, tmp_path, select, monkeypatch):
    """The epoch too is chosen without them: with the fold's labels inverted the weights are the same."""
    from vindr_det.classification import history as module

    monkeypatch.setattr(module, "measurable", lambda truth: 0 < sum(truth) < len(truth))  # few images do
    table = pd.read_csv(phantoms / "data/annotations/labels.csv")[["image_id", "fold", "No finding"]]
    states = []
    for inverted in (False, True):
        own = (table["fold"] == 1) & inverted
        write_csv(tmp_path / "labels.csv", table.assign(**{
            "No finding": np.where(own, 1 - table["No finding"], table["No finding"])}))
        train(config(phantoms, tmp_path / "out", "DATA.LABELS", str(tmp_path / "labels.csv"), "SOLVER.SELECT",
                     select, "DATA.CALIBRATION_SHARE", "0.4", "SOLVER.EPOCHS", "4", "SOLVER.LR", "0.01",
                     "SEED", "1", "MODEL.NAME", "test_resnet"), [1])
        states.append(read_file(tmp_path / "out/fold1.pth")["model"])
    assert all(torch.equal(states[0][key], states[1][key]) for key in states[0])
    own = torch.load(tmp_path / "out/fold1.pth", weights_only=True)["vindr_classifier"]["metrics"]
    assert ("inner_auc" in own) == (select == "inner") and all(0 <= value <= 1 for value in own.values())


def test_the_epoch_is_selected_on_images_set_aside(phantoms, tmp_path, monkeypatch):
    """Of three epochs the second is best there: its weights are kept, without any image of the fold."""
    from vindr_det.classification import lightning_module as module

    values, seen, kept = iter([0.6, 0.9, 0.7]), [], []
    real = module.KeepWeights.on_train_epoch_end

    def validate(self, _):
        seen.extend(self.loader.dataset.table.image_ids)
        return next(values)

    def watched(self, trainer, own):
        real(self, trainer, own)
        kept.append({key: weight.clone() for key, weight in own.weights().items()})

    monkeypatch.setattr(module.EpochSelection, "validate", validate)
    monkeypatch.setattr(module.KeepWeights, "on_train_epoch_end", watched)
    cfg = config(phantoms, tmp_path, "SOLVER.SELECT", "inner", "DATA.CALIBRATION_SHARE", "0.4",
                 "SOLVER.EPOCHS", "3", "MODEL.NAME", "test_resnet")
    metrics = train(cfg, [2])
    state = read_file(tmp_path / "fold2.pth")["model"]
    assert all(torch.equal(state[key], kept[1][key]) for key in state)
    assert not all(torch.equal(state[key], kept[2][key]) for key in state)
    table = pd.read_csv(phantoms / "data/annotations/labels.csv").set_index("image_id")
    assert len(seen) > 0 and (table.loc[seen, "fold"] != 2).all()
    assert metrics["epoch"] == "the best on images set aside, none of them in the held-out fold"


def _moved(table):
    return table.assign(fold=1 - table["fold"])


def _turned(table):
    return table.assign(**{"No finding": 1 - table["No finding"]})


@pytest.mark.parametrize("key, change", [
    ("LABELS", _moved), ("LABELS", _turned),
    ("LABELS", lambda table: table.assign(patient="p" + table["image_id"])),
    ("TEST", _turned), ("TEST", lambda table: table[::-1]), ("TEST", lambda table: table[:-1])])
def test_models_of_other_tables_are_not_mixed_in(phantoms, tmp_path, key, change):
    """Other folds, corrected labels, a list in another order: the fold was trained on other tables."""
    whole = pd.read_csv(phantoms / "data/annotations/labels.csv")[["image_id", "fold", "No finding"]]
    parts = {"LABELS": whole[whole["fold"] < 2], "TEST": whole[whole["fold"] == 2]}
    paths = {name: tmp_path / f"{name}.csv" for name in parts}
    given = [text for name, path in paths.items() for text in (f"DATA.{name}", str(path))]
    for name, part in parts.items():
        write_csv(paths[name], part)
    cfg = config(phantoms, tmp_path / "out", "MODEL.NAME", "test_resnet", *given)
    train(cfg, [0])
    before = {path: path.read_bytes() for path in (tmp_path / "out").iterdir() if path.is_file()}
    write_csv(paths[key], change(parts[key]))
    for folds, resume in (([1], False), (None, True)):
        with pytest.raises(InputError, match=rf"{key}.csv: fold0 was made with other"):
            train(cfg, folds, resume=resume)
    assert before == {path: path.read_bytes() for path in before}
    train(cfg, [0])  # again


def test_a_refused_training_loses_nothing(phantoms, tmp_path):
    """fold1.pth is of another config, so fold 0 cannot be trained again beside it: it stays as it is."""
    train(config(phantoms, tmp_path, "MODEL.NAME", "test_resnet"), [0, 1])
    before = (tmp_path / "fold0.pth").read_bytes()
    with pytest.raises(InputError, match=r"config.yaml: fold1.pth was trained with this config"):
        train(config(phantoms, tmp_path, "MODEL.NAME", "test_resnet", "SOLVER.LR", "0.1"), [0])
    assert (tmp_path / "fold0.pth").read_bytes() == before


@pytest.mark.parametrize("change, more", [
    (lambda table: table.assign(**{"No finding": table["No finding"].replace(0, np.nan)}), []),
    (lambda table: table, ["DATA.KEEP_NORMAL", "0.0"])])
def test_a_constant_target_is_not_trained_on(phantoms, tmp_path, change, more):
    """CheXpert's No Finding is 1 or blank; and without normal images abnormal is all there is."""
    table = pd.read_csv(phantoms / "data/annotations/labels.csv")[["image_id", "fold", "No finding"]]
    write_csv(tmp_path / "labels.csv", change(table))
    cfg = config(phantoms, tmp_path / "out", "DATA.LABELS", str(tmp_path / "labels.csv"), *more)
    with pytest.raises(InputError, match="fold 0: its training images are all of one class"):
        train(cfg)


SUMMARIES = ("metrics.json", "operating_points.json", "oof_predictions.csv", "reliability.png")


def test_models_are_replaced_by_the_same_training_alone_and_what_described_them_goes(
        phantoms, tmp_path, monkeypatch):
    """Also where no fold would stay beside the new ones: a changed config costs nobody a trained model."""
    train(config(phantoms, tmp_path), [0, 1])
    before = {path: path.read_bytes() for path in tmp_path.iterdir() if path.is_file()}
    for folds in ([0], [0, 1], None):
        with pytest.raises(InputError, match=r"config.yaml: fold\d.pth was trained with this config"):
            train(config(phantoms, tmp_path, "SOLVER.LR", "0.1"), folds)
    assert before == {path: path.read_bytes() for path in before}

    def interrupted(*_):
        raise KeyboardInterrupt

    monkeypatch.setattr(training, "train_folds", interrupted)
    with pytest.raises(KeyboardInterrupt):
        train(config(phantoms, tmp_path), [0])
    assert (tmp_path / "fold1.pth").is_file() and not (tmp_path / "fold0.pth").exists()
    assert not [name for name in SUMMARIES if (tmp_path / name).exists()]


def test_packed_images_train_the_same_model(phantoms, tmp_path):
    """The pixels are the same, so the weights are."""
    from vindr_det.imaging.packed import pack
    from vindr_det.imaging.prepare import prepare_folder
    from vindr_det.imaging.resize import Target

    prepare_folder(phantoms / "data/train", tmp_path / "small", Target(64, False), 1)
    ids = sorted(path.stem for path in (tmp_path / "small").glob("*.png"))
    pack(tmp_path / "small", ids, tmp_path / "packed.npy")
    for name, more in (("files", []), ("packed", ["DATA.PACKED", str(tmp_path / "packed.npy")])):
        train(config(phantoms, tmp_path / name, "DATA.IMAGES", str(tmp_path / "small"), *more), [0])
    first, second = (read_file(tmp_path / name / "fold0.pth")["model"] for name in ("files", "packed"))
    assert all(torch.equal(first[key], second[key]) for key in first)


def former_factor(schedule, step, steps, solver):
    """The factor of SOLVER.LR as torch's LinearLR, CosineAnnealingLR, ConstantLR and ExponentialLR had it."""
    warmup = max(1, round(solver.WARMUP_EPOCHS * steps))
    if step < warmup:
        return 0.05 + 0.95 * step / warmup
    if schedule == "cosine":
        return (1 + np.cos(np.pi * (step - warmup) / (steps * solver.EPOCHS - warmup))) / 2
    return solver.DECAY ** (max(0, step - warmup - max(1, round(solver.HOLD_EPOCHS * steps))) / steps)


@pytest.mark.parametrize("more", [(), ("SOLVER.WARMUP_EPOCHS", "0"), ("SOLVER.WARMUP_EPOCHS", "9"),
                                  ("SOLVER.HOLD_EPOCHS", "1.5"),
                                  ("SOLVER.WARMUP_EPOCHS", "2.5", "SOLVER.HOLD_EPOCHS", "3")])
@pytest.mark.parametrize("schedule", ["cosine", "hold"])
def test_schedules(phantoms, tmp_path, schedule, more):
    """The rate of every step, also after a resume from a state of an earlier version."""
    from vindr_det.classification.lightning_module import ClassifierModule

    steps, epochs = 7, 6
    cfg = config(phantoms, tmp_path, "SOLVER.SCHEDULE", schedule, "SOLVER.EPOCHS", str(epochs), "SOLVER.LR",
                 "0.01", *more)
    module = ClassifierModule(cfg, torch.nn.Linear(1, 1), None, steps)
    made = module.configure_optimizers()
    optimizer, scheduler = made["optimizer"], made["lr_scheduler"]["scheduler"]
    assert made["lr_scheduler"]["interval"] == "step"
    for step in range(steps * epochs):
        expected = 0.01 * former_factor(schedule, step, steps, cfg.SOLVER)
        assert [group["lr"] for group in optimizer.param_groups] == pytest.approx([expected] * 2, rel=1e-6)
        optimizer.step()
        scheduler.step()
        if step == 20:
            checkpoint = {"vindr": {}, "lr_schedulers": [
                {"_schedulers": [{}, {}], "_milestones": [7], "last_epoch": 21,
                 "_last_lr": scheduler.get_last_lr()}]}
            module.on_load_checkpoint(checkpoint)
            scheduler = module.configure_optimizers()["lr_scheduler"]["scheduler"]
            scheduler.load_state_dict(checkpoint["lr_schedulers"][0])
            scheduler.optimizer = optimizer


@pytest.mark.slow
@pytest.mark.parametrize("name, parameters", [
    ("nih_binary_effnet_b2", 9.11), ("nih_multilabel_densenet121", 7.98)])
def test_full_sized_models_take_a_step_and_reload(phantoms, tmp_path, name, parameters):
    """timm publishes the millions of parameters with three channels and 1,000 classes."""
    import timm

    cfg = load_config(ROOT / f"configs/classifier/{name}.yaml", [
        "MODEL.PRETRAINED", "False", "DATA.PACKED", "", "DATA.IMAGES", str(phantoms / "data/train"),
        "DATA.LABELS", str(phantoms / "data/annotations/labels.csv"), "DATA.VALIDATION", "", "DATA.TEST", "",
        "DATA.TARGET", "vindr15" if "multi" in name else "abnormal", "SOLVER.EPOCHS", "1",
        "SOLVER.BATCH_SIZE", "4", "SOLVER.PRECISION", "32-true", "NUM_WORKERS", "0", "DEVICE", "cpu",
        "SOLVER.SELECT", "last", "SOLVER.PATIENCE", "0",  # twelve images are too few to set some aside
        "OUTPUT_DIR", str(tmp_path)])
    whole = timm.create_model(cfg.MODEL.NAME.split(".")[0])
    count = sum(p.numel() for p in whole.parameters())
    assert count / 1e6 == pytest.approx(parameters, abs=0.005)
    ours = build_model(cfg)
    stem = next(p for p in whole.parameters() if p.dim() == 4)
    head = sum(p.numel() for p in whole.get_classifier().parameters())
    mine = sum(p.numel() for p in ours.get_classifier().parameters())
    assert sum(p.numel() for p in ours.parameters()) == count - stem.numel() * 2 // 3 - head + mine
    table = pd.read_csv(phantoms / "data/annotations/labels.csv").head(12).assign(fold=[0, 0, 0, 1] * 3)
    table.loc[[3, 7], "No finding"] = [0.0, 1.0]
    write_csv(tmp_path / "few.csv", table)
    cfg.DATA.LABELS = str(tmp_path / "few.csv")
    train(cfg, [1])
    oof = pd.read_csv(tmp_path / "oof_predictions.csv")
    column = "p_no_finding" if "multi" in name else "p_abnormal"
    assert len(oof) == 3 and oof[column].between(0, 1).all() and oof[column].nunique() > 1


def test_the_tool(phantoms, tmp_path, tool, main_of, capsys):
    labels, test = phantoms / "data/annotations/labels.csv", phantoms / "raw/test"
    command = ["train_classifier.py", "--config", CLASSIFIER_DEMO, "DATA.IMAGES", phantoms / "data/train",
               "DATA.LABELS", labels, "SOLVER.EPOCHS", "1", "INPUT.SIZE", "64", "MODEL.NAME", "test_resnet",
               "OUTPUT_DIR", tmp_path / "out"]
    run = tool(*command)
    assert run.returncode == 0 and "auc/fold2" in run.stdout, run.stderr
    main_of(*command, "--resume")
    assert "auc/fold2" in capsys.readouterr().out
    classify = ["classify.py", "--classifier", tmp_path / "out", "--images", test, "--out",
                tmp_path / "p.csv"]
    assert main_of(*classify) == 0
    table = pd.read_csv(tmp_path / "p.csv")
    assert len(table) == 6
    assert {"image_id", "p_abnormal", "decision_abnormal", "calibrated", "warnings"} == set(table)
    images = tmp_path / "images"
    shutil.copytree(test, images)
    (images / "broken.dicom").write_bytes(b"nothing")
    run = tool(*classify[:3], "--images", images, "--out", tmp_path / "q.csv", "--strict")
    assert run.returncode == 1 and "1 of 7 images were NOT READ" in run.stderr
    assert pd.read_csv(tmp_path / "q.csv").equals(table)  # no row, and so no probability
    states = pd.read_csv(tmp_path / "q.status.csv").set_index("image_id")["status"]
    assert states["broken"] == "failed" and (states == "failed").sum() == 1 and len(states) == 7
    (tmp_path / "broken").mkdir()
    shutil.copy(images / "broken.dicom", tmp_path / "broken")
    assert "none of 1 images can be read" in one_line(
        tool(*classify[:3], "--images", tmp_path / "broken", "--out", tmp_path / "q.csv"))
    assert not (tmp_path / "q.csv").exists()  # it would be taken for this run's
    assert main_of(*classify, "--point", "0.5") == 0
    assert pd.read_csv(tmp_path / "p.csv").eval("decision_abnormal == (p_abnormal >= 0.5)").all()
    with pytest.raises(InputError, match=r"--point best: the classifier has f1, sensitivity_0.95"):
        main_of(*classify, "--point", "best")
    shutil.rmtree(tmp_path / "out")
    with pytest.raises(InputError, match=r"holds no fold\*.pth"):
        main_of(*classify)


def test_each_epoch_has_an_order_of_its_own(phantoms, tmp_path, monkeypatch):
    """Lightning tells the sampler the epoch: without that all epochs were alike."""
    from vindr_det.classification import sampler

    seen, real = [], sampler.EpochSampler.__iter__

    def watched(self):
        sample_keys = list(real(self))
        seen.append([sample_key.row for sample_key in sample_keys])
        return iter(sample_keys)

    monkeypatch.setattr(sampler.EpochSampler, "__iter__", watched)
    train(config(phantoms, tmp_path / "out", "SOLVER.EPOCHS", "3", "NUM_WORKERS", "0"), [0])
    assert seen.pop(0) == seen[0]  # fold0_train_batch0.png shows the first batch that is trained on
    assert len(seen) == 3 and len({tuple(order) for order in seen}) == 3
    assert len({tuple(sorted(order)) for order in seen}) == 1
