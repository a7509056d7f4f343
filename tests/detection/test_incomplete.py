"""Findings that are unknown on an image: no negative signal, in every architecture of both engines."""

import math
from dataclasses import replace
from functools import partial

import numpy as np
import pytest
import torch
from conftest import DEMO, TINY, network_of
from torch.nn.functional import binary_cross_entropy_with_logits, cross_entropy

from vindr_det.config_schema import label_set_of_config
from vindr_det.data.splits import loss_records, normal_count, training_records
from vindr_det.detection import engine as engines
from vindr_det.detection.incomplete import NEVER, join_background, mask_of, without
from vindr_det.detection.loading import load_config
from vindr_det.exceptions import InputError
from vindr_det.structures.detections import Predictions
from vindr_det.structures.records import Record
from vindr_det.training.checkpoint_io import read_file
from vindr_det.training.sampler import repeat_factors

DENSE = ["MODEL.RETINANET.NUM_CLASSES", "14", "MODEL.RETINANET.TOPK_CANDIDATES_TEST", "50"]
RETINA = ["MODEL.META_ARCHITECTURE", "RetinaNet",
          "MODEL.BACKBONE.NAME", "build_retinanet_resnet_fpn_backbone",
          "MODEL.RESNETS.OUT_FEATURES", "['res3', 'res4', 'res5']", "MODEL.FPN.IN_FEATURES",
          "['res3', 'res4', 'res5']", "MODEL.RETINANET.IN_FEATURES", "['p3', 'p4', 'p5', 'p6', 'p7']", *DENSE]
#: Engine, options, and the layer that gives the logits of the classes.
CASES = {
    "torchvision R-CNN": ("torchvision", [], "roi_heads.box_predictor.cls_score", 1),
    "torchvision focal": ("torchvision", ["VINDR.ROI_FOCAL_GAMMA", "0.5", "VINDR.AGREEMENT_POWER", "1"],
                          "roi_heads.box_predictor.cls_score", 1),
    "torchvision mask": ("torchvision", ["MODEL.MASK_ON", "True"], "roi_heads.box_predictor.cls_score", 1),
    "torchvision RetinaNet": ("torchvision", [*RETINA, "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", "0.0"],
                              "head.classification_head.cls_logits", 0),
    "torchvision FCOS": ("torchvision", [*RETINA, "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", "0.0",
                                         "MODEL.META_ARCHITECTURE", "FCOS"],
                         "head.classification_head.cls_logits", 0),
    "detectron2 R-CNN": ("detectron2", [], "roi_heads.box_predictor.cls_score", 0),
    "detectron2 focal": ("detectron2", ["VINDR.ROI_FOCAL_GAMMA", "0.5", "VINDR.AGREEMENT_POWER", "1"],
                         "roi_heads.box_predictor.cls_score", 0),
    "detectron2 sigmoids": ("detectron2", ["MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE", "True"],
                            "roi_heads.box_predictor.cls_score", 0),
    "detectron2 mask": ("detectron2", ["MODEL.MASK_ON", "True"], "roi_heads.box_predictor.cls_score", 0),
    "detectron2 cascade": ("detectron2", ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads",
                                          "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"],
                           "roi_heads.box_predictor.{}.cls_score", 0),
    "detectron2 RetinaNet": ("detectron2", RETINA, "head.cls_score", 0),
}


@pytest.fixture(params=[pytest.param(case, id=name, marks=[pytest.mark.detectron2] * name.startswith("det"))
                        for name, case in CASES.items()])
def case(request):
    return request.param


def config(engine, phantoms, *more):
    return load_config(DEMO, engine, [*TINY, "VINDR.DATA_ROOT", str(phantoms / "data"), *more])


def test_a_masked_logit_by_hand():
    """Three classes and the background; the second is unknown: the softmax is over the other three."""
    logits = torch.tensor([[0.5, 3.0, -1.0, 0.2]], requires_grad=True)
    unknown = torch.tensor([[False, True, False, False]])
    loss = cross_entropy(without(logits, unknown), torch.tensor([3]))
    loss.backward()
    rest = math.exp(0.5) + math.exp(-1.0) + math.exp(0.2)
    assert loss.item() == pytest.approx(-math.log(math.exp(0.2) / rest), abs=1e-6)
    assert logits.grad.tolist() == [pytest.approx(
        [math.exp(0.5) / rest, 0.0, math.exp(-1.0) / rest, math.exp(0.2) / rest - 1], abs=1e-6)]
    assert logits.grad[0, 1] == 0
    # A sigmoid costs nothing, also in the smallest type.
    assert binary_cross_entropy_with_logits(torch.tensor([NEVER]), torch.zeros(1)) == 0
    assert torch.isfinite(torch.tensor(NEVER).half())
    assert mask_of((), 3).tolist() == [False] * 3 and mask_of((2, 0), 3).tolist() == [True, False, True]


def test_a_proposal_without_a_box_is_background_or_unknown_by_hand():
    """Background with two unknown findings, a box of a known finding, background with nothing unknown."""
    logits = torch.randn(3, 6, generator=torch.Generator().manual_seed(0), dtype=torch.float64,
                         requires_grad=True)
    unknown = torch.tensor([[False, True, False, True, False, False]] * 2 + [[False] * 6])
    background = torch.tensor([True, False, True])
    joined = join_background(logits, unknown, background, 5)
    loss = cross_entropy(joined, torch.tensor([5, 0, 5]), reduction="none")
    p = logits.detach().softmax(dim=1)
    assert loss.tolist() == pytest.approx([-math.log(p[0, [1, 3, 5]].sum()),
                                           -math.log(p[1, 0] / (1 - p[1, [1, 3]].sum())), -math.log(p[2, 5])])
    loss.sum().backward()
    pull = logits.grad / p
    assert pull[0, [1, 3, 5]].tolist() == pytest.approx([pull[0, 5].item()] * 3)  # the odds stay
    assert pull[0, 5] < 0 and not logits.grad[1, [1, 3]].any()


def test_a_finding_that_was_learned_is_not_forgotten_where_it_is_unknown():
    """80 steps on a proposal whose finding has no box: masking alone took its probability from .92 to .5."""
    for column, finding in ((8, 4), (0, 5)):
        logits = torch.zeros(1, 9)
        logits[0, finding] = 4.5
        logits.requires_grad_()
        unknown = torch.zeros(1, 9, dtype=torch.bool)
        unknown[0, finding] = True
        before = logits.detach().softmax(dim=1)[0, finding]
        for _ in range(80):
            joined = join_background(logits, unknown, torch.tensor([True]), column)
            gradient, = torch.autograd.grad(cross_entropy(joined, torch.tensor([column])), logits)
            logits = (logits - gradient).detach().requires_grad_()
        assert logits.detach().softmax(dim=1)[0, finding] >= before


def batch_of(engine, cfg, items):
    """A batch as the engine's training has it."""
    if engine == "detectron2":
        from vindr_det.detection.detectron2 import VindrMapper, to_dicts

        mapper = VindrMapper(cfg, is_train=False, keep_truth=True)
        return ([mapper(item) for item in to_dicts(items)],)
    from vindr_det.detection.torchvision.data import RecordDataset, collate

    dataset = RecordDataset.from_config(cfg, items, is_train=False)
    return collate([dataset[row] for row in range(len(dataset))])[:2]


def losses_of(engine, model, batch):
    torch.manual_seed(1)
    if engine == "detectron2":
        from detectron2.utils.events import EventStorage

        with EventStorage():
            return model(*batch)
    return model(*batch)


def gradients(engine, cfg, items):
    """A new model's losses, and the gradients of all its weights by name."""
    torch.manual_seed(0)
    model = network_of(engine, cfg)
    losses = losses_of(engine, model, batch_of(engine, cfg, items))
    sum(losses.values()).backward()
    return ({key: value.detach() for key, value in losses.items()},
            {key: value.grad for key, value in model.named_parameters() if value.grad is not None})


def some(cfg, ids):
    """Three abnormal images and a normal one; on all of them these findings are unknown, and have no box."""
    items = training_records(cfg)
    chosen = [i for i in items if not i[0].normal][:3] + [i for i in items if i[0].normal][:1]
    return [(replace(record, truth=record.truth[~np.isin(record.truth.labels, ids)], unknown=tuple(ids)),
             folder) for record, folder in chosen]


def class_gradients(gradient, layer, first):
    """(classes, ...) of a layer's weights, or those of a cascade's layers."""
    names = [layer.format(stage) for stage in range(3)] if "{}" in layer else [layer]
    for name in names:
        weight = gradient[f"{name}.weight"]
        per_class = weight.unflatten(0, (-1, 14)).transpose(0, 1) if len(weight) > 15 else weight[first:]
        yield per_class


def test_an_unknown_finding_has_no_negative_signal(case, phantoms):
    """A sigmoid has no gradient, a softmax none that lowers the finding, which has no box in the batch."""
    engine, options, layer, first = case
    softmax = "roi_heads" in layer and "MODEL.ROI_BOX_HEAD.USE_SIGMOID_CE" not in options
    cfg = config(engine, phantoms, *options)
    unknown = (0, 3, 7)
    losses, gradient = gradients(engine, cfg, some(cfg, unknown))
    assert all(torch.isfinite(value) for value in losses.values())
    for per_class in class_gradients(gradient, layer, first):
        moved = [bool(part.any()) for part in per_class[:14]]
        assert softmax or moved == [label not in unknown for label in range(14)]
    _, plain = gradients(engine, config(engine, phantoms, *options, "VINDR.UNKNOWN", "negative"),
                         some(cfg, unknown))
    for per_class in class_gradients(plain, layer, first):
        assert all(bool(part.any()) for part in per_class[:14])
    stages = range(3 if "{}" in layer else 1) if softmax else ()
    for name in (f"{layer.format(stage)}.bias" for stage in stages):
        ours, theirs = (each[name][first:][list(unknown)] for each in (gradient, plain))
        assert (ours < 0).all() and (theirs > 0).all()


@pytest.mark.parametrize("unknown, message", [
    ((99,), "not_exhaustive_category_ids has 99, expected class ids of 0 to 13"),
    ((-1,), "not_exhaustive_category_ids has -1, expected"),
    (None, r"has boxes of class \d+, which its not_exhaustive_category_ids lists; expected one of the two"),
])
def test_unknown_findings_with_boxes_are_refused(engine, phantoms, unknown, message):
    cfg = config(engine, phantoms)
    record, folder = some(cfg, ())[0]
    boxed = (int(record.truth.labels[0]),)
    item = (replace(record, unknown=boxed if unknown is None else unknown), folder)
    with pytest.raises(InputError, match=f"^{record.image_id}: {message}"):
        losses_of(engine, network_of(engine, cfg), batch_of(engine, cfg, [item]))


@pytest.mark.detectron2
def test_the_evaluator_refuses_unknown_findings_with_boxes():
    from detectron2.data import DatasetCatalog, MetadataCatalog
    from detectron2.structures import BoxMode

    from vindr_det.detection.detectron2 import VindrEvaluator

    def entry(label, unknown):
        box = {"bbox": [1, 1, 5, 5], "bbox_mode": BoxMode.XYXY_ABS, "category_id": label}
        return {"image_id": "i", "file_name": "i.png", "height": 9, "width": 9, "annotations": [box],
                "not_exhaustive_category_ids": unknown}

    for label, unknown, message in ((3, [3], "has boxes of class 3, which"), (3, [14], ".*_ids has 14, exp"),
                                    (15, None, "class id 15 is not one of 0..14")):
        DatasetCatalog.register("wrong_dicts", partial(lambda *of: [entry(*of)], label, unknown))
        with pytest.raises(InputError, match=f"^i: {message}"):
            VindrEvaluator.from_catalog("wrong_dicts")
        DatasetCatalog.remove("wrong_dicts")
        MetadataCatalog.remove("wrong_dicts")


def test_where_nothing_is_unknown_the_losses_are_the_plain_ones(case, phantoms):
    engine, options, *_ = case
    items = some(config(engine, phantoms), ())
    # The first pass of a process may differ from all later ones in the last bit, also from the same losses.
    gradients(engine, config(engine, phantoms, *options), items)
    ours, plain = (gradients(engine, config(engine, phantoms, *options, "VINDR.UNKNOWN", value), items)
                   for value in ("ignore", "negative"))
    for part, other in zip(ours, plain, strict=True):
        assert part.keys() == other.keys() and all(torch.equal(part[key], other[key]) for key in part)


def test_a_complete_image_teaches_beside_an_incomplete_one(case, phantoms):
    """A class that is unknown on one of two images has the other's gradient."""
    engine, options, layer, first = case
    cfg = config(engine, phantoms, *options)
    items = some(cfg, (5,))
    items = [items[0], (replace(items[1][0], unknown=()), items[1][1])]
    _, gradient = gradients(engine, cfg, items)
    assert all(per_class[5].any() for per_class in class_gradients(gradient, layer, first))


@pytest.mark.parametrize("rpn", ["rpn.head.cls_logits", "proposal_generator.rpn_head.objectness_logits"])
def test_nothing_known_and_no_box_teaches_nothing(phantoms, rpn):
    """Neither the proposals nor the boxes have a gradient, and no loss is without a value."""
    engine = "torchvision" if rpn.startswith("rpn") else "detectron2"
    if engine == "detectron2":
        pytest.importorskip("detectron2")
    cfg = config(engine, phantoms)
    losses, gradient = gradients(engine, cfg, some(cfg, tuple(range(14))))
    assert sum(float(value) for value in losses.values()) == 0
    assert not any(value.any() for value in gradient.values())


@pytest.mark.parametrize("rpn", ["rpn.head.cls_logits", "proposal_generator.rpn_head.objectness_logits"])
def test_positive_anchors_weigh_as_on_other_images(phantoms, rpn):
    """The objectness loss is that of the positive anchors, over the number of all that were sampled."""
    engine = "torchvision" if rpn.startswith("rpn") else "detectron2"
    if engine == "detectron2":
        pytest.importorskip("detectron2")
    key = "loss_objectness" if engine == "torchvision" else "loss_rpn_cls"
    cfg = config(engine, phantoms)
    items = [item for item in some(cfg, (13,)) if len(item[0].truth)]
    ignored, _ = gradients(engine, cfg, items)
    plain, _ = gradients(engine, config(engine, phantoms, "VINDR.UNKNOWN", "negative"), items)
    # At first every anchor is as likely as not: each costs log 2, so the rest is the positives' share.
    share = float(ignored[key] / plain[key])
    assert 0 < share < 0.5
    other = "loss_rpn_box_reg" if engine == "torchvision" else "loss_rpn_loc"
    assert torch.equal(ignored[other], plain[other])


def test_detectron2s_losses_by_hand(phantoms):
    """Two proposals of two images; Cardiomegaly is unknown on the second."""
    pytest.importorskip("detectron2")
    from detectron2.structures import Boxes, Instances
    from detectron2.utils.events import EventStorage

    model = network_of("detectron2", config("detectron2", phantoms))
    predictor = model.roi_heads.box_predictor
    predictor.unknown = torch.stack([mask_of((), 14), mask_of((3,), 14)])
    logits = torch.zeros(2, 15)
    logits[:, 3] = 5.0
    proposals = []
    for label in (3, 14):
        part = Instances((10, 10))
        part.proposal_boxes = part.gt_boxes = Boxes(torch.tensor([[1.0, 1.0, 4.0, 4.0]]))
        part.gt_classes = torch.tensor([label])
        proposals.append(part)
    with EventStorage():
        loss = predictor.losses((logits, torch.zeros(2, 56)), proposals)["loss_cls"]
    # The second is "background or Cardiomegaly".
    whole = math.exp(5) + 14
    expected = -(math.log(math.exp(5) / whole) + math.log((math.exp(5) + 1) / whole)) / 2
    assert float(loss) == pytest.approx(expected, abs=1e-6)


@pytest.mark.detectron2
def test_an_architecture_that_cannot_is_refused(phantoms):
    from vindr_det.detection.detectron2.incomplete import leave_out_unknown, refuse_unknown

    class Other(torch.nn.Module):
        def forward(self, batch):
            return len(batch)

    other = Other()
    leave_out_unknown(other)
    complete, incomplete = ([{"image_id": "a"}, {"image_id": "b", "not_exhaustive_category_ids": ids}]
                            for ids in ([], [2]))
    assert other(complete) == 2
    for refuse in (other, lambda batch: refuse_unknown(other, batch)):
        with pytest.raises(InputError, match="^b: has unknown findings, which Other cannot leave out of"):
            refuse(incomplete)


def record(name, labels=(), unknown=()):
    boxes = np.tile([1.0, 1.0, 9.0, 9.0], (len(labels), 1))
    truth = Predictions(boxes, np.ones(len(labels)), np.array(labels, int))
    return Record(name, f"{name}.png", 10, 10, truth, unknown=tuple(unknown))


def test_which_images_a_training_takes(phantoms, tmp_path):
    """One without boxes is taken where some finding is known on it; normal is one without either."""
    import json

    from vindr_det.data.coco import to_coco

    records = [record("boxed", [3]), record("boxed_open", [3], [1, 2]), record("open", unknown=[4]),
               record("all_open", unknown=range(14)), record("normal")]
    (tmp_path / "annotations").mkdir()
    (tmp_path / "annotations/instances_train.json").write_text(json.dumps(to_coco(records)))
    (tmp_path / "images").mkdir()
    for each in records:
        (tmp_path / "images" / each.file_name).touch()

    def taken(*more):
        cfg = config("torchvision", phantoms, "VINDR.DATA_ROOT", str(tmp_path), "VINDR.NORMAL_RATIO", "-1",
                     "DATASETS.TRAIN", "('x_train',)", "VINDR.VALIDATION", "('x_train',)", *more)
        kept = [item[0] for item in training_records(cfg)]
        assert {each.image_id for each, _ in loss_records(cfg)} <= {each.image_id for each in kept}
        return [each.image_id for each in kept], normal_count(cfg, kept)

    assert taken() == (["boxed", "boxed_open", "open", "normal"], 1)
    assert taken("VINDR.NORMAL_RATIO", "0.0") == (["boxed", "boxed_open", "open"], 0)
    assert taken("VINDR.UNKNOWN", "negative") == (["boxed", "boxed_open", "open", "all_open", "normal"], 3)
    assert taken("DATALOADER.FILTER_EMPTY_ANNOTATIONS", "True") == (["boxed", "boxed_open"], 0)


def test_repeat_factors_count_the_images_on_which_a_finding_is_known():
    records = [record("a", [0]), *(record(f"n{i}") for i in range(3)),
               *(record(f"u{i}", [1], [0]) for i in range(4))]
    # Finding 0 is on 1 of the 4 images where it is known, finding 1 on 4 of 8.
    assert repeat_factors(records, 0.75)[0] == pytest.approx(math.sqrt(0.75 / 0.25))
    assert repeat_factors(records, 0.75)[-1] == pytest.approx(math.sqrt(0.75 / 0.5))


@pytest.mark.slow
def test_a_training_validates_and_its_losses_are_finite(engine, phantoms, tmp_path):
    """With bfloat16, gradient accumulation, and unknown findings in training and validation."""
    import json
    import shutil

    data = tmp_path / "data"
    shutil.copytree(phantoms / "data/annotations", data / "annotations")
    for path in (data / "annotations").glob("instances_*.json"):
        coco = json.loads(path.read_text())
        boxed = {i["id"]: {a["category_id"] for a in coco["annotations"] if a["image_id"] == i["id"]}
                 for i in coco["images"]}
        for image in coco["images"][::2]:
            image["not_exhaustive_category_ids"] = sorted({1, 5, 9} - boxed[image["id"]])
        path.write_text(json.dumps(coco))
    cfg = config(engine, phantoms, "VINDR.DATA_ROOT", str(data), "VINDR.IMAGE_ROOT", str(phantoms / "data"),
                 "OUTPUT_DIR", str(tmp_path / "out"), "SOLVER.AMP.ENABLED", "True",
                 "VINDR.AMP_DTYPE", "bfloat16",
                 "VINDR.ACCUMULATE", "2", "SOLVER.MAX_ITER", "1", "SOLVER.STEPS", "()")
    assert any(item[0].unknown for item in training_records(cfg)) and len(label_set_of_config(cfg)) == 14
    engines.load(engine).train(cfg)
    lines = [json.loads(line) for line in (tmp_path / "out/metrics.json").read_text().splitlines()]
    assert all(math.isfinite(value) for line in lines for value in line.values())
    assert any("validation_loss" in line for line in lines)
    assert read_file(tmp_path / "out/model_final.pth")["vindr"]["iteration"] == 1
