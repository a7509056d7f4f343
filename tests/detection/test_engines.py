"""Both engines through the same protocol."""

import json
from importlib.util import find_spec
from types import SimpleNamespace

import cv2
import numpy as np
import pandas as pd
import pytest
import torch
from conftest import DEMO, TINIEST, TINY, network_of

from vindr_det.detection import engine as engines
from vindr_det.detection.loading import load_checkpoint, load_config
from vindr_det.detection.torchvision.config import get_torchvision_cfg
from vindr_det.detection.validation import keep_predictions
from vindr_det.evaluation.evaluate import EvaluationRequest, run_evaluation
from vindr_det.exceptions import InputError
from vindr_det.prediction import load_predictors, predict_folder
from vindr_det.structures.label_sets import FINDINGS
from vindr_det.training.checkpoint_io import read_file
from vindr_det.training.plots import detector_figure, read_metrics


def lines(folder):
    return [json.loads(line) for line in (folder / "metrics.json").read_text().splitlines()]


def test_training_writes_its_outputs(engine, trained):
    out = trained(engine)
    for name in ("config.yaml", "metrics.json", "results.csv", "results.png", "pr_curve.png",
                 "confusion_matrix.png", "train_batch0.png", "val_predictions.png", "model_best.pth",
                 "model_final.pth"):
        assert (out / name).stat().st_size > 0, name
    merged = {key: value for line in lines(out) for key, value in line.items()}
    for key in ("iteration", "total_loss", "lr", "validation_loss", "vindr/mAP40", "coco/AP",
                "coco/AP40"):
        assert np.isfinite(merged[key]), key
    assert merged["iteration"] == 2
    axes = detector_figure(read_metrics(out / "metrics.json")).axes
    drawn = {line.get_label(): line.get_ydata()[-1] for part in axes for line in part.lines}
    for label, key in (("training", "total_loss"), ("validation", "validation_loss"), ("_rate", "lr"),
                       ("validation, abnormal images", "validation_abnormal/loss"),
                       ("COCO AP at IoU .40", "coco/AP40"), ("No finding", "vindr/AP40/No finding")):
        assert drawn[label] == merged[key], key
    from tensorboard.backend.event_processing.event_accumulator import EventAccumulator

    events = EventAccumulator(str(out))
    events.Reload()
    wanted = {"total_loss", "lr", "validation_loss", "validation_abnormal/loss", "vindr/mAP40", "coco/AP"}
    assert wanted <= set(events.Tags()["scalars"])
    assert set(events.Tags()["images"]) == {"train_batch0", "val_predictions"}
    assert merged["time"] > merged["data_time"] > 0
    rows = pd.read_csv(out / "results.csv").set_index("iterations").to_dict("index")
    for line in lines(out):
        row = rows[line.pop("iteration") + 1]
        assert {key: row[key] for key in line} == pytest.approx(line)


def test_the_best_models_predictions_are_kept(engine, trained, phantoms):
    """They score what the training measured then, in COCO's results format with the annotations' numbers."""
    out, truth = trained(engine), phantoms / "data/annotations/instances_val_fold0.json"
    kept = out / "best_predictions.json"
    scored, _ = run_evaluation(EvaluationRequest(str(truth), str(kept)))
    measured = load_checkpoint(out / "model_best.pth").metrics
    for key in ("vindr/mAP40", "coco/AP", "coco/AP40"):
        assert scored[key] == pytest.approx(measured[key], abs=1e-6), key
    numbers = {image["id"] for image in json.loads(truth.read_text())["images"]}
    assert {entry["image_id"] for entry in json.loads(kept.read_text())} == numbers


def test_predictions_that_cannot_be_kept_cost_no_training(tmp_path, caplog):
    cfg = SimpleNamespace(OUTPUT_DIR=str(tmp_path / "out"), VINDR=SimpleNamespace(VALIDATION=["x", "y"]))
    (tmp_path / "out").write_text("a file in the folder's place")
    keep_predictions(cfg, {})
    assert "best_predictions.json: not written" in caplog.text


def test_a_checkpoint_carries_everything(engine, trained):
    checkpoint = load_checkpoint(trained(engine) / "model_final.pth")
    assert checkpoint.engine == engine and checkpoint.iteration == 3
    assert checkpoint.cfg.VINDR.IMAGE_SIZE == 96
    assert "vindr/mAP40" in checkpoint.metrics
    meta = read_file(trained(engine) / "model_best.pth")["vindr"]
    assert tuple(meta["classes"]) == FINDINGS
    assert meta["preprocessing"]["image_size"] == 96
    assert meta["versions"]["torch"]


def test_predictions_are_in_the_originals_pixels(engine, trained, phantoms):
    """The same from DICOMs and from prepared PNGs, whose meta.csv knows the original sizes."""
    predictors = load_predictors([trained(engine) / "model_final.pth"])
    raw = predict_folder(phantoms / "raw/test", predictors)
    small = predict_folder(phantoms / "data/test", predictors)
    assert raw.predictions.keys() == small.predictions.keys() and len(raw.predictions) == 6
    assert raw.sizes.sort_index().equals(small.sizes.sort_index())
    for image_id, predictions in raw.predictions.items():
        height, width = raw.sizes.loc[image_id]
        boxes = predictions.findings().boxes
        assert (boxes >= 0).all() and (boxes <= [width, height, width, height]).all()
        assert (predictions.labels == 14).sum() == 1
    # The network sees the same 96 pixels either way, but for the rounding of the first resize.
    reach = [np.concatenate([p.findings().boxes for p in r.predictions.values()]).max()
             for r in (raw, small)]
    assert reach[0] == pytest.approx(reach[1], rel=0.05)


def test_batches_give_the_detections_of_single_images(engine, trained, phantoms, tmp_path):
    """Images of equal size make a batch without padding; a broken image among them changes nothing."""
    from shutil import copy

    from vindr_det.imaging.read import read_image

    weights = [trained(engine) / "model_final.pth"]
    source = sorted((phantoms / "data/test").glob("*.png"))
    smallest = np.min([read_image(path).pixels.shape for path in source], axis=0)
    for path in source:
        cv2.imwrite(str(tmp_path / path.name), read_image(path).pixels[: smallest[0], : smallest[1]])
    (tmp_path / f"{source[2].stem}x.png").write_bytes(b"broken")
    single, four = (predict_folder(tmp_path, load_predictors(weights), batch=batch) for batch in (1, 4))
    assert list(single.predictions) == list(four.predictions) and len(single.predictions) == len(source)
    assert len(single.statuses) == len(source) + 1  # the broken image has a row, and no prediction
    assert single.failed.keys() == four.failed.keys() == {f"{source[2].stem}x"}
    for image_id, predictions in single.predictions.items():
        batched = four.predictions[image_id]
        assert predictions.labels.tolist() == batched.labels.tolist()
        assert predictions.boxes == pytest.approx(batched.boxes, abs=1e-2)
        assert predictions.scores == pytest.approx(batched.scores, abs=1e-5)
    copy(source[0], tmp_path / "larger.png")  # which pads the others: scores move, rows stay
    mixed = predict_folder(tmp_path, load_predictors(weights), batch=8)
    assert len(mixed.predictions) == len(source) + 1


def test_half_precision_is_another_precision(engine, trained, phantoms):
    """bfloat16 has 8 bits of mantissa: scores move, but not far."""
    from vindr_det.imaging.read import read_image

    checkpoint = load_checkpoint(trained(engine) / "model_final.pth")
    checkpoint.cfg.VINDR.AMP_DTYPE = "bfloat16"
    image = read_image(next((phantoms / "raw/test").iterdir())).pixels
    best = {}
    for half in (False, True):
        checkpoint.cfg.SOLVER.AMP.ENABLED = half
        predictor = engines.load(engine).build_predictor(checkpoint.cfg, checkpoint.state)
        best[half] = predictor([image])[0].scores.max()
    assert best[False] != best[True] and best[False] == pytest.approx(best[True], rel=0.1)


def test_several_weights_are_fused(engine, trained, phantoms):
    weights = [trained(engine) / "model_best.pth", trained(engine) / "model_final.pth"]
    single = predict_folder(phantoms / "raw/test", load_predictors(weights[:1]))
    fused = predict_folder(phantoms / "raw/test", load_predictors(weights))
    assert fused.predictions.keys() == single.predictions.keys()


def test_resume_continues_and_keeps_the_best(engine, trained, phantoms, tmp_path):
    """In the same run of MLflow, where it is installed."""
    logger = "mlflow" if find_spec("mlflow") else "tensorboard"
    options = [*TINIEST, "OUTPUT_DIR", str(tmp_path), "VINDR.DATA_ROOT", str(phantoms / "data"),
               "VINDR.LOGGERS", f"['{logger}']"]
    engines.load(engine).train(load_config(DEMO, engine, options))
    first = len(lines(tmp_path))
    options += ["SOLVER.MAX_ITER", "5"]
    engines.load(engine).train(load_config(DEMO, engine, options), resume=True)
    after = lines(tmp_path)
    assert len(after) > first
    assert max(line["iteration"] for line in after) == 4
    assert load_checkpoint(tmp_path / "model_final.pth").iteration == 5
    logged = [path.read_text().splitlines() for path in tmp_path.glob("mlruns/*/*/metrics/total_loss")]
    assert [len(rows) > 1 for rows in logged] == [True] * (logger == "mlflow")


def test_evaluate_gives_the_metrics_of_the_checkpoint(engine, trained, phantoms, tmp_path):
    checkpoint = load_checkpoint(trained(engine) / "model_final.pth")
    checkpoint.cfg.OUTPUT_DIR = str(tmp_path)
    metrics = engines.load(engine).evaluate(checkpoint.cfg, checkpoint.state)
    assert metrics["vindr/mAP40"] == pytest.approx(checkpoint.metrics["vindr/mAP40"], abs=1e-4)


def test_weights_of_the_other_engine_are_refused(engine, trained, phantoms, tmp_path):
    other = "detectron2" if engine == "torchvision" else "torchvision"
    weights = trained(engine) / "model_final.pth"
    with pytest.raises(InputError, match=f"weights of the {engine} engine, expected {other}"):
        load_predictors([weights], other)


def test_weights_of_another_width_are_refused(engine, trained, tool, phantoms):
    from conftest import one_line

    line = one_line(tool("train_net.py", "--config", DEMO, "--engine", engine, "--eval-only", *TINIEST,
                         "MODEL.WEIGHTS", trained(engine) / "model_final.pth", "MODEL.FPN.OUT_CHANNELS", "16",
                         "VINDR.DATA_ROOT", phantoms / "data"))
    assert "model_final.pth" in line and "weights of another shape, such as" in line


def test_a_state_is_not_scored(engine, trained):
    """Its weights are not the EMA weights that were validated."""
    from vindr_det.training.resume import state_to_resume

    with pytest.raises(InputError, match=r"state_0000003.*expected a model_best.pth or model_final.pth"):
        load_checkpoint(state_to_resume(trained(engine), engine))


def test_weights_that_fit_nowhere_are_refused(engine, phantoms, tmp_path):
    torch.save({"model": {"theirs.weight": torch.zeros(3)}}, tmp_path / "other.pth")
    cfg = load_config(DEMO, engine, [*TINY, "MODEL.WEIGHTS", str(tmp_path / "other.pth"), "OUTPUT_DIR",
                                     str(tmp_path), "VINDR.DATA_ROOT", str(phantoms / "data")])
    with pytest.raises(InputError, match=r"other.pth \(read as an unknown family\): none of its 1 weights"):
        engines.load(engine).train(cfg)


@pytest.mark.detectron2
def test_scoring_needs_a_folder_for_its_log(tmp_path):
    (tmp_path / "out").touch()
    cfg = load_config(DEMO, "detectron2", [*TINY, "OUTPUT_DIR", str(tmp_path / "out")])
    with pytest.raises(InputError, match="out: cannot be written"):
        engines.load("detectron2").evaluate(cfg, {})


@pytest.mark.parametrize("written", ["model_best.pth", "model_final.pth"])
def test_the_tool_names_the_model_that_is_there(written, tmp_path, monkeypatch, capsys):
    """There is no best model where the metric was never measured."""
    from vindr_det.commands import train as train_command

    for name in {written, "model_final.pth"}:
        (tmp_path / name).touch()
    monkeypatch.setattr(engines, "load", lambda _: SimpleNamespace(defaults=get_torchvision_cfg,
                                                                   train=lambda *_: None))
    train_command.main(["--config", str(DEMO), "--engine", "torchvision", *TINY, "OUTPUT_DIR", str(tmp_path)])
    assert capsys.readouterr().out == f"trained: {tmp_path / written}\n"


@pytest.mark.parametrize("place", ["a file/out", "/proc/out"])
def test_a_folder_that_cannot_be_written_is_refused(engine, place, phantoms, tmp_path):
    (tmp_path / "a file").touch()
    out = str(tmp_path / place)
    cfg = load_config(DEMO, engine, [*TINY, "OUTPUT_DIR", out, "VINDR.DATA_ROOT", str(phantoms / "data")])
    for resume in (False, True):
        with pytest.raises(InputError, match=f"OUTPUT_DIR {out}: cannot be written"):
            engines.load(engine).train(cfg, resume=resume)


def test_scoring_weights_leaves_the_trainings_folder_alone(engine, trained, phantoms, tmp_path):
    checkpoint = load_checkpoint(trained(engine) / "model_final.pth")
    checkpoint.cfg.OUTPUT_DIR = str(tmp_path)
    (tmp_path / "config.yaml").write_text("mine")
    engines.load(engine).evaluate(checkpoint.cfg, checkpoint.state)
    assert (tmp_path / "config.yaml").read_text() == "mine"


@pytest.mark.parametrize("device, processes, expected", [
    ("cpu", 1, ("cpu", 1)), ("cpu", 4, ("cpu", 4)), ("cuda", 1, ("gpu", 1)), ("cuda", 8, ("gpu", 8)),
    ("cuda:1", 1, ("gpu", [1])), ("cuda:0", 1, ("gpu", [0])),
])
def test_lightning_trains_on_the_device_of_the_config(device, processes, expected):
    from vindr_det.detection.torchvision.train import devices

    assert devices(device, processes) == dict(zip(("accelerator", "devices"), expected, strict=True))
    with pytest.raises(InputError, match="MODEL.DEVICE is cuda:1, but 2 processes"):
        devices("cuda:1", 2)


@pytest.mark.parametrize("freeze", [0, 1, 2, 5])
def test_frozen_stages_keep_their_statistics(engine, freeze):
    """MODEL.RESNETS.NORM BN: frozen stages are not normalized by the batch, and not trained."""
    cfg = load_config(DEMO, engine, [*TINY, "MODEL.BACKBONE.FREEZE_AT", str(freeze)])
    model = network_of(engine, cfg).train()
    prefix, stages = {
        "torchvision": ("body", ("bn1", "layer1", "layer2", "layer3", "layer4")),
        "detectron2": ("bottom_up", ("stem", "res2", "res3", "res4", "res5")),
    }[engine]
    before = {key: value.clone() for key, value in model.backbone.state_dict().items()}
    model.backbone(torch.rand(2, 3, 64, 64))
    for number, stage in enumerate(stages):
        own = f"{prefix}.{stage}."
        means = [key for key in before if key.startswith(own) and key.endswith("running_mean")]
        still = {bool(torch.equal(before[key], model.backbone.state_dict()[key])) for key in means}
        assert means and still == {number < freeze}, stage
        weights = model.backbone.named_parameters()
        learned = [value.requires_grad for key, value in weights if key.startswith(own)]
        assert any(learned) == (number >= freeze)


@pytest.mark.detectron2
@pytest.mark.parametrize("first, second", [("torchvision", "detectron2"),
                                           ("detectron2", "torchvision")])
def test_training_from_the_other_engines_weights_is_refused(first, second, trained, phantoms, tmp_path):
    cfg = load_config(DEMO, second, [
        *TINY, "OUTPUT_DIR", str(tmp_path), "VINDR.DATA_ROOT", str(phantoms / "data"),
        "MODEL.WEIGHTS", str(trained(first) / "model_final.pth")])
    with pytest.raises(InputError, match=f"weights of the {first} engine, expected {second}"):
        engines.load(second).train(cfg)


def test_mask_rcnn_trains_on_boxes(engine, phantoms, tmp_path):
    cfg = load_config(DEMO, engine, [
        *TINIEST, "MODEL.MASK_ON", "True", "SOLVER.MAX_ITER", "2", "TEST.EVAL_PERIOD", "0",
        "OUTPUT_DIR", str(tmp_path), "VINDR.DATA_ROOT", str(phantoms / "data")])
    engines.load(engine).train(cfg)
    merged = {key: value for line in lines(tmp_path) for key, value in line.items()}
    assert np.isfinite(merged["loss_mask"]) and np.isfinite(merged["validation_loss_mask"])


def test_backbone_weights_of_torchvisions_catalog_fit_both_engines(
    engine, phantoms, tmp_path, monkeypatch
):
    """A file as the download leaves it; every weight of the backbone must have been taken."""
    from torchvision.models import get_model_weights, resnet18

    torch.manual_seed(5)
    source = resnet18().state_dict()
    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    name = get_model_weights("resnet18").DEFAULT.url.rsplit("/", 1)[1]
    (tmp_path / "hub/checkpoints").mkdir(parents=True)
    torch.save(source, tmp_path / "hub/checkpoints" / name)
    cfg = load_config(DEMO, engine, [
        *TINY, "MODEL.WEIGHTS", "torchvision://resnet18", "SOLVER.MAX_ITER", "1", "TEST.EVAL_PERIOD",
        "0", "SOLVER.BASE_LR", "1e-12", "OUTPUT_DIR", str(tmp_path / "out"),
        "VINDR.DATA_ROOT", str(phantoms / "data")])
    engines.load(engine).train(cfg)
    state = read_file(tmp_path / "out/model_final.pth")["model"]
    from vindr_det.training.weights_names import detectron2_name

    for key, value in source.items():
        if key.startswith("fc.") or "running" in key or "batches" in key:
            continue
        mine = (f"backbone.body.{key}" if engine == "torchvision"
                else f"backbone.bottom_up.{detectron2_name(key)}")
        assert torch.allclose(state[mine], value, atol=1e-6), mine


@pytest.mark.parametrize("weights, place", [
    ("torchvision://resnet18", r"resnet18-\w+\.pth"),
    # Another R-50.pkl is in ImageNetPretrained/torchvision.
    ("detectron2://ImageNetPretrained/MSRA/R-50.pkl", "detectron2/ImageNetPretrained/MSRA/R-50.pkl"),
])
def test_weights_that_cannot_be_downloaded_name_the_way_out(
    engine, phantoms, tmp_path, monkeypatch, weights, place
):
    from urllib.error import URLError

    def refuse(*args, **kwargs):
        raise URLError("no network")

    monkeypatch.setattr(torch.hub, "get_dir", lambda: str(tmp_path / "hub"))
    monkeypatch.setattr(torch.hub, "download_url_to_file", refuse)
    cfg = load_config(DEMO, engine, [
        *TINY, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", str(tmp_path / "out"),
        "VINDR.DATA_ROOT", str(phantoms / "data")])
    with pytest.raises(InputError, match=rf"put the file at .*hub/checkpoints/{place}, or train from random"):
        engines.load(engine).train(cfg)


@pytest.mark.parametrize("weights, message", [
    ("nowhere.pth", "nowhere.pth: no such file"),
    ("torchvision://resnet19", "torchvision has no model 'resnet19'"),
])
def test_weights_that_are_not_there(engine, phantoms, tmp_path, weights, message):
    cfg = load_config(DEMO, engine, [
        *TINY, "MODEL.WEIGHTS", weights, "OUTPUT_DIR", str(tmp_path / "out"),
        "VINDR.DATA_ROOT", str(phantoms / "data")])
    with pytest.raises(InputError, match=message):
        engines.load(engine).train(cfg)


def test_training_starts_from_our_own_checkpoint(engine, trained, phantoms, tmp_path):
    """With a learning rate of almost 0, the weights come out as they went in."""
    source = trained(engine) / "model_final.pth"
    cfg = load_config(DEMO, engine, [
        *TINIEST, "MODEL.WEIGHTS", str(source), "SOLVER.MAX_ITER", "1", "SOLVER.BASE_LR", "1e-12",
        "TEST.EVAL_PERIOD", "0", "OUTPUT_DIR", str(tmp_path),
        "VINDR.DATA_ROOT", str(phantoms / "data")])
    engines.load(engine).train(cfg)
    before, after = (read_file(p)["model"] for p in (source, tmp_path / "model_final.pth"))
    for key, value in before.items():
        if "running" not in key and "batches" not in key:
            assert torch.allclose(after[key], value, atol=1e-6), key


def test_a_checkpoint_with_code_in_it_is_refused(tmp_path):
    class Evil:
        def __reduce__(self):
            return (print, ("executed",))

    torch.save({"model": Evil()}, tmp_path / "evil.pth")
    with pytest.raises(InputError, match="not a checkpoint of tensors and plain values"):
        load_checkpoint(tmp_path / "evil.pth")


def test_auto_takes_detectron2_where_it_imports(monkeypatch, caplog):
    caplog.set_level("INFO")
    for here, expected in ((True, "detectron2"), (False, "torchvision")):
        monkeypatch.setattr(engines, "detectron2_is_here", lambda here=here: here)
        assert engines.choose("auto") == expected
        assert f"engine: {expected}" in caplog.text
    with pytest.raises(InputError, match="does not import; see INSTALL.md"):
        engines.choose("detectron2")
    with pytest.raises(InputError, match="expected auto"):
        engines.choose("tensorflow")


@pytest.mark.slow
@pytest.mark.timeout(600)
def test_real_images_train_and_real_dicoms_predict(engine, data, tmp_path, tool):
    """The 93 real images: losses finite and falling; then the three original DICOMs."""
    import pandas as pd

    images = data / "vinbig/images_512"
    ids = {path.stem for path in images.iterdir()}
    table = pd.read_csv(data / "vinbig/train.csv.gz")
    table[table["image_id"].isin(ids)].to_csv(tmp_path / "train.csv", index=False)
    root = tmp_path / "data"
    root.mkdir()
    (root / "train").symlink_to(images)
    made = tool("convert.py", "vinbigdata", "--annotations", tmp_path / "train.csv", "--meta",
                data / "vinbig/train_meta.csv", "--out", root / "annotations", "--images", images)
    assert made.returncode == 0, made.stderr
    out = tmp_path / "out"
    run = tool("train_net.py", "--config", DEMO, "--engine", engine, "SOLVER.MAX_ITER", "30",
               "SOLVER.STEPS", "(25,)", "SOLVER.WARMUP_ITERS", "5", "SOLVER.BASE_LR", "0.01",
               "TEST.EVAL_PERIOD", "30", "INPUT.MIN_SIZE_TRAIN", "(128,)", "INPUT.MIN_SIZE_TEST", "128",
               "VINDR.IMAGE_SIZE", "160", "VINDR.LOGGERS", "()", "OUTPUT_DIR", out, "VINDR.DATA_ROOT", root)
    assert run.returncode == 0, run.stderr
    written = lines(out)
    assert np.isfinite([line["validation_loss"] for line in written if "validation_loss" in line]).all()
    assert "validation_loss" in {key for line in written for key in line}
    # Medians over iterations 0..19 and 10..29.
    totals = {line["iteration"]: line["total_loss"] for line in written if "total_loss" in line}
    assert np.isfinite(list(totals.values())).all() and totals[29] < totals[19]
    result = tool("predict.py", "--weights", out / "model_final.pth", "--images",
                  data / "vinbig/dicom", "--out", tmp_path / "s.csv")
    assert result.returncode == 0, result.stderr
    from vindr_det.imaging.sizes import read_sizes
    from vindr_det.submission import read_submission

    sizes = read_sizes(data / "vinbig/train_meta.csv")
    submitted = read_submission(tmp_path / "s.csv", sizes)
    assert len(submitted) == 3 and sum(len(p.findings()) for p in submitted.values()) > 0


def test_validation_on_training_images_is_warned_of_once(engine, phantoms, tmp_path, monkeypatch):
    from vindr_det.data import splits

    warnings = []
    monkeypatch.setattr(splits.log, "warning", lambda text, *values: warnings.append(text % values))
    engines.load(engine).train(load_config(DEMO, engine, [
        *TINIEST, "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "TEST.EVAL_PERIOD", "0", "DATASETS.TRAIN",
        "('vindr_all',)", "VINDR.VALIDATION", "('vindr_val_fold0',)", "OUTPUT_DIR", str(tmp_path),
        "VINDR.DATA_ROOT", str(phantoms / "data")]))
    assert len(warnings) == 1 and "8 of the 8 images of VINDR.VALIDATION" in warnings[0]


def test_the_tools_device_overrides_the_config(tmp_path, monkeypatch, main_of):
    given = []
    monkeypatch.setattr(engines, "load", lambda _: SimpleNamespace(
        defaults=get_torchvision_cfg, train=lambda cfg, *_: given.append(cfg.MODEL.DEVICE)))
    monkeypatch.setattr("torch.cuda.is_available", lambda: True)
    monkeypatch.setattr("torch.cuda.device_count", lambda: 2)
    (tmp_path / "model_final.pth").touch()
    for device in ("cuda:1", "auto", None):
        options = ["--device", device] if device else []
        main_of("train_net.py", "--config", DEMO, "--engine", "torchvision", *options, "OUTPUT_DIR", tmp_path)
    assert given == ["cuda:1", "cuda", "cpu"]


def test_training_without_validation(engine, phantoms, tmp_path):
    """All images are trained on: nothing is measured, and the last model is the one to predict with."""
    def config(*more):
        return load_config(DEMO, engine, [*TINIEST, "OUTPUT_DIR", str(tmp_path), "VINDR.VALIDATION", "()",
                                          "DATASETS.TRAIN", "('vindr_all',)", "VINDR.LIMIT", "8",
                                          "VINDR.DATA_ROOT", str(phantoms / "data"), *more])

    engines.load(engine).train(config())
    assert not (tmp_path / "model_best.pth").exists()
    assert all("validation" not in key and "vindr/" not in key for line in lines(tmp_path) for key in line)
    assert load_checkpoint(tmp_path / "model_final.pth").iteration == 3
    engines.load(engine).train(config("SOLVER.MAX_ITER", "4"), resume=True)
    assert load_checkpoint(tmp_path / "model_final.pth").iteration == 4
    for key, value in (("VINDR.LIMIT", "9"), ("VINDR.VALIDATION", "('vindr_val_fold0',)")):
        with pytest.raises(InputError, match=f"--resume: {key} is .* as in "):
            engines.load(engine).train(config("SOLVER.MAX_ITER", "5", key, value), resume=True)
    with pytest.raises(InputError, match="VINDR.VALIDATION is empty, expected data sets to score on"):
        engines.load(engine).evaluate(config(), load_checkpoint(tmp_path / "model_final.pth").state)
    with pytest.raises(InputError, match="VINDR.PATIENCE is 2, but VINDR.VALIDATION is empty"):
        config("VINDR.PATIENCE", "2")
