"""Memory format and compilation change nothing but the time; a compiler that fails costs a line."""

import copy

import pytest
import torch
from torch import nn

from vindr_det.training.acceleration import compile_or_not, lay_out, plain_format


@pytest.fixture
def network():
    torch.manual_seed(0)
    return nn.Sequential(nn.Conv2d(1, 4, 3), nn.BatchNorm2d(4), nn.ReLU(), nn.Conv2d(4, 2, 3))


@pytest.mark.parametrize(("choice", "device", "half", "changes"), [
    ("auto", "cpu", None, False),
    ("auto", "cpu", torch.bfloat16, False),
    ("auto", "cuda", None, False),
    ("auto", "cuda:1", torch.float16, True),
    ("always", "cpu", None, True),
    ("never", "cuda", torch.float16, False),
])
def test_the_format_by_device_and_precision(network, choice, device, half, changes):
    images = torch.rand(2, 1, 9, 9)
    expected = copy.deepcopy(network)(images)
    own = [id(weight) for weight in network.parameters()]
    lay_out(network, choice, device, half)
    assert (not network[3].weight.is_contiguous()) == changes
    assert [id(weight) for weight in network.parameters()] == own  # an optimizer may have them
    torch.testing.assert_close(network(images), expected)
    saved = plain_format(network.state_dict())
    assert all(value.is_contiguous() for value in saved.values())
    assert all(torch.equal(saved[key], value) for key, value in network.state_dict().items())


def broken(*_):
    raise RuntimeError("no C++ compiler\nwas found")


def test_a_broken_compiler_costs_a_line(network, caplog):
    images = torch.rand(2, 1, 9, 9)
    expected = copy.deepcopy(network)(images)
    compile_or_not(network, "VINDR.COMPILE", backend=broken)
    for _ in range(2):
        assert torch.equal(network(images), expected)
    line, = (record.getMessage() for record in caplog.records if record.name.startswith("vindr_det"))
    assert line.startswith("VINDR.COMPILE: Sequential cannot be compiled (") and "no C++ compiler" in line
    assert "\n" not in line


def test_what_compiles_keeps_its_names_and_copies(network):
    calls = []

    def backend(graph, _):
        calls.append(graph)
        return graph.forward

    names = list(network.state_dict())
    images = torch.rand(2, 1, 9, 9)
    expected = copy.deepcopy(network).eval()(images)
    compile_or_not(network.eval(), "VINDR.COMPILE", backend=backend)
    torch.testing.assert_close(network(images), expected)
    assert calls and list(network.state_dict()) == names
    torch.testing.assert_close(copy.deepcopy(network)(images), expected)


def test_an_error_of_the_network_itself_is_no_compilers(network):
    compile_or_not(network, "VINDR.COMPILE", backend=lambda graph, _: graph.forward)
    with pytest.raises(RuntimeError, match="channels"):
        network(torch.rand(2, 3, 9, 9))
