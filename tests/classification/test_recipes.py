"""The configs that repeat earlier systems' recipes: each is built, and rates and inputs are theirs."""

from types import SimpleNamespace

import numpy as np
import pandas as pd
import pytest
import torch
from conftest import CLASSIFIER_DEMO, ROOT, classifier_config

from vindr_det.classification.config import load_config
from vindr_det.classification.data import Normalization
from vindr_det.classification.label_table import LabelTable, read_table
from vindr_det.classification.lightning_module import EpochSelection, schedule_options
from vindr_det.classification.losses import build_loss
from vindr_det.classification.model import (
    build_model,
    choose_normalization,
    load_checkpoint,
    save_checkpoint,
)
from vindr_det.classification.predict import Classifier
from vindr_det.classification.splits import read_tables, trained_on
from vindr_det.classification.targets import labels_of_target
from vindr_det.classification.train import train
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import NIH_LABELS, column_of
from vindr_det.tables import write_csv
from vindr_det.training.augmentation import Augment
from vindr_det.training.early_stopping import EarlyStopping
from vindr_det.training.schedule import factor_of_step

CONFIGS = sorted((ROOT / "configs/classifier").rglob("*.yaml"))


@pytest.mark.parametrize("path", CONFIGS, ids=[path.stem for path in CONFIGS])
def test_every_config_is_built(path):
    cfg = load_config(path)
    with torch.device("meta"):  # the layout without the weights
        model = build_model(cfg, pretrained=False)
    assert model.num_classes == len(labels_of_target(cfg.DATA.TARGET))
    first = next(module for module in model.modules() if isinstance(module, torch.nn.Conv2d))
    assert first.in_channels == cfg.INPUT.CHANNELS
    image = np.zeros((32, 32), np.uint8)
    augment = Augment(list(cfg.INPUT.AUGMENT), seed=0)
    assert augment(image, np.zeros((0, 4)), np.zeros(0, np.int64))[0].shape == (32, 32)
    assert path.read_text().startswith("# ") and "vindr-det train-classifier" in path.read_text()


def rate_of_001(epoch):
    """cxr-anomaly-detection's learning rate in an epoch."""
    if epoch < 20:
        return (1.5e-4 - 1e-5) / 20 * epoch + 1e-5
    return 1.5e-4 if epoch < 30 else (1.5e-4 - 1e-5) * 0.8 ** (epoch - 30) + 1e-5


@pytest.mark.parametrize("name, rate, epochs", [
    ("nih_binary_effnet_b2_256", rate_of_001, 50), ("nih_multilabel_resnet56", lambda _: 1e-3, 30),
    ("nih_small_densenet121", lambda _: 1e-3, 3),
    ("nih_pneumonia_effnet_b4", lambda epoch: rate_of_001(epoch) if epoch < 30 else (
        (1.5e-4 - 2e-5) * 0.8 ** (epoch - 30) + 2e-5), 60)])
def test_rates_at_the_beginning_of_each_epoch(name, rate, epochs):
    solver = load_config(ROOT / f"configs/classifier/{name}.yaml").SOLVER
    factor = factor_of_step(solver.SCHEDULE, schedule_options(solver, steps=37))
    ours = [solver.LR * factor(37 * epoch) for epoch in range(epochs)]
    assert ours == pytest.approx([rate(epoch) for epoch in range(solver.EPOCHS)], rel=1e-6)
    assert len(ours) == solver.EPOCHS


def test_published_rates():
    """As the notebook's printed schedule has them."""
    values = {0: 10, 1: 17, 10: 80, 19: 143, 20: 150, 29: 150, 30: 150, 31: 122, 35: 55.88, 40: 25.03,
              49: 12.02}
    for epoch, value in values.items():
        assert 1e6 * rate_of_001(epoch) == pytest.approx(value, abs=0.006)


@pytest.mark.parametrize("target, expected", [
    ("abnormal", ("abnormal",)), ("nih14", NIH_LABELS), ("No Finding", ("No Finding",)),
    (" Mass,No Finding ", ("Mass", "No Finding")), (["Mass", "Edema"], ("Mass", "Edema"))])
def test_targets(target, expected):
    assert labels_of_target(target) == expected


@pytest.mark.parametrize("target", ["", "Mass,", "Mass, Mass", "No finding, No Finding", []])
def test_targets_that_are_none(target):
    with pytest.raises(InputError, match="DATA.TARGET is .*expected abnormal, vindr15, nih14, or labels"):
        labels_of_target(target if target != [] else ["Mass", ""])


def test_targets_in_configs(tmp_path):
    (tmp_path / "a.yaml").write_text(f"_BASE_: {CLASSIFIER_DEMO}\nDATA:\n  TARGET: [Mass, No Finding]\n")
    assert load_config(tmp_path / "a.yaml").DATA.TARGET == "Mass, No Finding"
    for text in ("Mass, No Finding", "[Mass, No Finding]", "['Mass', 'No Finding']"):
        assert labels_of_target(load_config(CLASSIFIER_DEMO, ["DATA.TARGET", text]).DATA.TARGET) == (
            "Mass", "No Finding")
    with pytest.raises(InputError, match="DATA.TARGET is 'Mass, Mass'"):
        load_config(CLASSIFIER_DEMO, ["DATA.TARGET", "Mass, Mass"])


def test_any_column_can_be_the_target(tmp_path):
    (tmp_path / "a.csv").write_text("image_id,Tuberculosis,fold\na,1,0\nb,0,0\nc,,1\n")
    table = read_table(tmp_path / "a.csv", "Tuberculosis")
    assert table.names == ("Tuberculosis",) and table.normal.tolist() == [False, True, False]
    with pytest.raises(InputError, match="has no column 'Tuberkulosis', expected .* Tuberculosis"):
        read_table(tmp_path / "a.csv", "Tuberkulosis")


def test_a_single_label_end_to_end(phantoms, tmp_path):
    """Its probability has its name, the checkpoint carries it, and a gate refuses it in one line."""
    table = pd.read_csv(phantoms / "data/annotations/labels.csv")
    present = table.drop(columns=["image_id", "No finding"]).set_index("fold") >= 0.5
    frequent = present.groupby("fold").sum().min().idxmax()  # in each fold
    write_csv(tmp_path / "few.csv", table[["image_id", "fold", frequent]])  # no other label
    out = tmp_path / "out"
    metrics = train(classifier_config(phantoms, out, "DATA.TARGET", frequent, "DATA.LABELS",
                                      str(tmp_path / "few.csv"), "INPUT.NORMALIZE", "dataset",
                                      "SOLVER.OPTIMIZER", "Adam", "INPUT.CHANNELS", "3"))
    column = column_of(frequent)
    assert f"auc/{column}" in metrics and column in pd.read_csv(out / "oof_predictions.csv")
    trained = [load_checkpoint(out / f"fold{fold}.pth") for fold in range(3)]
    assert [model.columns for model in trained] == [[column]] * 3
    assert len({model.normalize for model in trained}) == 3  # each by its own images to train on
    classifier = Classifier(out, calibrated=False, device="cpu")
    image = np.random.default_rng(0).integers(0, 255, (64, 64), dtype=np.uint8)
    by_model = [float(model.network(model.normalize(image)[None]).sigmoid()) for model in trained]
    assert float(classifier.probabilities([image])[0, 0]) == pytest.approx(np.mean(by_model), abs=1e-6)
    with pytest.raises(InputError, match=f"predicts {column}, expected p_abnormal or p_no_finding"):
        classifier(image)


def test_normalizations(phantoms, tmp_path):
    table = read_tables(classifier_config(phantoms, tmp_path)).table
    image = np.random.default_rng(0).integers(0, 200, (64, 64), dtype=np.uint8)
    chosen = {}
    for kind in ("weights", "image", "dataset", "unit"):
        cfg = classifier_config(phantoms, tmp_path, "INPUT.NORMALIZE", kind)
        chosen[kind] = choose_normalization(cfg, build_model(cfg, pretrained=False), table)
        save_checkpoint(tmp_path / "fold0.pth", build_model(cfg).state_dict(), cfg, chosen[kind], {})
        assert load_checkpoint(tmp_path / "fold0.pth").normalize == chosen[kind]
    own = chosen["image"](image)
    assert float(own.mean()) == pytest.approx(0, abs=1e-5)
    assert float(own.std(correction=0)) == pytest.approx(1, abs=1e-5)
    assert not chosen["image"](np.full((4, 4), 77, np.uint8)).any()  # finite where there is no spread
    assert torch.allclose(chosen["unit"](image), torch.from_numpy(image)[None] / 255)
    from vindr_det.classification.data import Pixels

    pixels = Pixels(phantoms / "data/train", "", 64)
    every = np.stack([pixels[name] for name in table.image_ids]) / 255
    assert chosen["dataset"].mean == pytest.approx(every.mean(), rel=1e-6)
    assert chosen["dataset"].std == pytest.approx(every.std(), rel=1e-6)
    assert Normalization.of_images([np.full((2, 2), 9, np.uint8)]).std > 0


def test_one_channel_and_three_equal_ones_are_the_same_network():
    """Where the first layer of the former is the sum over the colors of the latter's."""
    cfg = load_config(CLASSIFIER_DEMO, ["MODEL.NAME", "test_resnet", "INPUT.CHANNELS", "3"])
    three = build_model(cfg, pretrained=False).eval()
    cfg.INPUT.CHANNELS = 1
    gray = build_model(cfg, pretrained=False).eval()
    state = three.state_dict()
    first = next(key for key, weight in state.items() if weight.ndim == 4)
    gray.load_state_dict(state | {first: state[first].sum(dim=1, keepdim=True)})
    images = torch.rand(2, 1, 64, 64)
    with torch.inference_mode():
        assert torch.allclose(three(images), gray(images), atol=1e-4)


def test_the_epoch_with_the_lowest_loss_is_kept():
    """The loss of fixed probabilities by hand; AUC and loss choose different epochs."""
    targets = np.array([[1.0], [0.0]] * 5, np.float32)
    epochs = [[[0.6], [0.4]] * 5, [[0.9], [0.2]] * 5, [[0.99], [0.97]] * 5]  # AUC 1 in all
    cfg = load_config(CLASSIFIER_DEMO, ["SOLVER.LABEL_SMOOTHING", "0"])
    loss = build_loss(cfg, torch.from_numpy(targets))
    kept = {}
    for metric in ("auc", "loss"):
        selection = EpochSelection(None, targets, EarlyStopping(metric))
        for number, p in enumerate(epochs):
            module = SimpleNamespace(loss=loss, predict_with_ema=lambda loader, p=p: np.array(p))
            if selection.best.update({metric: selection.validate(module)}):
                kept[metric] = number
        shown = selection.best_metrics()[f"inner_{metric}"]
        assert shown == pytest.approx({"auc": 1.0, "loss": -(np.log(0.9) + np.log(0.8)) / 2}[metric])
    assert kept == {"auc": 0, "loss": 1}


@pytest.mark.parametrize("where, counts", [("training", (12, 30, 30)), ("all", (12, 12, 12))])
def test_normal_images_are_left_out_of_training_or_of_all_parts(tmp_path, monkeypatch, where, counts):
    from vindr_det.classification import splits

    monkeypatch.setattr(splits, "_with_images", lambda table, cfg: table)
    cfg = load_config(CLASSIFIER_DEMO, ["DATA.KEEP_NORMAL", "0.4", "DATA.KEEP_NORMAL_IN", where])
    for name in ("LABELS", "VALIDATION", "TEST"):
        rows = "".join(f"{name}{i},{int(i >= 30)},{name}{i}\n" for i in range(50))
        (tmp_path / f"{name}.csv").write_text("image_id,abnormal,patient\n" + rows)
        cfg.DATA[name] = str(tmp_path / f"{name}.csv")
    tables = read_tables(cfg)
    parts: list[LabelTable] = [trained_on(tables.table, cfg), tables.validation, tables.test]
    assert tuple(int(part.normal.sum()) for part in parts) == counts
    assert all(part.abnormal.sum() == 20 for part in parts)


@pytest.mark.parametrize("name", ["tf_efficientnet_b0", "resnet18"])
def test_the_first_probabilities_of_a_few_labels_are_moderate(name):
    """timm draws an EfficientNet's head for one label from -1 to 1, for logits of 10 and more."""
    torch.manual_seed(0)
    cfg = load_config(CLASSIFIER_DEMO, ["MODEL.NAME", name])
    model = build_model(cfg, pretrained=False).eval()
    features = torch.rand(4, model.num_features)
    with torch.inference_mode():
        assert model.get_classifier()(features).abs().max() < 2


#: What makes a recipe finish in seconds.
SMALL = ["MODEL.NAME", "test_resnet", "MODEL.PRETRAINED", "False", "INPUT.SIZE", "64", "SOLVER.EPOCHS", "2",
         "SOLVER.BATCH_SIZE", "4", "SOLVER.PRECISION", "32-true", "NUM_WORKERS", "0", "DEVICE", "cpu",
         "DATA.PACKED", ""]


def test_the_courses_recipe_end_to_end(phantoms, tmp_path):
    """Three tables with the columns Image and PatientId; one patient in the first two of them."""
    ids = pd.read_csv(phantoms / "data/annotations/labels.csv")["image_id"].tolist()
    table = pd.DataFrame(0, index=range(24), columns=["Image", *NIH_LABELS, "PatientId"])
    table["Image"], table["PatientId"] = ids, [*range(23), 3]
    for place, name in enumerate(NIH_LABELS):
        table.loc[place % 2::2, name] = 1
    parts = {"LABELS": table[:12], "TEST": table[12:18], "VALIDATION": table[18:]}
    for name, part in parts.items():
        write_csv(tmp_path / f"{name}.csv", part)
    metrics = train(load_config(ROOT / "configs/classifier/nih_small_densenet121.yaml", [
        *SMALL, "DATA.IMAGES", str(phantoms / "data/train"), "OUTPUT_DIR", str(tmp_path / "out"),
        *(text for name in parts for text in (f"DATA.{name}", str(tmp_path / f"{name}.csv")))]))
    assert metrics["dropped_for_leaks"] == {"DATA.LABELS": 1}
    assert metrics["normal_images"] == "all, in training and in what is reported"
    assert len(pd.read_csv(tmp_path / "out/oof_predictions.csv")) == 6
    predicted = pd.read_csv(tmp_path / "out/test_predictions.csv")
    columns = [name for name in predicted if name.startswith("p_") and not name.endswith("_sd")]
    assert len(predicted) == 6 and columns[:2] == ["p_cardiomegaly", "p_emphysema"] and len(columns) == 14
    classifier = Classifier(tmp_path / "out", device="cpu")
    assert classifier.normalizations == [Normalization(per_image=True)]
    assert classifier.probabilities([np.zeros((80, 60), np.uint8)]).shape == (1, 14)


def test_the_binary_recipe_chooses_its_epoch_by_the_loss(phantoms, tmp_path):
    train(load_config(ROOT / "configs/classifier/nih_binary_effnet_b2_256.yaml", [
        *SMALL, "DATA.IMAGES", str(phantoms / "data/train"), "OUTPUT_DIR", str(tmp_path), "DATA.TEST", "",
        "DATA.LABELS", str(phantoms / "data/annotations/labels.csv"), "DATA.CALIBRATION_SHARE", "0.4"]), [0])
    stored = torch.load(tmp_path / "fold0.pth", weights_only=True)["vindr_classifier"]
    assert 0 < stored["metrics"]["inner_loss"] < 20 and stored["classes"] == ["p_abnormal"]
