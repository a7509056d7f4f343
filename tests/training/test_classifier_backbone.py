"""A classifier of ours as the backbone of either engine's detectors."""

import pytest
import timm
import torch
from conftest import CLASSIFIER_DEMO, DEMO, TINY, begun

from vindr_det.classification.config import load_config as classifier_config
from vindr_det.classification.data import Normalization
from vindr_det.classification.model import build_model, save_checkpoint
from vindr_det.detection.loading import load_config
from vindr_det.exceptions import InputError

MEAN, STD = 0.45, 0.25
RESNET = ["MODEL.RESNETS.DEPTH", "18", "MODEL.RESNETS.RES2_OUT_CHANNELS", "64"]
BOTTLENECK = ["MODEL.RESNETS.DEPTH", "50", "MODEL.RESNETS.RES2_OUT_CHANNELS", "256"]
TIMM = ["MODEL.BACKBONE.NAME", "build_timm_fpn_backbone", "MODEL.BACKBONE.FREEZE_AT", "0", "VINDR.TIMM_MODEL"]


def classifier(path, name, normalize=None, *more):
    """A classifier with random weights and norms' statistics, and its checkpoint."""
    torch.manual_seed(0)
    cfg = classifier_config(CLASSIFIER_DEMO, ["MODEL.NAME", name, "MODEL.PRETRAINED", "False",
                                              "DATA.LABELS", "labels.csv", *more])
    model = build_model(cfg).eval()
    for part in model.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 1.5)
            torch.nn.init.uniform_(part.weight, 0.5, 1.0)
    save_checkpoint(path, model.state_dict(), cfg, normalize or Normalization(MEAN, STD), {})
    return model


def started(engine, weights, *more):
    """A detector that begins with weights, in evaluation mode."""
    cfg = load_config(DEMO, engine, [
        *TINY, "MODEL.WEIGHTS", str(weights), "MODEL.PIXEL_MEAN", str([MEAN * 255] * 3),
        "MODEL.PIXEL_STD", str([STD * 255] * 3), *more])
    return begun(engine, cfg)


@torch.no_grad()
def features(network, gray):
    """Of strides 4 to 32 of a detector's backbone, on the gray image in three equal channels."""
    body = getattr(network.backbone, "bottom_up", None) or network.backbone.body
    parts = body(gray.repeat(1, 3, 1, 1))
    return list(parts.values()) if isinstance(parts, dict) else parts


@pytest.mark.parametrize("name, options, channels", [
    ("resnet18", RESNET, "1"), ("resnet18", RESNET, "3"), ("resnet50", BOTTLENECK, "1"),
    ("convnext_atto", [*TIMM, "convnext_atto"], "1"), ("resnet18", [*TIMM, "resnet18"], "1"),
    ("tf_efficientnet_b0", [*TIMM, "tf_efficientnet_b0"], "1"),
], ids=["gray", "color", "bottleneck", "convnext", "timm_resnet", "efficientnet"])
def test_a_backbone_gives_the_classifiers_features(engine, tmp_path, caplog, name, options, channels):
    path = tmp_path / "fold0.pth"
    donor = classifier(path, name, None, "INPUT.CHANNELS", channels)
    strides = timm.create_model(name, features_only=True).feature_info.reduction()
    caplog.set_level("INFO")
    network = started(engine, path, *options, "MODEL.RESNETS.NORM", "BN", "MODEL.BACKBONE.FREEZE_AT", "0",
                      "MODEL.RESNETS.STRIDE_IN_1X1", "False")
    gray = torch.randn(2, 1, 64, 96)
    with torch.no_grad():
        expected = donor.forward_intermediates(
            gray.expand(-1, int(channels), -1, -1), intermediates_only=True,
            indices=[at for at, stride in enumerate(strides) if stride >= 4])
    for part, other in zip(features(network, gray), expected, strict=True):
        assert part.shape == other.shape and other.std() > 0
        assert torch.allclose(part, other, atol=1e-4, rtol=1e-4)
    used = [line for line in caplog.messages if "tensors loaded" in line]
    assert len(used) == 1 and f"(our classifier {name}): " in used[0]
    assert not any("was trained with" in line for line in caplog.messages)


def test_every_tensor_is_accounted_for(engine, tmp_path, caplog):
    """ResNet-18 has 20 convolutions and as many norms of four values; its classifier is left out."""
    path = tmp_path / "fold0.pth"
    state = classifier(path, "resnet18").state_dict()
    caplog.set_level("INFO")
    started(engine, path, *RESNET, "MODEL.RESNETS.NORM", "FrozenBN", "MODEL.PIXEL_MEAN", "[1.0, 2.0, 3.0]")
    assert f"100 of its {len(state)} tensors loaded" in caplog.text
    assert "20 counters, anchors and pixel values not needed" in caplog.text
    assert "2 weights class heads, left out: fc.weight (1, 512), fc.bias (1,)" in caplog.text
    assert len(state) == 100 + 20 + 2 and "have no place" not in caplog.text
    assert "trained with MODEL.PIXEL_MEAN [114.75, 114.75, 114.75], which the config has" in caplog.text


def test_a_classifier_of_another_network_is_refused(engine, tmp_path):
    path = tmp_path / "fold0.pth"
    classifier(path, "test_efficientnet", Normalization(per_image=True))
    with pytest.raises(InputError, match=r"\(read as our classifier test_efficientnet\): 1 of its"):
        started(engine, path, *RESNET)
