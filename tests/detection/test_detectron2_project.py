"""Our parts in other Detectron2 projects: the script of docs/detectron2.md and Detectron2's own tools."""

import importlib.util
import json
import os
import re
from pathlib import Path
from types import SimpleNamespace

import numpy as np
import pytest
import torch
from conftest import ROOT, TINY, of_another_label_set

from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import LabelSet

pytestmark = pytest.mark.detectron2

SCRIPT = re.search(r"```python\n(.*?)```", (ROOT / "docs/detectron2.md").read_text(encoding="utf-8"), re.S)[1]
#: The repository's own YAML with a network that two cores train in seconds.
SMALL = [*TINY, "SOLVER.AMP.ENABLED", "False", "MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS",
         "64", "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0", "MODEL.FPN.OUT_CHANNELS", "32",
         "MODEL.ROI_BOX_HEAD.FC_DIM", "32", "MODEL.WEIGHTS", "torchvision://resnet18"]


@pytest.fixture(scope="module")
def home(tmp_path_factory):
    """A machine without network on which torchvision's ResNet-18 has been downloaded."""
    from torchvision.models import get_model_weights, resnet18

    home = tmp_path_factory.mktemp("home")
    name = get_model_weights("resnet18").DEFAULT.url.rsplit("/", 1)[1]
    (home / "hub/checkpoints").mkdir(parents=True)
    torch.manual_seed(5)
    torch.save(resnet18().state_dict(), home / "hub/checkpoints" / name)
    return home


@pytest.fixture
def downloaded(home, monkeypatch):
    monkeypatch.setenv("TORCH_HOME", str(home))
    monkeypatch.setenv("FVCORE_CACHE", str(home / "cache"))


def written(folder):
    """Each key's last value in metrics.json."""
    lines = (folder / "metrics.json").read_text().splitlines()
    return {k: v for line in lines for k, v in json.loads(line).items()}


def arguments(data, out, *more):
    return ["--config-file", str(ROOT / "configs/vindr_frcnn.yaml"), "--dist-url", "auto", *more, *SMALL,
            "OUTPUT_DIR", str(out), "VINDR.DATA_ROOT", str(data)]


def test_the_readmes_script_trains_the_repositorys_yaml(phantoms, tmp_path, downloaded):
    from detectron2.engine import default_argument_parser

    scope: dict = {"__name__": "train_net"}
    exec(SCRIPT, scope)
    scope["main"](default_argument_parser().parse_args(arguments(phantoms / "data", tmp_path)))
    metrics = written(tmp_path)
    assert "NaN" not in (tmp_path / "metrics.json").read_text()
    for key in ("total_loss", "validation_loss", "validation_abnormal/loss", "vindr/mAP40", "coco/AP"):
        assert np.isfinite(metrics[key]), key
    before = (tmp_path / "model_final.pth").read_bytes()
    weights = arguments(phantoms / "data", tmp_path, "--eval-only")
    scores = scope["main"](default_argument_parser().parse_args(
        [*weights, "MODEL.WEIGHTS", str(tmp_path / "model_final.pth")]))
    assert scores["vindr/mAP40"] == pytest.approx(metrics["vindr/mAP40"], abs=1e-6)
    assert (tmp_path / "model_final.pth").read_bytes() == before and written(tmp_path) == metrics


def test_the_script_trains_a_label_set_of_its_own(phantoms, tmp_path, downloaded):
    from detectron2.engine import default_argument_parser

    own = LabelSet("devices", ("Pacemaker", "Tube"))
    of_another_label_set(phantoms / "data/annotations", tmp_path / "data/annotations", own)
    scope: dict = {"__name__": "train_net"}
    exec(SCRIPT, scope)
    options = [*arguments(tmp_path / "data", tmp_path / "out"), "VINDR.IMAGE_ROOT", str(phantoms / "data"),
               "VINDR.LABEL_SET", own.name, "VINDR.FINDINGS", repr(own.findings), "SOLVER.MAX_ITER", "1",
               "SOLVER.STEPS", "()"]
    scope["main"](default_argument_parser().parse_args(options))
    metrics = written(tmp_path / "out")
    assert np.isfinite(metrics["voc/mAP40"]) and np.isfinite(metrics["validation_loss"])
    head = torch.load(tmp_path / "out/model_final.pth", weights_only=True)["model"]
    assert len(head["roi_heads.box_predictor.cls_score.weight"]) == len(own) + 1
    with pytest.raises(InputError, match=r"HEADS.NUM_CLASSES is 80, expected 2 \(the findings of devices\)"):
        scope["main"](default_argument_parser().parse_args([*options, "MODEL.ROI_HEADS.NUM_CLASSES", "80"]))


# DefaultTrainer tells DistributedDataParallel a device id, which it takes for GPUs alone.
ON_CPUS = """
import detectron2.engine.defaults as defaults
made = defaults.create_ddp_model
defaults.create_ddp_model = lambda model, **options: made(model, **options | {"device_ids": None})
"""


@pytest.mark.slow
def test_the_readmes_script_trains_on_two_processes(phantoms, tmp_path, home, processes):
    (tmp_path / "train_net.py").write_text(ON_CPUS + SCRIPT)
    home_of = {"TORCH_HOME": str(home), "FVCORE_CACHE": str(home / "cache"), "OMP_NUM_THREADS": "1"}
    command = [tmp_path / "train_net.py", *arguments(phantoms / "data", tmp_path, "--num-gpus", "2")]
    run = processes.run(command, environment=os.environ | home_of)
    assert run.returncode == 0, run.stderr[-3000:]
    assert {"validation_loss", "vindr/mAP40"} <= written(tmp_path).keys()


@pytest.fixture
def cfg(phantoms, tmp_path, downloaded):
    """As the script of docs/detectron2.md makes it."""
    from detectron2.config import get_cfg

    from vindr_det.detection.detectron2 import add_vindr_config, register_datasets

    cfg = get_cfg()
    add_vindr_config(cfg)
    cfg.merge_from_file(str(ROOT / "configs/vindr_frcnn.yaml"))
    cfg.merge_from_list([*SMALL, "OUTPUT_DIR", str(tmp_path), "VINDR.DATA_ROOT", str(phantoms / "data")])
    cfg.DATASETS.TEST = cfg.VINDR.VALIDATION
    register_datasets(cfg.VINDR.DATA_ROOT, [*cfg.DATASETS.TRAIN, *cfg.DATASETS.TEST, "vindr_test"])
    return cfg


def test_a_checkpointer_of_detectron2_takes_torchvisions_weights(cfg, home):
    """Every weight of the backbone, in a model that has other parts as well."""
    from detectron2.checkpoint import DetectionCheckpointer
    from detectron2.modeling import build_model

    from vindr_det.training.weights_names import detectron2_name

    model = build_model(cfg)
    DetectionCheckpointer(model).load("torchvision://resnet18")
    state = model.state_dict()
    source = torch.load(next((home / "hub/checkpoints").iterdir()), weights_only=True)
    names = [key for key in source if not key.startswith("fc.") and "batches" not in key]
    assert len(names) == 100
    for key in names:
        assert torch.equal(state[f"backbone.bottom_up.{detectron2_name(key)}"], source[key]), key


THEIRS = [path for path in sorted((ROOT / "configs").glob("vindr_*.yaml")) if "fcos" not in path.name]


@pytest.mark.parametrize("path", THEIRS, ids=lambda path: path.stem)
def test_detectron2_itself_reads_every_yaml(path):
    """``merge_from_file`` is stricter than our own reading: no whole number for a float."""
    from detectron2.config import get_cfg

    from vindr_det.detection.detectron2 import add_vindr_config

    cfg = get_cfg()
    add_vindr_config(cfg)
    cfg.merge_from_file(str(path))
    assert cfg.DATASETS.TRAIN and torch.device(cfg.MODEL.DEVICE)  # "auto" is a name of ours


def instances_of(entry):
    """The truth of a registered dict as a model would put it out."""
    from detectron2.structures import Boxes, Instances

    instances = Instances((entry["height"], entry["width"]))
    instances.pred_boxes = Boxes(torch.tensor([a["bbox"] for a in entry["annotations"]]).reshape(-1, 4))
    instances.scores = torch.ones(len(entry["annotations"]))
    instances.pred_classes = torch.tensor([a["category_id"] for a in entry["annotations"]], dtype=torch.int64)
    return instances


def test_both_evaluators_give_full_marks_for_the_truth(cfg, tmp_path):
    """COCO's in the files' pixels, ours in the originals'."""
    from detectron2.data import DatasetCatalog
    from detectron2.evaluation import COCOEvaluator

    from vindr_det.data.splits import read_split
    from vindr_det.detection.detectron2 import VindrEvaluator

    dicts = DatasetCatalog.get("vindr_val_fold0")
    theirs = COCOEvaluator("vindr_val_fold0", output_dir=str(tmp_path / "inference"))
    ours = VindrEvaluator.from_catalog("vindr_val_fold0")
    for evaluator in (theirs, ours):
        evaluator.reset()
        evaluator.process(dicts, [{"instances": instances_of(entry)} for entry in dicts])
    assert theirs.evaluate()["bbox"]["AP"] == pytest.approx(100)
    results = ours.evaluate()
    assert results["vindr/mAP40"] == 1 and np.isfinite(list(results.values())).all()
    records, _ = read_split("vindr_val_fold0", cfg)
    assert len(ours.predictions) == len(records)
    assert any(entry["height"] != record.height for entry, record in zip(dicts, records, strict=True))
    for record in records:
        assert ours.predictions[record.image_id].boxes == pytest.approx(record.truth.boxes, abs=1e-2)


def test_detectron2s_mapper_has_the_boxes_where_ours_does(cfg):
    from detectron2.data import DatasetCatalog, DatasetMapper

    from vindr_det.detection.detectron2 import VindrMapper

    cfg.INPUT.RANDOM_FLIP, cfg.MODEL.MASK_ON = "none", True
    theirs, ours = DatasetMapper(cfg, is_train=True), VindrMapper(cfg, is_train=False, keep_truth=True)
    for entry in DatasetCatalog.get("vindr_train_fold0"):
        expected, mapped = theirs(entry), ours(entry)
        size, other = expected["image"].shape[1:], mapped["image"].shape[1:]
        assert size == pytest.approx(other, abs=1)  # ours resizes twice
        scale = torch.tensor([other[1] / size[1], other[0] / size[0]]).repeat(2)
        expected, mapped = expected["instances"], mapped["instances"]
        assert torch.allclose(expected.gt_boxes.tensor * scale, mapped.gt_boxes.tensor, atol=0.5)
        assert expected.gt_classes.tolist() == mapped.gt_classes.tolist()


def test_the_test_set_is_registered_without_annotations(cfg, phantoms):
    from detectron2.data import DatasetCatalog, build_detection_test_loader

    from vindr_det.detection.detectron2 import VindrEvaluator, VindrMapper
    from vindr_det.exceptions import InputError
    from vindr_det.imaging.sizes import read_sizes

    sizes = read_sizes(phantoms / "raw/test_meta.csv")
    dicts = DatasetCatalog.get("vindr_test")
    assert {entry["image_id"] for entry in dicts} == set(sizes.index)
    for entry in dicts:
        assert (entry["original_height"], entry["original_width"]) == tuple(sizes.loc[entry["image_id"]])
        assert max(entry["height"], entry["width"]) == 128 and "annotations" not in entry
    loader = build_detection_test_loader(cfg, "vindr_test", mapper=VindrMapper(cfg, is_train=False))
    assert len(list(loader)) == 6
    with pytest.raises(InputError, match="vindr_test: has no annotations to score with"):
        VindrEvaluator.from_catalog("vindr_test")


def checkout() -> Path:
    """Detectron2's checkout; a wheel has no tools and projects."""
    root = Path(importlib.util.find_spec("detectron2").origin).resolve().parent.parent
    if not (root / "tools/plain_train_net.py").is_file():
        pytest.skip("Detectron2 is not a checkout")
    return root


def tool_of_detectron2(name):
    spec = importlib.util.spec_from_file_location(name, checkout() / f"tools/{name}.py")
    module = importlib.util.module_from_spec(spec)
    spec.loader.exec_module(module)
    return module


def test_detectron2s_plain_loop(cfg):
    """tools/plain_train_net.py as it is: DatasetMapper, COCOEvaluator, no trainer; then our losses."""
    from detectron2.data import build_detection_test_loader
    from detectron2.modeling import build_model

    from vindr_det.detection.detectron2 import VindrMapper, mean_losses

    plain, model = tool_of_detectron2("plain_train_net"), build_model(cfg)
    plain.do_train(cfg, model)
    assert -1 <= plain.do_test(cfg, model)["bbox"]["AP"] <= 100
    mapper = VindrMapper(cfg, is_train=False, keep_truth=True)
    losses = mean_losses(model, build_detection_test_loader(cfg, "vindr_val_fold0", mapper=mapper))
    assert np.isfinite(losses["validation_loss"]) and losses["validation_loss"] > 0


def small_vitdet(out):
    """Detectron2's ViTDet config with a network of two blocks, on our data."""
    from detectron2.config import LazyConfig

    cfg = LazyConfig.load(str(checkout() / "projects/ViTDet/configs/COCO/mask_rcnn_vitdet_b_100ep.py"))
    net, heads = cfg.model.backbone.net, cfg.model.roi_heads
    net.img_size, net.embed_dim, net.depth, net.num_heads = 64, 32, 2, 2
    net.window_size, net.window_block_indexes = 2, [0]
    cfg.model.backbone.square_pad, cfg.model.backbone.out_channels = 64, 16
    heads.num_classes, heads.box_head.conv_dims, heads.box_head.fc_dims = 14, [16], [32]
    cfg.model.proposal_generator.head.in_channels = heads.mask_head.input_shape.channels = 16
    heads.box_head.input_shape.channels, heads.mask_head.conv_dims = 16, [16, 16]
    heads.box_predictor.input_shape.channels = 32
    train, test = cfg.dataloader.train, cfg.dataloader.test
    train.dataset.names, test.dataset.names = "vindr_train_fold0", "vindr_val_fold0"
    train.total_batch_size, train.num_workers, test.num_workers = 2, 0, 0
    train.mapper.augmentations[1].update(target_height=64, target_width=64)
    train.mapper.augmentations[2].crop_size = (64, 64)
    test.mapper.augmentations[0].update(short_edge_length=64, max_size=64)
    cfg.dataloader.evaluator.output_dir = str(out)
    cfg.train.update(output_dir=str(out), init_checkpoint="", max_iter=2, eval_period=2, device="cpu")
    cfg.train.amp.enabled, cfg.train.ddp.fp16_compression = False, False
    cfg.optimizer.lr = 1e-5
    return cfg


def with_our_parts(cfg):
    """A LazyConfig takes our mapper and evaluator as its own."""
    from detectron2.config import LazyCall as L

    from vindr_det.detection.detectron2 import VindrEvaluator, VindrMapper
    from vindr_det.detection.samples import SampleReader
    from vindr_det.training.augmentation import Augment

    augment = L(Augment)(transforms=[{"name": "Affine", "scale": [0.9, 1.1], "p": 1.0}])
    for loader, is_train in ((cfg.dataloader.train, True), (cfg.dataloader.test, False)):
        reader = L(SampleReader)(image_size=64, keep_aspect=True, augment=augment if is_train else None)
        edges = [[64], 64, "choice"]
        loader.mapper = L(VindrMapper)(reader=reader, edges=edges, keep_truth=is_train, masks=True)
    cfg.dataloader.evaluator = L(VindrEvaluator.from_catalog)(name="vindr_val_fold0")
    return cfg


@pytest.mark.parametrize("parts, metric", [("theirs", "bbox/AP"), ("ours", "vindr/mAP40")])
def test_a_lazy_config_with_vitdet(cfg, tmp_path, parts, metric):
    pytest.importorskip("pkg_resources", reason="detectron2.model_zoo needs setuptools < 81")
    pytest.importorskip("shapely", reason="Detectron2 crops masks with shapely")
    lazy = small_vitdet(tmp_path)
    lazy = with_our_parts(lazy) if parts == "ours" else lazy
    tool_of_detectron2("lazyconfig_train_net").do_train(SimpleNamespace(resume=False), lazy)
    assert np.isfinite(written(tmp_path)["total_loss"]) and metric in written(tmp_path)
