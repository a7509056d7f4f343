"""A config that follows from annotations alone: rules by hand, files that load and train in both engines."""

from dataclasses import replace

import numpy as np
import pytest
import yaml
from conftest import DEMO, ROOT, TINY

from vindr_det.config import load_yaml
from vindr_det.config_schema import label_set_of_config
from vindr_det.data.coco import to_coco
from vindr_det.data.fingerprint import ImageFiles, fingerprint_of
from vindr_det.detection.anchors import Anchors, best_overlaps, from_config, grid_overlaps
from vindr_det.detection.loading import load_config
from vindr_det.detection.plan import SECONDS, Budget, Recipe, images_per_epoch, notes, plan
from vindr_det.exceptions import InputError
from vindr_det.files import write_json, write_png
from vindr_det.structures.detections import Predictions
from vindr_det.structures.label_sets import NIH_BOXES, VINBIGDATA, LabelSet
from vindr_det.structures.records import Record

OWN = LabelSet("instances_train", ("spot", "line", "blob"))
RECIPE = Recipe((Anchors((32.0,), (1.0,)), Anchors((64.0,), (1.0,))), 8, 500, False, True, (0.0, 1.0))


def record(name, *boxes, label_set=OWN, side=1000, unknown=()):
    """A square image with boxes (class, width, height)."""
    rows = np.array([(10, 10, 10 + width, 10 + height) for _, width, height in boxes], float).reshape(-1, 4)
    truth = Predictions(rows, np.ones(len(boxes)), np.array([box[0] for box in boxes], int), label_set)
    return Record(name, f"{name}.png", side, side, truth, (), unknown)


def data_set(boxed=40, normal=60, width=50, **more):
    return [*(record(f"a{at}", (at % 2, width, 2 * width), **more) for at in range(boxed)),
            *(record(f"n{at}", **more) for at in range(normal))]


def planned(records, recipe=RECIPE, **more):
    return {setting.key: setting for setting in plan(fingerprint_of(records), recipe, **more)}


def test_rules_by_hand():
    """50 px of 1000 are 16 px at 320; 40 images with boxes and 10 of the 60 normal ones are an epoch."""
    settings = planned(data_set())
    values = {key: setting.value for key, setting in settings.items()}
    assert values["VINDR.IMAGE_SIZE"] == values["INPUT.MAX_SIZE_TEST"] == 320
    assert settings["VINDR.IMAGE_SIZE"].reason.startswith(
        "0.0% of the 40 boxes have a shorter side under 16 px, at 256 100.0%")
    assert values["INPUT.MIN_SIZE_TRAIN"] == [320] and values["VINDR.KEEP_ASPECT"] is True
    assert values["VINDR.NORMAL_RATIO"] == 0.25 and values["VINDR.REPEAT_THRESHOLD"] == 0
    assert "20 of an epoch's 50 images (40.0%)" in settings["VINDR.REPEAT_THRESHOLD"].reason
    assert values["SOLVER.MAX_ITER"] == 1000  # 36 epochs would be 225
    assert values["SOLVER.STEPS"] == [700, 900]
    assert values["SOLVER.WARMUP_ITERS"] == 100 and values["SOLVER.CHECKPOINT_PERIOD"] == 50
    assert "TEST.EVAL_PERIOD" not in values
    assert planned(data_set(), validation=9)["TEST.EVAL_PERIOD"].value == 50


@pytest.mark.parametrize("width, files, expected", [
    (50, None, 320), (51, None, 320), (49, None, 384), (200, None, 192), (3, None, 768),
    (12, ImageFiles(640, False), 640), (50, ImageFiles(300, False), 256), (50, ImageFiles(100, False), 192)])
def test_the_smallest_size_with_few_tiny_boxes(width, files, expected):
    """Images of 1000 px are not enlarged, nor are smaller files."""
    assert planned(data_set(width=width), files=files)["VINDR.IMAGE_SIZE"].value == expected


@pytest.mark.parametrize("normal, expected", [(0, -1), (10, -1), (11, 0.25)])
def test_normal_images(normal, expected):
    setting = planned(data_set(normal=normal))["VINDR.NORMAL_RATIO"]
    assert setting.value == expected and ("false positives" in setting.reason) == (normal == 0)
    assert images_per_epoch(fingerprint_of(data_set(normal=normal)), setting.value) == 40 + min(normal, 10)


def test_unknown_findings_are_not_normal():
    records = [*data_set(normal=0), *(record(f"u{at}", unknown=(2,)) for at in range(20))]
    fingerprint = fingerprint_of(records)
    assert planned(records)["VINDR.NORMAL_RATIO"].value == -1 and images_per_epoch(fingerprint, 0.25) == 60
    assert [line.split(":")[0] for line in notes(fingerprint)] == [
        "on fewer than 10 images", "on 20 of 60 images a finding may be without a box"]


def test_findings_without_boxes_are_not_the_rarest():
    setting = planned([record(f"a{at}", (2, 50, 50)) for at in range(9)])["VINDR.REPEAT_THRESHOLD"]
    assert setting.value == 0 and setting.reason.startswith("the rarest finding, blob, is on 9 of an")


def test_rare_findings_are_repeated_four_times_at_most():
    """A finding on 2 of 1,250 images: sqrt(.01 / .0016) = 2.5; on 1 of 3,125: sqrt(.00512 / .00032) = 4."""
    for common, count, threshold in ((998, 2, 0.01), (2499, 1, 0.0051)):
        records = [*data_set(common, 3000), *(record(f"r{at}", (2, 50, 50)) for at in range(count))]
        assert planned(records)["VINDR.REPEAT_THRESHOLD"].value == pytest.approx(threshold)


def test_distorted_files_and_longer_trainings():
    records = data_set(4000, 0)
    assert planned(records, files=ImageFiles(640, True))["VINDR.KEEP_ASPECT"].value is False
    assert planned(records)["SOLVER.MAX_ITER"].value == 18000
    random = planned(records, replace(RECIPE, from_random=True, steps=False))
    assert random["SOLVER.MAX_ITER"].value == 36000 and "SOLVER.STEPS" not in random


def test_a_budget_makes_the_training_shorter_and_then_the_images_smaller():
    """.1024 s per image at 320, .065536 at 256; a minute on 2 cores has 84 s for 820 or 1,281 images."""
    records = data_set(40, 10)
    settings = planned(records, budget=Budget(1, 2))
    assert settings["VINDR.IMAGE_SIZE"].value == 320
    assert settings["SOLVER.MAX_ITER"].value == int(84 / 0.1024 / 8) == 102
    assert settings["SOLVER.MAX_ITER"].reason.startswith(
        "16.3 epochs of 50 images, all that 1 minutes on 2 cores allow: 70% of them")
    smaller = planned(data_set(48, 12), budget=Budget(1, 2))
    assert smaller["VINDR.IMAGE_SIZE"].value == 320  # 720 images are 12 epochs
    smaller = planned(data_set(60, 15), budget=Budget(1, 2))
    assert smaller["VINDR.IMAGE_SIZE"].value == 256 and smaller["SOLVER.MAX_ITER"].value == 160
    assert planned(records, budget=Budget(1e6, 2))["SOLVER.MAX_ITER"].value == 1000
    assert planned(records, budget=Budget(1, 1))["SOLVER.CHECKPOINT_PERIOD"].value == 80 // 4  # 640 images
    with pytest.raises(InputError, match=r"--budget 0.01: not enough for an epoch of 50 images at 192 px, "
                                         r"expected at least 1 minutes"):
        planned(records, budget=Budget(0.01, 1))
    with pytest.raises(InputError, match="network is not known, expected Faster R-CNN with ResNet-18"):
        planned(records, replace(RECIPE, cost=None), budget=Budget(1, 1))


def test_the_shortest_training_has_valid_steps(own_set, main_of):
    """Of 12 images 15 are an iteration or two of 8; learning rate steps at iteration 0 would be refused."""
    main_of(*arguments(own_set, "--base", ROOT / "configs/vindr_frcnn.yaml", "--budget", "0.5"))
    solver = load_config(own_set / "plan.yaml", "torchvision").SOLVER
    assert solver.MAX_ITER == 2 and tuple(solver.STEPS) == (1,)


def test_recipes_of_the_shipped_configs():
    """What is read off the YAML files is what the engine's config says."""
    for name in ("vindr_frcnn", "vindr_retinanet", "vindr_frcnn_r18", "vindr_frcnn_convnext"):
        path = ROOT / f"configs/{name}.yaml"
        recipe, cfg = Recipe.of(load_yaml(path)), load_config(path, "torchvision")
        assert recipe == Recipe.of(cfg) and list(recipe.anchors) == from_config(cfg)
        assert recipe.batch == cfg.SOLVER.IMS_PER_BATCH
    assert Recipe.of(load_yaml(ROOT / "configs/vindr_fcos.yaml")).anchors == ()
    assert Recipe.of(load_yaml(ROOT / "configs/vindr_retinanet.yaml")).strides == (8, 16, 32, 64, 128)
    assert Recipe.of(load_yaml(ROOT / "configs/vindr_frcnn_r18.yaml")).cost == SECONDS[18, 64]
    assert Recipe.of(load_yaml(ROOT / "configs/vindr_frcnn_convnext.yaml")).cost is None


def test_overlaps_on_the_grid_by_hand():
    """A box of 8 x 8 and its anchor, a quarter of stride 8 apart on both axes: 36 of 92."""
    shapes, anchors = np.array([[8.0, 8.0], [8.0, 16.0]]), [Anchors((8.0,), (1.0,)), Anchors((8.0,), (1.0,))]
    assert grid_overlaps(shapes[:1], anchors, (64, 8)).tolist() == [36 / 92]
    assert grid_overlaps(shapes, anchors, (0, 0)).tolist() == best_overlaps(shapes, anchors).tolist()
    assert grid_overlaps(shapes[1:], anchors[:1], (8,)).tolist() == [48 / (64 + 128 - 48)]


def test_anchors_of_small_and_flat_boxes():
    """Boxes of 20 x 40 px at 192 get better anchors than the recipe's, the same each time."""
    recipe = Recipe.of(load_yaml(ROOT / "configs/vindr_frcnn.yaml"))
    records = [record(f"a{at}", (0, 200 + at % 7, 100 + at % 5)) for at in range(40)]
    settings = planned(records, recipe)
    sizes, ratios = (settings[f"MODEL.ANCHOR_GENERATOR.{key}"].value for key in ("SIZES", "ASPECT_RATIOS"))
    chosen = [Anchors(tuple(map(float, level)), tuple(ratios[0])) for level in sizes]
    shapes = fingerprint_of(records).sides_at(192)
    assert len(sizes) == 5 and grid_overlaps(shapes, chosen, recipe.strides).mean() > 0.8
    assert planned(records, recipe) == settings
    assert "MODEL.ANCHOR_GENERATOR.SIZES" not in planned(records, replace(recipe, anchors=()))


@pytest.fixture
def own_set(tmp_path):
    """Three findings of no shipped set, 12 images and 4, with their files."""
    records = [record(f"a{at}", (at % 3, 60, 50), side=256) for at in range(12)]
    held_out = [record(f"v{at}", *[(at, 60, 50)] * (at < 3), side=256) for at in range(4)]
    root = tmp_path / "2024"
    for name, part in (("train", records), ("val", held_out)):
        data = to_coco(part)
        del data["info"]
        write_json(root / f"annotations/instances_{name}.json", data)
        for image in part:
            noise = np.random.default_rng(0).integers(0, 255, (256, 256), np.uint8)
            write_png(root / "images" / image.file_name, noise)
    return root


def arguments(root, *more):
    return ["plan.py", "--annotations", root / "annotations/instances_train.json", "--out",
            root / "plan.yaml", *more]


def test_the_file_loads_in_both_engines_and_is_the_same_again(own_set, main_of, engine, capsys):
    val = own_set / "annotations/instances_val.json"
    main_of(*arguments(own_set, "--val", val))
    text = (own_set / "plan.yaml").read_text()
    assert capsys.readouterr().out == text
    cfg = load_config(own_set / "plan.yaml", engine)
    assert label_set_of_config(cfg).findings == OWN.findings and cfg.MODEL.ROI_HEADS.NUM_CLASSES == 3
    assert cfg.VINDR.BEST_METRIC == "voc/mAP40" and cfg.VINDR.LABEL_SET == "2024 findings"
    assert tuple(cfg.DATASETS.TRAIN) == ("2024-findings_train",) and str(own_set) == cfg.VINDR.DATA_ROOT
    assert tuple(cfg.VINDR.VALIDATION) == tuple(cfg.DATASETS.TEST) == ("2024-findings_val",)
    assert "# on fewer than 10 images: spot (4), line (4), blob (4). Their AP" in text
    assert "4 images, 3 boxes; on fewer than 10 of them: spot (1), line (1), blob (1)" in " ".join(
        text.replace("#", "").split())
    main_of(*arguments(own_set, "--val", val))
    assert (own_set / "plan.yaml").read_text() == text


def test_without_validation_and_on_a_budget(own_set, main_of):
    main_of(*arguments(own_set, "--budget", 1, "--cores", 2))
    cfg = load_config(own_set / "plan.yaml", "torchvision")
    assert tuple(cfg.VINDR.VALIDATION) == () and cfg.MODEL.RESNETS.DEPTH == 18


@pytest.mark.parametrize("base", ["vindr_retinanet", "vindr_fcos", "vindr_mrcnn", "vindr_frcnn_convnext",
                                  "demo/vindr_frcnn_demo"])
def test_other_recipes(own_set, main_of, base):
    main_of(*arguments(own_set, "--base", ROOT / f"configs/{base}.yaml"))
    load_config(own_set / "plan.yaml", "torchvision")


def test_a_recipe_beside_the_planned_config_is_named_relative_to_it(own_set, main_of):
    (own_set / "configs").mkdir()
    (own_set / "configs/own.yaml").write_text(f"_BASE_: {DEMO}\n")
    for out, base in (("plan.yaml", "configs/own.yaml"), ("configs/more/plan.yaml", "../own.yaml")):
        main_of("plan.py", "--annotations", own_set / "annotations/instances_train.json", "--base",
                own_set / "configs/own.yaml", "--out", own_set / out)
        assert f'_BASE_: "{base}"\n' in (own_set / out).read_text()


def test_names_of_data_sets(tmp_path, main_of):
    """VinBigData's folds keep their names, unless the images are in a folder of their own."""
    for label_set, part, images, expected in (
            (VINBIGDATA, "train_fold0", None, "vindr_train_fold0"),
            (NIH_BOXES, "train", None, "nih-boxes_train"),
            (VINBIGDATA, "train", None, "vinbigdata_train"), (VINBIGDATA, "all", "pngs", "vinbigdata_all")):
        root = tmp_path / expected
        path = root / f"annotations/instances_{part}.json"
        write_json(path, to_coco([record("a", (1, 50, 50), label_set=label_set)]))
        write_png(root / "pngs/a.png", np.zeros((200, 200), np.uint8))
        main_of("plan.py", "--annotations", path, "--out", root / "p.yaml", "--base", DEMO,
                *(["--images", root / images] if images else []))
        assert tuple(load_config(root / "p.yaml", "torchvision").DATASETS.TRAIN) == (expected,)


@pytest.mark.slow
def test_the_planned_config_trains(own_set, main_of, engine):
    from vindr_det.detection import engine as engines

    main_of(*arguments(own_set, "--val", own_set / "annotations/instances_val.json", "--budget", 5))
    cfg = load_config(own_set / "plan.yaml", engine, [
        *TINY, "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()", "OUTPUT_DIR", str(own_set / "out")])
    engines.load(engine).train(cfg)
    assert (own_set / "out/model_final.pth").is_file()


def test_faulty_input_is_one_line_and_writes_nothing(own_set, main_of):
    folder = own_set / "annotations"
    write_json(own_set / "instances_x.json", to_coco([record("a", (0, 9, 9))]))
    write_json(folder / "own.json", to_coco([record("a", (0, 9, 9))]))
    write_json(folder / "instances_normal.json", to_coco([record("z")]))
    write_json(folder / "instances_none.json", to_coco([]))
    write_json(folder / "instances_nih.json", to_coco([record("z", (0, 9, 9), label_set=NIH_BOXES)]))
    (own_set / "t.csv").write_text("image_id,class_id\n")
    same = [record("a3", (0, 9, 9))]
    write_json(folder / "instances_same.json", to_coco(same))
    data = to_coco([record("a", (0, 9, 9))])
    data["images"][0]["patient"] = "p7"
    write_json(folder / "instances_p.json", data)
    data["images"][0]["file_name"] = "b.png"
    write_json(folder / "instances_q.json", data)
    write_json(own_set / "other/annotations/instances_val.json", to_coco([record("o", (0, 9, 9))]))
    cases = [
        ("no.json", [], "no.json: no such file"),
        ("../instances_x.json", [], "is not where a config finds it"),
        ("own.json", [], r"expected DATA_ROOT/annotations/instances_<name>.json"),
        ("instances_normal.json", [], "hold no box"), ("instances_none.json", [], "holds no image"),
        ("instances_train.json", ["--val", folder / "instances_nih.json"], "has other findings"),
        ("instances_train.json", ["--val", folder / "instances_same.json"], "leak: image a3 is in"),
        ("instances_p.json", ["--val", folder / "instances_q.json"], "leak: patient p7 is in"),
        ("instances_train.json", ["--val", own_set / "other/annotations/instances_val.json"],
         "another folder"),
        ("instances_train.json", ["--val", folder / "instances_train.json"],
         r"leak: image a\d+ is in --annotations .* and in --val"),
        ("../t.csv", [], "t.csv: is no JSON, expected a COCO file"),
        ("instances_train.json", ["--base", ROOT / "configs/classifier/vindr_binary_effnet_b2.yaml"],
         "vindr_binary_effnet_b2.yaml: key"),
        ("instances_train.json", ["--budget", 0], "--budget 0: expected minutes"),
        ("instances_train.json", ["--budget", 1, "--cores", 0], "--cores 0: expected at least 1"),
        ("instances_train.json", ["--images", own_set / "nowhere"], "a0.png: no such image"),
        ("instances_train.json", ["--base", "no.yaml"], "no.yaml: no such file"),
    ]
    for name, more, message in cases:
        with pytest.raises(InputError, match=message):
            main_of("plan.py", "--annotations", folder / name, "--out", own_set / "plan.yaml", *more)
        assert not (own_set / "plan.yaml").exists(), name


def test_every_value_is_explained(own_set, main_of):
    """Each key has a comment above it, alone or with the keys that share it."""
    main_of(*arguments(own_set))
    lines = (own_set / "plan.yaml").read_text().splitlines()
    keys = [at for at, line in enumerate(lines) if line.strip()[0] != "#" and line[-1] != ":"]
    shared = ("MAX_SIZE_TRAIN", "MIN_SIZE_TEST", "MAX_SIZE_TEST", "_BASE_")
    assert all(lines[at - 1].strip().startswith("#") or lines[at].strip().startswith(shared) for at in keys)
    assert yaml.safe_load("\n".join(lines))["VINDR"]["FINDINGS"] == list(OWN.findings)


def test_smaller_images_than_any_size_are_said_to_be_enlarged():
    size = planned(data_set(width=100), files=ImageFiles(100, False))["VINDR.IMAGE_SIZE"]
    assert size.value == 192
    assert size.reason.startswith("the smallest here, though the files' longest side is 100 px; ")
