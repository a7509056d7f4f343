"""MODEL.WEIGHTS of a classifier: files of other people's networks, in old names and for three channels."""

import re

import pytest
import torch
from conftest import classifier_config

from vindr_det.classification.model import build_model
from vindr_det.exceptions import InputError
from vindr_det.training.weights import classifier_weights


def published(network):
    """The names of torchvision's densenet121-a639ec97.pth, which are those of version 0.2."""
    return {re.sub(r"(denselayer\d+\.(?:norm|conv))(\d)", r"\1.\2", key): value
            for key, value in network.state_dict().items() if not key.endswith("batches_tracked")}


@pytest.fixture(scope="module")
def densenet():
    from torchvision.models import densenet121

    torch.manual_seed(0)
    network = densenet121().eval()
    for part in network.modules():
        if isinstance(part, torch.nn.BatchNorm2d):
            part.running_mean.normal_(0, 0.1)
            part.running_var.uniform_(0.5, 2)
    return network


def started(phantoms, tmp_path, *more):
    return build_model(classifier_config(phantoms, tmp_path, "MODEL.NAME", "densenet121", "MODEL.PRETRAINED",
                                         "True", "MODEL.WEIGHTS", str(tmp_path / "w.pth"), *more)).eval()


def test_a_densenet_in_old_names_for_colors(densenet, phantoms, tmp_path, caplog):
    caplog.set_level("INFO")
    torch.save(published(densenet), tmp_path / "w.pth")
    assert "features.denseblock1.denselayer1.norm.1.weight" in published(densenet)
    network = started(phantoms, tmp_path)
    image = torch.rand(2, 1, 96, 96)
    with torch.no_grad():
        ours = network.forward_head(network.forward_features(image), pre_logits=True)
        theirs = torch.relu(densenet.features(image.repeat(1, 3, 1, 1))).mean(dim=(2, 3))
    assert torch.allclose(ours, theirs, rtol=1e-4, atol=1e-4 * float(theirs.abs().max()))
    assert float(theirs.std()) > 0.01
    # 606 tensors: 604 of the features, and the 1,000 classes.
    assert "w.pth (DenseNet): 604 of its 606 tensors loaded, 604 of the model's 606" in caplog.text
    assert "2 weights class heads, left out: classifier.weight (1000, 1024), classifier.bias" in caplog.text
    assert "no place" not in caplog.text and "another shape" not in caplog.text


def test_todays_names_are_the_same_network(densenet, phantoms, tmp_path):
    torch.save({"state_dict": densenet.state_dict()}, tmp_path / "w.pth")
    ours = started(phantoms, tmp_path).state_dict()
    theirs = densenet.state_dict()
    assert torch.allclose(ours["features.conv0.weight"], theirs["features.conv0.weight"].sum(1, keepdim=True))
    key = "features.denseblock4.denselayer16.conv2.weight"
    assert torch.equal(ours[key], theirs[key])


def test_another_network_is_refused_in_a_line(densenet, phantoms, tmp_path):
    names = {key.replace("denselayer", "layer"): value for key, value in published(densenet).items()}
    torch.save(names, tmp_path / "w.pth")
    with pytest.raises(InputError, match=r"w.pth \(read as DenseNet\): 24 of its 604 weights fit this model, "
                                         "class heads aside, features.denseblock1.layer1.norm") as error:
        started(phantoms, tmp_path)
    assert "\n" not in str(error.value)


@pytest.mark.parametrize("theirs, ours, expected", [(3, 1, 3.0), (3, 3, 1.0), (1, 1, 1.0)])
def test_channels_of_the_first_convolution(theirs, ours, expected):
    state = {"conv1.weight": torch.ones(8, theirs, 7, 7), "fc.weight": torch.ones(1000, 8),
             "layer1.weight": torch.ones(4)}
    own = {"conv1.weight": torch.zeros(8, ours, 7, 7), "fc.weight": torch.zeros(14, 8),
           "layer1.weight": torch.zeros(4)}
    loaded = classifier_weights("w.pth", state, own, {"first_conv": "conv1", "classifier": "fc"})
    assert set(loaded) == {"conv1.weight", "layer1.weight"}
    assert torch.equal(loaded["conv1.weight"], torch.full((8, ours, 7, 7), expected))
