"""ResNet-56 v2: its layout by the numbers that Keras prints of it, and timm's interface."""

import pytest
import timm
import torch

from vindr_det.classification import resnet56
from vindr_det.classification.config import load_config
from vindr_det.classification.model import build_model, normalization
from vindr_det.exceptions import InputError


@pytest.fixture(scope="module")
def network():
    return timm.create_model("resnet56v2", in_chans=1, num_classes=14, img_size=128)


def test_as_many_parameters_as_keras_counts(network):
    """Keras counts moving means and variances, which are not trained, as parameters."""
    pooled = timm.create_model("resnet56v2", in_chans=1, num_classes=14, global_pool="avg")
    counts = [sum(weight.numel() for weight in model.parameters()) for model in (network, pooled)]
    moving = sum(buffer.numel() for buffer in network.buffers() if buffer.ndim)
    assert [count + moving for count in counts] == [1_728_238, 1_674_478] and moving == 10_400


def test_convolutions_and_strides(network):
    convolutions = [module for module in network.modules() if isinstance(module, torch.nn.Conv2d)]
    assert len(convolutions) == 1 + 3 * (6 * 3 + 1)  # a stem; six bottlenecks and a projection per stage
    assert sum(module.stride == (2, 2) for module in convolutions) == 4
    assert all(module.bias is not None for module in convolutions)
    images = torch.rand(1, 1, 128, 128)
    with torch.inference_mode():
        assert network.forward_features(images).shape == (1, 256, 32, 32) and network(images).shape == (1, 14)
    first = network.stages[0][0]
    assert isinstance(first.body[0], torch.nn.Conv2d)  # the stem's norm and ReLU stand before it already


def test_a_unit_by_hand():
    """All convolutions 1 x 1 identities: the sum of the input and its normed positive part."""
    unit = resnet56.Unit(2, 2, 2, 1, projected=False, activated=True).eval()
    with torch.no_grad():
        for module in unit.modules():
            if isinstance(module, torch.nn.Conv2d):
                module.weight.zero_()
                center = module.kernel_size[0] // 2
                module.weight[[0, 1], [0, 1], center, center] = 1
                module.bias.zero_()
    x = torch.tensor([-3.0, 2.0]).reshape(1, 2, 1, 1)
    assert unit(x).flatten().tolist() == pytest.approx([-3.0, 2.0 + 2.0 * (1 + 1e-3) ** -1.5])


def test_the_interface_of_timm(network):
    assert timm.is_model("resnet56v2") and network.get_classifier().out_features == 14
    other = timm.create_model("resnet56v2", num_classes=3, img_size=64)
    assert other.get_classifier().in_features == 256 * 4
    pyramid = timm.create_model("resnet56v2", features_only=True)
    with torch.inference_mode():
        features = pyramid(torch.rand(1, 3, 32, 32))
    assert [part.shape[1:] for part in features] == [(64, 32, 32), (128, 16, 16), (256, 8, 8)]


def test_by_its_config(data_free_config):
    model = build_model(data_free_config)
    assert model.head.in_features == 4096 and normalization(model).mean == 0
    for overrides, message in ((["INPUT.SIZE", "100"], "do not divide INPUT.SIZE 100"),
                               (["MODEL.POOL", "max"], "no pooling 'max'"),
                               (["MODEL.PRETRAINED", "True"], "MODEL.PRETRAINED False")):
        cfg = data_free_config.clone()
        cfg.merge_from_list(overrides)
        with pytest.raises(InputError, match=message):
            build_model(cfg)


@pytest.fixture
def data_free_config():
    from conftest import ROOT

    return load_config(ROOT / "configs/classifier/nih_multilabel_resnet56.yaml")
