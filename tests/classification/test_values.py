"""Every value of a config that cannot work is refused in one line before anything is read."""

import pytest
import torch
from conftest import CLASSIFIER_DEMO

from vindr_det.classification.config import load_config, of_checkpoint, same_training
from vindr_det.exceptions import InputError

BAD = [
    ("DEVICE", "gpu0", "expected auto, cpu, cuda or cuda:<n>"), ("DEVICE", "cuda:x", "expected auto"),
    ("SOLVER.PRECISION", "fp16", "expected 32-true or 16-mixed or bf16-mixed"),
    ("SOLVER.LR", "-1", "more than 0"), ("SOLVER.LR", "0", "more than 0"), ("SOLVER.LR", "nan", "cannot be"),
    ("SOLVER.LR", "1e999", "more than 0"),
    ("SOLVER.WEIGHT_DECAY", "-0.1", "0 or more"), ("SOLVER.EPOCHS", "0", "1 or more"),
    ("SOLVER.BATCH_SIZE", "0", "1 or more"), ("SOLVER.WARMUP_EPOCHS", "-1", "0 or more"),
    ("SOLVER.HOLD_EPOCHS", "-1", "0 or more"), ("SOLVER.DECAY", "0", "above 0 to 1"),
    ("SOLVER.SCHEDULE", "step", "cosine or hold or constant"),
    ("SOLVER.SAMPLER", "all", "shuffle or weighted"),
    ("SOLVER.LOSS", "mse", "bce or weighted_bce or asymmetric"),
    ("SOLVER.LABEL_SMOOTHING", "1", "0 to below 1"),
    ("SOLVER.EMA_DECAY", "1", "0 to below 1"), ("SOLVER.SELECT", "best", "last or inner"),
    ("SOLVER.PATIENCE", "-1", "0 or more"), ("SOLVER.SELECT_BY", "ap", "auc or loss"),
    ("SOLVER.OPTIMIZER", "adam", "SGD or AdamW or Adam"), ("SOLVER.LR_MIN", "-1", "0 or more"),
    ("SOLVER.LR_MIN", "1", "expected SOLVER.LR (0.001) or less"),
    ("SOLVER.LR_START", "1", "expected SOLVER.LR (0.001) or less"),
    ("INPUT.NORMALIZE", "imagenet", "weights or image or dataset or unit"), ("INPUT.CHANNELS", "2", "1 or 3"),
    ("DATA.ON_LEAK", "warn", "error or drop"), ("DATA.KEEP_NORMAL_IN", "test", "training or all"),
    ("DATA.TARGET", "", "labels of the table with commas between"),
    ("SOLVER.PATIENCE", "3", "with SOLVER.SELECT last, expected inner"),
    ("MODEL.DROP_RATE", "1", "0 to below 1"), ("MODEL.OUTPUT_STRIDE", "-8", "0 or more"),
    ("INPUT.SIZE", "0", "16 or more"), ("DATA.KEEP_NORMAL", "1.5", "0 to 1"),
    ("DATA.CALIBRATION_SHARE", "1", "0 to below 1"), ("DATA.UNCERTAIN", "skip", "ignore or zeros or ones"),
    ("DATA.BLANK", "nan", "ignore or zeros or ones"),
    ("POINTS.SENSITIVITY", "[95]", "numbers between 0 and 1"),
    ("POINTS.SPECIFICITY", "['x']", "numbers between 0 and 1"), ("NUM_WORKERS", "-1", "0 or more"),
    ("SEED", "-1", "a whole number from 0 to"), ("SEED", "4294967296", "a whole number from 0 to"),
    ("OUTPUT_DIR", "", "a folder"),
]


@pytest.mark.parametrize("key, value, expected", BAD, ids=[f"{key}={value}" for key, value, _ in BAD])
def test_bad_values(key, value, expected):
    with pytest.raises(InputError) as caught:
        load_config(CLASSIFIER_DEMO, [key, value])
    line = str(caught.value)
    assert key in line and expected in line and "\n" not in line


def test_what_goes_together():
    with pytest.raises(InputError, match="SELECT is inner, expected DATA.CALIBRATION or"):
        load_config(CLASSIFIER_DEMO, ["SOLVER.SELECT", "inner", "DATA.CALIBRATION_SHARE", "0"])
    load_config(CLASSIFIER_DEMO, ["SOLVER.SELECT", "inner", "SOLVER.PATIENCE", "3"])
    with pytest.raises(InputError, match="MODEL.WEIGHTS is a.pth with MODEL.PRETRAINED False, expected True"):
        load_config(CLASSIFIER_DEMO, ["MODEL.WEIGHTS", "a.pth", "MODEL.PRETRAINED", "False"])


def test_the_config_of_an_earlier_version_still_loads():
    """It has a key that is gone, and lacks those that came since."""
    old = load_config(CLASSIFIER_DEMO)
    values = {"SOLVER": {"KEEP": "best", "LR": 0.5}, "MODEL": {"NAME": "resnet18"}}
    cfg = of_checkpoint(values, "fold0.pth")
    assert cfg.SOLVER.LR == 0.5 and "KEEP" not in cfg.SOLVER and cfg.POINTS == old.POINTS
    assert values["SOLVER"]["KEEP"] == "best"
    with pytest.raises(InputError, match="fold0.pth: its config is not one of this version"):
        of_checkpoint({"SOLVER": {"MAGIC": 1}}, "fold0.pth")


def test_what_changes_a_training():
    base = load_config(CLASSIFIER_DEMO).dump()
    lines = base.splitlines(keepends=True)
    earlier = "".join(line for line in lines if "SELECT_BY" not in line and "LR_MIN" not in line)
    assert earlier != base and same_training(earlier, base)  # of a version without these keys
    for key, value, same in (("DEVICE", "cuda:1", True), ("POINTS.SENSITIVITY", "[0.5]", True),
                             ("SOLVER.REPORT_HELD_OUT", "False", True), ("SOLVER.KEEP_EPOCHS", "2", True),
                             ("OUTPUT_DIR", "x", True), ("SOLVER.LR", "0.5", False), ("SEED", "3", False)):
        assert same_training(base, load_config(CLASSIFIER_DEMO, [key, value]).dump()) is same
    # A folder of an earlier version.
    without = "".join(line for line in base.splitlines(True) if "KEEP_EPOCHS" not in line)
    assert len(without) < len(base) and same_training(base, without)


def test_norms_and_biases_do_not_decay():
    import timm

    from vindr_det.classification.lightning_module import ClassifierModule

    cfg = load_config(CLASSIFIER_DEMO, ["SOLVER.WEIGHT_DECAY", "0.3"])
    for name in ("test_resnet", "test_vit"):
        network = timm.create_model(name, num_classes=1)
        groups = ClassifierModule(cfg, network, None, 10).configure_optimizers()["optimizer"].param_groups
        decay = {id(weight): group["weight_decay"] for group in groups for weight in group["params"]}
        assert len(decay) == len(list(network.parameters()))
        skipped = getattr(network, "no_weight_decay", set)()
        for key, weight in network.named_parameters():
            exempt = weight.ndim <= 1 or key.endswith(".bias") or key in skipped
            assert decay[id(weight)] == (0 if exempt else 0.3), key
    assert "pos_embed" in skipped


@pytest.mark.parametrize("name, mean, std", [
    ("resnet18", 0.449, 0.226), ("vit_tiny_patch16_224.augreg_in21k", 0.5, 0.5)])
def test_images_are_normalized_as_the_weights_were(phantoms, tmp_path, name, mean, std):
    """ImageNet's three channels have the means (.485, .456, .406): gray images get their mean."""
    from conftest import classifier_config

    from vindr_det.classification.model import build_model, load_checkpoint, normalization, save_checkpoint

    cfg = classifier_config(phantoms, tmp_path, "MODEL.NAME", name)
    model = build_model(cfg)
    normalize = normalization(model)
    assert (normalize.mean, normalize.std) == pytest.approx((mean, std), abs=1e-3)
    image = torch.full((4, 4), 204, dtype=torch.uint8).numpy()
    assert float(normalize(image)[0, 0, 0]) == pytest.approx((0.8 - mean) / std, abs=0.01)
    save_checkpoint(tmp_path / "fold0.pth", model.state_dict(), cfg, normalize, {})
    assert load_checkpoint(tmp_path / "fold0.pth").normalize == normalize
    data = torch.load(tmp_path / "fold0.pth", weights_only=True)
    del data["vindr_classifier"]["normalization"]  # as earlier versions wrote it
    torch.save(data, tmp_path / "fold1.pth")
    old = load_checkpoint(tmp_path / "fold1.pth").normalize
    assert float(old(image)[0, 0, 0]) == pytest.approx((204 - 127.5) / 64)


def test_loaders_keep_their_processes(phantoms, tmp_path):
    from conftest import classifier_config

    from vindr_det.classification.data import predict_loader, train_loader
    from vindr_det.classification.splits import read_tables

    cfg = classifier_config(phantoms, tmp_path, "NUM_WORKERS", "1")
    table = read_tables(cfg).table
    assert train_loader(cfg, table, 0).persistent_workers and predict_loader(cfg, table).persistent_workers
    cfg.NUM_WORKERS = 0
    assert not train_loader(cfg, table, 0).persistent_workers
    assert train_loader(cfg, table, 0).pin_memory is False  # DEVICE cpu
