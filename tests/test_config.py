import re

import pytest
import torch
from conftest import ROOT, TINY, network_of

from vindr_det.config import leaves, requested_engine
from vindr_det.config_schema import vindr_node
from vindr_det.detection.loading import load_config
from vindr_det.detection.torchvision.config import get_torchvision_cfg
from vindr_det.exceptions import InputError

CONFIGS = ROOT / "configs"
DETECTORS = sorted(CONFIGS.glob("vindr_*.yaml")) + sorted(CONFIGS.glob("demo/*.yaml"))


@pytest.mark.detectron2
def test_our_defaults_are_detectron2s():
    from detectron2.config import get_cfg

    theirs = dict(leaves(get_cfg()))
    for key, value in leaves(get_torchvision_cfg()):
        if not key.startswith("VINDR."):
            assert key in theirs and theirs[key] == value, key


@pytest.mark.detectron2
def test_we_add_only_the_vindr_node():
    from detectron2.config import get_cfg

    from vindr_det.detection.detectron2 import get_vindr_cfg

    assert set(get_vindr_cfg()) - set(get_cfg()) == {"VINDR"}
    assert set(get_vindr_cfg().VINDR) == set(vindr_node())


@pytest.mark.parametrize("path", DETECTORS, ids=lambda p: p.stem)
def test_every_config_loads_and_builds(path, engine):
    if requested_engine(path) not in ("auto", engine):
        pytest.skip(f"for the {requested_engine(path)} engine alone")
    cfg = load_config(path, engine, [*TINY, "MODEL.WEIGHTS", ""])
    assert sum(p.numel() for p in network_of(engine, cfg).parameters()) > 1e6
    header = path.read_text().split("_BASE_")[0]
    assert f"--config {path.relative_to(ROOT)}" in header


@pytest.mark.parametrize("path", sorted(CONFIGS.glob("classifier/**/*.yaml")), ids=lambda p: p.stem)
def test_every_classifier_config_builds(path):
    from vindr_det.classification.config import load_config as load_classifier
    from vindr_det.classification.model import build_model

    cfg = load_classifier(path, ["MODEL.PRETRAINED", "False"])
    assert build_model(cfg).eval() is not None
    assert f"--config {path.relative_to(ROOT)}" in path.read_text()


@pytest.mark.parametrize("key, value, expected", [
    ("MODEL.ROI_HEADS.NUM_CLASSES", "14", r"8 \(the findings of NIH boxes\)"),
    ("VINDR.BEST_METRIC", "vindr/mAP40", "voc/mAP40 or"),
    ("VINDR.BEST_METRIC", "vindr/AP40/ILD", "voc/mAP40 or"),
])
def test_the_command_line_does_not_follow_another_label_set(engine, key, value, expected):
    demo = CONFIGS / "demo/vindr_frcnn_demo.yaml"
    cfg = load_config(demo, engine, ["VINDR.LABEL_SET", "NIH boxes"])
    assert (cfg.MODEL.ROI_HEADS.NUM_CLASSES, cfg.VINDR.BEST_METRIC) == (8, "voc/mAP40")
    with pytest.raises(InputError, match=f"^command line: {key} is '?{value}'?, expected {expected}"):
        load_config(demo, engine, [key, value, "VINDR.LABEL_SET", "NIH boxes"])
    load_config(demo, engine, [key, value])  # VinBigData's own


@pytest.mark.parametrize("text, overrides, message", [
    ("SOLVER: {BASE_LRR: 1}", [], "c.yaml: key SOLVER.BASE_LRR does not exist.*SOLVER.BASE_LR?"),
    ("SOLVER: {BASE_LR: fast}", [], "c.yaml: .*BASE_LR"),
    ("SOLVER: [", [], "c.yaml: not valid YAML"),
    ("_BASE_: nowhere.yaml", [], "c.yaml: its _BASE_"),
    ("", ["SOLVER.BASE_LR"], "KEY VALUE pairs"),
    ("", ["SOLVER.NOPE", "1"], "command line: key SOLVER.NOPE"),
    ("", ["SOLVER.MAX_ITER", "many"], "command line: SOLVER.MAX_ITER cannot be 'many'"),
    ("", ["SOLVER.MAX_ITER", "0"], "SOLVER.MAX_ITER is 0"),
    ("", ["VINDR.BEST_METRIC", "mAP"], "VINDR.BEST_METRIC is 'mAP', expected vindr/mAP40 or coco/AP"),
    ("MODEL: {ROI_HEADS: {NUM_CLASSES: 80}}", [], "NUM_CLASSES is 80, expected 14"),
    ("SOLVER: {MAX_ITER: 90, STEPS: \"(60, 90)\"}", [],
     r"c.yaml: SOLVER.STEPS is \(60, 90\), expected ascending.*none of them SOLVER.MAX_ITER \(90\)"),
    ("", ["SOLVER.STEPS", "(60, 30)"], r"SOLVER.STEPS is \(60, 30\), expected ascending"),
    ("", ["SOLVER.STEPS", "(60, 60)"], "expected ascending"),
    ("", ["SOLVER.STEPS", "(0, 60)"], "expected ascending iterations from 1 on"),
    ("", ["SOLVER.LR_SCHEDULER_NAME", "OneCycle"],
     "SOLVER.LR_SCHEDULER_NAME is 'OneCycle', expected WarmupMultiStepLR or WarmupCosineLR"),
    ("", ["MODEL.DEVICE", "gpu"], "MODEL.DEVICE is 'gpu', expected auto, cpu, cuda or cuda:<n>"),
    ("", ["MODEL.DEVICE", "tpu"], "MODEL.DEVICE is 'tpu', expected .* [(]TPUs are not supported"),
])
def test_bad_configs_are_refused_in_one_line(tmp_path, engine, text, overrides, message):
    path = tmp_path / "c.yaml"
    base = "" if "_BASE_" in text or "NUM_CLASSES" in text else (
        f"_BASE_: {CONFIGS / 'Base-RCNN-FPN.yaml'}\n")
    path.write_text(base + text)
    with pytest.raises(InputError, match=message):
        load_config(path, engine, overrides)


@pytest.mark.parametrize("key, value", [
    ("SOLVER.WEIGHT_DECAY", "-1"), ("SOLVER.MOMENTUM", "-1"),
    ("SOLVER.WARMUP_ITERS", "-1"), ("SOLVER.WARMUP_METHOD", "foo"),
    ("SOLVER.CLIP_GRADIENTS.CLIP_VALUE", "-1.0"), ("SOLVER.STEPS", "('a',)"), ("SOLVER.STEPS", "(1.5,)"),
    ("DATALOADER.NUM_WORKERS", "-1"), ("SEED", "5000000000"), ("INPUT.MIN_SIZE_TRAIN", "()"),
    ("INPUT.MIN_SIZE_TRAIN", "(0,)"), ("VINDR.REPEAT_THRESHOLD", "-1"), ("VINDR.MIN_VISIBILITY", "7"),
    ("VINDR.IMAGE_SIZE", "-5"), ("MODEL.FPN.OUT_CHANNELS", "0"), ("MODEL.ROI_HEADS.NMS_THRESH_TEST", "7"),
    ("MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", "0"), ("MODEL.RPN.IOU_THRESHOLDS", "[0.9, 0.1]"),
    ("MODEL.ROI_HEADS.IOU_THRESHOLDS", "[]"), ("MODEL.BACKBONE.FREEZE_AT", "9"),
    ("MODEL.RESNETS.DEPTH", "51"), ("MODEL.PIXEL_MEAN", "[1.0]"), ("OUTPUT_DIR", ""),
])
def test_values_that_could_only_fail_later(engine, key, value):
    source = "vindr_frcnn.yaml" if key == "SOLVER.STEPS" else "command line"
    with pytest.raises(InputError, match=rf"({source}|command line): {re.escape(key)} is .*, expected"):
        load_config(CONFIGS / "vindr_frcnn.yaml", engine, [key, value])


@pytest.mark.parametrize("content, message", [
    (b"_BASE_: c.yaml", "its _BASE_ leads back to itself"), (b"SEED: \xff", "not valid YAML"),
    (b"[1, 2]", "c.yaml: "), (b"text", "c.yaml: "), (b"_BASE_: 3", "not valid YAML"),
])
def test_files_that_hold_no_config(tmp_path, engine, content, message):
    (tmp_path / "c.yaml").write_bytes(content)
    for read in (requested_engine, lambda path: load_config(path, engine)):
        with pytest.raises(InputError, match=message):
            read(tmp_path / "c.yaml")


@pytest.mark.parametrize("steps, scheduler", [("()", "WarmupMultiStepLR"), ("(3,)", "WarmupCosineLR"),
                                              ("(2, 9)", "WarmupMultiStepLR")])
def test_steps_that_never_come_do_no_harm(engine, steps, scheduler):
    load_config(CONFIGS / "vindr_frcnn.yaml", engine, [
        "SOLVER.MAX_ITER", "3", "SOLVER.STEPS", steps, "SOLVER.LR_SCHEDULER_NAME", scheduler])


@pytest.mark.parametrize("key, value", [
    ("MODEL.META_ARCHITECTURE", "FasterRCNN"), ("MODEL.BACKBONE.NAME", "build_vgg"),
    ("MODEL.PROPOSAL_GENERATOR.NAME", "RPM"), ("MODEL.ROI_HEADS.NAME", "StandardHeads"),
    ("MODEL.ROI_BOX_HEAD.NAME", "BoxHead"),
])
def test_unknown_parts_are_named(engine, key, value):
    cfg = load_config(CONFIGS / "vindr_frcnn.yaml", engine, ["MODEL.DEVICE", "cpu", key, value])
    with pytest.raises(InputError, match=f"{key} is '{value}'"):
        network_of(engine, cfg)


def test_torchvision_refuses_a_detectron2_key_it_cannot_honor(tmp_path):
    (tmp_path / "c.yaml").write_text(
        f"_BASE_: {CONFIGS / 'Base-RCNN-FPN.yaml'}\nMODEL: {{ROI_BOX_CASCADE_HEAD: {{IOUS: [0.5]}}}}")
    with pytest.raises(InputError, match="ROI_BOX_CASCADE_HEAD.IOUS does not exist for the torchv"):
        load_config(tmp_path / "c.yaml", "torchvision")


@pytest.mark.parametrize("key, value", [
    ("MODEL.META_ARCHITECTURE", "PanopticFPN"), ("MODEL.RESNETS.NORM", "SyncBN"),
    ("MODEL.RESNETS.DEPTH", "51"),
    ("INPUT.RANDOM_FLIP", "diagonal"), ("MODEL.ROI_BOX_HEAD.NUM_FC", "0"), ("INPUT.FORMAT", "L"),
    ("SOLVER.LR_SCHEDULER_NAME", "WarmupStepWithFixedGammaLR"),
    ("SOLVER.CLIP_GRADIENTS.NORM_TYPE", "1.0"),
])
def test_torchvision_refuses_values_it_cannot_honor(key, value):
    with pytest.raises(InputError, match=key):
        network_of("torchvision", load_config(CONFIGS / "vindr_frcnn.yaml", "torchvision", [key, value]))


@pytest.mark.parametrize("device, gpu, expected", [
    ("auto", False, "cpu"), ("auto", True, "cuda"), ("cpu", True, "cpu"), ("cuda:1", False, "cuda:1")])
def test_the_device_is_resolved_when_a_config_is_read(engine, monkeypatch, device, gpu, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    cfg = load_config(CONFIGS / "vindr_frcnn.yaml", engine, ["MODEL.DEVICE", device])
    assert str(cfg.MODEL.DEVICE) == expected


@pytest.mark.parametrize("gpu, expected", [(False, "cpu"), (True, "cuda")])
def test_configs_take_the_device_that_is_there(monkeypatch, gpu, expected):
    monkeypatch.setattr("torch.cuda.is_available", lambda: gpu)
    for path in DETECTORS:
        if requested_engine(path) != "detectron2" and "demo" not in path.parts:
            assert expected == load_config(path, "torchvision").MODEL.DEVICE, path


def test_the_engine_can_be_asked_for_in_the_config(tmp_path):
    (tmp_path / "c.yaml").write_text("VINDR: {ENGINE: torchvision}")
    assert requested_engine(tmp_path / "c.yaml") == "torchvision"
    assert requested_engine(tmp_path / "c.yaml", ["VINDR.ENGINE", "auto"]) == "auto"


def test_a_whole_number_is_a_number_too(tmp_path, engine):
    (tmp_path / "c.yaml").write_text(
        f"_BASE_: {CONFIGS / 'Base-RCNN-FPN.yaml'}\nVINDR: {{NORMAL_RATIO: 2, MIN_VISIBILITY: 1}}")
    cfg = load_config(tmp_path / "c.yaml", engine, ["VINDR.NORMAL_RATIO", "-1", "SOLVER.BASE_LR", "1"])
    assert cfg.VINDR.NORMAL_RATIO == -1.0 and cfg.SOLVER.BASE_LR == 1.0 and cfg.VINDR.MIN_VISIBILITY == 1.0


SMALL = ["MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64",
         "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.FPN.OUT_CHANNELS", "32",
         "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.ROI_MASK_HEAD.CONV_DIM", "16",
         "SOLVER.AMP.ENABLED", "False", "SOLVER.MAX_ITER", "1", "TEST.EVAL_PERIOD", "0",
         "DATASETS.TRAIN", "('vindr_train_fold0',)"]


def squares(phantoms, folder):
    """Resized images as others publish them: squares of one side, in a folder without any table."""
    from vindr_det.imaging.prepare import prepare_folder
    from vindr_det.imaging.resize import Target

    prepare_folder(phantoms / "raw/train", folder / "train", Target(64, False), 1)
    for table in ("meta.csv", "qc.csv", "prepare.json"):
        (folder / "train" / table).unlink()
    return folder


SMALLER = {"convnext_tiny": "test_convnext", "tf_efficientnet_b3": "test_efficientnet"}


@pytest.mark.slow
@pytest.mark.parametrize("path", DETECTORS, ids=lambda p: p.stem)
def test_every_config_trains_and_predicts(path, engine, phantoms, tmp_path):
    """A step on a small backbone, then a prediction from the checkpoint alone."""
    from vindr_det.detection import engine as engines
    from vindr_det.detection.predictors import load_predictors
    from vindr_det.imaging.read import read_image

    if requested_engine(path) not in ("auto", engine):
        pytest.skip(f"for the {requested_engine(path)} engine alone")
    cfg = load_config(path, engine, [*TINY, *SMALL, "OUTPUT_DIR", str(tmp_path), "VINDR.DATA_ROOT",
                                     str(phantoms / "data")])
    if not cfg.VINDR.KEEP_ASPECT:
        cfg.VINDR.IMAGE_ROOT = str(squares(phantoms, tmp_path / "squares"))
    cfg.VINDR.TIMM_MODEL = SMALLER.get(cfg.VINDR.TIMM_MODEL, cfg.VINDR.TIMM_MODEL)
    engines.load(engine).train(cfg)
    predictor = load_predictors([tmp_path / "model_final.pth"])[0]
    detections = predictor([read_image(next((phantoms / "raw/test").iterdir())).pixels])[0]
    assert set(detections.labels.tolist()) <= set(range(14))


def rates_of(engine, cfg, count):
    """The learning rates of the first iterations."""
    from vindr_det.training.schedule import ScheduleOptions, build_lr_scheduler

    optimizer = torch.optim.SGD([torch.nn.Parameter(torch.zeros(1))], lr=cfg.SOLVER.BASE_LR)
    if engine == "detectron2":
        from vindr_det.detection.detectron2.trainer import VindrTrainer

        schedule = VindrTrainer.build_lr_scheduler(cfg, optimizer)
    else:
        name, options = cfg.SOLVER.LR_SCHEDULER_NAME, ScheduleOptions.from_config(cfg)
        schedule = build_lr_scheduler(optimizer, name, options)
    rates = []
    for _ in range(count):
        rates.append(optimizer.param_groups[0]["lr"])
        optimizer.step()
        schedule.step()
    return rates


@pytest.mark.parametrize("size", [256, 512, 1024])
def test_the_published_recipes_sizes_and_rates(engine, size):
    """The rates are those of the log that its author published."""
    cfg = load_config(CONFIGS / f"vindr_frcnn_{size}.yaml", engine)
    assert (size, size, size) == (cfg.INPUT.MIN_SIZE_TEST, cfg.INPUT.MAX_SIZE_TRAIN, cfg.VINDR.IMAGE_SIZE)
    assert not cfg.VINDR.KEEP_ASPECT and (cfg.VINDR.VALIDATION == ()) == (size == 512)
    if size != 512:  # three times as long
        rates = rates_of(engine, cfg, 5000)
        assert rates[4999] == pytest.approx(5.00157080e-04, rel=1e-6)
        # Detectron2 then multiplied the warm-up and the cosine; it now warms up to the cosine's value.
        assert [rates[19], rates[999]] == pytest.approx([1.99808220e-05, 9.74602174e-04], rel=0.025)


@pytest.mark.detectron2
def test_the_published_recipes_model_is_the_model_zoos():
    pytest.importorskip("pkg_resources", reason="detectron2.model_zoo needs setuptools < 81")
    from detectron2.model_zoo import get_checkpoint_url, get_config

    name = "COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml"
    cfg = load_config(CONFIGS / "vindr_frcnn_256.yaml", "detectron2")
    assert get_checkpoint_url(name).endswith(cfg.MODEL.WEIGHTS.partition("://")[2])
    own = dict(leaves(cfg.MODEL))
    assert {key for key, value in leaves(get_config(name).MODEL) if own[key] != value} - {"DEVICE"} == {
        "WEIGHTS", "ROI_HEADS.NUM_CLASSES"}
