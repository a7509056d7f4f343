"""What Detectron2 users import: mapper, hooks, evaluator, registration."""

from types import SimpleNamespace

import pytest
import torch

pytestmark = pytest.mark.detectron2


@pytest.fixture
def cfg(phantoms, tmp_path):
    from conftest import DEMO, TINY

    from vindr_det.detection.loading import load_config

    return load_config(DEMO, "detectron2", [*TINY, "OUTPUT_DIR", str(tmp_path),
                                            "VINDR.DATA_ROOT", str(phantoms / "data")])


def test_registration_serves_detectron2s_own_loader(cfg, phantoms):
    from detectron2.data import DatasetCatalog, MetadataCatalog, build_detection_test_loader

    from vindr_det.detection.detectron2 import VindrMapper, register_datasets

    for _ in range(2):  # twice does no harm
        register_datasets(phantoms / "data", ["vindr_val_fold0"])
    loader = build_detection_test_loader(cfg, "vindr_val_fold0", mapper=VindrMapper(cfg, False))
    assert len(loader) == len(DatasetCatalog.get("vindr_val_fold0")) == 8
    assert MetadataCatalog.get("vindr_val_fold0").thing_classes[3] == "Cardiomegaly"
    batch = next(iter(loader))
    assert batch[0]["image"].shape[0] == 1 and "instances" not in batch[0]


def test_mapper_scales_boxes_from_the_originals_pixels_to_the_images(cfg, phantoms):
    from vindr_det.data.splits import read_split
    from vindr_det.detection.detectron2 import VindrMapper, to_dicts

    records, images = read_split("vindr_all", cfg)
    mapper = VindrMapper(cfg, is_train=False, keep_truth=True)
    for dataset_dict in to_dicts([(r, images) for r in records if not r.normal]):
        mapped = mapper(dataset_dict)
        _, height, width = mapped["image"].shape
        assert max(height, width) <= 96 and dataset_dict["annotations"]
        boxes = mapped["instances"].gt_boxes.tensor
        for box, annotation in zip(boxes, dataset_dict["annotations"], strict=True):
            scale = width / dataset_dict["width"], height / dataset_dict["height"]
            expected = [annotation["bbox"][k] * scale[k % 2] for k in range(4)]
            assert box.tolist() == pytest.approx(expected, abs=0.6)


def test_evaluator_gives_one_for_the_truth(cfg):
    from detectron2.structures import Boxes, Instances

    from vindr_det.data.splits import read_split
    from vindr_det.detection.detectron2 import VindrEvaluator

    records, _ = read_split("vindr_val_fold0", cfg)
    evaluator = VindrEvaluator(records)
    evaluator.reset()
    for record in records:
        instances = Instances((record.height, record.width))
        instances.pred_boxes = Boxes(torch.tensor(record.truth.boxes, dtype=torch.float32).reshape(-1, 4))
        instances.scores = torch.ones(len(record.truth))
        instances.pred_classes = torch.tensor(record.truth.labels)
        evaluator.process([{"image_id": record.image_id}], [{"instances": instances}])
    results = evaluator.evaluate()
    assert results["vindr/mAP40"] == 1.0
    assert results["coco/AP50"] == pytest.approx(1.0)


def test_validation_loss_leaves_training_alone_and_is_the_models_own(cfg):
    """Batch norm, random state and modes stay; the value is that of the model's losses by hand."""
    from detectron2.data import build_detection_test_loader
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    from vindr_det.data.splits import validation_records
    from vindr_det.detection.detectron2 import VindrMapper, to_dicts
    from vindr_det.detection.detectron2.hooks import mean_losses

    torch.manual_seed(0)
    model = build_model(cfg)
    model.eval()
    loader = build_detection_test_loader(
        to_dicts(validation_records(cfg)), mapper=VindrMapper(cfg, False, keep_truth=True),
        batch_size=3)
    before = {k: v.clone() for k, v in model.state_dict().items()}
    state = torch.random.get_rng_state()
    first, second = mean_losses(model, loader), mean_losses(model, loader)
    assert first == second and not model.training
    assert torch.equal(state, torch.random.get_rng_state())
    assert all(torch.equal(before[k], v) for k, v in model.state_dict().items())
    model.train()
    for module in model.modules():
        if isinstance(module, torch.nn.BatchNorm2d):
            module.eval()
    torch.manual_seed(0)
    total, images = {False: 0.0, True: 0.0}, {False: 0, True: 0}
    with EventStorage(), torch.no_grad():
        for batch in loader:
            for normal in (False, True):
                part = [image for image in batch if (len(image["instances"]) == 0) == normal]
                if part:
                    total[normal] += float(sum(model(part).values())) * len(part)
                    images[normal] += len(part)
    assert sum(images.values()) == 8 and all(images.values())
    assert first["validation_loss"] == pytest.approx(sum(total.values()) / 8, abs=1e-5)
    for normal, name in ((True, "normal"), (False, "abnormal")):
        assert first[f"validation_{name}/loss"] == pytest.approx(total[normal] / images[normal], abs=1e-5)


def test_best_model_survives_a_resume():
    """Detectron2's BestCheckpointer would save the first evaluation after a resume."""
    from vindr_det.detection.detectron2 import BestCheckpoint
    from vindr_det.training.early_stopping import EarlyStopping

    saved, latest = [], [({}, -1)]

    def hook():
        return BestCheckpoint(EarlyStopping("m"), save=lambda: saved.append(latest[0][0]["m"]),
                              latest=lambda: latest[0])

    def step(taken, iteration):
        taken.trainer = SimpleNamespace(iter=iteration)
        taken.after_step()

    first = hook()
    for iteration, value in enumerate([0.3, 0.6, 0.5]):
        latest[0] = ({"m": value}, iteration)
        step(first, iteration)
        step(first, iteration + 0.5)  # a step without an evaluation
    assert first.best.waited == 1 and saved == [0.3, 0.6]
    second = hook()
    second.load_state_dict(first.state_dict())
    for iteration, value in ((7, 0.4), (8, float("nan")), (9, 0.7)):
        latest[0] = ({"m": value}, iteration)
        step(second, iteration)
    assert saved == [0.3, 0.6, 0.7]


@pytest.mark.parametrize("whose", [
    pytest.param("theirs", marks=pytest.mark.xfail(strict=True, reason="it forgets across a resume")),
    "ours"])
def test_a_resumed_hook_does_not_overwrite_a_better_model(whose):
    """Detectron2's BestCheckpointer against ours: a worse evaluation after a resume saves nothing."""
    from detectron2.engine.hooks import BestCheckpointer
    from detectron2.utils.events import EventStorage

    from vindr_det.detection.detectron2 import BestCheckpoint
    from vindr_det.training.early_stopping import EarlyStopping

    saved = []
    checkpointer = SimpleNamespace(save=lambda name, **_: saved.append(name))

    def run(values, state):
        with EventStorage() as storage:
            latest = [({}, -1)]
            hook = (BestCheckpointer(1, checkpointer, "m") if whose == "theirs" else
                    BestCheckpoint(EarlyStopping("m"), lambda: checkpointer.save("best"), lambda: latest[0]))
            hook.trainer = SimpleNamespace(storage=storage, iter=0, max_iter=99)
            if state:
                hook.load_state_dict(state)
            for iteration, value in values:
                hook.trainer.iter = storage.iter = iteration
                storage.put_scalar("m", value)
                latest[0] = ({"m": value}, iteration)
                hook.after_step()
            return hook.state_dict()

    state = run([(0, 0.5), (1, 0.6)], None)
    assert len(saved) == 2
    run([(2, 0.4)], state)
    assert len(saved) == 2


RETINANET = ["SOLVER.AMP.ENABLED", "False", "MODEL.WEIGHTS", "", "MODEL.RESNETS.DEPTH", "18",
             "MODEL.RESNETS.RES2_OUT_CHANNELS", "64", "MODEL.RESNETS.NORM", "BN",
             "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.FPN.OUT_CHANNELS", "32", "SEED", "4"]


def retinanet(phantoms, out, *more):
    from conftest import ROOT, TINY

    from vindr_det.detection.loading import load_config

    return load_config(ROOT / "configs/vindr_retinanet.yaml", "detectron2", [
        *TINY, *RETINANET, "OUTPUT_DIR", str(out), "VINDR.DATA_ROOT", str(phantoms / "data"), *more])


def test_validation_does_not_move_what_retinanet_divides_its_losses_by(phantoms, tmp_path):
    """RetinaNet's running average of positive anchors, an attribute that is not in its state dict."""
    from detectron2.modeling import build_model
    from detectron2.utils.events import EventStorage

    from vindr_det.data.splits import validation_records
    from vindr_det.detection.detectron2 import VindrMapper, mean_losses, to_dicts

    cfg = retinanet(phantoms, tmp_path)
    model, mapper = build_model(cfg), VindrMapper(cfg, is_train=False, keep_truth=True)
    batch = [mapper(dataset_dict) for dataset_dict in to_dicts(validation_records(cfg))]
    first = mean_losses(model, [batch])
    assert not hasattr(model, "loss_normalizer")  # as if there had been no validation
    with EventStorage():
        model(batch)
    moved = model.loss_normalizer
    assert moved != 100 and mean_losses(model, [batch]) != first and model.loss_normalizer == moved


def test_a_resumed_retinanet_is_the_one_that_was_not_interrupted(phantoms, tmp_path):
    from vindr_det.detection.detectron2 import engine
    from vindr_det.training.checkpoint_io import read_file

    period = ["SOLVER.CHECKPOINT_PERIOD", "2", "TEST.EVAL_PERIOD", "2", "SOLVER.STEPS", "(3,)"]
    for out, broken in ((tmp_path / "straight", False), (tmp_path / "broken", True)):
        cfg = retinanet(phantoms, out, *period, "SOLVER.MAX_ITER", "4")
        engine.train(cfg)
        if broken:
            (out / "last_checkpoint").write_text("state_0000002.pth")
            (out / "state_0000004.pth").unlink()
            engine.train(cfg, resume=True)
    straight, resumed = (read_file(tmp_path / name / "state_0000004.pth") for name in ("straight", "broken"))
    numbers = [state["trainer"]["hooks"]["ModelNumbers"] for state in (straight, resumed)]
    assert numbers[0] == numbers[1] and "loss_normalizer" in numbers[0]["of_ranks"][0]
    for key, value in straight["model"].items():
        assert torch.allclose(value, resumed["model"][key], rtol=0, atol=1e-6), key


SPEC = [{"name": "RandomBrightnessContrast", "brightness_limit": 0.5, "contrast_limit": 0.5, "p": 1.0}]


def augmented(cfg, phantoms, seed, count=12):
    """Mean gray levels of an image from Detectron2's own loader with two workers."""
    from detectron2.data import build_detection_train_loader
    from detectron2.utils.env import seed_all_rng

    from vindr_det.data.splits import read_split
    from vindr_det.detection.detectron2 import VindrMapper, to_dicts

    records, images = read_split("vindr_val_fold0", cfg)
    seed_all_rng(seed)
    loader = build_detection_train_loader(
        to_dicts([(records[0], images)]), mapper=VindrMapper(cfg, is_train=True), total_batch_size=1,
        aspect_ratio_grouping=False, num_workers=2)
    batches = iter(loader)
    return [float(next(batches)[0]["image"].float().mean()) for _ in range(count)]


def test_each_worker_and_each_epoch_augments_differently_by_the_seed_alone(cfg, phantoms):
    cfg.VINDR.AUGMENT = SPEC
    drawn = augmented(cfg, phantoms, seed=3)
    assert len(set(drawn)) == len(drawn)
    assert drawn == augmented(cfg, phantoms, seed=3) != augmented(cfg, phantoms, seed=4)


def test_a_mapper_that_augments_nothing_draws_nothing(cfg, phantoms):
    """Validation in the process that trains must not move the training's random numbers."""
    import numpy as np

    from vindr_det.data.splits import validation_records
    from vindr_det.detection.detectron2 import VindrMapper, to_dicts

    before = np.random.get_state()[1].tolist()
    VindrMapper(cfg, is_train=False)(to_dicts(validation_records(cfg))[0])
    assert np.random.get_state()[1].tolist() == before


@pytest.mark.parametrize("before, after", [(None, torch.float16), (torch.float16, None)])
def test_a_resume_may_change_the_precision(before, after):
    """Without a gradient scaler there is no state of it; a new scaler begins from its defaults."""
    from vindr_det.detection.detectron2.train_step import VindrStep

    def step(half):
        model = torch.nn.Linear(1, 1)
        return VindrStep(model, [], torch.optim.SGD(model.parameters(), 0.1), half=half)

    saved, resumed = step(before), step(after)
    resumed.load_state_dict(saved.state_dict())
    assert resumed.grad_scaler.is_enabled() == (after is not None)
    if before is not None:
        state, again = saved.state_dict(), step(before)
        state["grad_scaler"]["scale"] = 8.0
        again.load_state_dict(state)
        assert again.grad_scaler.get_scale() == 8.0


def test_a_state_with_former_names_of_hooks_is_resumed():
    """Detectron2 names states of hooks after their classes, and drops those of unknown names."""
    from vindr_det.detection.detectron2.hooks import UpdateEMA
    from vindr_det.detection.detectron2.trainer import VindrTrainer

    hook, trainer = UpdateEMA(0.9), object.__new__(VindrTrainer)
    trainer._hooks, trainer._trainer = [hook], SimpleNamespace(load_state_dict=lambda _: None)
    trainer.load_state_dict({"iteration": 3, "hooks": {"AverageWeights": {"updates": 4}}, "_trainer": {}})
    assert hook._resumed == {"updates": 4} and trainer.iter == 3
