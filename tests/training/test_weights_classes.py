"""Fine-tuning from our checkpoint of another label set: which rows of the class heads arrive where."""

import pytest
import torch
from conftest import DEMO, TINY, network_of

from vindr_det.detection.checkpoint import metadata
from vindr_det.detection.loading import load_checkpoint, load_config
from vindr_det.exceptions import InputError
from vindr_det.structures.label_sets import LABEL_SETS, NIH_BOXES, VINBIGDATA, LabelSet
from vindr_det.training.resume import require_resumable
from vindr_det.training.weights import detector_weights
from vindr_det.training.weights_classes import ClassMap, label_set_of_checkpoint

RETINA = ["MODEL.META_ARCHITECTURE", "RetinaNet", "MODEL.BACKBONE.NAME",
          "build_retinanet_resnet_fpn_backbone", "MODEL.RESNETS.OUT_FEATURES", "['res3', 'res4', 'res5']",
          "MODEL.FPN.IN_FEATURES", "['res3', 'res4', 'res5']", "MODEL.RETINANET.IN_FEATURES",
          "['p3', 'p4', 'p5', 'p6', 'p7']", "MODEL.RETINANET.NUM_CLASSES", "14"]
RETINA_T = [*RETINA, "MODEL.RETINANET.SMOOTH_L1_LOSS_BETA", "0.0"]
#: Of NIH's eight boxed findings, the class ids of VinBigData's that they begin as; Pneumonia has none.
ROWS = [1, 3, 10, 6, 8, 8, None, 12]


def config(engine, label_set, *more):
    more = [str(len(LABEL_SETS[label_set])) if before == "MODEL.RETINANET.NUM_CLASSES" else option
            for before, option in zip(("", *more), more, strict=False)]
    return load_config(DEMO, engine, [*TINY, "VINDR.LABEL_SET", label_set, *more])


def numbered(network):
    """A state dict whose tensors' rows tell where they came from: row r is filled with r + 1."""
    state = network.state_dict()
    for value in state.values():
        if value.ndim:
            value.copy_(torch.arange(1.0, len(value) + 1).reshape(-1, *[1] * (value.ndim - 1)))
    return state


def rows_of(name, engine, findings, anchors):
    """By hand: (finding or background, part) of each row of a head, as the engines lay them out."""
    classes = list(findings)
    if "bbox_pred" in name:
        return [(label, part) for label in (["bg"] if engine == "torchvision" else []) + classes
                for part in range(4)]
    if "cls_logits" in name or name.startswith("head.cls_score"):
        return [(label, anchor) for anchor in range(anchors) for label in classes]
    if "mask" in name and engine == "detectron2":
        return [(label, 0) for label in classes]
    return [(label, 0) for label in (["bg", *classes] if engine == "torchvision" else [*classes, "bg"])]


@pytest.mark.parametrize("engine, options, heads", [
    ("torchvision", ["MODEL.MASK_ON", "True"], ["roi_heads.box_predictor.cls_score.weight",
                                                "roi_heads.box_predictor.bbox_pred.bias",
                                                "roi_heads.mask_predictor.mask_fcn_logits.weight"]),
    ("torchvision", RETINA_T, ["head.classification_head.cls_logits.weight",
                               "head.classification_head.cls_logits.bias"]),
    pytest.param("detectron2", ["MODEL.MASK_ON", "True"], [
        "roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.bbox_pred.bias",
        "roi_heads.mask_head.predictor.weight"], marks=pytest.mark.detectron2),
    pytest.param("detectron2", RETINA, ["head.cls_score.weight", "head.cls_score.bias"],
                 marks=pytest.mark.detectron2),
    pytest.param("detectron2", ["MODEL.ROI_HEADS.NAME", "CascadeROIHeads",
                                "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG", "True"],
                 [f"roi_heads.box_predictor.{stage}.cls_score.weight" for stage in range(3)],
                 marks=pytest.mark.detectron2),
], ids=["torchvision-mask", "torchvision-retinanet", "mask", "retinanet", "cascade"])
def test_rows_of_known_findings_arrive(engine, options, heads, caplog):
    source, target = (network_of(engine, config(engine, name, *options)) for name in
                      (VINBIGDATA.name, NIH_BOXES.name))
    state, own = numbered(source), {key: value * 0 - 1.0 for key, value in target.state_dict().items()}
    entries = {"vindr": metadata(config(engine, VINBIGDATA.name, *options), 1, {})}
    caplog.set_level("INFO")
    loaded = detector_weights("w.pth", state, own, engine, config(engine, NIH_BOXES.name, *options), entries)
    assert set(loaded) == set(own)
    wanted = dict(zip(range(8), ROWS, strict=True)) | {"bg": "bg"}
    for head in heads:
        there, here = (rows_of(head, engine, range(count), len(own[head]) // 8) for count in (14, 8))
        expected = [-1.0 if wanted[label] is None else 1.0 + there.index((wanted[label], part))
                    for label, part in here]
        value = loaded[head].flatten(1) if loaded[head].ndim > 1 else loaded[head][:, None]
        assert value.amin(1).tolist() == value.amax(1).tolist() == expected
    others = [key for key in own if own[key].shape == state[key].shape and key not in heads and own[key].ndim]
    assert all(torch.equal(loaded[key], state[key]) for key in others) and len(others) > 50
    assert ("was trained on the findings of VinBigData, for NIH boxes: class heads of Atelectasis, "
            "Cardiomegaly, Effusion (from Pleural effusion), Infiltration, Mass (from Nodule/Mass), Nodule "
            "(from Nodule/Mass), Pneumothorax; anew: Pneumonia") in caplog.text


def test_the_same_number_of_other_findings_is_mapped_too(engine):
    """Two sets of two findings in another order: rows change places."""
    first, second = LabelSet("a", ("Mass", "Nodule")), LabelSet("b", ("Nodule", "Mass"))
    classes = ClassMap.between(first, second, engine)
    value, own = torch.tensor([1.0, 2.0, 3.0]), torch.zeros(3)
    swapped = [1.0, 3.0, 2.0] if engine == "torchvision" else [2.0, 1.0, 3.0]
    assert classes.apply("roi_heads.box_predictor.cls_score.bias", value, own).tolist() == swapped
    other_shape = torch.zeros(5)
    assert classes.apply("roi_heads.box_predictor.cls_score.bias", other_shape, own) is other_shape


def test_class_agnostic_deltas_of_sets_of_one_class():
    """Four rows are those of the only class, or of all of them: the configs tell."""
    first, second = LabelSet("a", ("Mass",)), LabelSet("b", ("Nodule",))
    name, value, own = "roi_heads.box_predictor.bbox_pred.bias", torch.arange(4.0), torch.full((4,), -1.0)
    assert ClassMap.between(first, second, "detectron2", agnostic=True).apply(name, value, own) is value
    specific = ClassMap.between(first, LabelSet("c", ("Clip",)), "detectron2")
    assert torch.equal(specific.apply(name, value, own), own)
    scores = ClassMap.between(first, LabelSet("c", ("Clip",)), "detectron2", agnostic=True).apply(
        "roi_heads.box_predictor.cls_score.bias", value[:2], own[:2])
    assert scores.tolist() == [-1, 1]  # the background alone


@pytest.mark.detectron2
def test_class_agnostic_deltas_arrive_without_a_finding_in_common(tmp_path):
    key = "MODEL.ROI_BOX_HEAD.CLS_AGNOSTIC_BBOX_REG"
    ours = [load_config(DEMO, "detectron2", [*TINY, key, "True", "VINDR.LABEL_SET", name, "VINDR.FINDINGS",
                                             repr((name,))]) for name in ("Crown", "Clip")]
    source, target = (network_of("detectron2", cfg) for cfg in ours)
    state = numbered(source)
    loaded = detector_weights("w.pth", state, target.state_dict(), "detectron2", ours[1],
                              {"vindr": metadata(ours[0], 1, {})})
    deltas = "roi_heads.box_predictor.bbox_pred.weight"
    assert torch.equal(loaded[deltas], state[deltas])


def test_the_label_set_of_a_checkpoint():
    assert label_set_of_checkpoint({}) is VINBIGDATA
    assert label_set_of_checkpoint({"classes": list(VINBIGDATA.findings)}) is VINBIGDATA
    nih = {"label_set": NIH_BOXES.name, "classes": list(NIH_BOXES.findings)}
    assert label_set_of_checkpoint(nih) is LABEL_SETS[NIH_BOXES.name]
    assert label_set_of_checkpoint({"label_set": "own", "classes": ["x"]}) == LabelSet("own", ("x",))


def test_another_label_set_is_refused_in_one_line(engine, tmp_path):
    ours = config(engine, NIH_BOXES.name)
    meta = metadata(ours, 1, {})
    torch.save({"model": {"w": torch.zeros(1)}, "vindr": meta}, tmp_path / "w.pth")
    message = ("was trained on the 8 findings of NIH boxes, but VINDR.LABEL_SET is VinBigData with 14; "
               "expected the same")
    with pytest.raises(InputError, match=f"w.pth: {message}"):
        load_checkpoint(tmp_path / "w.pth", engine, VINBIGDATA)
    assert load_checkpoint(tmp_path / "w.pth", engine, NIH_BOXES).engine == engine
    with pytest.raises(InputError, match=f"^state.pth: {message}"):
        require_resumable("state.pth", meta, {}, {}, config(engine, VINBIGDATA.name))
