"""timm's networks as backbones of both engines."""

import pytest
import timm
import torch
from conftest import ROOT, TINY

from vindr_det.detection import engine as engines
from vindr_det.detection.loading import load_config
from vindr_det.exceptions import InputError
from vindr_det.training.checkpoint_io import read_file
from vindr_det.training.timm_backbone import TimmBody, pretrained_state


@pytest.mark.parametrize("name", ["efficientnet_b0", "convnext_atto", "swin_tiny_patch4_window7_224"])
@pytest.mark.parametrize("strides", [(4, 8, 16, 32), (8, 16, 32)])
def test_features_have_the_strides_and_channels_that_they_claim(name, strides):
    body = TimmBody(name, strides).eval()
    with torch.no_grad():
        features = body(torch.zeros(1, 3, 64, 96))
    assert [tuple(part.shape) for part in features] == [
        (1, channels, 64 // stride, 96 // stride)
        for channels, stride in zip(body.channels, strides, strict=True)]


def test_frozen_norm_has_no_batch_norm_left():
    free, frozen = (TimmBody("efficientnet_b0", (8, 16, 32), freeze) for freeze in (False, True))

    def count(body):
        return sum(isinstance(part, torch.nn.BatchNorm2d) for part in body.modules())

    assert count(free) > 0 == count(frozen)


@pytest.mark.parametrize("name, message", [
    ("convnext_tinny", "no such network; did you mean convnext_tiny"),
    ("", "timm has no such network"),
    ("vit_tiny_patch16_224", r"features at strides \[16, 16, 16\], expected \[4, 8, 16, 32\]"),
])
def test_what_is_no_pyramid_is_refused(name, message):
    with pytest.raises(InputError, match=message):
        TimmBody(name, (4, 8, 16, 32))


def config(engine, phantoms, out, *more):
    return load_config(ROOT / "configs/vindr_frcnn_convnext.yaml", engine, [
        *TINY, "MODEL.WEIGHTS", "", "SOLVER.AMP.ENABLED", "False", "SOLVER.MAX_ITER", "1", "TEST.EVAL_PERIOD",
        "0", "SOLVER.BASE_LR", "1e-12", "MODEL.FPN.OUT_CHANNELS", "32", "MODEL.ROI_BOX_HEAD.FC_DIM", "32",
        "VINDR.TIMM_MODEL", "convnext_atto", "OUTPUT_DIR", str(out), "VINDR.DATA_ROOT",
        str(phantoms / "data"), *more])


def test_every_weight_of_a_file_of_timms_arrives(engine, phantoms, tmp_path):
    torch.manual_seed(7)
    source = timm.create_model("convnext_atto")
    torch.save(source.state_dict(), tmp_path / "atto.pth")
    weights = f"timm://convnext_atto@{tmp_path / 'atto.pth'}"
    engines.load(engine).train(config(engine, phantoms, tmp_path / "out", "MODEL.WEIGHTS", weights))
    state = read_file(tmp_path / "out/model_final.pth")["model"]
    prefix = "backbone.body.net." if engine == "torchvision" else "backbone.bottom_up.net."
    mine = {key.removeprefix(prefix): value for key, value in state.items() if key.startswith(prefix)}
    expected = pretrained_state(weights)
    assert mine.keys() == expected.keys() and len(mine) > 50
    assert all(torch.allclose(mine[key], expected[key], atol=1e-6) for key in mine)
    # And these are the file's: the features are what the whole network computes on its way.
    body = TimmBody("convnext_atto", (4, 8, 16, 32)).eval()
    body.net.load_state_dict(mine)
    image = torch.rand(1, 3, 64, 64)
    with torch.no_grad():
        assert torch.allclose(body(image)[-1], source.eval().forward_intermediates(
            image, intermediates_only=True)[-1], atol=1e-5)


@pytest.mark.parametrize("more, message", [
    (["MODEL.BACKBONE.FREEZE_AT", "2"], "FREEZE_AT is 2: a backbone of timm's is trained whole"),
    (["MODEL.RESNETS.NORM", "GN"], "MODEL.RESNETS.NORM is 'GN'"),
    (["VINDR.TIMM_MODEL", "resnet"], "VINDR.TIMM_MODEL 'resnet': timm has no such network"),
    (["MODEL.WEIGHTS", "timm://convnext_atto@nowhere.pth"], "cannot be loaded .*give a file of timm's"),
    (["MODEL.WEIGHTS", "timm://nothing"], "'nothing': timm has no such network"),
])
def test_bad_backbones_are_told_in_one_line(engine, phantoms, tmp_path, more, message):
    with pytest.raises(InputError, match=message):
        engines.load(engine).train(config(engine, phantoms, tmp_path, *more))


def test_no_network_names_the_way_out(monkeypatch):
    monkeypatch.setenv("HF_HUB_OFFLINE", "1")

    def refuse(*args, **kwargs):
        raise OSError("no network")

    monkeypatch.setattr("timm.models._hub.hf_hub_download", refuse)
    monkeypatch.setattr("timm.models._hub.download_cached_file", refuse, raising=False)
    with pytest.raises(InputError, match=r"cannot be loaded \(.*\); give a file .*timm://convnext_atto@FILE"):
        pretrained_state("timm://convnext_atto")
