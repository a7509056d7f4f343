"""Files in the published layouts of torchvision's and Detectron2's detectors start both engines."""

import pickle
import re

import pytest
import torch
from conftest import ROOT, begun, network_of
from torchvision.models import detection
from torchvision.models.detection._utils import overwrite_eps
from torchvision.models.detection.backbone_utils import resnet_fpn_backbone
from torchvision.models.detection.image_list import ImageList
from torchvision.ops import FrozenBatchNorm2d

from vindr_det.detection.loading import load_config
from vindr_det.exceptions import InputError
from vindr_det.training.weights import detector_weights
from vindr_det.training.weights_account import account
from vindr_det.training.weights_names import first_level, match_suffixes, to_detectron2, to_torchvision

#: What the zoo's R50-FPN was trained with: MSRA's ResNet for Caffe.
ZOO = ["MODEL.PIXEL_MEAN", "[103.53, 116.28, 123.675]", "MODEL.PIXEL_STD", "[1.0, 1.0, 1.0]",
       "MODEL.RESNETS.STRIDE_IN_1X1", "True", "INPUT.FORMAT", "BGR"]
#: Published names of the box head, and the counts of body, pyramid, RPN and box head: 265 + 16 + 6 + 4.
USED, HEADS = 291, ["roi_heads.box_predictor.cls_score.weight", "roi_heads.box_predictor.cls_score.bias",
                    "roi_heads.box_predictor.bbox_pred.weight", "roi_heads.box_predictor.bbox_pred.bias"]


def config(engine, weights="", *more, name="vindr_frcnn"):
    return load_config(ROOT / f"configs/{name}.yaml", engine, [
        "MODEL.DEVICE", "cpu", "MODEL.WEIGHTS", str(weights), *more])




def scramble(network):
    """Statistics of norms as a training leaves them, some variances near epsilon; heads away from 0."""
    for part in network.modules():
        if isinstance(part, FrozenBatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.copy_(10 ** torch.empty_like(part.running_var).uniform_(-4, 0))
            part.weight.copy_(part.running_var.sqrt() * 0.4)
            part.bias.normal_(0, 0.1)
    for name, value in network.named_parameters():
        if name.startswith(("rpn", "roi_heads", "proposal_generator")):
            torch.nn.init.normal_(value, std=0.05)


def published(network):
    """A state dict in the names of torchvision's files of 2019, which its modules still read."""
    return {re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.", r"\1.\2.",
                   key.replace("rpn.head.conv.0.0.", "rpn.head.conv.")): value
            for key, value in network.state_dict().items() if not key.endswith("batches_tracked")}


@pytest.fixture(scope="module")
@torch.no_grad()
def torchvisions(tmp_path_factory):
    """torchvision's own Faster R-CNN for COCO's 91 classes, and its file."""
    torch.manual_seed(0)
    backbone = resnet_fpn_backbone(backbone_name="resnet50", weights=None, norm_layer=FrozenBatchNorm2d)
    donor = detection.FasterRCNN(backbone, num_classes=91).eval()
    scramble(donor)
    overwrite_eps(donor, 0.0)
    path = tmp_path_factory.mktemp("weights") / "fasterrcnn_resnet50_fpn_coco-258fb6c6.pth"
    torch.save(published(donor), path)
    with torch.device("meta"):  # torchvision's own model takes the file whole, so the names are right
        same = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None)
    missing, unexpected = same.load_state_dict(published(donor), strict=False, assign=True)
    assert not unexpected and all(key.endswith("batches_tracked") for key in missing)
    assert "rpn.head.conv.weight" in published(donor)
    return donor, path


@pytest.fixture(scope="module")
@torch.no_grad()
def zoos(tmp_path_factory):
    """Detectron2's Faster R-CNN of COCO-Detection/faster_rcnn_R_50_FPN_3x.yaml, and its pickle."""
    pytest.importorskip("detectron2")
    from detectron2.config import get_cfg
    from detectron2.modeling import build_model

    cfg = get_cfg()
    cfg.merge_from_list([
        "MODEL.DEVICE", "cpu", "MODEL.META_ARCHITECTURE", "GeneralizedRCNN", "MODEL.BACKBONE.NAME",
        "build_resnet_fpn_backbone", "MODEL.RESNETS.DEPTH", 50, "MODEL.RESNETS.OUT_FEATURES",
        ["res2", "res3", "res4", "res5"], "MODEL.FPN.IN_FEATURES", ["res2", "res3", "res4", "res5"],
        "MODEL.ANCHOR_GENERATOR.SIZES", [[32], [64], [128], [256], [512]], "MODEL.RPN.IN_FEATURES",
        ["p2", "p3", "p4", "p5", "p6"], "MODEL.RPN.PRE_NMS_TOPK_TEST", 1000, "MODEL.ROI_HEADS.NAME",
        "StandardROIHeads", "MODEL.ROI_HEADS.IN_FEATURES", ["p2", "p3", "p4", "p5"],
        "MODEL.ROI_BOX_HEAD.NAME", "FastRCNNConvFCHead",
        "MODEL.ROI_BOX_HEAD.NUM_FC", 2, "MODEL.ROI_BOX_HEAD.POOLER_RESOLUTION", 7])
    torch.manual_seed(0)
    donor = build_model(cfg).eval()
    for key, value in donor.state_dict().items():  # MSRA's norms: folded, so only scale and shift
        if key.endswith("norm.weight"):
            value.uniform_(0.2, 0.6)
        elif key.startswith(("proposal_generator", "roi_heads")):
            value.normal_(0, 0.05)
    weights = {key: value.numpy() for key, value in donor.state_dict().items()}
    weights |= {f"proposal_generator.anchor_generator.cell_anchors.{level}": cells.numpy()
                for level, cells in enumerate(donor.proposal_generator.anchor_generator.cell_anchors)}
    path = tmp_path_factory.mktemp("zoo") / "model_final_280758.pkl"
    path.write_bytes(pickle.dumps({"model": weights, "__author__": "Detectron2 Model Zoo"}))
    return donor, path


@torch.no_grad()
def outputs(network, images):
    """Pyramid, RPN outputs and box head of either engine's R-CNN."""
    features = list(network.backbone(images).values())
    theirs = hasattr(network, "proposal_generator")
    rpn = network.proposal_generator.rpn_head if theirs else network.rpn.head
    pooled = torch.rand(4, 256, 7, 7, generator=torch.Generator().manual_seed(2))
    logits, deltas = rpn(features)
    return [*features, *logits, *deltas, network.roi_heads.box_head(pooled)]


@torch.no_grad()
def proposals(network, images):
    """Boxes that the RPN proposes for (B, 3, 128, 160) normalized images, and pooled box features."""
    features = network.backbone(images)
    if hasattr(network, "proposal_generator"):
        from detectron2.structures import ImageList as Images

        instances, _ = network.proposal_generator(Images(images, [(128, 160)] * len(images)), features)
        pooled = network.roi_heads.box_pooler([features[f"p{level}"] for level in range(2, 6)],
                                              [part.proposal_boxes for part in instances])
        return [part.proposal_boxes.tensor for part in instances], network.roi_heads.box_head(pooled)
    boxes, _ = network.rpn(ImageList(images, [(128, 160)] * len(images)), features)
    pool = network.roi_heads.box_roi_pool(features, boxes, [(128, 160)] * len(images))
    return boxes, network.roi_heads.box_head(pool)


def close(ours, theirs):
    return ours.shape == theirs.shape and torch.allclose(ours, theirs, rtol=1e-4,
                                                         atol=1e-4 * float(theirs.abs().max()))


IMAGES = torch.randn(2, 3, 128, 160, generator=torch.Generator().manual_seed(3))


def require_equal(engine, network, donor, images):
    """The donor's outputs from the same images; its proposals too, where anchors and pooling are the same."""
    for ours, theirs in zip(outputs(network, images), outputs(donor, images), strict=True):
        assert close(ours, theirs)
    if hasattr(donor, "proposal_generator") == (engine == "detectron2"):
        ours, theirs = (proposals(part, images) for part in (network, donor))
        assert len(theirs[0][0]) > 50
        for mine, donors in zip(ours[0], theirs[0], strict=True):
            assert mine.shape == donors.shape and torch.allclose(mine, donors, atol=1e-2)  # pixels
        assert close(ours[1], theirs[1])


def test_a_file_of_torchvisions_coco_detector_starts_both_engines(engine, torchvisions, caplog):
    donor, path = torchvisions
    caplog.set_level("INFO")
    network = begun(engine, config(engine, path, "MODEL.ROI_BOX_HEAD.POOLER_SAMPLING_RATIO", "2"))
    require_equal(engine, network, donor, IMAGES)
    assert (f"(torchvision detector before 0.9): {USED} of its 295 tensors loaded, {USED} of the model's 295"
            in caplog.text)
    assert "4 weights class heads, left out" in caplog.text
    assert all(name in caplog.text for name in HEADS) and "(91, 1024)" in caplog.text
    assert "no place" not in caplog.text and "was trained with" not in caplog.text


@pytest.mark.detectron2
def test_a_pickle_of_the_zoo_starts_both_engines(engine, zoos, caplog):
    donor, path = zoos
    caplog.set_level("INFO")
    network = begun(engine, config(engine, path, *ZOO))
    require_equal(engine, network, donor, IMAGES * 50)
    assert (f"(Detectron2 detector): {USED} of its 300 tensors loaded, {USED} of the model's 295"
            in caplog.text)
    assert "4 weights class heads, left out" in caplog.text
    assert all(name in caplog.text for name in HEADS) and "(81, 1024)" in caplog.text
    assert "5 counters, anchors and pixel values not needed, such as proposal_generator.anch" in caplog.text
    assert "no place" not in caplog.text and "was trained with" not in caplog.text


_MSRA = ["stem.conv1.weight", "stem.conv1.norm.running_mean"]
_IMAGENET = ["conv1.weight", "layer1.0.conv1.weight"]


@pytest.mark.parametrize("names, more, keys", [
    (_MSRA, [], "MODEL.PIXEL_MEAN [103.53, 116.28, 123.675], MODEL.PIXEL_STD [1.0, 1.0, 1.0], "
                "MODEL.RESNETS.STRIDE_IN_1X1 True"),
    (_MSRA, ZOO[2:], "MODEL.PIXEL_MEAN [103.53, 116.28, 123.675]"),
    (_MSRA, ZOO, ""),
    (_IMAGENET, ZOO, "MODEL.PIXEL_MEAN [123.675, 116.28, 103.53], MODEL.PIXEL_STD [58.395, 57.12, 57.375], "
                     "MODEL.RESNETS.STRIDE_IN_1X1 False"),
    (_IMAGENET, [], ""),
])
def test_other_images_than_the_weights_were_trained_with_are_told(engine, names, more, keys, caplog):
    own = {f"backbone.{name}": torch.ones(1) for name in (
        "body.conv1.weight", "body.bn1.running_mean", "body.layer1.0.conv1.weight",
        "bottom_up.stem.conv1.weight", "bottom_up.stem.conv1.norm.running_mean",
        "bottom_up.res2.0.conv1.weight") if name.startswith("body.") == (engine == "torchvision")}
    state = {name: torch.zeros(1) for name in names}
    assert len(detector_weights("w.pth", state, own, engine, config(engine, "", *more))) == 2
    assert bool(keys) == ("was trained with" in caplog.text)
    assert not keys or f"w.pth: was trained with {keys}, which the config has otherwise" in caplog.text


def described(build, name, *more):
    """Shapes of a donor's state and of our network of a config, without their memory."""
    with torch.device("meta"):
        return build(weights=None, weights_backbone=None).state_dict(), network_of(
            "torchvision", config("torchvision", "", *more, name=name)).state_dict()


@pytest.mark.parametrize("build, name, used, told", [
    (detection.maskrcnn_resnet50_fpn, "vindr_mrcnn", USED + 10, ["mask_predictor.mask_fcn_logits.weight"]),
    # Its p6 is made of p5, ours and Detectron2's of c5: 265 + 12 of the pyramid + p7's 2 + 16 convolutions
    # + 2 of the boxes.
    (detection.retinanet_resnet50_fpn, "vindr_retinanet", 297, ["_head.cls_logits.weight"]),
    (detection.retinanet_resnet50_fpn_v2, "vindr_retinanet", 265 + 12 + 4 + 2,
     ["without the rest of their layer", "that have no place here"]),
    (detection.fcos_resnet50_fpn, "vindr_fcos", 265 + 12 + 2 + 32 + 4, ["_head.cls_logits"]),
    # Norms in its pyramid and box head take the biases' place: the body, and a convolution of the RPN.
    (detection.fasterrcnn_resnet50_fpn_v2, "vindr_frcnn", 265 + 6, ["without the rest of their layer"]),
], ids=lambda value: getattr(value, "__name__", None))
def test_torchvisions_other_detectors(build, name, used, told, caplog):
    state, own = described(build, name)
    caplog.set_level("INFO")
    old = {re.sub(r"(inner_blocks|layer_blocks)\.(\d)\.0\.(weight|bias)", r"\1.\2.\3", key): value
           for key, value in state.items()} if "v2" not in build.__name__ else state
    loaded = detector_weights("w.pth", old, own, "torchvision")
    assert len(loaded) == used and all(own[key].shape == value.shape for key, value in loaded.items())
    assert all(part in caplog.text for part in told)


@pytest.mark.parametrize("name", [f"vindr_{name}" for name in (
    "frcnn", "frcnn_r101", "frcnn_convnext", "mrcnn", "retinanet", "fcos")])
def test_names_go_to_detectron2_and_back(name):
    with torch.device("meta"):
        own = network_of("torchvision", config("torchvision", "", name=name)).state_dict()
    level = first_level(own)
    theirs = to_detectron2(own, level)
    assert len(set(theirs.values())) == len(own)
    back = to_torchvision(theirs.values(), level)
    assert all(back[theirs[key]] == key for key in own)


@pytest.mark.detectron2
@pytest.mark.parametrize("name", ["vindr_frcnn", "vindr_mrcnn", "vindr_retinanet"])
def test_both_engines_networks_have_the_same_names_and_shapes(name):
    ours, theirs = (network_of(engine, config(engine, name=name)).state_dict()
                    for engine in ("torchvision", "detectron2"))
    names = to_detectron2(ours, first_level(ours))
    assert set(names.values()) == {key for key in theirs if not key.startswith("pixel_")}
    head = re.compile(r"box_predictor|mask_head\.predictor|cls_score")  # a class for the background, or none
    assert all(value.shape == theirs[names[key]].shape for key, value in ours.items()
               if not head.search(names[key]))


def test_a_pyramid_keeps_its_levels_in_another_architecture():
    state, own = described(detection.fasterrcnn_resnet50_fpn, "vindr_retinanet")
    state = {key: torch.full(value.shape, float(re.search(r"_blocks\.(\d)", key)[1]))
             if "_blocks" in key else value for key, value in state.items()}
    loaded = detector_weights("w.pth", state, own, "torchvision")
    assert [float(loaded[f"backbone.fpn.layer_blocks.{level}.0.bias"][0]) for level in range(3)] == [1, 2, 3]


@pytest.mark.detectron2
def test_retinanets_anchors_are_in_the_other_engines_order():
    from detectron2.modeling.anchor_generator import DefaultAnchorGenerator
    from torchvision.models.detection.anchor_utils import AnchorGenerator

    sizes, ratios = (32, 40, 51), (0.5, 1.0, 2.0)
    rounded = AnchorGenerator((sizes,), (ratios,)).generate_anchors(sizes, ratios)
    exact = DefaultAnchorGenerator(sizes=[sizes], aspect_ratios=[ratios], strides=[8])
    # The place among torchvision's of each of Detectron2's anchors.
    position = torch.cdist(next(exact.cell_anchors.buffers()), rounded).argmin(1)
    assert position.tolist() != list(range(9)) and len(set(position.tolist())) == 9
    bias = torch.arange(36.0)
    key = "head.regression_head.bbox_reg.bias"
    state = {key: bias, "backbone.body.x": bias, "backbone.fpn.inner_blocks.0.0.x": bias}
    own = {"head.bbox_pred.bias": bias, "backbone.bottom_up.x": bias}
    loaded = detector_weights("w.pth", state, own, "detectron2")
    assert torch.equal(loaded["head.bbox_pred.bias"].view(9, 4), bias.view(9, 4)[position])


@pytest.mark.detectron2
def test_class_heads_of_the_other_engine_are_left_out_even_if_they_fit():
    """Fifteen logits in both, but torchvision's background comes first and Detectron2's last."""
    own = network_of("detectron2", config("detectron2")).state_dict()
    with torch.device("meta"):
        donor = detection.fasterrcnn_resnet50_fpn(weights=None, weights_backbone=None, num_classes=15)
    state = donor.state_dict()
    assert state[HEADS[0]].shape == own[HEADS[0]].shape
    loaded = detector_weights("w.pth", state, own, "detectron2")
    assert not any("box_predictor" in key for key in loaded) and "backbone.fpn_lateral2.bias" in loaded
    same = detector_weights("w.pth", state, described(detection.fasterrcnn_resnet50_fpn, "vindr_frcnn")[1],
                            "torchvision")
    assert all(key in same for key in HEADS)


@pytest.mark.parametrize("state, message", [
    ({"conv_stem.weight": torch.ones(2)}, r"none of its 1 weights fit .*conv_stem.weight does not"),
    ({"backbone.bottom_up.stem.conv1.weight": torch.ones(2), "roi_heads.box_predictor.cls_score.bias":
        torch.ones(1)}, "read as Detectron2 detector.: none of its 1 weights fit"),
])
def test_another_networks_file_is_refused(engine, tmp_path, state, message):
    torch.save(state, tmp_path / "w.pth")
    with pytest.raises(InputError, match=message) as error:
        begun(engine, config(engine, tmp_path / "w.pth", "MODEL.RESNETS.DEPTH", "18",
                               "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"))
    assert "\n" not in str(error.value)


def test_every_tensor_of_a_file_is_in_one_list():
    state = {key: torch.ones(1, shape) for key, shape in {
        "a.weight": 1, "b.weight": 1, "b.bias": 1, "c.weight": 2, "d.weight": 1, "head.weight": 9, "top": 1,
        "a.num_batches_tracked": 1}.items()}
    own = {key: torch.ones(1, 1) for key in (
        "a.weight", "a.bias", "b.weight", "b.bias", "c.weight", "head.weight", "top", "new.weight")}
    result = account(state, {key: key for key in state}, own, ["head.weight"])
    assert list(result.used) == ["b.weight", "b.bias", "top"] and result.class_heads == ["head.weight"]
    assert (result.in_part, result.other_shape, result.no_place, result.not_weights) == (
        ["a.weight"], ["c.weight"], ["d.weight"], ["a.num_batches_tracked"])
    assert result.lacking == ["a.weight", "a.bias", "c.weight", "head.weight", "new.weight"]


def test_a_backbone_of_torchvision_in_a_local_file(engine, tmp_path, caplog):
    from torchvision.models import resnet18

    torch.manual_seed(4)
    donor = resnet18().eval()
    torch.save(donor.state_dict(), tmp_path / "resnet18.pth")
    caplog.set_level("INFO")
    network = begun(engine, config(engine, tmp_path / "resnet18.pth", "MODEL.RESNETS.DEPTH", "18",
                                     "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"))
    with torch.no_grad():
        image = IMAGES[:1]
        x = donor.layer1(donor.maxpool(donor.relu(donor.bn1(donor.conv1(image)))))
        body = network.backbone.body if engine == "torchvision" else network.backbone.bottom_up
        features = [*body(image).values()]
        for stage in (lambda x: x, donor.layer2, donor.layer3, donor.layer4):
            x = stage(x)
            assert close(features.pop(0), x)
    assert "class heads, left out: fc.weight (1000, 512), fc.bias (1000,)" in caplog.text


def test_names_that_end_alike_take_the_longest():
    own = ["backbone.res2.0.conv1.weight", "backbone.stem.conv1.weight", "head.conv1.weight"]
    state = {"conv1.weight": 1, "stem.conv1.weight": 2, "res2.0.conv1.weight": 3, "rest": 4}
    assert match_suffixes(state, own) == {own[0]: 3, own[1]: 2, own[2]: 1, "rest": 4}


def caffe2(body):
    """Names and values of MSRA's pickle of a ResNet of Detectron2's: no statistics, ``_s`` and ``_b``."""
    blobs = {}
    for key, value in body.items():
        key = key.replace("stem.conv1.norm", "res_conv1_bn").replace("stem.conv1", "conv1")
        for ours, theirs in (("shortcut", "branch1"), ("conv1", "branch2a"), ("conv2", "branch2b"),
                             ("conv3", "branch2c")):
            key = re.sub(rf"(res\d\.\d+)\.{ours}", rf"\1_{theirs}", key)
        if "running" not in key:
            key = key.replace(".norm", "_bn").replace("bn.weight", "bn_s").replace("bn.bias", "bn_b")
            blobs[key.replace(".weight", "_w").replace(".", "_")] = value.numpy()
    return blobs


@pytest.mark.detectron2
def test_a_backbone_of_msras(zoos, tmp_path, caplog):
    caplog.set_level("INFO")
    body = zoos[0].backbone.bottom_up.state_dict()
    (tmp_path / "R-50.pkl").write_bytes(pickle.dumps(
        caffe2(body) | {"fc1000_w": torch.ones(1000, 2048).numpy()}, protocol=2))
    network = begun("detectron2", config("detectron2", tmp_path / "R-50.pkl", *ZOO))
    state = network.backbone.bottom_up.state_dict()
    assert all(torch.equal(state[key], value) for key, value in body.items() if "running" not in key)
    assert "159 of its 160 tensors loaded" in caplog.text and "fc1000" in caplog.text
    with pytest.raises(InputError, match="Caffe2's names, which the detectron2 engine reads"):
        begun("torchvision", config("torchvision", tmp_path / "R-50.pkl", *ZOO))
